"""Where a model looked for each statement, and how sure it is of its answer: what is asked of it beside the reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import Sample, SlideRegion
from eosin.core.nouns.units import BoxLevel0
from eosin.engines.base import Generation
from eosin.engines.base import Request as Asked
from eosin.serve.blinding import Labels
from eosin.serve.questions.base import Readings, Seen, SlideReader
from eosin.serve.questions.places import places_of
from eosin.serve.questions.statements import Knowledge, Statement
from eosin.serve.seats import Seat
from eosin.serve.settings import ServeSettings
from eosin.serve.slides import Shown

REGION = "The model was shown this region as one picture."
WORDS = "What the probability of these words depends on in this model; no explanation."
OF_SEVERAL = " Shares and strengths are within each slide."


@dataclass(frozen=True)
class Tools:
    """What a question to one model needs. `labels`: of a blinded study of two models."""

    seat: Seat
    reader: SlideReader
    readings: Readings
    settings: ServeSettings
    knowledge: Knowledge | None = None
    labels: Labels | None = None

    def called(self, asked: str | None, slide: str) -> str:
        """What the reader may call the model that is asked."""
        if self.labels is None:
            return self.seat.name
        drawn = self.labels.by_label(asked or "", slide)
        return next(label for label, name in drawn.items() if name == self.seat.name)


class Body(Protocol):
    """What is read of `AskBody` once the question is put."""

    question: str
    box: tuple[int, int, int, int] | None
    max_new_tokens: int | None
    evidence: bool
    stream: bool
    asked: str | None


@dataclass(frozen=True)
class Question:
    """A question on its way: to which model, what it is shown of which slides, and as it is asked."""

    tools: Tools
    shown: tuple[Shown, ...]
    seen: tuple[Seen, ...]
    sample: Sample
    asked: Asked
    body: Body


async def confidence_of(question: Question, made: Generation, letter: str) -> dict[str, Any] | None:
    """Calibrated confidence of the chosen option, with the probability of each; None where it cannot be said."""
    tools, choices = question.tools, question.sample.choices
    assert tools.seat.confidence is not None
    texts = [c.text for c in choices]
    found = await _errand(tools, lambda: tools.reader.option_probabilities(question.asked, made, texts))
    if found is None:
        return None
    by_letter = dict(zip([c.letter for c in choices], found, strict=True))
    return {**tools.seat.confidence.of(by_letter[letter]), "options": dict(zip(texts, found, strict=True))}


async def evidence_of(question: Question, reply: str, statements: Sequence[Statement]) -> AsyncIterator[dict[str, Any]]:
    """Places of each statement, one after the other, so that the first is seen while the next is sought. Of several
    slides every box and every patch names its slide."""
    for one in statements:
        parts = [await _on_slide(question, reply, one, number) for number in range(len(question.seen))]
        if len(parts) == 1:
            yield {"statement": one.id, **parts[0]}
            continue
        for part, slide in zip(parts, question.shown, strict=True):
            for place in (*part["boxes"], *part["patches"]):
                place["slide"] = slide.key
        yield {
            "statement": one.id, "method": parts[0]["method"], "boxes": [b for p in parts for b in p["boxes"]],
            "patches": [b for p in parts for b in p["patches"]], "tile_um": parts[0].get("tile_um"),
            "note": parts[0]["note"] + OF_SEVERAL,
        }  # fmt: skip


async def _on_slide(question: Question, reply: str, one: Statement, number: int) -> dict[str, Any]:
    """Places of a statement on one of the slides."""
    tools, seen = question.tools, question.seen[number]
    if not isinstance(seen.picture, PatchBag):
        shown = list(question.body.box) if question.body.box is not None else _whole(seen)
        um = None if seen.mpp is None else [round(v * seen.mpp, 1) for v in shown]
        whole = {"um": um, "px": shown, "share": 1.0, "patches": None}
        return {"method": "region", "boxes": [whole], "patches": [], "note": REGION}
    scores = await _errand(tools, lambda: tools.reader.evidence(question.asked, reply, (one.start, one.end), number))
    return {"method": "sensitivity", **places_of(seen.picture, scores, seen.mpp), "note": WORDS}


def _whole(seen: Seen) -> list[int]:
    """The corners of what one picture shows, in pixels of level 0."""
    assert isinstance(seen.ref, SlideRegion) and isinstance(seen.ref.box, BoxLevel0)
    return [int(v) for v in (seen.ref.box.x0, seen.ref.box.y0, seen.ref.box.x1, seen.ref.box.y1)]


async def _errand(tools: Tools, work: Any) -> Any:
    """Work that needs the model, done in its own thread."""
    errand = tools.seat.answerer.run(work, tools.settings.timeout_s)
    try:
        return await asyncio.wrap_future(errand.done)
    finally:
        errand.gone.set()
