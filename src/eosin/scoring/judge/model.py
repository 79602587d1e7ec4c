"""A judge model behind any OpenAI-compatible server.

One verdict is one JSON object of a strict schema. What fails is retried with growing waits, then reported as
`Unparsed` with its reason; it never becomes a number. Verdicts are kept on disk under a key of model, prompt version,
schema, prompt and image.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from weakref import WeakValueDictionary

from pydantic import BaseModel, ValidationError

from eosin.clients.cache import TextCache
from eosin.clients.chat import ChatClient, ChatRequest, Message
from eosin.clients.completion import AnswerError, Completion, read_json, whole_text, without_fence
from eosin.clients.loop import awaited, waited
from eosin.clients.settings import ServerSettings
from eosin.clients.turns import Turns
from eosin.core.nouns.outcome import Parsed, Unparsed

ANOTHER_MODEL = "another model answered:"
GIVEN_UP = "not asked: the server has not answered for a while"
_NO_ANSWER = ("no connection", "timed out", "the server answered")


@dataclass(frozen=True)
class JudgeRequest:
    """What a judge is asked.

    Attributes:
        system: the task.
        text: the user message; here always one JSON object, in which the reply is data.
        verdict: the schema of the answer, as a strict pydantic model.
        version: version of the prompt; part of the cache key.
        image: encoded image, or None.
        fault: says what is wrong with a verdict that fits the schema, or None.
        temperature, seed: of sampling; a judge has neither, a teacher that writes may. Part of the key where given.
    """

    system: str
    text: str
    verdict: type[BaseModel]
    version: str
    image: bytes | None = field(default=None, repr=False)
    fault: Callable[[Any], str | None] | None = None
    temperature: float = 0.0
    seed: int | None = None


class Judge(Protocol):
    """What the terms need of a judge."""

    @property
    def model(self) -> str: ...

    async def ask(self, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed: ...

    def described(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class JudgeSettings(ServerSettings):
    """How a judge is asked: as any server, with a key of its own and a cache.

    Attributes:
        cache_dir: folder for verdicts; None keeps them in memory only.
        answers_as: the only model name that an answer may give; None takes any. An answer that gives no name is taken.
    """

    api_key_env: str = "EOSIN_JUDGE_API_KEY"
    cache_dir: Path | None = None
    answers_as: str | None = None


class Breaker:
    """Tells an outage, so that a server that is down is not waited for once a reply.

    After `limit` questions in a row that the server did not answer at all, one question at a time is put to it, and the
    others are given up at once; the first answer ends that.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failed = 0
        self._is_tried = False

    def admits(self) -> Literal["yes", "as a try", "no"]:
        """Whether a question is to be asked. Where it is, `told` must follow, with this answer."""
        if self._failed < self._limit:
            return "yes"
        if self._is_tried:
            return "no"
        self._is_tried = True
        return "as a try"

    def told(self, reason: str | None, admitted: str) -> None:
        """What became of a question: None where the server answered."""
        if admitted == "as a try":
            self._is_tried = False
        self._failed = self._failed + 1 if reason is not None and reason.startswith(_NO_ANSWER) else 0


class OpenAIJudge:
    """A judge behind `POST {url}/chat/completions` with `response_format: json_schema`."""

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings = settings
        self._client = ChatClient(settings)
        self.usage = self._client.usage
        self._cache = TextCache(settings.cache_dir, "verdict")
        self._being_asked: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._breaker = Breaker(settings.concurrency)
        self._turns: tuple[asyncio.AbstractEventLoop, Turns] | None = None

    @property
    def model(self) -> str:
        return self.settings.model

    def described(self) -> dict[str, Any]:
        """Model and usage, for the record. Neither key nor address is in it."""
        return {"judge": self.model, **asdict(self.usage)}

    async def ask(self, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        """A verdict, from the cache or the server; Unparsed with the last failure's reason."""
        return await awaited(self._ask(request))

    def ask_server_now(self, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        """The server's verdict, whatever the cache holds; nothing is kept."""
        return waited(self._ask_server(None, request))

    def ask_now(self, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        """The same for callers without an event loop."""
        return waited(self._ask(request))

    async def _ask(self, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        """The same in the clients' loop. Equal requests wait for each other, so that one of them is sent."""
        key = self._key(request)
        lock = self._being_asked.get(key)
        if lock is None:
            lock = self._being_asked[key] = asyncio.Lock()
        async with lock:
            kept = self._recall(key, request)
            return kept if kept is not None else await self._ask_server(key, request)

    def _key(self, request: JudgeRequest) -> str:
        image = hashlib.sha256(request.image).hexdigest() if request.image else None
        parts: list[Any] = [self.model, request.version, _schema(request.verdict), request.system, request.text, image]
        if request.temperature or request.seed is not None:
            parts += [request.temperature, request.seed]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _recall(self, key: str, request: JudgeRequest) -> Parsed[BaseModel] | None:
        content = self._cache.get(key)
        if content is None:
            return None
        try:
            verdict = _checked(content, request)
        except AnswerError:
            return None
        self.usage.cache_hits += 1
        return Parsed(verdict)

    async def _ask_server(self, key: str | None, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        """A verdict from the server; kept under a key, where there is one."""
        async with self._turn():
            admitted = self._breaker.admits()
            if admitted == "no":
                self.usage.failures += 1
                return Unparsed(GIVEN_UP)
            reason: str | None = "not asked to the end"
            try:
                answer = await self._client.in_loop(_as_chat(request), self._reads(request))
                reason = answer.reason if isinstance(answer, Unparsed) else None
            finally:
                self._breaker.told(reason, admitted)
        if isinstance(answer, Unparsed):
            return answer
        content, verdict = answer.value
        if key is not None:
            self._cache.put(key, content, {"model": self.model, "prompt_version": request.version})
        return Parsed(verdict)

    def _turn(self) -> Turns:
        """A place among the questions that are under way. A forked process has another loop."""
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = (loop, Turns(self.settings.concurrency))
        return self._turns[1]

    def _reads(self, request: JudgeRequest) -> Callable[[Completion], tuple[str, BaseModel]]:
        wanted = self.settings.answers_as

        def read(completion: Completion) -> tuple[str, BaseModel]:
            if wanted is not None and completion.model not in (None, wanted):
                raise AnswerError(f"{ANOTHER_MODEL} {completion.model!r}", again=False)
            return read_verdict(completion, request)

        return read


def _as_chat(request: JudgeRequest) -> ChatRequest:
    parts = (request.text,) if request.image is None else (request.image, request.text)
    return ChatRequest(
        (Message("system", (request.system,)), Message("user", parts)),
        schema=(request.verdict.__name__, _schema(request.verdict)),
        temperature=request.temperature,
        seed=request.seed,
    )


def read_verdict(completion: Completion, request: JudgeRequest) -> tuple[str, BaseModel]:
    """The verdict of an answer, as text and as it was understood.

    Raises:
        AnswerError: there is none.
    """
    content = without_fence(whole_text(completion))
    return content, _checked(content, request)


@functools.cache
def _schema(verdict: type[BaseModel]) -> dict[str, Any]:
    return verdict.model_json_schema()


def _checked(content: str, request: JudgeRequest) -> BaseModel:
    """The verdict of a content: strict JSON of the schema, and nothing more. "8/10" is no number."""
    try:
        read_json(content)
        verdict = request.verdict.model_validate_json(content, strict=True)
    except (ValidationError, ValueError):
        raise AnswerError("the verdict does not fit its schema") from None
    fault = request.fault(verdict) if request.fault is not None else None
    if fault:
        raise AnswerError(fault)
    return verdict
