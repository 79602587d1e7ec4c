"""Questions that arrive together are answered together, by one thread that owns the model."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from eosin.core.errors import EosinError
from eosin.engines.base import Decoding, Generation, Request

Watch = Callable[[int, Callable[[], str]], bool]


def _begun() -> Future[Any]:
    """A future that nobody can cancel any more: a client that leaves must not take the model's thread along."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


@runtime_checkable
class WatchedEngine(Protocol):
    """What the batcher asks of an engine."""

    name: str

    def generate_watched(self, requests: Sequence[Request], decoding: Decoding, watch: Watch) -> list[Generation]: ...


class BusyError(Exception):
    """Too many questions wait already."""


@dataclass(eq=False)
class Waiting:
    """One question on its way.

    Attributes:
        on_text: is given the reply so far, after every token, from the model's thread.
        gone: set when nobody waits for the reply any more: it ends at the next token. on_leaving: is called then.
        deadline: time.monotonic() after which it is given up.
    """

    request: Request
    decoding: Decoding
    on_text: Callable[[str], None] | None
    deadline: float
    done: Future[Generation] = field(default_factory=_begun)
    gone: threading.Event = field(default_factory=threading.Event)
    on_leaving: Callable[[], object] = lambda: None

    @property
    def is_wanted(self) -> bool:
        return not self.gone.is_set() and time.monotonic() < self.deadline

    def leave(self) -> None:
        """Nobody waits for the reply any more, or all of it has come."""
        self.gone.set()
        self.on_leaving()


@dataclass
class Errand:
    """Something else than a reply for which the model is needed: evidence, probabilities of options."""

    work: Callable[[], Any]
    deadline: float
    done: Future[Any] = field(default_factory=_begun)
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def is_wanted(self) -> bool:
        return not self.gone.is_set() and time.monotonic() < self.deadline


@dataclass
class Counts:
    """What has happened so far."""

    asked: int = 0
    answered: int = 0
    refused: int = 0
    given_up: int = 0
    failed: int = 0
    batches: int = 0
    tokens: int = 0
    busy_s: float = 0.0


class Batcher:
    """Takes questions, and answers those with the same decoding together.

    Args:
        engine: used by one thread only.
        batch_size: of the largest batch.
        wait_s: how long the first question of a batch waits for others.
        max_waiting: questions that may wait.
    """

    def __init__(self, engine: WatchedEngine, batch_size: int, wait_s: float, max_waiting: int) -> None:
        self._engine, self._batch_size, self._wait_s, self._max_waiting = engine, batch_size, wait_s, max_waiting
        self._arrived: queue.Queue[Waiting | Errand | None] = queue.Queue()
        self._put_off: list[Waiting] = []
        self._errands: list[Errand] = []
        self._lock = threading.Lock()
        self._waiting = 0
        self.counts = Counts()
        self._thread = threading.Thread(target=self._work, name="eosin-serve-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Questions that are not answered yet."""
        return self._waiting

    @property
    def is_full(self) -> bool:
        """Whether the next question would be refused."""
        return self._waiting >= self._max_waiting

    def submit(
        self, request: Request, decoding: Decoding, timeout_s: float, on_text: Callable[[str], None] | None = None
    ) -> Waiting:
        """Put a question in the row.

        Raises:
            BusyError: the row is full.
        """
        self._take_place()
        waiting = Waiting(request, decoding, on_text, time.monotonic() + timeout_s)
        self._arrived.put(waiting)
        return waiting

    def run(self, work: Callable[[], Any], timeout_s: float) -> Errand:
        """Put other work of the model in the row: it is done between two batches.

        Raises:
            BusyError: the row is full.
        """
        self._take_place()
        errand = Errand(work, time.monotonic() + timeout_s)
        self._arrived.put(errand)
        return errand

    def _take_place(self) -> None:
        with self._lock:
            if self._waiting >= self._max_waiting:
                self.counts.refused += 1
                raise BusyError
            self._waiting += 1
            self.counts.asked += 1

    def close(self) -> None:
        """End the thread after the batch in hand."""
        self._arrived.put(None)
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            wanted = [w for w in batch if w.is_wanted]
            self._give_up([w for w in batch if not w.is_wanted])
            if wanted:
                self._answer(wanted)

    def _next_batch(self) -> list[Waiting] | None:
        """Questions with the same decoding as the one that waits longest; None at the end. Errands come first."""
        for errand in self._errands:
            self._do(errand)
        self._errands = []
        first = self._put_off.pop(0) if self._put_off else self._arrived.get()
        if first is None:
            return None
        if isinstance(first, Errand):
            self._errands.append(first)
            return []
        batch: list[Waiting] = [first]
        others: list[Waiting] = []
        for one in self._put_off:
            (batch if one.decoding == first.decoding and len(batch) < self._batch_size else others).append(one)
        self._put_off = others
        until = time.monotonic() + self._wait_s
        while len(batch) < self._batch_size:
            try:
                came = self._arrived.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if came is None:
                self._arrived.put(None)
                break
            if isinstance(came, Errand):
                self._errands.append(came)
                break
            (batch if came.decoding == first.decoding else self._put_off).append(came)
        return batch

    def _do(self, errand: Errand) -> None:
        if not errand.is_wanted:
            self._end(errand, "given_up", EosinError("This was given up: its time ran out, or its client left."))
            return
        started = time.perf_counter()
        try:
            self._end(errand, "answered", errand.work())
        except Exception as exc:  # concerns this errand, not the server
            self._end(errand, "failed", told_of(exc, "The model could not do this."))
        finally:
            with self._lock:
                self.counts.busy_s += time.perf_counter() - started

    def _answer(self, batch: list[Waiting]) -> None:
        started = time.perf_counter()

        def watch(place: int, read: Callable[[], str]) -> bool:
            one = batch[place]
            if one.on_text is not None and one.is_wanted:
                one.on_text(read())
            return one.is_wanted

        try:
            made = self._engine.generate_watched([w.request for w in batch], batch[0].decoding, watch)
        except Exception as exc:  # whatever the model throws concerns these questions, not the server
            self._fail(batch, exc)
            return
        finally:
            with self._lock:
                self.counts.batches += 1
                self.counts.busy_s += time.perf_counter() - started
        for one, generation in zip(batch, made, strict=True):
            if one.is_wanted:
                self._end(one, "answered", generation)
            else:
                self._give_up([one])

    def _fail(self, batch: list[Waiting], exc: Exception) -> None:
        """Of a batch that failed each question is asked alone, once: one bad picture spoils no other's answer."""
        if len(batch) > 1:
            for one in batch:
                self._answer([one])
            return
        self._end(batch[0], "failed", told_of(exc, "The model could not answer this question."))

    def _give_up(self, batch: list[Waiting]) -> None:
        for one in batch:
            self._end(one, "given_up", EosinError("This question was given up: its time ran out, or its client left."))

    def _end(self, one: Waiting | Errand, how: str, result: Any) -> None:
        with self._lock:
            self._waiting -= 1
            setattr(self.counts, how, getattr(self.counts, how) + 1)
            if isinstance(result, Generation):
                self.counts.tokens += result.num_tokens or 0
        if isinstance(result, Exception):
            one.done.set_exception(result)
        else:
            one.done.set_result(result)


def told_of(exc: BaseException, message: str) -> EosinError:
    """What the client is told of a failure."""
    if isinstance(exc, EosinError):
        return exc
    return EosinError(message, found=f"{type(exc).__name__}: {str(exc)[:200]}")
