"""Chat completions of one model: retries, budget, counts, structured answers."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from eosin.clients.budget import Budget, Call, Usage
from eosin.clients.completion import AnswerError, Completion, read_completion, read_models, whole_text
from eosin.clients.keys import read_key
from eosin.clients.ledger import Ledger
from eosin.clients.loop import awaited, waited
from eosin.clients.settings import ServerSettings
from eosin.clients.streaming import OnText, StreamReader
from eosin.clients.transport import ConnectionFailedError, StatusError, Transport, check_address
from eosin.core.nouns.outcome import Parsed, Unparsed

T = TypeVar("T")

RETRY_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
NO_SCHEMA_STATUS = frozenset({400, 422, 501})
# A generator of its own: waits must not move anybody's seeded stream.
_jitter = random.Random()
_IN_WORDS = "\n\nAnswer with one JSON object, and nothing else, that obeys this JSON schema:\n"


@dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
        role: who speaks.
        parts: texts, and images as encoded bytes (PNG, JPEG or WebP), in order.
    """

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if self.role != "user" and self.num_images:
            raise ValueError(f"an image in a {self.role} message, which cannot hold one")

    def as_dict(self) -> dict[str, Any]:
        """The message as it is sent; images as data URIs."""
        if self.role != "user":
            return {"role": self.role, "content": "".join(p for p in self.parts if isinstance(p, str))}
        return {"role": self.role, "content": [_part(p) for p in self.parts]}

    @property
    def num_images(self) -> int:
        return sum(isinstance(p, bytes) for p in self.parts)


@dataclass(frozen=True)
class ChatRequest:
    """What a model is asked.

    Attributes:
        messages: the turns so far.
        schema: name and JSON schema of the answer, or None for free text.
        temperature, top_p, seed: of sampling; a top_p of 1 and a seed of None are not sent.
        max_tokens: length limit of the answer; None takes that of the settings.
        top_logprobs: so many likely tokens at each place are asked for; a server that refuses that is asked without.
        counts: whether a stream is asked for its counts of tokens; a server that refuses that is asked without.
    """

    messages: tuple[Message, ...]
    schema: tuple[str, dict[str, Any]] | None = None
    temperature: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    top_p: float = 1.0
    top_logprobs: int = 0
    counts: bool = True


