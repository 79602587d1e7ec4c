"""A question as a row of a published file gives it, before its pictures are looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eosin.core.draw import subset
from eosin.core.formats.options import letter_of
from eosin.core.formats.rows import BadRowError, Outcome, make_sample, read_row, unique
from eosin.core.images import digest_of
from eosin.core.nouns.outcome import Dropped, Filtered, filtered
from eosin.core.nouns.sample import ImageBytes, ImageRef, Sample, make_choices, user_prompt

STEP = "exam"


@dataclass(frozen=True)
class Draft:
    """One question.

    Attributes:
        id: unique in the exam.
        question: as it stands in the row, without its options.
        options: option texts in order; empty for an open question.
        answer: a letter, an option's text or both; or the text of an open answer. None where the gold is sealed.
        pictures: finds each picture; may raise BadRowError. Called for the questions that are asked only.
        origin: fields of `Origin` beside source (patient, slide, modality, organ, stain, licence, ...).
        extra: further facts: subset, split, task, and columns of the row.
        more: further fields of the sample (reasoning, findings, caption, label, messages).
    """

    id: str
    question: str
    options: tuple[str, ...] = ()
    answer: str | None = None
    pictures: tuple[Callable[[], ImageRef], ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


def finish(read: Iterable[Draft | Sample | Dropped], limit: int | None = None, seed: int = 0) -> Filtered[Sample]:
    """Samples of drafts. Of a limit, a seeded random subset is drawn before any picture is looked for."""
    usable: list[Draft | Sample] = []
    aside: list[Dropped] = []
    for item in read:
        if isinstance(item, Dropped):
            aside.append(item)
        else:
            usable.append(item)
    made = filtered(unique(_outcome(item) for item in subset(usable, limit, seed)))
    return Filtered(made.kept, (*aside, *made.dropped))


def _outcome(item: Draft | Sample) -> Outcome:
    if isinstance(item, Sample):
        return make_sample(item.model_dump(), item.id)
    return read_row(lambda: sample_of(item), {"id": item.id}, item.id, STEP)


def sample_of(draft: Draft) -> Outcome:
    """The sample of a draft.

    Raises:
        BadRowError: a picture that is missing or lies outside of the folder; an answer outside the options.
    """
    if not draft.question.strip():
        raise BadRowError("no question")
    answer = draft.answer
    if draft.options:
        if len(draft.options) < 2:
            raise BadRowError("fewer than two options", draft.options[0][:120])
        if any(not o.strip() for o in draft.options):
            raise BadRowError("empty choice", " | ".join(draft.options)[:120])
        answer = None if answer is None else letter_of(answer, list(draft.options))
        if answer is None and draft.answer is not None:
            raise BadRowError(
                "answer not among the choices", f"{draft.answer[:80]} of {' | '.join(draft.options)[:120]}"
            )
    images = tuple(find() for find in draft.pictures)
    origin = dict(draft.origin)
    held = [ref.data for ref in images if isinstance(ref, ImageBytes)]
    if held and len(held) == len(images) and "digest" not in origin:
        origin["digest"] = digest_of(held)
    return make_sample(
        {
            "id": draft.id, "images": images, "messages": user_prompt(draft.question.strip(), len(images)),
            "choices": make_choices([o.strip() for o in draft.options]), "answer": answer,
            "origin": origin, "extra": {k: v for k, v in draft.extra.items() if v is not None}, **draft.more,
        },
        draft.id,
    )  # fmt: skip
