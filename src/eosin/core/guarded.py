"""One bad file never stops the rest: each is handled in a child process that is killed when its time is over.

A worker process handles many files, so that its start is paid once; after a kill or a crash a new one takes its place.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Kept

Work = Callable[..., Any]


@dataclass(frozen=True)
class Job:
    """One file to handle: an id for the tables, and what the function is called with."""

    id: str
    arguments: tuple[Any, ...]


def run_guarded(
    work: Work, jobs: Iterable[Job], *, timeout_s: float, workers: int = 1, step: str = ""
) -> Iterator[tuple[Job, Kept[Any] | Dropped]]:
    """Call a function on every job in child processes; yields each as it ends, in any order.

    Args:
        work: a function of a module (it is sent to the children by name). An EosinError becomes Dropped with its
            message; so does everything else that goes wrong in a file.
        timeout_s: a job that takes longer is killed: Dropped("timed out").
    """
    todo = iter(jobs)
    crew = [_Worker(work) for _ in range(max(1, workers))]
    try:
        busy = [w for w in crew if w.begin(next(todo, None))]
        while busy:
            ready = wait([w.pipe for w in busy], timeout=max(0.0, min(w.left(timeout_s) for w in busy)))
            for worker in list(busy):
                done = worker.result(step) if worker.pipe in ready else None
                if done is None and worker.left(timeout_s) <= 0:
                    done = worker.kill("timed out", f"more than {timeout_s:g} s", step)
                if done is not None:
                    yield done
                    if not worker.begin(next(todo, None)):
                        busy.remove(worker)
    finally:
        for worker in crew:
            worker.stop()


class _Worker:
    """A child process that handles one job at a time."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._job: Job | None = None
        self._began = 0.0
        self._process: Any = None
        self.pipe: Connection

    def begin(self, job: Job | None) -> bool:
        """Give the child a job; starts one where there is none. False: there was no job."""
        if job is None:
            return False
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
            self._process.start()
            theirs.close()
        self._job, self._began = job, time.monotonic()
        self.pipe.send(job.arguments)
        return True

    def left(self, timeout_s: float) -> float:
        """Seconds that the running job still has."""
        return self._began + timeout_s - time.monotonic()

    def result(self, step: str) -> tuple[Job, Kept[Any] | Dropped]:
        """What the child sent; a child that died gives Dropped."""
        assert self._job is not None
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            return self.kill("reader crashed", _how(self._process.exitcode), step)
        if kind == "kept":
            return self._job, Kept(value)
        return self._job, Dropped(self._job.id, value[0], value[1], step)

    def kill(self, reason: str, detail: str, step: str) -> tuple[Job, Dropped]:
        """End the child at once; the job is set aside."""
        assert self._job is not None
        self.stop(now=True)
        return self._job, Dropped(self._job.id, reason, detail, step)

    def stop(self, *, now: bool = False) -> None:
        """End the child."""
        if self._process is None:
            return
        self.pipe.close()
        if now:
            self._process.kill()
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process = None


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"


def _serve(pipe: Connection, work: Work) -> None:
    """The child's loop. Ends when the parent closes its side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    while True:
        try:
            arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer: tuple[str, Any] = ("kept", work(*arguments))
        except EosinError as exc:
            answer = ("dropped", (exc.message, exc.found or ""))
        except MemoryError:
            answer = ("dropped", ("not enough memory", ""))
        except Exception as exc:  # one bad file never stops the rest
            answer = ("dropped", ("unexpected fault", f"{type(exc).__name__}: {str(exc)[:200]}"))
        try:
            pipe.send(answer)
        except (OSError, ValueError):
            return
