"""One event loop in a thread of its own, shared by all clients of the process.

Callers with an event loop and callers without one use the same connections, limits and counts. The thread is a daemon,
and so are the threads in which names are resolved: nothing that hangs there keeps the process alive after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

R = TypeVar("R")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


def waited(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine in the clients' loop and wait for it. Ctrl-C ends the wait at once and cancels the work.

    Raises:
        RuntimeError: the caller runs in the clients' loop itself, such as a reader of answers; it would wait for ever.
    """
    if _thread is threading.current_thread():
        coroutine.close()
        raise RuntimeError("a reader of answers cannot wait for another answer")
    future = asyncio.run_coroutine_threadsafe(coroutine, _running())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def submitted(coroutine: Coroutine[Any, Any, R]) -> Future[R]:
    """Start a coroutine in the clients' loop; its future may be cancelled."""
    return asyncio.run_coroutine_threadsafe(coroutine, _running())


async def awaited(coroutine: Coroutine[Any, Any, R]) -> R:
    """The same for callers that have an event loop of their own. Cancelling the caller cancels the work."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, _running()))


def _running() -> asyncio.AbstractEventLoop:
    global _loop, _thread
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            _loop.set_default_executor(_DaemonThreads())
            _thread = threading.Thread(target=_loop.run_forever, name="eosin-clients", daemon=True)
            _thread.start()
        return _loop


def _after_fork() -> None:
    """A forked process has no thread that runs the loop: it starts its own."""
    global _lock, _loop, _thread
    _lock, _loop, _thread = threading.Lock(), None, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _DaemonThreads(ThreadPoolExecutor):
    """A daemon thread a task. The pool's own threads are waited for when Python ends, however long they hang."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as exc:
                future.set_exception(exc)

        threading.Thread(target=work, name="eosin-clients-lookup", daemon=True).start()
        return future
