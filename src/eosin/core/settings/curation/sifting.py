"""Steps that set samples aside: by quality, because they stand there already, because an exam asks them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from eosin.core.settings.base import FigureKind, Settings
from eosin.core.settings.curation.step import StepSettings

Share = Annotated[float, Field(ge=0, le=1)]


class FilterStep(StepSettings):
    """Set aside captions that say nothing and pictures that show nothing. A check with the value null is left out.

    Attributes:
        text: which text is judged: the caption (a sample without one passes, unless `need_caption`), or all that a
            sample says (question, options, answer, findings, reasoning, caption).
        need_caption: set aside samples without a caption.
        min_words, max_words: words of that text.
        min_letters: share of letters among its characters without blanks.
        max_repetition: share of its words that stand in a run of three words which stood before.
        templates: set aside what a template, a web page or a language model has left in a text.
        languages: codes of the languages to keep, such as [en]; none keeps all. A text too short to tell passes.
        licences: keep samples of these licences only, such as [CC-BY-4.0, CC0-1.0]; none keeps all.
        need_image: set aside samples without a picture.
        min_side_px, max_aspect: of a picture; aspect is its longer side over its shorter one.
        min_contrast: standard deviation of grey values, 0 to 255; below it a picture is blank.
        min_sharpness: how much of a picture's contrast stands in its finest lines (see `quality/pictures.py`).
        kinds: kinds of pictures to keep; none keeps all.
        without_kinds: kinds of pictures to set aside.
        kind_score: below it a kind is not believed, and sets nothing aside.
        clip: a CLIP by name or folder, as in a scoring block.
        min_match: smallest cosine of picture and caption by that CLIP.
    """

    step: Literal["filter"] = "filter"
    text: Literal["caption", "all"] = "caption"
    need_caption: bool = False
    min_words: int | None = Field(default=4, ge=1)
    max_words: int | None = Field(default=2000, ge=1)
    min_letters: Share | None = 0.5
    max_repetition: Share | None = 0.4
    templates: bool = True
    languages: list[str] = Field(default_factory=list)
    licences: list[str] = Field(default_factory=list)
    need_image: bool = False
    min_side_px: int | None = Field(default=64, ge=1)
    max_aspect: float | None = Field(default=10.0, gt=1)
    min_contrast: float | None = Field(default=4.0, ge=0)
    min_sharpness: float | None = Field(default=None, ge=0)
    kinds: list[FigureKind] = Field(default_factory=list)
    without_kinds: list[FigureKind] = Field(default=["plot", "diagram", "table"])
    kind_score: Share = 0.8
    clip: str | None = None
    min_match: float = Field(default=0.2, ge=-1, le=1)


class DedupeStep(StepSettings):
    """Keep one of several copies: the one of the most protected split (test, valid, train), then the first.

    Attributes:
        exact: same pictures, same question and same answer. All samples that ask the same of the same pictures and
            answer differently are set aside, because none of them is known to be right.
        near_image: also pictures that are crops, turns, flips, re-encodings or shifts of stain of another, where the
            question is the same. Verified on the pixels (see `copies/pictures.py`).
        crops: look for crops too. Without it only whole pictures are compared, which is quicker.
        near_text: also texts that share this much of their runs of `shingle_words` words (Jaccard); null: no.
        shingle_words: words of a run.
        text_alone: texts alone decide, also where the pictures differ. For captions that are no labels.
    """

    step: Literal["dedupe"] = "dedupe"
    exact: bool = True
    near_image: bool = True
    crops: bool = True
    near_text: float | None = Field(default=0.8, ge=0.5, le=1)
    shingle_words: int = Field(default=3, ge=1, le=20)
    text_alone: bool = False


class Against(Settings):
    """A data set that training must not hold: a listed exam with its folder, or any samples.

    Attributes:
        exam: name of a listed exam, NAME, NAME/SUBSET or NAME/SPLIT.
        root: the folder of the published set.
        path: samples in any format that Eosin reads, a file or a folder.
    """

    exam: str | None = None
    root: str | None = None
    path: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> Against:
        if (self.exam is None) == (self.path is None):
            raise ValueError("give exam (with root) or path")
        return self

    @property
    def label(self) -> str:
        return self.exam or self.path or ""


class DecontaminateStep(StepSettings):
    """Set aside training samples that an exam, or another data set, asks about. Valid and test are never touched.

    Attributes:
        against: exams and data sets.
        own_splits: the valid and test samples of the data itself are protected too.
        text: look for runs of words of question, options, answer or caption that stand in both.
        words: of a run.
        min_words: a shorter text counts as a whole, from so many words on.
        common: runs that more questions share are their wording, and count for nothing.
        images: the same picture, byte for byte.
        near_images: also crops, turns, flips, re-encodings, shifts of stain.
        crops: look for crops too. Without it only whole pictures are compared, which is quicker.
        groups: the same patient, case, slide or article of one source.
    """

    step: Literal["decontaminate"] = "decontaminate"
    against: list[Against] = Field(default_factory=list)
    own_splits: bool = True
    text: bool = True
    words: int = Field(default=13, ge=3, le=50)
    min_words: int = Field(default=5, ge=1)
    common: int = Field(default=3, ge=1)
    images: bool = True
    near_images: bool = True
    crops: bool = True
    groups: bool = True

    @field_validator("against", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value
