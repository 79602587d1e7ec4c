"""/v1/chat/completions and /v1/models, as OpenAI's clients ask for them: images as data URLs, whole or streamed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import decode
from eosin.core.nouns.sample import ImagePart, Message, Part, TextPart
from eosin.engines.base import Decoding, Generation
from eosin.engines.base import Request as Asked
from eosin.serve.batching import BusyError, Waiting
from eosin.serve.refusals import refusal, told
from eosin.serve.seats import Seat
from eosin.serve.settings import ServeSettings


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)  # clients send settings of other servers along


class ImageUrl(_Body):
    url: str


class TextContent(_Body):
    type: Literal["text"]
    text: str


class ImageContent(_Body):
    type: Literal["image_url"]
    image_url: ImageUrl


Content = Annotated[TextContent | ImageContent, Field(discriminator="type")]


class Turn(_Body):
    role: Literal["system", "user", "assistant"]
    content: str | list[Content]


class ChatBody(_Body):
    """What Eosin's server reads of a chat completion's body; `n` above 1 is refused, other fields are passed over."""

    model: str = ""
    messages: list[Turn] = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=10, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: Literal[1] | None = None
    stream: bool = False


def closed_router() -> APIRouter:
    """The same addresses in a blinded study: a reply from here would be seen before the reader has signed."""
    router = APIRouter(prefix="/v1", tags=["chat"])
    why = "In a blinded study models are asked by the page alone."

    @router.get("/models", response_model=None, responses=told(403))
    def models() -> JSONResponse:
        """Closed in a blinded study."""
        return refusal(403, why)

    @router.post("/chat/completions", response_model=None, responses=told(403))
    def complete() -> JSONResponse:
        """Closed in a blinded study."""
        return refusal(403, why)

    return router


class BadQuestionError(Exception):
    """A question that cannot be asked; its text is for the client."""


def chat_router(seats: dict[str, Seat], settings: ServeSettings) -> APIRouter:
    """The endpoints of OpenAI's clients."""
    router = APIRouter(prefix="/v1", tags=["chat"])
    started = int(time.time())

    @router.get("/models")
    def models() -> dict[str, Any]:
        """The models that are served: one, or two side by side."""
        listed = [{"id": name, "object": "model", "created": started, "owned_by": "eosin"} for name in seats]
        return {"object": "list", "data": listed}

    @router.post("/chat/completions", response_model=None, responses=told(400, 404, 429, 500, ok="text/event-stream"))
    async def complete(body: ChatBody, request: Request) -> JSONResponse | StreamingResponse:
        """One reply, whole or as a stream of server-sent events."""
        seat = seats.get(body.model or settings.model_name)
        if seat is None:
            served = " and ".join(repr(name) for name in seats)
            return refusal(404, f"The model {body.model[:200]!r} is not served here; {served}: nothing else is.")
        try:
            asked = await asyncio.to_thread(question_of, body, settings)
        except BadQuestionError as exc:
            return refusal(400, str(exc))
        decoding = _decoding(body, settings)
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str]()

        def tell(text: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, text)

        on_text = tell if body.stream else None
        try:
            waiting = seat.answerer.submit(asked, decoding, settings.timeout_s, on_text)
        except BusyError:
            return refusal(429, "Too many questions wait already; ask again.", {"Retry-After": "1"})
        head = {"id": f"chatcmpl-{asked.id}", "created": int(time.time()), "model": seat.name}
        if body.stream:
            return StreamingResponse(_stream(waiting, pieces, head, request), media_type="text/event-stream")
        return await _whole(waiting, head, request)

    return router


