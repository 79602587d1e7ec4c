"""Turns at a server: so many at one time, and of those that wait the one that is needed first."""

from __future__ import annotations

import asyncio
import heapq
from contextvars import ContextVar
from types import TracebackType

needed: ContextVar[int] = ContextVar("needed", default=0)
"""When the answer of the running task is needed: of two that wait, the lower one goes first."""


class Turns:
    """A semaphore whose waiters are let in by `needed`, and by their arrival where that is the same.

    Lives in one event loop; nothing here is locked.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrived = 0

    async def __aenter__(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrived += 1
        heapq.heappush(self._waiting, (needed.get(), self._arrived, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in and given up at the same time
                self._pass_on()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
