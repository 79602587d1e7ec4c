"""Reading, decoding and encoding at the same time, between bounded queues.

    child processes            threads of this process         this thread
    open, tissue, tiles,  ->   receive, watch the clock,  ->   encode, write
    read and decode            at most `prefetch` batches

A child is a process of its own, so that a decoder that hangs or crashes takes one slide with it and no more. Batches
are cut inside a slide and come in order: the files do not depend on how many children there are.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.slides.encoders.encoder import Encoder

STEP = "features"
START_S = 120.0  # a reading process that does not come up in this time is given up
Corner = tuple[int, int]


@dataclass(frozen=True)
class Job:
    """One slide to do: the name of its files, and where it is."""

    name: str
    path: Path


@dataclass(frozen=True)
class SlideStart:
    """A slide that was opened and cut into tiles. `facts` are plain values for the sink."""

    num_tiles: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """Tiles of one slide.

    Attributes:
        index: number of each tile in the slide's grid, int64 (n,).
        pixels: uint8 (n, px, px, 3).
        failed: tiles of this stretch that could not be read: number and reason.
    """

    index: np.ndarray
    pixels: np.ndarray
    failed: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class SlideEnd:
    """A slide that was read to its end. `seconds`: of opening and reading, without waiting for the encoder."""

    seconds: float


Event = SlideStart | Batch | SlideEnd | Dropped
ReadSlide = Callable[[Job, Any], Iterator[SlideStart | Batch]]


@dataclass(frozen=True)
class Limits:
    """Bounds of the pipeline.

    Attributes:
        readers: child processes. 0: read in a thread of this process, where nothing can be killed.
        prefetch: batches that wait for the encoder.
        timeout_s: a slide may take so long to open and read, not counting what it waits for the encoder.
        stall_s: and so long without giving anything.
    """

    readers: int = 2
    prefetch: int = 4
    timeout_s: float = 3600.0
    stall_s: float = 300.0


# ---- the reading side ----------------------------------------------------------------------------------------------


class TileLoader:
    """Reads slides in children and hands their events on, tagged with the job. Use it in a `with` block."""

    def __init__(self, jobs: Iterable[Job], read: ReadSlide, settings: Any, limits: Limits) -> None:
        self._jobs = iter(jobs)
        self._lock = threading.Lock()
        self._read, self._settings, self._limits = read, settings, limits
        self._out: queue.Queue[tuple[Job, Event] | BaseException | None] = queue.Queue(max(1, limits.prefetch))
        self._stop = threading.Event()
        work = self._in_child if limits.readers else self._in_thread
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=f"loader-{i}", daemon=True)
            for i in range(max(1, limits.readers))
        ]

    def __enter__(self) -> TileLoader:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)

    def __iter__(self) -> Iterator[tuple[Job, Event]]:
        """Events until every job has ended or was dropped."""
        left = len(self._threads)
        while left:
            item = self._out.get()
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._put(None)
        except BaseException as exc:  # a fault of ours must end the run, not hang it
            self._put(exc)

    def _next_job(self) -> Job | None:
        with self._lock:
            return None if self._stop.is_set() else next(self._jobs, None)

    def _put(self, item: Any) -> bool:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._out.put(item, timeout=0.2)
                return True
        return False

    def _in_thread(self) -> None:
        while (job := self._next_job()) is not None:
            for event in events(job, self._read, self._settings):
                if not self._put((job, event)):
                    return

    def _in_child(self) -> None:
        child = _Child(self._read, self._settings)
        try:
            while (job := self._next_job()) is not None:
                for event in child.events(job, self._limits, self._stop):
                    if not self._put((job, event)):
                        return
        finally:
            child.kill()


def events(job: Job, read: ReadSlide, settings: Any) -> Iterator[Event]:
    """The events of one slide. Every fault of the slide becomes one Dropped."""
    begun = time.perf_counter()
    try:
        yield from read(job, settings)
    except EosinError as exc:
        where = f"{exc.found}" if exc.found else ""
        yield Dropped(job.name, exc.message, where, STEP)
    except MemoryError:
        yield Dropped(job.name, "not enough memory", "", STEP)
    except GeneratorExit:
        raise
    except Exception as exc:  # readers meet damaged files with many kinds of error
        yield Dropped(job.name, "could not be read", f"{type(exc).__name__}: {str(exc)[:200]}", STEP)
    else:
        yield SlideEnd(time.perf_counter() - begun)


class _Child:
    """A reading process and its pipe. Started at the first slide; started anew after a kill or a crash."""

    def __init__(self, read: ReadSlide, settings: Any) -> None:
        self._read, self._settings = read, settings
        self._process: Any = None
        self._pipe: Any = None

    def events(self, job: Job, limits: Limits, stop: threading.Event) -> Iterator[Event]:
        """The events of one slide; Dropped where the child is too slow or dies."""
        busy = 0.0
        try:
            self._start(stop)
            self._pipe.send(job)
            while True:
                waited = self._wait(min(limits.stall_s, limits.timeout_s - busy), stop)
                busy += waited
                if stop.is_set():
                    return
                if not self._pipe.poll(0):
                    what = "no tile" if waited >= limits.stall_s else "not done"
                    yield self._lost(job, "timed out", f"{what} in {min(limits.stall_s, limits.timeout_s):g} s")
                    return
                event = _receive(self._pipe)
                yield event
                if isinstance(event, SlideEnd | Dropped):
                    return
        except (EOFError, OSError):
            self._process.join(5)
            yield self._lost(job, "reader crashed", _how(self._process.exitcode))

    def _wait(self, limit_s: float, stop: threading.Event) -> float:
        """Wait for the child to say something, at most `limit_s`; returns the seconds waited."""
        begun = time.monotonic()
        while not self._pipe.poll(0.2) and not stop.is_set():
            if time.monotonic() - begun >= limit_s:
                break
        return time.monotonic() - begun

    def _start(self, stop: threading.Event) -> None:
        """A child that is ready to read; what its start takes is no slide's time."""
        if self._process is not None and self._process.is_alive():
            return
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._read, self._settings), daemon=True)
        self._process.start()
        theirs.close()
        self._wait(START_S, stop)
        try:
            ready = self._pipe.poll(0) and self._pipe.recv() == "ready"
        except (EOFError, OSError):
            ready = False
        if not ready and not stop.is_set():
            self.kill()
            raise EosinError(
                "A reading process did not start.",
                expected='a script whose work stands under: if __name__ == "__main__":',
                next_step="or read in a thread of this process: readers=0",
            )

    def _lost(self, job: Job, reason: str, detail: str) -> Dropped:
        self.kill()
        return Dropped(job.name, reason, detail, STEP)

    def kill(self) -> None:
        """End the child at once."""
        if self._process is None:
            return
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._process = None