def question_of(body: ChatBody, settings: ServeSettings) -> Asked:
    """Messages and pictures of a body.

    Raises:
        BadQuestionError: a picture that is none, too large, one too many, or behind an address: nothing is fetched.
    """
    images: list[Any] = []
    messages = []
    for turn in body.messages:
        parts: list[Part] = []
        for part in [TextContent(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content:
            if isinstance(part, TextContent):
                parts.append(TextPart(text=part.text))
                continue
            if len(images) >= settings.max_images:
                raise BadQuestionError(f"A question may show {settings.max_images} pictures.")
            parts.append(ImagePart(index=len(images)))
            images.append(_picture(part.image_url.url, settings))
        messages.append(Message(role=turn.role, parts=tuple(parts)))
    return Asked(uuid.uuid4().hex, tuple(messages), tuple(images))


def _picture(url: str, settings: ServeSettings) -> Any:
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise BadQuestionError("A picture is sent as data:image/...;base64,...; nothing is fetched from an address.")
    try:
        image = decode(base64.b64decode(data, validate=True), "a picture of the question")
    except (binascii.Error, ValueError) as exc:
        raise BadQuestionError("A picture of the question is no base64.") from exc
    except (ImageError, EosinError) as exc:
        raise BadQuestionError(f"A picture of the question cannot be read: {str(exc).splitlines()[0][:200]}") from exc
    if image.width * image.height > settings.max_image_px:
        raise BadQuestionError(f"A picture may have {settings.max_image_px} pixels; this one has more.")
    return image


def _decoding(body: ChatBody, settings: ServeSettings) -> Decoding:
    """Greedy unless a temperature is given; the cap is the server's where the client asks for more."""
    asked = body.max_completion_tokens or body.max_tokens or settings.max_new_tokens
    temperature = body.temperature or 0.0
    return Decoding(
        max_new_tokens=min(asked, settings.max_new_tokens), temperature=temperature,
        top_p=(body.top_p or 1.0) if temperature else 1.0, batch_size=settings.batch_size,
        seed=(body.seed or 0) if temperature else 0,
    )  # fmt: skip


async def _whole(waiting: Waiting, head: dict[str, Any], request: Request) -> JSONResponse:
    done = asyncio.wrap_future(waiting.done)
    while not done.done():
        await asyncio.wait([done], timeout=0.5)
        if await request.is_disconnected():
            waiting.leave()
            break
    try:
        made = await done
    except EosinError as exc:
        return refusal(500, exc.message + (f" {exc.found}" if exc.found else ""))
    choice = {"index": 0, "message": {"role": "assistant", "content": made.text}, "finish_reason": _finish(made)}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], **_usage(made)})


def _usage(made: Generation) -> dict[str, Any]:
    """Counts of tokens, or none at all where one of them is not known: clients add them up, and null is no number."""
    said, asked = made.num_tokens, made.num_prompt_tokens
    if said is None or asked is None:
        return {}
    return {"usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}}


async def _stream(
    waiting: Waiting, pieces: asyncio.Queue[str], head: dict[str, Any], request: Request
) -> AsyncIterator[str]:
    """Server-sent events with what is new of the reply; a letter that is not whole yet is held back."""
    done = asyncio.wrap_future(waiting.done)
    sent = ""
    try:
        yield _event(head, {"role": "assistant", "content": ""})
        while not done.done() or not pieces.empty():
            text = await _next_piece(pieces, done)
            if text is None:
                continue
            whole = text.rstrip("\ufffd")
            if whole.startswith(sent) and len(whole) > len(sent):
                yield _event(head, {"content": whole[len(sent) :]})
                sent = whole
        made = await done
        if made.text.startswith(sent) and made.text != sent:
            yield _event(head, {"content": made.text[len(sent) :]})
        yield _event(head, {}, _finish(made))
        yield "data: [DONE]\n\n"
    except EosinError as exc:
        yield f"data: {json.dumps({'error': {'message': exc.message, 'type': 'server_error', 'code': 500}})}\n\n"
    finally:
        waiting.leave()  # the client has all of it, or has left


async def _next_piece(pieces: asyncio.Queue[str], done: asyncio.Future[Generation]) -> str | None:
    """The newest text so far; None where the reply ended first."""
    get = asyncio.ensure_future(pieces.get())
    both: list[asyncio.Future[Any]] = [get, done]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not get.done():
        get.cancel()
        return None
    text = get.result()
    while not pieces.empty():
        text = pieces.get_nowait()
    return text


def _event(head: dict[str, Any], delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


def _finish(made: Generation) -> str:
    return "length" if made.truncated else "stop"
