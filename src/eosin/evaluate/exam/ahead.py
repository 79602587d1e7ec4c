"""Work done ahead of its use, by a few threads, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = max(2, min(4, os.cpu_count() or 2))
AHEAD = 4
"""Items under way a thread: what is done and not taken yet stays in memory."""


def worked_ahead(items: Iterable[T], work: Callable[[T], R], threads: int = THREADS) -> Iterator[tuple[T, Future[R]]]:
    """Every item with its ended work, in the order of the items. The future gives the result, or raises the error.

    At most `AHEAD * threads` items are taken before the first of them is given.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= AHEAD * threads:
                yield _ended(waiting)
        while waiting:
            yield _ended(waiting)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ended(waiting: deque[tuple[T, Future[R]]]) -> tuple[T, Future[R]]:
    item, future = waiting.popleft()
    future.exception()  # waits
    return item, future
