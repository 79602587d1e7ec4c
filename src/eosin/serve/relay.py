"""Questions for a model behind another server, each passed on by itself: that server does the batching."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from eosin.core.errors import EosinError
from eosin.engines.base import Decoding, Generation, Request
from eosin.serve.batching import BusyError, Counts, Errand, Waiting, told_of

GIVEN_UP = "This question was given up: its time ran out, or its client left."


class AskedEngine(Protocol):
    """What a relay asks of an engine."""

    name: str

    def submit(
        self, request: Request, decoding: Decoding, on_text: Callable[[str], None] | None, timeout_s: float
    ) -> Future[Generation]: ...


class Relay:
    """The same doors as `Batcher`, for a model that is elsewhere.

    Args:
        engine: may be asked by any thread; a cancelled future ends its question at once.
        max_waiting: questions under way.

    Attributes:
        outage: why the last question got no reply; None where it got one.
    """

    def __init__(self, engine: AskedEngine, max_waiting: int) -> None:
        self._engine, self._max_waiting = engine, max_waiting
        self._lock = threading.Lock()
        self._under_way: set[Waiting] = set()
        self.counts = Counts()
        self.outage: str | None = None

    @property
    def waiting(self) -> int:
        """Questions that are not answered yet."""
        return len(self._under_way)

    @property
    def is_full(self) -> bool:
        """Whether the next question would be refused."""
        return self.waiting >= self._max_waiting

    def submit(
        self, request: Request, decoding: Decoding, timeout_s: float, on_text: Callable[[str], None] | None = None
    ) -> Waiting:
        """Pass a question on.

        Raises:
            BusyError: too many are under way.
        """
        waiting = Waiting(request, decoding, on_text, time.monotonic() + timeout_s)
        with self._lock:
            if self.is_full:
                self.counts.refused += 1
                raise BusyError
            self._under_way.add(waiting)
            self.counts.asked += 1
        asked = self._engine.submit(request, decoding, on_text, timeout_s)
        waiting.on_leaving = asked.cancel
        asked.add_done_callback(lambda done: self._ended(waiting, done))
        return waiting

    def run(self, work: Callable[[], Any], timeout_s: float) -> Errand:
        """Other work, done at once: here it never waits for the model."""
        errand = Errand(work, time.monotonic() + timeout_s)
        try:
            errand.done.set_result(work())
        except Exception as exc:  # concerns this errand, not the server
            errand.done.set_exception(told_of(exc, "This could not be done."))
        return errand

    def close(self) -> None:
        """Hang up on all that is under way."""
        for waiting in list(self._under_way):
            waiting.leave()

    def _ended(self, waiting: Waiting, done: Future[Generation]) -> None:
        result: Any
        if done.cancelled() or not waiting.is_wanted:
            how, result = "given_up", EosinError(GIVEN_UP)
        elif (exc := done.exception()) is not None:
            how, result = "failed", told_of(exc, "The model's server could not answer this question.")
            self.outage = f"{result.message} {result.found or ''}".strip()
        else:
            how, result, self.outage = "answered", done.result(), None
        with self._lock:
            self._under_way.discard(waiting)
            setattr(self.counts, how, getattr(self.counts, how) + 1)
            if isinstance(result, Generation):
                self.counts.tokens += result.num_tokens or 0
        if isinstance(result, Exception):
            waiting.done.set_exception(result)
        else:
            waiting.done.set_result(result)
