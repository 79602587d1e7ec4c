"""One question about a slide or a region, from what is shown to the finished reading, as events."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

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
from eosin.serve.batching import BusyError
from eosin.serve.blinding import FAILED, LOOKING
from eosin.serve.questions.base import Seen, Tell
from eosin.serve.questions.blocks import BlockStream
from eosin.serve.questions.evidence import Question, Tools, confidence_of, evidence_of
from eosin.serve.questions.statements import Statement, standing, statements_of
from eosin.serve.slides import KEY, Shown

log = logging.getLogger("eosin.serve")
Event = tuple[str, dict[str, Any]]
_FOLDERS = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?[/\\](?:[^/\\\s:'\"]+[/\\])+")
NOTE = "Research use only, not for diagnosis."
ASKED = r"^[0-9a-f]{32}$"


class AskBody(BaseModel):
    """A question about a slide, a box of it in pixels of level 0 (x0, y0, x1, y1), or several slides of a case.

    `slides`: keys of further slides of the same case, shown after the one in the address; none with a box.
    `model`: which of the models is asked; "" is the first. `asked`: made by the client, the same for the questions that
    belong together: one put to two models.
    """

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=4000)
    options: list[str] = Field(default_factory=list, max_length=26)
    box: tuple[int, int, int, int] | None = None
    max_new_tokens: int | None = Field(default=None, ge=1, strict=True)
    evidence: bool = Field(default=True, strict=True)
    stream: bool = Field(default=True, strict=True)
    model: str = Field(default="", max_length=200)
    asked: str | None = Field(default=None, pattern=ASKED)
    slides: list[Annotated[str, Field(pattern=KEY)]] = Field(default_factory=list, max_length=63)

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


async def events_of(body: AskBody, shown: Sequence[Shown], tools: Tools) -> AsyncIterator[Event]:
    """What happens to a question about a slide, or about several of a case: start, looking*, text*, reading, evidence*,
    done; or error.

    The reading is kept before `done`. Whoever stops listening frees what the question held.
    """
    called = tools.called(body.asked, shown[0].key)
    yield "start", {"slide": shown[0].key, "question": body.question, "model": called}
    try:
        seen: list[Seen] = []
        async for told in _look(body, shown, tools):
            if isinstance(told, Seen):
                seen.append(told)
            else:
                yield "looking", {"text": told if tools.labels is None else LOOKING}
        question = _question(body, shown, tools, seen)
        made: Generation | None = None
        async for event in _reply(question):
            if isinstance(event, Generation):
                made = event
            else:
                yield event
        assert made is not None
        async for event in _after(question, made):
            yield event
    except EosinError as exc:
        if tools.labels is not None:  # the reason may name the model
            log.warning("%s gave no reply: %s", tools.seat.name, without_paths(str(exc)))
            yield "error", {"message": FAILED, "again": True}
            return
        words = {"message": exc.message + (f" {exc.found}" if exc.found else ""), "expected": exc.expected,
                 "next_step": exc.next_step}  # fmt: skip
        yield "error", {k: without_paths(v) for k, v in words.items()} | {"again": True}
    except BusyError:
        raise
    except Exception as exc:  # a fault of ours: the log has all of it, and whoever waits is told that it happened
        log.exception("a question could not be finished")
        yield "error", {"message": f"The server could not finish this question ({type(exc).__name__}).", "again": True}


def without_paths(text: str | None) -> str | None:
    """A message without the folders of this machine: the last part of a path is left."""
    return None if text is None else _FOLDERS.sub("", text)


async def _look(body: AskBody, shown: Sequence[Shown], tools: Tools) -> AsyncIterator[str | Seen]:
    """What the model is shown of each slide, one after the other, with what is told meanwhile."""
    box = None
    if body.box is not None:
        x0, y0, x1, y1 = body.box
        box = BoxLevel0(x0=x0, y0=y0, x1=x1, y1=y1)
    for number, slide in enumerate(shown, 1):
        said, tell = _heard()
        looking = asyncio.create_task(asyncio.to_thread(tools.reader.look, slide.path, box, tell))
        async for text in _until(looking, said):
            yield text if len(shown) == 1 else f"slide {number} of {len(shown)}: {text}"
        yield await looking


def _question(body: AskBody, shown: Sequence[Shown], tools: Tools, seen: Sequence[Seen]) -> Question:
    sample = Sample(
        id=uuid.uuid4().hex, images=tuple(s.ref for s in seen), messages=user_prompt(body.question, len(seen)),
        choices=make_choices([o.strip() for o in body.options]), origin=Origin(source="room"),
    )  # fmt: skip
    asked = Asked(sample.id, prompt_messages(sample, tools.reader.grammar, instruction=tools.reader.instruction),
                  tuple(s.picture for s in seen),
                  scores=bool(sample.choices) and tools.seat.confidence is not None)  # fmt: skip
    return Question(tools, tuple(shown), tuple(seen), sample, asked, body)


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


async def _reply(question: Question) -> AsyncIterator[Event | Generation]:
    """The text of the reply by blocks, then the reply itself."""
    tools, body = question.tools, question.body
    cap = tools.settings.max_new_tokens
    decoding = Decoding(
        max_new_tokens=min(body.max_new_tokens or cap, cap), batch_size=tools.settings.batch_size, temperature=0.0
    )
    pieces, tell = _heard()
    watching = body.stream and not tools.settings.blinded
    waiting = tools.seat.answerer.submit(question.asked, decoding, tools.settings.timeout_s, tell if watching else None)
    try:
        blocks = BlockStream(tools.reader.grammar)
        done = asyncio.wrap_future(waiting.done)
        done.add_done_callback(lambda f: f.cancelled() or f.exception())  # whoever left asks for it no more
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


async def _after(question: Question, made: Generation) -> AsyncIterator[Event]:
    """The reading with statements, standing and confidence; then the evidence; then it is kept."""
    tools = question.tools
    statements = statements_of(made.text, tools.reader.grammar)
    reading = await asyncio.to_thread(_reading, question, made, statements)
    hidden = tools.settings.blinded
    if reading["letter"] and tools.seat.confidence is not None:
        reading["confidence"] = await confidence_of(question, made, str(reading["letter"]))
    if hidden:
        yield (
            "hidden",
            {"id": reading["id"], "text": "The model's reply is kept, and shown once you have signed yours."},
        )
    else:
        yield "reading", reading
    if question.body.evidence:
        async for told in evidence_of(question, made.text, statements):
            place = next(s for s in reading["statements"] if s["id"] == told["statement"])
            place["evidence"] = told
            if not hidden:
                yield "evidence", told
    await asyncio.to_thread(tools.readings.add_reading, reading, _images(question))
    yield "done", {"id": reading["id"], "note": NOTE}


def _images(question: Question) -> str:
    """What was shown, as a sample names it: one reference, or a list; "" where no sample can."""
    if any(s.is_part for s in question.seen):
        return ""
    refs = [s.ref.model_dump(mode="json") for s in question.seen]
    return json.dumps(refs[0] if len(refs) == 1 else refs)


def _reading(question: Question, made: Generation, statements: list[Statement]) -> dict[str, Any]:
    """All that is known of a reply without asking the model again."""
    tools, body, sample, seen = question.tools, question.body, question.sample, question.seen
    grammar, slide = tools.reader.grammar, question.shown[0]
    parsed = grammar.parse(made.text)
    reply = parsed.value if isinstance(parsed, Parsed) else None
    letter, reason = _letter(reply, sample) if reply else (None, getattr(parsed, "reason", None))
    text = next((c.text for c in sample.choices if c.letter == letter), None)
    answer = text or (reply.answer if reply else grammar.readable_blocks(made.text).get("answer", ""))
    sees = "he_slide" if isinstance(seen[0].picture, PatchBag) else "he_tile"
    several = [{"key": s.key, "name": s.name} for s in question.shown] if len(question.shown) > 1 else []
    patches = [s.num_patches for s in seen if s.num_patches is not None]
    label = {} if tools.labels is None else {"label": tools.called(body.asked, slide.key)}
    return {
        "id": sample.id, "asked": body.asked, "slide": slide.key, "slide_name": slide.name, "slides": several,
        "case": slide.case, "question": body.question, "options": [c.text for c in sample.choices],
        "box": list(body.box) if body.box else None, "model": tools.seat.name, **label, "grammar": grammar.as_facts(),
        "created": time.time(), "reply": made.text, "blocks": dict(reply.blocks) if reply else {},
        "truncated": made.truncated, "num_tokens": made.num_tokens, "answer": answer, "letter": letter,
        "unparsed_reason": reason, "confidence": None, "sees": sees, "num_patches": sum(patches) if patches else None,
        "mpp": seen[0].mpp, "is_part": seen[0].is_part, **standing(statements, tools.knowledge, answer, sees),
        "note": NOTE,
    }  # fmt: skip


def _letter(reply: Reply, sample: Sample) -> tuple[str | None, str | None]:
    """The option that a reply names, or why it names none."""
    if not sample.choices:
        return None, None
    found = parse_answer(reply.answer, {c.letter: c.text for c in sample.choices})
    return (None, found.reason) if isinstance(found, Unparsed) else (found.value, None)
