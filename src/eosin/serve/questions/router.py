"""The endpoints of questions, readings and statements."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from eosin.core.errors import EosinError
from eosin.serve.batching import BusyError
from eosin.serve.questions.asking import AskBody, events_of
from eosin.serve.questions.evidence import Tools
from eosin.serve.refusals import refusal, told
from eosin.serve.slides import KEY, Shown, SlideShelf
from eosin.slides.annotations.geojson import collection, tissue_shapes
from eosin.slides.tissue.segmentation import tissue_mask

READING = r"^[0-9a-f]{32}$"
Key = Annotated[str, InPath(pattern=KEY)]


class CheckBody(BaseModel):
    """Statements to hold against the graph, and the diagnosis they are to bear out."""

    model_config = ConfigDict(extra="forbid")

    text: str | list[Annotated[str, Field(min_length=1, max_length=4000)]]
    answer: str | None = Field(default=None, max_length=2000)
    sees: Literal["he_tile", "he_slide", "ihc"] = "he_slide"


def questions_router(shelf: SlideShelf, by_name: dict[str, Tools]) -> APIRouter:
    """Questions about slides, readings that were made, and the check of statements.

    Args:
        by_name: what each model's questions need, by its name; the first is asked where a question names none. In a
            blinded study of two models they are asked by their labels.
    """
    router = APIRouter(tags=["questions"])
    first = next(iter(by_name.values()))
    labels = first.labels

    @router.post("/slides/{key}/ask", response_model=None, responses=told(400, 404, 429, 500, ok="text/event-stream"))
    async def ask(key: Key, body: AskBody) -> StreamingResponse | JSONResponse:
        """A question about a slide, a region, or several slides of one case: server-sent events start, looking, text
        (findings, reasoning, answer), reading, evidence, done; or error. With `stream: false` one JSON object: the
        reading with its evidence."""
        found = [shelf.slides.get(k) for k in (key, *body.slides)]
        shown = [s for s in found if s is not None]
        if len(shown) < len(found):
            return refusal(404, "There is no such slide here.")
        names = {name: name for name in by_name}
        if labels is not None:
            body = body.model_copy(update={"asked": body.asked or uuid.uuid4().hex})
            names = labels.by_label(str(body.asked), key)
        name = names.get(body.model or next(iter(names)))
        if name is None:
            return refusal(404, f"No model of this name is asked here; {', '.join(names)}: nothing else is.")
        tools = by_name[name]
        for one in [tools] if labels is None else by_name.values():  # what one cannot do would tell which it is
            if why := await asyncio.to_thread(_cannot, shelf, shown, body, one):
                return refusal(400, why)
        if tools.seat.answerer.is_full:
            return refusal(429, "Too many questions wait already; ask again.", {"Retry-After": "1"})
        if body.stream:
            return StreamingResponse(_lines(events_of(body, shown, tools)), media_type="text/event-stream")
        return await _at_once(body, shown, tools)

    @router.get("/slides/{key}/tissue", response_model=None, responses=told(404))
    def tissue(key: Key) -> JSONResponse:
        """The outlines of the tissue as GeoJSON, in pixels of level 0."""
        try:
            with shelf.slide(key) as slide:
                found = tissue_mask(slide)
        except EosinError as exc:
            return refusal(404 if exc.message.startswith("There is no such slide") else 422, exc.message)
        return JSONResponse(collection(tissue_shapes(found)))

    @router.post("/check", response_model=None, responses=told(400))
    def check(body: CheckBody) -> JSONResponse:
        """What the knowledge graph says of statements: supported, contradicted or unknown, with the path."""
        if first.knowledge is None:
            return refusal(400, "This server has no knowledge graph.")
        texts = [body.text] if isinstance(body.text, str) else body.text
        try:
            return JSONResponse(first.knowledge.check(texts, answer=body.answer, sees=body.sees))
        except EosinError as exc:
            return refusal(400, exc.message)

    return router


def _cannot(shelf: SlideShelf, shown: Sequence[Shown], body: AskBody, tools: Tools) -> str | None:
    """Why a question cannot be asked of this model, or None."""
    if body.box is None and not tools.reader.sees_slides:
        return "This model reads regions: draw a box, or ask about what the view shows."
    if why := _no_case(shown, body, tools):
        return why
    try:
        sizes = []
        for one in shown:
            with shelf.slide(one.key) as slide:
                sizes.append(slide.size_px)
        wide, high = sizes[0]
    except EosinError as exc:
        return exc.message
    if body.box is not None and (body.box[2] > wide or body.box[3] > high):
        return f"The box does not lie on the slide, which has {wide} x {high} px."
    return None


def _no_case(shown: Sequence[Shown], body: AskBody, tools: Tools) -> str | None:
    """Why several slides cannot be asked about together, or None."""
    if len(shown) == 1:
        return None
    if body.box is not None:
        return "A box lies on one slide: ask about it alone."
    if len({s.key for s in shown}) < len(shown) or len({s.case for s in shown}) > 1 or shown[0].case is None:
        return "Slides that are asked about together are different ones of one case."
    if len(shown) > tools.reader.max_slides:
        most = "one slide" if tools.reader.max_slides == 1 else f"{tools.reader.max_slides} slides"
        return f"This model reads {most} at a time: ask slide by slide."
    return None


async def _lines(events: AsyncIterator[Any]) -> AsyncIterator[str]:
    try:
        async for name, data in events:
            yield f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
    except BusyError:
        busy = {"message": "Too many questions wait already; ask again.", "again": True}
        yield f"event: error\ndata: {json.dumps(busy)}\n\n"


async def _at_once(body: AskBody, shown: Any, tools: Tools) -> JSONResponse:
    reading: dict[str, Any] = {}
    try:
        async for name, data in events_of(body, shown, tools):
            if name == "error":
                return refusal(500, data["message"])
            if name in ("reading", "hidden"):
                reading = data
    except BusyError:
        return refusal(429, "Too many questions wait already; ask again.", {"Retry-After": "1"})
    return JSONResponse(reading)
