"""One question about a slide or a region, from what is shown to the finished reading, as events."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from eosin.core.errors import EosinError
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.nouns.prompt import prompt_messages
from eosin.core.nouns.reply import Reply
from eosin.core.nouns.sample import Origin, Sample, make_choices, user_prompt
from eosin.core.nouns.units import BoxLevel0
from eosin.engines.base import Decoding, Generation
from eosin.engines.base import Request as Asked
from eosin.scoring.reading.answers import parse_answer
from eosin.serve.questions.base import Readings, Seen, SlideReader, Tell
from eosin.serve.questions.blocks import BlockStream
from eosin.serve.questions.places import box_of, places_of
from eosin.serve.questions.statements import Knowledge, Statement, standing, statements_of
from eosin.serve.seats import Seat
from eosin.serve.settings import ServeSettings
from eosin.serve.slides import Shown

Event = tuple[str, dict[str, Any]]
_FOLDERS = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?[/\\](?:[^/\\\s:'\"]+[/\\])+")
NOTE = "Research use only, not for diagnosis."
ASKED = r"^[0-9a-f]{32}$"


class AskBody(BaseModel):
    """A question about a slide, or about a box of it in pixels of level 0 (x0, y0, x1, y1).

    `model`: which of the models is asked; "" is the first. `asked`: made by the client, the same for the questions that
    belong together: one put to two models.
    """

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=4000)
    options: list[str] = Field(default_factory=list, max_length=26)
    box: tuple[int, int, int, int] | None = None
    max_new_tokens: int | None = Field(default=None, ge=1)
    evidence: bool = True
    stream: bool = True
    model: str = Field(default="", max_length=200)
    asked: str | None = Field(default=None, pattern=ASKED)

    @field_validator("options")
    @classmethod
    def _some_options(cls, value: list[str]) -> list[str]:
        texts = [t.strip().casefold() for t in value]
        if len(value) == 1 or len(set(texts)) < len(texts) or any(not t or len(t) > 400 for t in texts):
            raise ValueError("a closed question has 2 to 26 different options of at most 400 letters")
        return value

    @field_validator("box")
    @classmethod
    def _some_box(cls, value: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
        if value is not None and not (0 <= value[0] < value[2] <= 2**31 and 0 <= value[1] < value[3] <= 2**31):
            raise ValueError("a box is x0, y0, x1, y1 with 0 <= x0 < x1 and 0 <= y0 < y1")
        return value


@dataclass(frozen=True)
class Tools:
    """What a question to one model needs."""

    seat: Seat
    reader: SlideReader
    readings: Readings
    settings: ServeSettings
    knowledge: Knowledge | None = None


async def events_of(body: AskBody, shown: Shown, tools: Tools) -> AsyncIterator[Event]:
    """What happens to a question: start, looking*, text*, reading, evidence*, done; or error.

    The reading is kept before `done`. Whoever stops listening frees what the question held.
    """
    box = None
    if body.box is not None:
        x0, y0, x1, y1 = body.box
        box = BoxLevel0(x0=x0, y0=y0, x1=x1, y1=y1)
    yield "start", {"slide": shown.key, "question": body.question, "model": tools.seat.name}
    try:
        said, tell = _heard()
        looking = asyncio.create_task(asyncio.to_thread(tools.reader.look, shown.path, box, tell))
        async for text in _until(looking, said):
            yield "looking", {"text": text}
        seen = await looking
        sample = _sample(body, seen)
        asked = Asked(sample.id, prompt_messages(sample, tools.reader.grammar, instruction=tools.reader.instruction),
                      (seen.picture,), scores=bool(sample.choices) and tools.seat.confidence is not None)  # fmt: skip
        made: Generation | None = None
        async for event in _reply(asked, body, tools):
            if isinstance(event, Generation):
                made = event
            else:
                yield event
        assert made is not None
        async for event in _after(body, shown, tools, seen, sample, asked, made):
            yield event
    except EosinError as exc:
        told = {"message": exc.message + (f" {exc.found}" if exc.found else ""), "expected": exc.expected,
                "next_step": exc.next_step}  # fmt: skip
        yield "error", {k: without_paths(v) for k, v in told.items()} | {"again": True}


def without_paths(text: str | None) -> str | None:
    """A message without the folders of this machine: the last part of a path is left."""
    return None if text is None else _FOLDERS.sub("", text)


def _sample(body: AskBody, seen: Seen) -> Sample:
    return Sample(
        id=uuid.uuid4().hex, images=(seen.ref,), messages=user_prompt(body.question),
        choices=make_choices([o.strip() for o in body.options]), origin=Origin(source="room"),
    )  # fmt: skip


def _heard() -> tuple[asyncio.Queue[str], Tell]:
    """A queue of this loop, and what puts a text into it from any thread."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[str]()

    def tell(text: str) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, text)

    return queue, tell


