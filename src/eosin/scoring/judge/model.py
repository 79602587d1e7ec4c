"""A judge model behind any OpenAI-compatible server.

One verdict is one JSON object of a strict schema. What fails is retried with growing waits, then reported as
`Unparsed` with its reason; it never becomes a number. Verdicts are kept on disk under a key of model, prompt version,
schema, prompt and image. The standard library's HTTP client is used, in a bounded pool of threads.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.store.artifacts import write_bytes_atomic

MAX_ANSWER_BYTES = 1_000_000
RETRY_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})


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


@dataclass
class Usage:
    """What the judge has cost so far. `cost` is in the currency of the given prices."""

    calls: int = 0
    retries: int = 0
    cache_hits: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0


class _RetryError(Exception):
    """A failure worth another attempt."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


class _RefusedError(Exception):
    """A failure that another attempt would not mend."""


@dataclass(frozen=True)
class JudgeSettings:
    """How a judge is asked.

    Attributes:
        url: base URL of the server, with or without /v1 at its end, such as http://host:8000/v1.
        model: the model's name at that server.
        api_key_env: environment variable that holds the key; its value is never written anywhere.
        timeout_s: limit of one attempt, from connecting to the last byte.
        retries: attempts after the first.
        backoff_s: first wait; it doubles with every attempt, up to max_wait_s, with jitter.
        concurrency: requests at one time.
        cache_dir: folder for verdicts; None keeps them in memory only.
        max_calls, max_cost: budget; beyond it verdicts are refused.
        price_in, price_out: per million tokens.
        max_tokens: length limit of a verdict.
    """

    url: str
    model: str
    api_key_env: str = "EOSIN_JUDGE_API_KEY"
    timeout_s: float = 60.0
    retries: int = 4
    backoff_s: float = 1.0
    max_wait_s: float = 30.0
    concurrency: int = 8
    cache_dir: Path | None = None
    max_calls: int | None = None
    max_cost: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise EosinError("The judge needs a web address.", expected="http://... or https://...", found=self.url)
        if not self.model:
            raise EosinError("The judge needs a model name.", next_step="add --judge-model NAME")

    @property
    def endpoint(self) -> str:
        base = self.url.rstrip("/")
        return base if base.endswith("/chat/completions") else f"{base}/chat/completions"