class _FailedError(Exception):
    """An attempt without a usable answer."""

    def __init__(self, reason: str, *, again: bool = True, wait_s: float | None = None, status: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again
        self.wait_s = wait_s
        self.status = status


class ChatClient:
    """A model behind `POST {url}/chat/completions`. May be used from any thread and any event loop.

    Args:
        ledger: file in which the calls are counted, so that the budget goes on after a restart; None: from nothing.

    Raises:
        MissingExtraError: the extra `clients` is not installed.
        EosinError: the key in the environment is not usable.
    """

    def __init__(self, settings: ServerSettings, ledger: Path | None = None) -> None:
        check_address(settings)
        self.settings = settings
        self.usage = Usage()
        self._ledger = None if ledger is None else Ledger(ledger)
        if self._ledger is not None:
            self.usage.restore(self._ledger.before)
        self._key = read_key(settings.api_key_env)
        self._in_words: set[str] = set()
        self._gives_logprobs = True
        self._made: _Session | None = None

    @overload
    async def complete(self, request: ChatRequest) -> Parsed[str] | Unparsed: ...
    @overload
    async def complete(self, request: ChatRequest, read: Callable[[Completion], T]) -> Parsed[T] | Unparsed: ...

    async def complete(
        self, request: ChatRequest, read: Callable[[Completion], Any] = whole_text
    ) -> Parsed[Any] | Unparsed:
        """Ask, again with growing waits where that may help.

        Args:
            request: what is asked.
            read: makes the value of an answer, and raises AnswerError where it is unusable. It runs in the clients'
                thread. By default the text, if the model ended by itself and did not refuse.

        Returns:
            The value, or Unparsed with the last failure's reason.
        """
        return await awaited(self.in_loop(request, read))

    def complete_now(
        self,
        request: ChatRequest,
        read: Callable[[Completion], T] = whole_text,  # type: ignore[assignment]
    ) -> Parsed[T] | Unparsed:
        """The same for callers without an event loop."""
        return waited(self.in_loop(request, read))

    def models_now(self) -> Parsed[tuple[str, ...]] | Unparsed:
        """Names of the models that the server offers, at one attempt; it is outside of the budget."""
        return waited(self._models())

    async def in_loop(
        self, request: ChatRequest, read: Callable[[Completion], T], on_text: OnText | None = None
    ) -> Parsed[T] | Unparsed:
        """The same for coroutines that already run in the clients' loop.

        Args:
            on_text: asks for a stream, and is given the reply so far each time it has grown. Once it was given some,
                there is no further attempt: it would begin anew.
        """
        session = self._session()
        heard = None if on_text is None else _Heard(on_text)
        failed = _FailedError("no attempt made")
        num_failed = num_sent = 0
        in_words = self._starts_in_words(request)
        asks_logprobs = request.top_logprobs > 0 and self._gives_logprobs
        if not asks_logprobs:
            request = replace(request, top_logprobs=0)
        while num_failed <= self.settings.retries:
            try:
                value = await self._attempt(session, request, read, heard, in_words=in_words, again=num_sent > 0)
            except _FailedError as exc:
                failed = exc
                num_sent += 1
                if heard is not None and heard.text:
                    failed = _FailedError(f"{exc.reason}, in the middle of the reply", again=False)
                    break
                if self._may_say_it_in_words(request, exc.status, in_words):
                    in_words = True
                    continue
                if self._may_do_without(request, exc.status, streams=heard is not None):
                    request = replace(request, top_logprobs=0, counts=False)
                    continue
                if not exc.again:
                    break
                num_failed += 1
                if num_failed <= self.settings.retries:
                    await asyncio.sleep(self._wait(num_failed, exc.wait_s))
            else:
                self._note_words(request, in_words)
                self._gives_logprobs = self._gives_logprobs and not (asks_logprobs and not request.top_logprobs)
                return Parsed(value)
        self.usage.failures += 1
        return Unparsed(f"{failed.reason} (after {num_failed} attempts)" if failed.again else failed.reason)

    def _session(self) -> _Session:
        """What belongs to one event loop; a forked process has another."""
        loop = asyncio.get_running_loop()
        if self._made is None or self._made.loop is not loop:
            self._made = _Session(
                loop,
                Transport(self.settings, self._key),
                Budget(self.settings, self.usage, self._ledger),
                asyncio.Semaphore(self.settings.concurrency),
            )
        return self._made

    def _starts_in_words(self, request: ChatRequest) -> bool:
        if request.schema is None:
            return False
        return self.settings.structured == "prompt" or request.schema[0] in self._in_words

    def _note_words(self, request: ChatRequest, in_words: bool) -> None:
        """Remember that this schema has to be put in words at this server, and count it."""
        if in_words and request.schema is not None:
            self._in_words.add(request.schema[0])
            self.usage.in_words += 1

    def _may_say_it_in_words(self, request: ChatRequest, status: int, in_words: bool) -> bool:
        automatic = self.settings.structured == "auto"
        return automatic and request.schema is not None and not in_words and status in NO_SCHEMA_STATUS

    @staticmethod
    def _may_do_without(request: ChatRequest, status: int, *, streams: bool) -> bool:
        """Whether a refusal may be one of token probabilities or of a stream's counts: some servers give none."""
        return (request.top_logprobs > 0 or (streams and request.counts)) and status in NO_SCHEMA_STATUS

    async def _attempt(
        self, session: _Session, request: ChatRequest, read: Callable[[Completion], T], heard: _Heard | None, *,
        in_words: bool, again: bool,
    ) -> T:  # fmt: skip
        body = self._body(request, in_words)
        if heard is not None:
            body |= {"stream": True} | ({"stream_options": {"include_usage": True}} if request.counts else {})
        try:
            worst = self._worst(session.budget, body, request)
        except UnicodeEncodeError:
            raise _FailedError("the request holds half a character", again=False) from None
        async with session.turn:
            call = await session.budget.call(worst, again=again)
            if isinstance(call, str):
                raise _FailedError(call, again=False)
            started = time.monotonic()
            try:
                with call:
                    completion = await self._exchange(session.transport, body, call, heard)
            finally:
                self.usage.seconds += time.monotonic() - started
        try:
            return read(completion)
        except AnswerError as exc:
            raise _FailedError(exc.reason, again=exc.again) from None

    async def _exchange(
        self, transport: Transport, body: dict[str, Any], call: Call, heard: _Heard | None
    ) -> Completion:
        """One request and its completion; what it cost is counted even where it is of no use."""
        try:
            sent = json.dumps(body, separators=(",", ":")).encode("ascii")
            if heard is None:
                completion = read_completion(self._without_key(await transport.chat(sent)))
            else:
                reader = StreamReader(self._key, heard)
                await transport.chat_in_pieces(sent, reader.feed)
                completion = reader.completion()
        except StatusError as exc:
            call.free()
            raise self._refused(exc) from None
        except TimeoutError:
            raise _FailedError("timed out") from None
        except ConnectionFailedError as exc:
            if not exc.reached:
                call.free()
            raise _FailedError(exc.reason) from None
        except AnswerError as exc:
            if exc.completion is not None:
                call.counted(exc.completion)
            raise _FailedError(exc.reason, again=exc.again) from None
        call.counted(completion)
        self.usage.name(completion.model)
        return completion

    def _without_key(self, raw: bytes) -> bytes:
        """The body. One that gives the key back is used for nothing, and kept nowhere."""
        if self._key is not None and self._key.is_in(raw.decode("latin-1")):
            raise AnswerError("the answer holds the key", again=False)
        return raw

    @staticmethod
    def _refused(exc: StatusError) -> _FailedError:
        if exc.status in RETRY_STATUS:
            return _FailedError(f"the server answered {exc.status}", wait_s=exc.wait_s)
        if 300 <= exc.status < 400:
            return _FailedError(
                f"the server redirects to another address ({exc.status}); redirects are not followed: give the address "
                "that answers itself",
                again=False,
            )
        return _FailedError(f"the server refused the request ({exc.status})", again=False, status=exc.status)

    async def _models(self) -> Parsed[tuple[str, ...]] | Unparsed:
        try:
            return Parsed(read_models(self._without_key(await self._session().transport.models())))
        except StatusError as exc:
            return Unparsed(self._refused(exc).reason)
        except TimeoutError:
            return Unparsed("timed out")
        except (ConnectionFailedError, AnswerError) as exc:
            return Unparsed(exc.reason)

    def _wait(self, num_failed: int, asked_s: float | None) -> float:
        grown = self.settings.backoff_s * 2.0 ** min(num_failed - 1, 30) * _jitter.uniform(0.8, 1.2)
        return min(max(grown, asked_s or 0.0), self.settings.max_wait_s)

    def _body(self, request: ChatRequest, in_words: bool) -> dict[str, Any]:
        messages = [m.as_dict() for m in request.messages]
        body: dict[str, Any] = {
            "model": self.settings.model,
            "temperature": request.temperature,
            "max_tokens": request.max_tokens or self.settings.max_tokens,
            "messages": messages,
        }
        if request.top_p != 1.0:
            body["top_p"] = request.top_p
        if request.seed is not None:
            body["seed"] = request.seed
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.schema is not None:
            name, schema = request.schema
            if in_words:
                _add_words(messages, _IN_WORDS + json.dumps(schema))
            else:
                form = {"name": name, "strict": True, "schema": schema}
                body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    @staticmethod
    def _worst(budget: Budget, body: dict[str, Any], request: ChatRequest) -> float:
        without_images = {**body, "messages": [_without_images(m) for m in body["messages"]]}
        num_bytes = len(json.dumps(without_images, ensure_ascii=False).encode())
        return budget.worst(num_bytes, sum(m.num_images for m in request.messages), int(body["max_tokens"]))


class _Heard:
    """Passes on a growing reply, and remembers that there was one."""

    def __init__(self, on_text: OnText) -> None:
        self._on_text = on_text
        self.text = ""

    def __call__(self, text: str) -> None:
        self.text = text
        self._on_text(text)


@dataclass(frozen=True)
class _Session:
    loop: asyncio.AbstractEventLoop
    transport: Transport
    budget: Budget
    turn: asyncio.Semaphore


def _part(part: str | bytes) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    data = base64.b64encode(part).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{_mime(part)};base64,{data}"}}


def _without_images(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, list):
        return {**message, "content": [p for p in content if p["type"] != "image_url"]}
    return message


def _add_words(messages: list[dict[str, Any]], words: str) -> None:
    """Add words to the system message, or make one."""
    if messages and messages[0]["role"] == "system":
        messages[0] = {**messages[0], "content": messages[0]["content"] + words}
    else:
        messages.insert(0, {"role": "system", "content": words.strip()})


def _mime(data: bytes) -> str:
    if data[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/png"
