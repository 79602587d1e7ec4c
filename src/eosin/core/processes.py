"""Worker processes that end when the run is asked to end.

`timeout`, a terminal and a cluster send their signal to the whole group. A worker that inherited the run's own answer
to it (an exception, `core.stopping`) could raise it while it held the lock of its queue: the others then wait for
ever, and so does the run.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any

from eosin.core import stopping


@contextmanager
def worker_processes(
    num: int, begin: Callable[..., None] | None = None, begin_with: tuple[Any, ...] = (), *,
    context: BaseContext | None = None,
) -> Iterator[ProcessPoolExecutor]:  # fmt: skip
    """A pool of processes. Where the block is left by an exception, what was not begun is not done.

    SIGTERM ends a worker at once, whatever the process that made it answers; Ctrl-C is left to that process.

    Args:
        begin: called in each worker before its first task, with `begin_with`.
        context: how workers are started; None: as the system does.

    Raises:
        StopRequested: workers were ended because the run was asked to end.
    """
    pool = ProcessPoolExecutor(num, mp_context=context, initializer=_begin, initargs=(begin, begin_with))
    try:
        yield pool
    except BaseException as exc:
        pool.shutdown(cancel_futures=True)
        if isinstance(exc, BrokenProcessPool) and stopping.is_asked():
            raise stopping.StopRequested from None
        raise
    pool.shutdown()


def _begin(begin: Callable[..., None] | None, begin_with: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if begin is not None:
        begin(*begin_with)


def one_thread() -> None:
    """For `begin`, where there is a worker for each core: matrix products start no threads of their own."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
