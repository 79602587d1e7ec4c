"""Generation behind any OpenAI-compatible server: many questions under way, every answer kept, none paid twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from weakref import WeakValueDictionary

from eosin.clients.cache import TextCache
from eosin.clients.chat import ChatClient, ChatRequest, Message
from eosin.clients.completion import AnswerError, Completion
from eosin.clients.loop import submitted
from eosin.clients.settings import ServerSettings
from eosin.core.errors import EosinError
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.nouns.sample import ImagePart
from eosin.engines.base import Decoding, Generation, Request
from eosin.engines.picture_bytes import PictureBytes
from eosin.models.template import escape_special

NO_BAG = "a bag of patch features cannot be sent to a server"
NO_BEGUN = "a reply that is begun cannot be sent to a server"
BUDGET = "budget spent"
_NO_ANSWER = ("no connection", "timed out", "the server answered")
# Questions under way for each place at the server: those that wait between two attempts hold none.
AHEAD = 2
TOP_LOGPROBS = 20
"""The most that OpenAI's own interface and vLLM by its defaults give."""
ENCODERS = max(2, min(4, os.cpu_count() or 2))


@dataclass(frozen=True)
class _Asked:
    """A request as it is sent, and the key under which its answer is kept."""

    id: str
    chat: ChatRequest
    key: str


