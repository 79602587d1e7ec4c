"""The one noun: a frozen Sample that knows its origin (house law 1)."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from eosin.core.nouns.splits import Split, read_split
from eosin.core.nouns.units import BoxLevel0, BoxMicrons, BoxPixels, Mpp

SCHEMA_VERSION: Final = 1
MAX_DEPTH = 64
"""How deep lists and mappings of `Sample.extra` may lie in one another."""


class _Frozen(BaseModel):
    # With a bound on length pydantic refuses texts that are no UTF-8 (lone surrogates): they could not be written.
    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", str_max_length=2**31
    )


class ImageFile(_Frozen):
    """An image in a file. `sha256` is of the file's bytes."""

    kind: Literal["file"] = "file"
    path: str
    sha256: str | None = None


class ImageBytes(_Frozen):
    """An encoded image (PNG, JPEG, ...) held in the sample."""

    kind: Literal["bytes"] = "bytes"
    data: bytes = Field(repr=False)


class SlideRegion(_Frozen):
    """A region of a whole-slide image, read at `mpp` microns per pixel (None: level 0)."""

    kind: Literal["slide"] = "slide"
    path: str
    box: Annotated[BoxLevel0 | BoxMicrons, Field(discriminator="unit")]
    mpp: Mpp | None = None


class SlideBag(_Frozen):
    """A whole slide as the features of its patches.

    Attributes:
        path: the feature file (TRIDENT or CLAM h5, SlideChat csv, GigaPath pt).
        encoder: name of the encoder that the features must be of.
        slide: the slide file itself, where it is at hand: for pictures and maps of evidence.
        mpp, tile_um: scale and side of the patches, where the feature file does not state them.
        clusters: a .npy file with the cluster of each row of the feature file.
        without_clusters: clusters whose patches are not shown (pseudo-bag masking).
    """

    kind: Literal["bag"] = "bag"
    path: str
    encoder: str | None = None
    slide: str | None = None
    mpp: Mpp | None = None
    tile_um: float | None = Field(default=None, gt=0)
    clusters: str | None = None
    without_clusters: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _clusters_known(self) -> SlideBag:
        if self.without_clusters and self.clusters is None:
            raise ValueError("without_clusters needs the file of clusters")
        return self


ImageRef = Annotated[ImageFile | ImageBytes | SlideRegion | SlideBag, Field(discriminator="kind")]


class TextPart(_Frozen):
    type: Literal["text"] = "text"
    text: str


class ImagePart(_Frozen):
    """Stands where image number `index` of the sample is shown."""

    type: Literal["image"] = "image"
    index: int = Field(ge=0)


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Frozen):
    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(p.text for p in self.parts if isinstance(p, TextPart))


class Choice(_Frozen):
    """One option of a closed question."""

    letter: str = Field(pattern=r"^[A-Z]$")
    text: str = Field(min_length=1)


class Entity(_Frozen):
    """A finding, diagnosis or other concept that the image shows, or shows to be absent.

    Attributes:
        name: the term as written.
        concept: a CURIE such as "NCIT:C2926", where known.
        kind: finding, diagnosis, organ, stain, ...
        polarity: "absent" says that the concept was looked for and is not there.
        count: how many are visible, where counted.
        boxes: where they are, in pixels of image `image`.
    """

    name: str = Field(min_length=1)
    concept: str | None = None
    kind: str = "finding"
    polarity: Literal["present", "absent"] = "present"
    certainty: Literal["certain", "possible"] = "certain"
    count: int | None = Field(default=None, ge=0)
    image: int = Field(default=0, ge=0)
    boxes: tuple[BoxPixels, ...] = ()


class Origin(_Frozen):
    """Where a sample comes from. Splits are made on patient, case, slide or article, never on the question.

    Attributes:
        source: name of the dataset card.
        licence: SPDX identifier or the licence's own words.
        patient, case, slide, article: identifiers in the source; the first known one is the split unit.
        mpp: microns per pixel of the first image as stored.
        parents: ids of the samples that this one was made from.
        digest: sha256 over the encoded images.
    """

    source: str
    licence: str = "unknown"
    patient: str | None = None
    case: str | None = None
    slide: str | None = None
    article: str | None = None
    page: int | None = None
    modality: str | None = None
    organ: str | None = None
    stain: str | None = None
    mpp: Mpp | None = None
    parents: tuple[str, ...] = ()
    digest: str | None = None

    @property
    def group(self) -> str | None:
        """The unit that may never stand in two splits, with its kind: "patient:17"."""
        for kind in ("patient", "case", "slide", "article"):
            value = getattr(self, kind)
            if value:  # an empty text is no identifier: it would put all unknown patients into one group
                return f"{kind}:{value}"
        return None


