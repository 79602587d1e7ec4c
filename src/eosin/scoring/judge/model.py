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
from typing import Any, Protocol
from weakref import WeakValueDictionary

from pydantic import BaseModel, ValidationError

from eosin.clients.cache import TextCache
from eosin.clients.chat import ChatClient, ChatRequest, Message
from eosin.clients.completion import AnswerError, Completion, read_json, whole_text, without_fence
from eosin.clients.loop import awaited, waited
from eosin.clients.settings import ServerSettings
from eosin.core.nouns.outcome import Parsed, Unparsed


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
    """

    system: str
    text: str
    verdict: type[BaseModel]
    version: str
    image: bytes | None = field(default=None, repr=False)
    fault: Callable[[Any], str | None] | None = None


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
    """

    api_key_env: str = "EOSIN_JUDGE_API_KEY"
    cache_dir: Path | None = None


class OpenAIJudge:
    """A judge behind `POST {url}/chat/completions` with `response_format: json_schema`."""

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings = settings
        self._client = ChatClient(settings)
        self.usage = self._client.usage
        self._cache = TextCache(settings.cache_dir, "verdict")
        self._being_asked: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def model(self) -> str:
        return self.settings.model

    def described(self) -> dict[str, Any]:
        """Model and usage, for the record. Neither key nor address is in it."""
        return {"judge": self.model, **asdict(self.usage)}

    async def ask(self, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        """A verdict, from the cache or the server; Unparsed with the last failure's reason."""
        return await awaited(self._ask(request))

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
        parts = [self.model, request.version, _schema(request.verdict), request.system, request.text, image]
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

    async def _ask_server(self, key: str, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        parts = (request.text,) if request.image is None else (request.image, request.text)
        asked = ChatRequest(
            (Message("system", (request.system,)), Message("user", parts)),
            schema=(request.verdict.__name__, _schema(request.verdict)),
        )
        answer = await self._client.in_loop(asked, lambda completion: read_verdict(completion, request))
        if isinstance(answer, Unparsed):
            return answer
        content, verdict = answer.value
        self._cache.put(key, content, {"model": self.model, "prompt_version": request.version})
        return Parsed(verdict)


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