class ServerEngine:
    """Answers requests by a model behind `POST {url}/chat/completions`. Pictures are sent whole, as data URLs: a file
    that holds nothing but its picture as it is, any other picture as PNG.

    A question that the server refuses, withholds or does not answer gives a Generation with the reason, after all
    others. As many of these in a row as questions go out at once, with no answer between them, are an outage: then,
    and when a budget is spent, an error stops the exam before any question is lost, and the same command goes on.

    Args:
        settings: address, limits, budget.
        cache: folder for answers; None keeps them in memory only. Its key is address, model, messages, pictures,
            decoding and seed.
        ledger: file in which calls and cost are counted, so that the budget holds over restarts; None: of this process.

    Raises:
        MissingExtraError: the extra `clients` is not installed.
        EosinError: the key in the environment is not usable.
    """

    def __init__(self, settings: ServerSettings, cache: Path | None = None, ledger: Path | None = None) -> None:
        self.settings = settings
        self.name = f"server:{settings.model}@{settings.base_url}"
        self._client = ChatClient(settings, ledger)
        self.usage = self._client.usage
        self._cache = TextCache(cache, "completion")
        self._pictures = PictureBytes()
        self._being_asked: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Generation]:
        """Replies in the order of the requests, which have different ids."""
        found = {g.id: g for g in self.stream(requests, decoding)}
        yield from (found[r.id] for r in requests)

    def stream(self, requests: Iterable[Request], decoding: Decoding) -> Iterator[Generation]:
        """Replies as they arrive. At most twice `settings.concurrency` questions are under way.

        Raises:
            EosinError: an outage, or the budget is spent. What was answered by then has been given.
        """
        done: SimpleQueue[Future[Generation]] = SimpleQueue()
        under_way: set[Future[Generation]] = set()
        watch = _Watch(self._client)
        encoders = ThreadPoolExecutor(ENCODERS, thread_name_prefix="pictures")

        def ended() -> Iterator[Generation]:
            future = done.get()
            under_way.discard(future)
            yield from watch.told(future.result())

        try:
            for request in requests:
                if watch.stopped is not None:
                    break
                if (unfit := _unfit(request)) is not None:
                    yield Generation(request.id, "", None, False, unfit)
                    continue
                future = submitted(self._answered(request, decoding, encoders))
                under_way.add(future)
                future.add_done_callback(done.put)
                while len(under_way) >= AHEAD * self.settings.concurrency or (under_way and not done.empty()):
                    yield from ended()
            while under_way:
                yield from ended()
            yield from watch.ended()
        finally:
            for future in under_way:
                future.cancel()
            encoders.shutdown(wait=False, cancel_futures=True)

    def submit(
        self, request: Request, decoding: Decoding, on_text: Callable[[str], None] | None, timeout_s: float
    ) -> Future[Generation]:
        """One question for somebody who waits: asked anew, whatever was answered before. To cancel the future hangs up.

        Args:
            on_text: is given the reply so far each time it has grown, in the clients' thread; None asks for it whole.

        Returns:
            A future, which holds an EosinError where there is no reply: it names the reason, never the key.
        """
        return submitted(self._waited_for(request, decoding, on_text, timeout_s))

    async def _waited_for(
        self, request: Request, decoding: Decoding, on_text: Callable[[str], None] | None, timeout_s: float
    ) -> Generation:
        if (unfit := _unfit(request)) is not None:
            raise EosinError("This cannot be asked of a model behind a server.", found=unfit)
        asked = await asyncio.get_running_loop().run_in_executor(None, self._as_asked, request, decoding)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._client.in_loop(asked.chat, _usable, on_text)
        except TimeoutError:
            answer = Unparsed(f"no reply within {timeout_s:g} s")
        if isinstance(answer, Unparsed):
            raise EosinError(
                "The model's server gave no reply:", found=answer.reason,
                expected=f"model {self.settings.model!r} behind {self.settings.base_url}",
                next_step="see to that server, then ask again",
            )  # fmt: skip
        return _generation(asked.id, answer.value)

    def _as_asked(self, request: Request, decoding: Decoding) -> _Asked:
        stored = request.stored or (None,) * len(request.images)
        pictures = [
            self._pictures.of(picture, data)
            for picture, data in zip(request.images, stored, strict=True) if not isinstance(picture, PatchBag)
        ]  # fmt: skip
        messages = tuple(
            Message(m.role, tuple(pictures[p.index] if isinstance(p, ImagePart) else escape_special(p.text)
                                  for p in m.parts))
            for m in request.messages
        )  # fmt: skip
        sampled = decoding.temperature > 0
        chat = ChatRequest(
            messages,
            temperature=decoding.temperature,
            top_p=decoding.top_p if sampled else 1.0,
            seed=(zlib.crc32(request.id.encode()) ^ decoding.seed) & 0x7FFFFFFF if sampled else None,
            max_tokens=decoding.max_new_tokens,
            top_logprobs=TOP_LOGPROBS if request.scores else 0,
        )
        return _Asked(request.id, chat, self._key(chat))

    def _key(self, chat: ChatRequest) -> str:
        """Digest of all that an answer depends on. Pictures stand by their own digest."""
        turns = [
            [m.role, [hashlib.sha256(p).hexdigest() if isinstance(p, bytes) else [p] for p in m.parts]]
            for m in chat.messages
        ]
        asked: list[Any] = [chat.temperature, chat.top_p, chat.seed, chat.max_tokens]
        asked += [chat.top_logprobs] if chat.top_logprobs else []
        parts = [self.settings.base_url, self.settings.model, turns, asked]
        return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogatepass")).hexdigest()

    async def _answered(self, request: Request, decoding: Decoding, encoders: Executor) -> Generation:
        """In the clients' loop; pictures are encoded beside it. Of equal questions one is sent, the others wait."""
        asked = await asyncio.get_running_loop().run_in_executor(encoders, self._as_asked, request, decoding)
        lock = self._being_asked.get(asked.key)
        if lock is None:
            lock = self._being_asked[asked.key] = asyncio.Lock()
        async with lock:
            kept = self._kept(asked)
            if kept is not None:
                self.usage.cache_hits += 1
                return _generation(asked.id, kept)
            answer = await self._client.in_loop(asked.chat, _usable)
            if isinstance(answer, Unparsed):
                return Generation(asked.id, "", None, False, answer.reason)
            text = json.dumps(asdict(answer.value))
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self._cache.put, asked.key, text, {"model": self.settings.model})
            return _generation(asked.id, answer.value)

    def _kept(self, asked: _Asked) -> Completion | None:
        """The answer on disk; one that was asked for with its likely tokens also answers the same question without."""
        found = _recalled(self._cache.get(asked.key))
        if found is None and asked.chat.top_logprobs == 0:
            found = _recalled(self._cache.get(self._key(replace(asked.chat, top_logprobs=TOP_LOGPROBS))))
        return found

    def described(self) -> dict[str, Any]:
        """Model, address and what it has cost, for the record. No key is in it."""
        return {"model": self.settings.model, "url": self.settings.base_url, **self.usage.as_dict()}