def _serve(pipe: Any, read: ReadSlide, settings: Any) -> None:
    """The child's loop: a job in, its events out. Ends when the parent closes its side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with contextlib.suppress(EOFError, OSError):
        pipe.send("ready")
        while True:
            job = pipe.recv()
            for event in events(job, read, settings):
                _send(pipe, event)


def _send(pipe: Any, event: Event) -> None:
    """Pixels go as they are, all else as small objects."""
    if isinstance(event, Batch):
        pipe.send((event.index, event.pixels.shape, event.failed))
        if event.pixels.size:
            pipe.send_bytes(np.ascontiguousarray(event.pixels).data.cast("B"))
    else:
        pipe.send(event)


def _receive(pipe: Any) -> Event:
    got = pipe.recv()
    if not isinstance(got, tuple):
        return got  # type: ignore[no-any-return]
    index, shape, failed = got
    pixels = np.empty(shape, np.uint8)
    if pixels.size:
        pipe.recv_bytes_into(pixels.data.cast("B"))
    return Batch(index, pixels, failed)


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"


def batched(tiles: Iterable[tuple[int, Any]], size: int) -> Iterator[Batch]:
    """Tiles in order as batches of `size`; a tile that failed (it has a `reason`) is named and takes no place."""
    stream = iter(tiles)
    while stretch := list(itertools.islice(stream, size)):
        good = [(i, t) for i, t in stretch if isinstance(t, np.ndarray)]
        failed = tuple((i, str(t.reason)) for i, t in stretch if not isinstance(t, np.ndarray))
        pixels = np.stack([t for _, t in good]) if good else np.empty((0, 0, 0, 3), np.uint8)
        yield Batch(np.array([i for i, _ in good], np.int64), pixels, failed)


# ---- the encoding side ---------------------------------------------------------------------------------------------


def encode_batch(encoder: Encoder, batch: Batch) -> tuple[np.ndarray, np.ndarray, tuple[tuple[int, str], ...]]:
    """Encode a batch; where the encoder fails, by halves, so that only the tiles at fault are lost.

    Returns:
        numbers of the encoded tiles (n,), their features (n, dim), and number and reason of the others.
    """
    if not len(batch.index):
        return batch.index, np.empty((0, encoder.record.dim), np.float32), ()
    try:
        return batch.index, encoder.encode(batch.pixels), ()
    except Exception as exc:  # out of memory, not finite, a network's own fault
        if len(batch.index) == 1:
            reason = f"not encoded: {type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:120]}"
            return batch.index[:0], np.empty((0, encoder.record.dim), np.float32), ((int(batch.index[0]), reason),)
    half = (len(batch.index) + 1) // 2
    parts = [
        encode_batch(encoder, Batch(batch.index[s], batch.pixels[s])) for s in (slice(None, half), slice(half, None))
    ]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), parts[0][2] + parts[1][2]