async def _until(task: asyncio.Future[Any], said: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    """What is put into a queue until a task is done; then what is left in it."""
    while True:
        get = asyncio.ensure_future(said.get())
        try:
            await asyncio.wait([get, task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not get.done():
                get.cancel()
        if get.done() and not get.cancelled():
            yield get.result()
        elif said.empty():
            return


async def _reply(asked: Asked, body: AskBody, tools: Tools) -> AsyncIterator[Event | Generation]:
    """The text of the reply by blocks, then the reply itself."""
    cap = tools.settings.max_new_tokens
    decoding = Decoding(
        max_new_tokens=min(body.max_new_tokens or cap, cap), batch_size=tools.settings.batch_size, temperature=0.0
    )
    pieces, tell = _heard()
    watching = body.stream and not tools.settings.blinded
    waiting = tools.seat.answerer.submit(asked, decoding, tools.settings.timeout_s, tell if watching else None)
    try:
        blocks = BlockStream(tools.reader.grammar)
        done = asyncio.wrap_future(waiting.done)
        async for text in _until(done, pieces):
            for block, new in blocks.feed(text):
                yield "text", {"block": block, "text": new}
        made = await done
        if watching:
            for block, new in blocks.feed(made.text, is_whole=True):
                yield "text", {"block": block, "text": new}
        yield made
    finally:
        waiting.leave()


async def _after(
    body: AskBody, shown: Shown, tools: Tools, seen: Seen, sample: Sample, asked: Asked, made: Generation
) -> AsyncIterator[Event]:
    """The reading with statements, standing and confidence; then the evidence; then it is kept."""
    statements = statements_of(made.text, tools.reader.grammar)
    reading = await asyncio.to_thread(_reading, body, shown, tools, seen, sample, made, statements)
    hidden = tools.settings.blinded
    if sample.choices and reading["letter"] and tools.seat.confidence is not None:
        reading["confidence"] = await _confidence(tools, sample, asked, made, str(reading["letter"]))
    if hidden:
        yield (
            "hidden",
            {"id": reading["id"], "text": "The model's reply is kept, and shown once you have signed yours."},
        )
    else:
        yield "reading", reading
    if body.evidence:
        async for told in _evidence(tools, seen, asked, made.text, statements, body.box):
            place = next(s for s in reading["statements"] if s["id"] == told["statement"])
            place["evidence"] = told
            if not hidden:
                yield "evidence", told
    await asyncio.to_thread(tools.readings.add_reading, reading, "" if seen.is_part else seen.ref.model_dump_json())
    yield "done", {"id": reading["id"], "note": NOTE}


def _reading(
    body: AskBody, shown: Shown, tools: Tools, seen: Seen, sample: Sample, made: Generation,
    statements: list[Statement],
) -> dict[str, Any]:  # fmt: skip
    """All that is known of a reply without asking the model again."""
    parsed = tools.reader.grammar.parse(made.text)
    reply = parsed.value if isinstance(parsed, Parsed) else None
    letter, reason = _letter(reply, sample) if reply else (None, getattr(parsed, "reason", None))
    text = next((c.text for c in sample.choices if c.letter == letter), None)
    answer = text or (reply.answer if reply else tools.reader.grammar.readable_blocks(made.text).get("answer", ""))
    sees = "he_slide" if isinstance(seen.picture, PatchBag) else "he_tile"
    return {
        "id": sample.id, "asked": body.asked, "slide": shown.key, "slide_name": shown.name, "question": body.question,
        "options": [c.text for c in sample.choices], "box": list(body.box) if body.box else None,
        "model": tools.seat.name, "grammar": tools.reader.grammar.as_facts(), "created": time.time(),
        "reply": made.text, "blocks": dict(reply.blocks) if reply else {}, "truncated": made.truncated,
        "num_tokens": made.num_tokens, "answer": answer, "letter": letter, "unparsed_reason": reason,
        "confidence": None, "sees": sees, "num_patches": seen.num_patches, "mpp": seen.mpp, "is_part": seen.is_part,
        **standing(statements, tools.knowledge, answer, sees), "note": NOTE,
    }  # fmt: skip


def _letter(reply: Reply, sample: Sample) -> tuple[str | None, str | None]:
    """The option that a reply names, or why it names none."""
    if not sample.choices:
        return None, None
    found = parse_answer(reply.answer, {c.letter: c.text for c in sample.choices})
    return (None, found.reason) if isinstance(found, Unparsed) else (found.value, None)


async def _confidence(
    tools: Tools, sample: Sample, asked: Asked, made: Generation, letter: str
) -> dict[str, Any] | None:
    """Calibrated confidence of the chosen option, with the probability of each; None where it cannot be said."""
    assert tools.seat.confidence is not None
    texts = [c.text for c in sample.choices]
    errand = tools.seat.answerer.run(
        lambda: tools.reader.option_probabilities(asked, made, texts), tools.settings.timeout_s
    )
    try:
        found = await asyncio.wrap_future(errand.done)
    finally:
        errand.gone.set()
    if found is None:
        return None
    by_letter = dict(zip([c.letter for c in sample.choices], found, strict=True))
    return {**tools.seat.confidence.of(by_letter[letter]), "options": dict(zip(texts, found, strict=True))}


async def _evidence(
    tools: Tools, seen: Seen, asked: Asked, reply: str, statements: list[Statement],
    box: tuple[int, int, int, int] | None,
) -> AsyncIterator[dict[str, Any]]:  # fmt: skip
    """Places of each statement, one after the other, so that the first is seen while the next is sought."""
    for one in statements:
        if not isinstance(seen.picture, PatchBag):
            assert box is not None
            um = [v * (seen.mpp or 1.0) for v in box]
            whole = {**box_of(um, seen.mpp), "px": list(box), "share": 1.0, "patches": None}
            yield {"statement": one.id, "method": "region", "boxes": [whole], "patches": [],
                   "note": "The model was shown this region as one picture."}  # fmt: skip
            continue
        span = (one.start, one.end)
        errand = tools.seat.answerer.run(
            lambda span=span: tools.reader.evidence(asked, reply, span), tools.settings.timeout_s  # type: ignore[misc]
        )  # fmt: skip
        try:
            scores = await asyncio.wrap_future(errand.done)
        finally:
            errand.gone.set()
        yield {"statement": one.id, "method": "sensitivity", **places_of(seen.picture, scores, seen.mpp),
               "note": "What the probability of these words depends on in this model; no explanation."}  # fmt: skip