class Sample(_Frozen):
    """One question about one or more images, with what is known about its answer.

    Attributes:
        messages: the prompt: a dialogue that ends with the user's question. Images stand as ImagePart.
        choices: options of a closed question, lettered from A without gaps; empty for an open one.
        answer: the letter of the right option, or the text of an open answer.
        findings: gold text for the findings block, where the grammar has one.
        reasoning: the gold trace, a step an element.
        caption: a description of the image, for continued pretraining.
        label: the class name, where the sample comes from a classification set.
        entities: gold entities with polarity.
        split: train, valid or test; other usual words for them are read as these (`splits.read_split`).
        extra: further columns of the source, JSON values only.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str = Field(min_length=1)
    images: tuple[ImageRef, ...] = ()
    messages: tuple[Message, ...] = Field(min_length=1)
    choices: tuple[Choice, ...] = ()
    answer: str | None = None
    findings: str | None = None
    reasoning: tuple[str, ...] = ()
    caption: str | None = None
    label: str | None = None
    entities: tuple[Entity, ...] = ()
    origin: Origin
    split: Annotated[Split | None, BeforeValidator(read_split)] = None
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Sample:
        if self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's question")
        for message in self.messages:
            for part in message.parts:
                if isinstance(part, ImagePart) and part.index >= len(self.images):
                    raise ValueError(
                        f"a message shows image {part.index}, but the sample has {len(self.images)} images"
                    )
        if self.choices:
            letters = [c.letter for c in self.choices]
            if letters != [chr(ord("A") + i) for i in range(len(letters))]:
                raise ValueError(f"choices must be lettered A, B, C, ... without gaps, found {letters}")
            texts = [c.text.strip().casefold() for c in self.choices]
            if len(set(texts)) != len(texts):
                raise ValueError("two choices have the same text")
            if self.answer is not None and self.answer not in letters:
                raise ValueError(f"answer {self.answer!r} is not among the choices {letters}")
        _check_json(self.extra, "extra")
        return self

    @property
    def question(self) -> str:
        """Text of the last user message."""
        return self.messages[-1].text

    @property
    def answer_text(self) -> str | None:
        """The answer in words: the text of the right option, or the open answer."""
        for choice in self.choices:
            if choice.letter == self.answer:
                return choice.text
        return self.answer


def _check_json(value: Any, where: str, depth: int = 0) -> None:
    """Refuse what would not come back from JSON as it was: tuples, NaN, keys that are not text, objects."""
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, str):
        _check_text(value, where)
        return
    if isinstance(value, float) and math.isfinite(value):
        return
    if depth >= MAX_DEPTH:
        raise ValueError(f"{where:.80} is not a JSON value of at most {MAX_DEPTH} levels")
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_json(item, f"{where}[{i}]", depth + 1)
    elif isinstance(value, dict) and all(isinstance(k, str) for k in value):
        for key, item in value.items():
            _check_text(key, where)
            _check_json(item, f"{where}.{key}", depth + 1)
    else:
        raise ValueError(f"{where} holds {value!r:.60}, which is not a JSON value")


def _check_text(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{where} holds a text that is no Unicode, which is not a JSON value") from None


def user_prompt(text: str, num_images: int = 1) -> tuple[Message, ...]:
    """A one-turn prompt: the images, then the text."""
    parts: list[Part] = [ImagePart(index=i) for i in range(num_images)]
    parts.append(TextPart(text=text))
    return (Message(role="user", parts=tuple(parts)),)


def make_choices(texts: list[str] | tuple[str, ...]) -> tuple[Choice, ...]:
    """Option texts as choices A, B, C, ... in the given order."""
    return tuple(Choice(letter=chr(ord("A") + i), text=t) for i, t in enumerate(texts))
