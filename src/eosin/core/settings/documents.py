"""What a recipe or a command may say of documents: which are read, and which of their figures become samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eosin.core.settings.base import FigureKind
from eosin.core.settings.curation.block import SourceData

Fraction = Annotated[float, Field(ge=0, lt=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


LATER = ("backend", "docling_layout")
"""Fields that older records do not have: `as_kept` leaves them out where they say nothing new."""


def as_kept(settings: BaseModel, include: Iterable[str]) -> dict[str, Any]:
    """Settings as a record keeps them, so that records of before a field was there still say the same."""
    told = settings.model_dump(mode="json", include=set(include))
    fields = type(settings).model_fields
    return {k: v for k, v in told.items() if k not in LATER or v != fields[k].default}


class ReadingSettings(_Settings):
    """How documents are read. Other values mean that they are read again.

    Attributes:
        backend: "rules" finds figures by the PDF's own objects and the grammar of captions; "docling" (extra
            `docling`) by docling's layout model, in PDFs only.
        docling_layout: a layout engine that an installed package adds to docling, by docling's plug-in door; none:
            docling's own, whose weights must be on this machine.
        ocr: "rapidocr" (extra `ocr`) or "tesseract" (the program) for pages without a text layer, or "none".
        previews: draw the pages with what was found, to look at.
        preview_px: width of a drawn page.
    """

    backend: Literal["rules", "docling"] = "rules"
    docling_layout: str | None = None
    ocr: Literal["none", "rapidocr", "tesseract"] = "none"
    previews: bool = True
    preview_px: int = Field(default=720, ge=200, le=3000)

    @model_validator(mode="after")
    def _one_reader(self) -> ReadingSettings:
        if self.backend == "docling" and self.ocr != "none":
            raise ValueError("backend docling reads the text layer: set ocr to none, or backend to rules")
        if self.docling_layout is not None and self.backend != "docling":
            raise ValueError("docling_layout names an engine of docling: set backend to docling")
        return self


class ChoosingSettings(_Settings):
    """Which figures become samples; what is left out is set aside with its reason.

    Attributes:
        name: `Origin.source` of the samples, and the front of their ids.
        licences: licences to keep, such as CC0 and CC-BY, whatever their version; none keeps all.
        assume_licence: of documents that state none, for books of one's own.
        keep_by_permission: keep figures that are shown by permission of somebody else.
        keep_retracted: keep figures of retracted articles.
        kinds: kinds of figures to keep; none keeps all.
        kind_score: below it a kind is not believed (0..1).
        min_side_px: shorter sides are too small to show tissue.
        panels: "whole" writes a sample a figure, "apart" one a panel, "both" both.
        without_labels: leave "Figure 3." out of the caption of a sample.
    """

    name: str = Field(default="documents", min_length=1)
    licences: list[str] = Field(default_factory=list)
    assume_licence: str | None = None
    keep_by_permission: bool = False
    keep_retracted: bool = False
    kinds: list[FigureKind] = Field(default_factory=list)
    kind_score: float = Field(default=0.5, ge=0, le=1)
    min_side_px: int = Field(default=64, ge=8)
    panels: Literal["whole", "apart", "both"] = "whole"
    without_labels: bool = False


class DocumentsData(ReadingSettings, ChoosingSettings, SourceData):
    """Figures and captions of PDFs and articles.

    Attributes:
        path: a file or folder.
        also: further ones.
        workers: documents that are read at a time.
        timeout_s: seconds that one may take.
        second_url, second_model: a vision-language model behind an OpenAI-compatible server that reads every figure
            again (docs/documents.md).
        second_refines: let the kind and the panels of the second reader stand.
        questions: "captions" asks of each picture which of four captions is its own, so that an exam can be held.
        valid_fraction, test_fraction: share of the figures to set aside, whole articles only.
        seed: of wrong captions and splits.
    """

    source: Literal["documents"] = "documents"
    path: str
    also: list[str] = Field(default_factory=list)
    workers: int = Field(default=1, ge=1, le=64)
    timeout_s: float = Field(default=900.0, gt=0)
    second_url: str | None = None
    second_model: str = ""
    second_refines: bool = False
    questions: Literal["none", "captions"] = "none"
    valid_fraction: Fraction = 0.0
    test_fraction: Fraction = 0.0
    seed: int = 0

    @model_validator(mode="after")
    def _splits(self) -> DocumentsData:
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError("valid_fraction + test_fraction must leave something to train on")
        return self


class CaptionsData(SourceData):
    """Pictures with captions as others hand them out.

    Attributes:
        path: a csv or tsv table, a folder of webdataset tars, one tar, parquet, or a folder of pictures with a
            metadata.csv or metadata.jsonl (Hugging Face's imagefolder).
        name: `Origin.source` of the samples, and the front of their ids.
        licence: SPDX identifier or the licence's own words.
        citation: how the data set is cited.
        homepage: where the data set stands.
        images: the folder of the pictures of a table; by default that of the table.
        image_column, caption_column: None: the usual names are looked for.
        group_column: a column of the unit that may never stand in two splits, kept as the article.
        image_folders: further folders in which pictures may lie.
        questions: as for documents.
        valid_fraction, test_fraction: share of the pairs to set aside, whole groups only.
        seed: of wrong captions and splits.
    """

    source: Literal["captions"] = "captions"
    path: str
    name: str = Field(default="captions", min_length=1)
    images: str | None = None
    image_column: str | None = None
    caption_column: str | None = None
    group_column: str | None = None
    licence: str = "unknown"
    citation: str = ""
    homepage: str = ""
    questions: Literal["none", "captions"] = "none"
    image_folders: list[str] = Field(default_factory=list)
    valid_fraction: Fraction = 0.0
    test_fraction: Fraction = 0.0
    seed: int = 0

    @model_validator(mode="after")
    def _splits(self) -> CaptionsData:
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError("valid_fraction + test_fraction must leave something to train on")
        return self