class _Watch:
    """Holds back questions without an answer until the last one has ended: in an outage none of them is lost.

    Attributes:
        stopped: why no more is asked; what is under way then is still waited for, as it may be paid for.
    """

    def __init__(self, client: ChatClient) -> None:
        self._client = client
        self._held: list[Generation] = []
        self._in_a_row = self._answered = 0
        self.stopped: EosinError | None = None

    def told(self, generation: Generation) -> Iterator[Generation]:
        """What can be given now that a question has ended."""
        if generation.failed is None:
            self._answered += 1
            self._in_a_row = 0
            yield generation
            return
        self._held.append(generation)
        self._in_a_row += 1
        if self.stopped is not None:
            return
        if generation.failed.startswith(BUDGET):
            self.stopped = EosinError(
                "The budget for this server is spent; the exam is not finished.", found=generation.failed,
                next_step="raise --max-calls or --max-cost, then give the same command again: it goes on, and no "
                "question that was answered is asked again",
            )  # fmt: skip
        elif self._in_a_row >= self._client.settings.concurrency:
            self.stopped = self._outage()

    def ended(self) -> Iterator[Generation]:
        """The last ones, where the server still stands and has answered some question."""
        if self.stopped is not None:
            raise self.stopped
        if self._held and (not self._answered or self._is_gone()):
            raise self._outage()
        yield from self._held

    def _is_gone(self) -> bool:
        """A server that refuses to list its models is still there."""
        found = self._client.models_now()
        return isinstance(found, Unparsed) and found.reason.startswith(_NO_ANSWER)

    def _outage(self) -> EosinError:
        reasons = [g.failed or "" for g in self._held[-self._in_a_row :]]
        settings = self._client.settings
        return EosinError(
            f"The server gave no answer to {len(reasons)} questions in a row; the exam is not finished.",
            expected=f"model {settings.model!r} behind {settings.base_url}",
            found=max(set(reasons), key=reasons.count),
            next_step=f"see to the server, the model's name and the key in {settings.api_key_env}; then give the same "
            "command again: it goes on, and no question that was answered is asked again",
        )


def only_model(settings: ServerSettings) -> str:
    """The name of the one model that a server offers.

    Raises:
        EosinError: it does not answer, or offers none or several.
    """
    found = ChatClient(settings).models_now()
    if isinstance(found, Parsed) and len(found.value) == 1:
        return found.value[0]
    raise EosinError(
        "Which model of this server?",
        expected="one model, or its name",
        found=found.reason if isinstance(found, Unparsed) else ", ".join(found.value[:20]) or "no model",
        where=settings.base_url,
        next_step="give --model NAME",
    )


def refuse_silent(settings: ServerSettings) -> None:
    """Refuse a server that does not answer, or that offers other models only, before anybody waits for it.

    Raises:
        EosinError: with the reason. A server that refuses to list its models is taken as it is.
    """
    found = ChatClient(settings).models_now()
    if isinstance(found, Unparsed) and "(401)" in found.reason:
        raise EosinError("The model's server wants a key, or another one.", found=found.reason, where=settings.base_url,
                         next_step=f"set {settings.api_key_env}")  # fmt: skip
    if isinstance(found, Unparsed) and found.reason.startswith(_NO_ANSWER):
        raise EosinError("The model's server does not answer.", found=found.reason, where=settings.base_url,
                         next_step="start that server, or mend its address; then give the same command")  # fmt: skip
    if isinstance(found, Parsed) and found.value and settings.model not in found.value:
        raise EosinError("The server offers no such model.", expected=", ".join(found.value[:20]),
                         found=settings.model, where=settings.base_url, next_step="give --model NAME")  # fmt: skip


def _unfit(request: Request) -> str | None:
    """Why a request cannot be sent to a server."""
    if any(isinstance(i, PatchBag) for i in request.images):
        return NO_BAG
    return NO_BEGUN if request.begun else None


def _usable(completion: Completion) -> Completion:
    """A refusal and a reply that was cut off are replies. What the server's filter withheld is none."""
    if completion.finish_reason == "content_filter":
        raise AnswerError("the server's filter withheld the answer", again=False)
    return completion


def _recalled(text: str | None) -> Completion | None:
    """A completion from the cache; a damaged one is asked for again."""
    if text is None:
        return None
    try:
        found = Completion(**json.loads(text))
    except (ValueError, TypeError):
        return None
    return found if isinstance(found.text, str) else None


def _generation(id: str, completion: Completion) -> Generation:
    text = completion.text
    if completion.thinking is not None and "<think>" not in text:
        text = f"<think>{completion.thinking}</think>{text}"
    cut = completion.finish_reason == "length"
    return Generation(id, text, completion.completion_tokens, cut, tokens=completion.tokens,
                      num_prompt_tokens=completion.prompt_tokens)  # fmt: skip