class OpenAIJudge:
    """A judge behind `POST {url}/chat/completions` with `response_format: json_schema`."""

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings = settings
        self.usage = Usage()
        self._memory: dict[str, str] = {}
        self._running: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=settings.concurrency, thread_name_prefix="eosin-judge")

    @property
    def model(self) -> str:
        return self.settings.model

    def described(self) -> dict[str, Any]:
        """Model and usage, for the record. Neither key nor address is in it."""
        return {"judge": self.model, **asdict(self.usage)}

    async def ask(self, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        """A verdict, from the cache or the server; Unparsed with the last failure's reason."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.ask_now, request)

    def ask_now(self, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        """The same for callers without an event loop."""
        key = self._key(request)
        with self._lock:
            one_at_a_time = self._running.setdefault(key, threading.Lock())
        with one_at_a_time:
            kept = self._recall(key, request)
            return kept if kept is not None else self._ask_server(key, request)

    def _key(self, request: JudgeRequest) -> str:
        image = hashlib.sha256(request.image).hexdigest() if request.image else None
        parts = [self.model, request.version, request.verdict.model_json_schema(), request.system, request.text, image]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _place(self, key: str) -> Path | None:
        return None if self.settings.cache_dir is None else self.settings.cache_dir / key[:2] / f"{key}.json"

    def _recall(self, key: str, request: JudgeRequest) -> Parsed[BaseModel] | None:
        content = self._memory.get(key)
        place = self._place(key)
        if content is None and place is not None:
            try:
                content = json.loads(place.read_text("utf-8"))["verdict"]
            except (OSError, ValueError, KeyError, TypeError):
                return None
        if not isinstance(content, str):
            return None
        try:
            verdict = _checked(content, request)
        except _RetryError:
            return None
        with self._lock:
            self.usage.cache_hits += 1
        return Parsed(verdict)

    def _remember(self, key: str, content: str, request: JudgeRequest) -> None:
        place = self._place(key)
        if place is None:
            self._memory[key] = content
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        entry = {"schema_version": 1, "model": self.model, "prompt_version": request.version, "verdict": content}
        write_bytes_atomic(place, json.dumps(entry).encode())

    def _ask_server(self, key: str, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        body = json.dumps(self._body(request)).encode()
        reason = "no attempt made"
        for attempt in range(self.settings.retries + 1):
            over = self._spend_call(attempt)
            if over:
                return self._failed(over)
            try:
                content = self._attempt(body)
                verdict = _checked(content, request)
            except _RefusedError as exc:
                return self._failed(str(exc))
            except _RetryError as exc:
                reason = exc.reason
                if attempt < self.settings.retries:
                    time.sleep(self._wait(attempt, exc.wait_s))
            else:
                self._remember(key, content, request)
                return Parsed(verdict)
        return self._failed(f"{reason} (after {self.settings.retries + 1} attempts)")

    def _failed(self, reason: str) -> Unparsed:
        with self._lock:
            self.usage.failures += 1
        return Unparsed(reason)

    def _spend_call(self, attempt: int) -> str | None:
        """Count a call, or say which budget is spent."""
        with self._lock:
            if self.settings.max_calls is not None and self.usage.calls >= self.settings.max_calls:
                return "judge budget spent (max_calls)"
            if self.settings.max_cost is not None and self.usage.cost >= self.settings.max_cost:
                return "judge budget spent (max_cost)"
            self.usage.calls += 1
            self.usage.retries += attempt > 0
        return None

    def _wait(self, attempt: int, asked_s: float | None) -> float:
        wait = self.settings.backoff_s * 2**attempt * random.uniform(0.8, 1.2)
        return min(max(wait, asked_s or 0.0), self.settings.max_wait_s)

    def _body(self, request: JudgeRequest) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": request.text}]
        if request.image is not None:
            data = base64.b64encode(request.image).decode("ascii")
            content.insert(0, {"type": "image_url", "image_url": {"url": f"data:{_mime(request.image)};base64,{data}"}})
        schema = {"name": request.verdict.__name__, "strict": True, "schema": request.verdict.model_json_schema()}
        return {
            "model": self.model,
            "temperature": 0,
            "max_tokens": self.settings.max_tokens,
            "messages": [{"role": "system", "content": request.system}, {"role": "user", "content": content}],
            "response_format": {"type": "json_schema", "json_schema": schema},
        }

    def _attempt(self, body: bytes) -> str:
        """One request; the content of the answer."""
        headers = {"Content-Type": "application/json"}
        secret = os.environ.get(self.settings.api_key_env)
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        request = urllib.request.Request(self.settings.endpoint, body, headers)
        started = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=self.settings.timeout_s) as response:
                raw = _read_within(response, started + self.settings.timeout_s)
        except urllib.error.HTTPError as exc:
            with exc:
                if exc.code in RETRY_STATUS:
                    raise _RetryError(
                        f"the server answered {exc.code}", _seconds(exc.headers.get("Retry-After"))
                    ) from None
            raise _RefusedError(f"the server refused the request ({exc.code})") from None
        except TimeoutError:
            raise _RetryError("timed out") from None
        except (urllib.error.URLError, HTTPException, OSError) as exc:
            late = isinstance(getattr(exc, "reason", None), TimeoutError)
            raise _RetryError("timed out" if late else f"no connection ({type(exc).__name__})") from None
        finally:
            with self._lock:
                self.usage.seconds += time.monotonic() - started
        return self._content(raw)

    def _content(self, raw: bytes) -> str:
        try:
            answer = json.loads(raw)
            choice = answer["choices"][0]
            content = choice["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise _RetryError("the answer is no chat completion") from None
        self._count_tokens(answer.get("usage"))
        if choice.get("finish_reason") == "length":
            raise _RetryError("the verdict was cut off")
        if not isinstance(content, str):
            raise _RetryError("the verdict is empty")
        return content

    def _count_tokens(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        counts = [usage.get(k) for k in ("prompt_tokens", "completion_tokens")]
        num_in, num_out = (c if isinstance(c, int) and c >= 0 else 0 for c in counts)
        with self._lock:
            self.usage.prompt_tokens += num_in
            self.usage.completion_tokens += num_out
            self.usage.cost += (num_in * self.settings.price_in + num_out * self.settings.price_out) / 1e6


def _checked(content: str, request: JudgeRequest) -> BaseModel:
    """The verdict of a content: strict JSON of the schema, and nothing more. "8/10" is no number."""
    try:
        verdict = request.verdict.model_validate_json(content, strict=True)
    except ValidationError:
        raise _RetryError("the verdict does not fit its schema") from None
    fault = request.fault(verdict) if request.fault is not None else None
    if fault:
        raise _RetryError(fault)
    return verdict


def _read_within(response: Any, deadline: float) -> bytes:
    """Read a body in pieces; a server that drips does not outlast the deadline."""
    pieces: list[bytes] = []
    size = 0
    while True:
        if time.monotonic() > deadline:
            raise TimeoutError
        piece = response.read1(65536)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise _RetryError("the answer is too long")


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None


def _mime(data: bytes) -> str:
    if data[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/png"
