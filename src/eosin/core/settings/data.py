"""What a recipe may say about its data. Each kind of data is one model; `DataSettings` is their union.

Relative paths are resolved by the reader against the working directory.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from eosin.core.nouns.units import Mpp
from eosin.core.settings.curation.block import SourceData
from eosin.core.settings.documents import CaptionsData, DocumentsData

GroupKind = Literal["patient", "case", "slide", "article"]
Fraction = Annotated[float, Field(ge=0, lt=1)]
PATTERN_GROUPS = ("label", "patient", "case", "slide", "article", "split")


class PhantomData(SourceData):
    """Procedural H&E with known truth, made by code.

    Attributes:
        train_cases, valid_cases, test_cases: number of cases in each split.
        tiles_per_case: tiles of one case; all of them are in one split.
        tile_px: side of a tile in pixels.
        mpp: microns per pixel of the tiles.
        mimics: diagnoses that share their glands, cells and colours, and differ in where these lie (docs/phantom.md).
        stain_shift: how far the stain of the test cases lies from that of train and valid; 1 is about two standard
            deviations of the strength of a stain between cases, 0 none.
        seed: None means the seed of the run.
    """

    source: Literal["phantom"] = "phantom"
    train_cases: int = Field(default=800, ge=1)
    valid_cases: int = Field(default=40, ge=0)
    test_cases: int = Field(default=60, ge=1)
    tiles_per_case: int = Field(default=5, ge=1)
    tile_px: int = Field(default=224, ge=32, le=4096)
    mpp: Mpp = 1.0
    mimics: bool = False
    stain_shift: float = Field(default=0.0, ge=0, le=2)
    seed: int | None = None


DomainName = Literal["ct", "dermoscopy", "fundus", "oct"]


class PhantomDomainData(SourceData):
    """Phantom pictures of another domain: CT, dermoscopy, fundus or OCT, four labels told apart by structure.

    Attributes:
        domain: which one.
        train_cases, valid_cases, test_cases: number of cases in each split; labels take turns.
        pictures_per_case: pictures of one case; all of them are in one split.
        side_px: side of a picture in pixels.
        seed: None means the seed of the run.
    """

    source: Literal["phantom-domain"] = "phantom-domain"
    domain: DomainName
    train_cases: int = Field(default=400, ge=1)
    valid_cases: int = Field(default=40, ge=0)
    test_cases: int = Field(default=100, ge=1)
    pictures_per_case: int = Field(default=2, ge=1)
    side_px: int = Field(default=160, ge=64, le=1024)
    seed: int | None = None


QuestionKind = Literal["diagnosis", "finding", "findings", "place"]


class PhantomSlidesData(SourceData):
    """Whole phantom slides: written, cut into patches, encoded, and asked about with grounded reasoning.

    Attributes:
        train_cases, valid_cases, test_cases: slides in each split; a case has one slide.
        size_px, mpp: side of a slide at level 0, and its microns per pixel.
        tile_px: side of a patch in pixels at `tile_mpp`. None: what the encoder takes.
        tile_mpp: scale of the patches; None: that of the slide.
        encoder: name of the patch encoder.
        weights: a local file or folder of the encoder's weights.
        lesion_um: usual radius of a lesion. Small lesions leave little trace in the mean of all patches.
        page_px: side of the page of normal mucosa that is laid over a slide in mirrored copies.
        artefact_share: share of the slides that are spoilt by pen, tears, fat, bubbles, dust or a faint stain.
        finding_share: share of the cases that may show one of the findings that a diagnosis need not show (mitoses,
            necrosis, cribriform glands, crypt abscess), each drawn for itself. 1: all of them, where there is room.
        questions: kinds of questions about each slide of the train split.
        exam_questions: the same for valid and test.
        visible_only: drop cases whose lesions all lie under ink or in a tear.
        workers: slides that are written at a time; None: one a core, at most 8.
        seed: None means the seed of the run.
    """

    source: Literal["phantom-slides"] = "phantom-slides"
    train_cases: int = Field(default=160, ge=1)
    valid_cases: int = Field(default=12, ge=0)
    test_cases: int = Field(default=60, ge=1)
    size_px: int = Field(default=2048, ge=512, le=40_000)
    mpp: Mpp = 1.0
    tile_px: int | None = Field(default=128, ge=32, le=2048)
    tile_mpp: Mpp | None = None
    encoder: str = "colour-texture"
    weights: str | None = None
    lesion_um: float = Field(default=170.0, ge=20)
    page_px: int = Field(default=1024, ge=256, le=4096)
    artefact_share: float = Field(default=0.0, ge=0, le=1)
    finding_share: float = Field(default=1.0, ge=0, le=1)
    questions: list[QuestionKind] = Field(default=["diagnosis"], min_length=1)
    exam_questions: list[QuestionKind] = Field(default=["diagnosis"], min_length=1)
    visible_only: bool = True
    workers: int | None = Field(default=None, ge=1, le=64)
    seed: int | None = None

    @model_validator(mode="after")
    def _fits(self) -> PhantomSlidesData:
        most = 0.2 * self.size_px * self.mpp
        if self.lesion_um > most:
            raise ValueError(f"lesion_um must be at most a fifth of the slide's side, {most:g}")
        return self


class LabelledData(SourceData):
    """What a labelled folder and a labelled table have in common.

    Attributes:
        root: the folder that file paths are relative to.
        name: short name of the data set; it becomes `Origin.source` and the front of every sample id.
        title: of the data set, for its card.
        licence: SPDX identifier or the licence's own words, for the card and every sample.
        citation: how the data set is cited, for the card.
        homepage: where the data set stands, for the card.
        modality: what the images are.
        organ: of all images, where it is one.
        stain: of all images, where it is one.
        class_text: label -> the class in words. A label without an entry is used as it is.
        descriptions: label -> several wordings of its findings; each wording is one or more sentences.
            Without it the reasoning is one plain sentence that names the class.
        questions: wordings of the question; one is drawn for each sample.
        mpp: microns per pixel of the images as stored.
        hold_out: column -> values; rows with such a value are the test split.
        hold_out_valid: the same for the valid split.
        valid_fraction, test_fraction: share of the samples to set aside, whole groups only.
        one_group_per_file: says that no two files share a patient, case or slide.
        max_train_per_class: keep at most this many training samples of a class (drawn with the seed).
        image_folders: further folders, beside `root`, into which paths and links of the data may lead. Without them a
            file outside of `root` is set aside.
        embed_images: hold the encoded images in the samples, so that they can be moved without the folder.
        seed: of option order, wordings and splits.
    """

    root: str
    name: str = Field(default="my-data", min_length=1)
    title: str = ""
    licence: str = "unknown"
    citation: str = ""
    homepage: str = ""
    modality: str = "histology"
    organ: str | None = None
    stain: str | None = "H&E"
    mpp: Mpp | None = None
    class_text: dict[str, str] = Field(default_factory=dict)
    descriptions: dict[str, list[str]] = Field(default_factory=dict)
    questions: list[str] = Field(default_factory=list)
    hold_out: dict[str, list[str]] = Field(default_factory=dict)
    hold_out_valid: dict[str, list[str]] = Field(default_factory=dict)
    valid_fraction: Fraction = 0.0
    test_fraction: Fraction = 0.0
    one_group_per_file: bool = False
    max_train_per_class: int | None = Field(default=None, ge=1)
    image_folders: list[str] = Field(default_factory=list)
    embed_images: bool = False
    seed: int = 0

    @field_validator("hold_out", "hold_out_valid", mode="before")
    @classmethod
    def _quoted(cls, value: object) -> object:
        """YAML reads 05 as the number 5; the value in a table is the text "05"."""
        if isinstance(value, dict):
            for column, values in value.items():
                if isinstance(values, list) and any(not isinstance(v, str) for v in values):
                    raise ValueError(f'values of {column} must be quoted text, for example ["05", "10"]')
        return value

    @model_validator(mode="after")
    def _splits(self) -> LabelledData:
        if self.hold_out and self.test_fraction:
            raise ValueError("give hold_out or test_fraction for the test split, not both")
        if self.hold_out_valid and self.valid_fraction:
            raise ValueError("give hold_out_valid or valid_fraction for the valid split, not both")
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError("valid_fraction + test_fraction must leave something to train on")
        if any(not wordings for wordings in self.descriptions.values()):
            raise ValueError("a class in descriptions has no wording")
        return self


class FolderData(LabelledData):
    """A folder with one subfolder a class.

    Attributes:
        pattern: regular expression searched in each file's path below `root` (with forward slashes). Its
            named groups say what the path tells: label, patient, case, slide, article, split.
            Without a `label` group the first folder of the path is the label.
        groups_csv: a table with a column `file` and any of patient, case, slide, article, split.
    """

    source: Literal["folder"] = "folder"
    pattern: str | None = None
    groups_csv: str | None = None

    @field_validator("pattern")
    @classmethod
    def _usable(cls, value: str | None) -> str | None:
        if value is None:
            return value
        try:
            names = set(re.compile(value).groupindex)
        except re.error as exc:
            raise ValueError(f"not a regular expression: {exc}") from None
        if not names or names - set(PATTERN_GROUPS):
            raise ValueError(f"named groups must be among {', '.join(PATTERN_GROUPS)}, found {sorted(names) or 'none'}")
        return value


class TableData(LabelledData):
    """A csv or tsv file with one image a row.

    Attributes:
        manifest: the table; a relative path is looked for in `root` first.
        image_column, label_column: the columns of image path and label.
        group_column: the column of the unit that may never stand in two splits; `group_kind` says what it is.
        group_kind: what the values of `group_column` name.
        split_column: a column with train, valid or test.
        extra_columns: columns to keep in `Sample.extra`.
        encoding, delimiter: None means: find out.
    """

    source: Literal["table"] = "table"
    manifest: str = "manifest.csv"
    image_column: str = "file"
    label_column: str = "label"
    group_column: str | None = None
    group_kind: GroupKind = "slide"
    split_column: str | None = None
    extra_columns: list[str] = Field(default_factory=list)
    encoding: str | None = None
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)


class SlidesData(LabelledData):
    """Whole slides whose patches are encoded already: a folder of feature files, and what is said of the slides.

    Attributes:
        root: the folder of feature files (TRIDENT or CLAM h5, SlideChat csv, GigaPath pt), with its subfolders.
        manifest: what is said of the slides. A .json or .jsonl file with conversations (SlideChat, PathReasoner), a
            table with Question and Answer (SlideBench), or a table with a slide and a label a row. A relative path is
            looked for in `root` first.
        slides: folder of the slide files themselves, where they are at hand: for pictures and maps of evidence.
        encoder: name of the encoder that the features must be of.
        patch_mpp, tile_um: scale and side of the patches, where the feature files do not state them.
        slide_column, label_column: columns of the table.
        group_column: the column of the unit that may never stand in two splits; `group_kind` says what it is. Without
            one it is the patient of a TCGA barcode, else the slide.
        group_kind: what the values of `group_column` name.
        split_column: a column with train, valid or test.
        report_column: a column with the findings or the report of a slide, from which reasoning can be grounded.
        reasoning: "grounded" writes findings, reasoning and entities from the report and the knowledge graph, and
            drops what cannot be grounded; "none" leaves the samples as they are.
        encoding, delimiter: of the table; None means: find out.
    """

    source: Literal["slides"] = "slides"
    manifest: str = "slides.csv"
    slides: str | None = None
    encoder: str | None = None
    patch_mpp: Mpp | None = None
    tile_um: float | None = Field(default=None, gt=0)
    slide_column: str = "slide"
    label_column: str = "label"
    group_column: str | None = None
    group_kind: GroupKind = "case"
    split_column: str | None = None
    report_column: str | None = None
    reasoning: Literal["none", "grounded"] = "none"
    encoding: str | None = None
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)

    @model_validator(mode="after")
    def _not_embedded(self) -> SlidesData:
        if self.embed_images:
            raise ValueError("embed_images is for pictures; a slide stays in its feature file")
        return self


class SamplesData(SourceData):
    """Samples in any format that Eosin reads: parquet, JSON lines, LLaVA JSON, a samples artifact, datasets.

    Attributes:
        path: the file or folder.
        also: further ones. Rows of other programs that name no data set get the name of their file as their source, by
            which a stage can choose (`sources`).
        image_folders: further folders, beside that of `path`, in which the images of the samples may lie.
        valid_fraction, test_fraction: used for samples that have no split yet, whole groups only.
        seed: of the drawn splits.
        stream: training samples are read from their shards (.parquet of samples, uncompressed .tar) as they are needed,
            and no list of them is held. For pretrain and sft stages; docs/scale.md says what that leaves out.
        window_mib: MiB of shards that are shuffled together, and held by each reader, where samples are streamed.
    """

    source: Literal["samples"] = "samples"
    path: str
    also: list[str] = Field(default_factory=list)
    image_folders: list[str] = Field(default_factory=list)
    valid_fraction: Fraction = 0.0
    test_fraction: Fraction = 0.0
    seed: int = 0
    stream: bool = False
    window_mib: int = Field(default=128, ge=1, le=4096)

    @model_validator(mode="after")
    def _splits_stand(self) -> SamplesData:
        if self.stream and (self.valid_fraction or self.test_fraction):
            raise ValueError(
                "streamed samples keep the splits that they have; eosin curate with the step split makes them"
            )
        return self


class QuestionsData(SourceData):
    """A file of multiple-choice questions with explanations, as PathMMU writes them (JSON or JSON lines).

    Attributes:
        path: the file.
        name: `Origin.source` of the samples, and the front of their ids.
        title: of the data set, for its card.
        licence: SPDX identifier or the licence's own words.
        citation: how the data set is cited.
        homepage: where the data set stands.
        images: the folder of the pictures; by default that of the file.
        sets: names in the file below which rows are taken, such as [PubMed, EduContent]; none takes all.
        own_splits: the last name above a row is its split. Pictures may stand in two splits of such a file; a run
            refuses that. Without it whole groups are drawn by the fractions.
        group_column: a key of the rows that names the unit that may never stand in two splits; `group_kind` says what
            it is. Without one all questions about one picture stay together.
        group_kind: what the values of `group_column` name.
        image_folders: further folders in which pictures may lie.
        valid_fraction, test_fraction: share of the questions to set aside, whole groups only.
        seed: of option order and splits.
    """

    source: Literal["questions"] = "questions"
    path: str
    images: str | None = None
    name: str = Field(default="questions", min_length=1)
    title: str = ""
    licence: str = "unknown"
    citation: str = ""
    homepage: str = ""
    sets: list[str] = Field(default_factory=list)
    own_splits: bool = False
    group_column: str | None = None
    group_kind: GroupKind = "article"
    image_folders: list[str] = Field(default_factory=list)
    valid_fraction: Fraction = 0.0
    test_fraction: Fraction = 0.0
    seed: int = 0

    @model_validator(mode="after")
    def _splits(self) -> QuestionsData:
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError("valid_fraction + test_fraction must leave something to train on")
        if self.own_splits and (self.valid_fraction or self.test_fraction):
            raise ValueError("give own_splits or fractions, not both")
        return self


class ReportsData(SourceData):
    """Free-text reports: a table of slide id and report, as those of TCGA are kept, or a folder of .txt files.

    Attributes:
        path: the table (csv, tsv), or the folder.
        name, title, licence, citation, homepage: of the data, for its card.
        organ: of all reports; None where it differs or is not known.
        slide_column, report_column: of the table; None looks for the usual names. A slide id that is a TCGA barcode
            tells its patient.
        encoding, delimiter: of the table; None means: find out.
    """

    source: Literal["reports"] = "reports"
    path: str
    name: str = Field(default="reports", min_length=1)
    title: str = ""
    licence: str = "unknown"
    citation: str = ""
    homepage: str = ""
    organ: str | None = None
    slide_column: str | None = None
    report_column: str | None = None
    encoding: str | None = None
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)


class PluginData(SourceData):
    """A data source of an installed package (docs/add-a-data-set.md).

    Attributes:
        plugin: the name that the package gives it.
        options: what the source itself takes; it checks them.
        valid_fraction, test_fraction: used for samples that have no split yet, whole groups only.
        seed: None means the seed of the run.
    """

    source: Literal["plugin"] = "plugin"
    plugin: str = Field(min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)
    valid_fraction: Fraction = 0.0
    test_fraction: Fraction = 0.0
    seed: int | None = None


DataSettings = Annotated[
    PhantomData
    | PhantomSlidesData
    | PhantomDomainData
    | FolderData
    | TableData
    | SlidesData
    | SamplesData
    | QuestionsData
    | ReportsData
    | DocumentsData
    | CaptionsData
    | PluginData,
    Field(discriminator="source"),
]
