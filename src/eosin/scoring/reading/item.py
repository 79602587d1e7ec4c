"""What is scored: one reply with all that is known about its question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image
from pydantic import ValidationError

from eosin.core.errors import EosinError
from eosin.core.images import load_image
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.nouns.prompt import gold_answer
from eosin.core.nouns.sample import Entity, ImageFile, ImageRef, Origin, Sample, SlideRegion

OpenImage = Callable[[ImageRef], Image.Image]


@dataclass(frozen=True)
class Reference:
    """Gold texts: the findings block, the trace, the answer in words. None where the data has none."""

    findings: str | None = None
    think: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class ScoreItem:
    """A reply and its question, plain data.

    Attributes:
        id: the sample's id.
        reply: the completion alone, never the prompt.
        question: text of the question, without its options.
        choices: letter to option text; empty for an open question.
        answer: gold: a letter, several letters ("A, C"), or the open answer. None where unknown.
        reference: gold texts.
        entities: gold entities; None where the data was never annotated, () where nothing is to be found.
        image: the first image, for the judge and for CLIP.
        num_tokens: tokens of the completion, None where not counted.
        truncated: whether the completion was cut off at the token limit.
        source: name of the data set.
        extra: whatever a reward of a user may need: all further columns of the source.
        sample: the whole sample, where the item was made from one: origin, label, caption, boxes, split, ...
        open_ref: how an image is opened; None opens files and bytes, but no slide regions.
    """

    id: str
    reply: str
    question: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    answer: str | None = None
    reference: Reference = field(default_factory=Reference)
    entities: tuple[Entity, ...] | None = None
    image: ImageRef | None = None
    num_tokens: int | None = None
    truncated: bool = False
    source: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    sample: Sample | None = None
    open_ref: OpenImage | None = field(default=None, repr=False, compare=False)

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """References of all images of the question, in the prompt's order of numbers."""
        if self.sample is not None:
            return self.sample.images
        return () if self.image is None else (self.image,)

    def open_image(self, index: int = 0) -> Image.Image:
        """Image number `index`, RGB, decoded when it is asked for, at its full size.

        Raises:
            EosinError: there is no such image, or it cannot be read. In a reward this makes the term unscored.
        """
        if not 0 <= index < len(self.images):
            raise EosinError(f"The question has no image {index}.", found=f"{len(self.images)} images", where=self.id)
        return (self.open_ref or load_image)(self.images[index])

    def region(self, index: int = 0) -> SlideRegion | None:
        """Where on which slide image number `index` lies; None where it is a picture of its own."""
        ref = self.images[index] if 0 <= index < len(self.images) else None
        return ref if isinstance(ref, SlideRegion) else None

    @property
    def origin(self) -> Origin | None:
        """Source, patient, slide, organ, stain, mpp, ...; None where the item was not made from a sample."""
        return self.sample.origin if self.sample is not None else None

    @property
    def answer_text(self) -> str | None:
        """The gold answer in words."""
        if self.answer is not None and self.answer in self.choices:
            return self.choices[self.answer]
        return self.answer

    def with_reply(self, reply: str, *, num_tokens: int | None = None, truncated: bool = False) -> ScoreItem:
        """The same question with another reply."""
        return replace(self, reply=reply, num_tokens=num_tokens, truncated=truncated)


def item_from_sample(
    sample: Sample,
    reply: str,
    num_tokens: int | None = None,
    truncated: bool = False,
    open_ref: OpenImage | None = None,
) -> ScoreItem:
    """A sample and a reply to it, as one item.

    A sample without entities counts as not annotated, unless `extra["entities_complete"]` is true.
    """
    annotated = bool(sample.entities) or sample.extra.get("entities_complete") is True
    return ScoreItem(
        id=sample.id,
        reply=reply,
        question=sample.question,
        choices={c.letter: c.text for c in sample.choices},
        answer=sample.answer,
        reference=Reference(
            findings=sample.findings,
            think=" ".join(sample.reasoning) or None,
            answer=gold_answer(sample) or None,
        ),
        entities=tuple(sample.entities) if annotated else None,
        image=sample.images[0] if sample.images else None,
        num_tokens=num_tokens,
        truncated=truncated,
        source=sample.origin.source,
        extra=sample.extra,
        sample=sample,
        open_ref=open_ref,
    )


def item_from_row(row: object) -> Parsed[ScoreItem] | Unparsed:
    """An item from one line of a replies file. The reason names the first field that is wrong."""
    if not isinstance(row, Mapping):
        return Unparsed("the line is not a JSON object")
    for check in (_wrong_text, _wrong_choices, _wrong_counts):
        reason = check(row)
        if reason:
            return Unparsed(reason)
    entities = _entities(row.get("entities"))
    if isinstance(entities, Unparsed):
        return entities
    reference = row.get("reference") or {}
    image = row.get("image")
    return Parsed(
        ScoreItem(
            id=str(row["id"]),
            reply=row["reply"],
            question=row.get("question") or "",
            choices=dict(row.get("choices") or {}),
            answer=row.get("answer"),
            reference=Reference(**{k: reference.get(k) for k in ("findings", "think", "answer")}),
            entities=entities.value,
            image=ImageFile(path=image) if image else None,
            num_tokens=row.get("num_tokens"),
            truncated=bool(row.get("truncated", False)),
            source=str(row.get("source") or ""),
            extra=row.get("extra") or {},
        )
    )


def _wrong_text(row: Mapping[str, Any]) -> str | None:
    if not isinstance(row.get("id"), str | int) or isinstance(row.get("id"), bool):
        return "id must be text"
    if not isinstance(row.get("reply"), str):
        return "reply must be text"
    for name in ("question", "answer", "image"):
        if not isinstance(row.get(name), str | None):
            return f"{name} must be text or null"
    reference = row.get("reference")
    if not isinstance(reference, Mapping | None):
        return "reference must be an object"
    for name in ("findings", "think", "answer"):
        if not isinstance((reference or {}).get(name), str | None):
            return f"reference.{name} must be text or null"
    return None


def _wrong_choices(row: Mapping[str, Any]) -> str | None:
    choices = row.get("choices")
    if choices is None:
        return None
    if not isinstance(choices, Mapping):
        return "choices must be an object of letters and texts"
    for letter, text in choices.items():
        if not (isinstance(letter, str) and len(letter) == 1 and "A" <= letter <= "Z"):
            return "choices must be lettered A to Z"
        if not isinstance(text, str):
            return f"choice {letter} must be text"
    return None


def _wrong_counts(row: Mapping[str, Any]) -> str | None:
    count = row.get("num_tokens")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        return "num_tokens must be a whole number of 0 or more, or null"
    if not isinstance(row.get("truncated", False), bool | None):
        return "truncated must be true or false"
    if not isinstance(row.get("extra"), Mapping | None):
        return "extra must be an object"
    return None


def _entities(value: object) -> Parsed[tuple[Entity, ...] | None] | Unparsed:
    if value is None:
        return Parsed(None)
    if not isinstance(value, list | tuple):
        return Unparsed("entities must be a list")
    made = []
    for one in value:
        try:
            made.append(Entity(name=one) if isinstance(one, str) else Entity.model_validate(one))
        except ValidationError:
            return Unparsed("an entity must be a name or an object with a name")
    return Parsed(tuple(made))
