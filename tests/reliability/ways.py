"""How a command is stopped, and what it must say and end with."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

BALLAST = ".ballast"


@dataclass(frozen=True)
class Way:
    """One way of stopping.

    Attributes:
        codes: with which the command may end; negative: the signal that ended it.
        words: one of them must stand in what it says where it ends with 2.
        strike: done in the command's own process before the chosen operation; is given the output folder.
        around: what is done around the whole start.
        needs_disk: the output folder must stand on a small file system of its own.
        at_start: there is no operation to choose.
        nobody_reads: standard output is a closed pipe.
    """

    name: str
    codes: frozenset[int]
    words: tuple[str, ...] = ()
    strike: Callable[[Path], None] = lambda out: None
    around: Callable[[Path], AbstractContextManager[None]] = lambda out: nullcontext()
    needs_disk: bool = False
    at_start: bool = False
    nobody_reads: bool = False

    def complaint(self, code: int, said: str) -> str:
        """What is wrong with how a command ended; "" where nothing is."""
        last = (said.strip().splitlines() or [""])[-1][:160]
        if code not in self.codes:
            return f"the first start ended with {code}: {last}"
        if "Traceback (most recent call last)" in said:
            return f"the first start ended with a traceback: {last}"
        if code == 2 and not any(w in said for w in self.words):
            return f"the first start does not say why: {last}"
        return ""


def _signal(number: int) -> Callable[[Path], None]:
    return lambda out: os.kill(os.getpid(), number)


def _fill(out: Path) -> None:
    """Take all free space of the file system; half of it again and again, to the last page."""
    handle = os.open(out.parent / BALLAST, os.O_CREAT | os.O_WRONLY)
    size, step = 0, 1 << 28
    while step >= 4096:
        try:
            os.posix_fallocate(handle, size, step)
            size += step
        except OSError:
            step //= 2
    os.close(handle)


@contextmanager
def _free_again(out: Path) -> Iterator[None]:
    try:
        yield
    finally:
        (out.parent / BALLAST).unlink(missing_ok=True)


@contextmanager
def _read_only(out: Path) -> Iterator[None]:
    """The output folder as a read-only mount of itself; log and counts beside it stay writable."""
    _mount("--bind", out, out)
    try:
        _mount("-o", "remount,ro,bind", out)
        yield
    finally:
        _unmount(out)


@contextmanager
def small_disk(place: Path, size_mib: int = 256) -> Iterator[bool]:
    """A file system of its own at a new folder; False where this process may not mount one."""
    place.mkdir(parents=True)
    try:
        _mount("-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", place)
    except (OSError, subprocess.CalledProcessError):
        yield False
        return
    try:
        yield True
    finally:
        _unmount(place)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


def _unmount(place: Path) -> None:
    with suppress(subprocess.CalledProcessError):
        subprocess.run(["umount", str(place)], check=True, capture_output=True)
        return
    subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)


KILL = Way("kill", frozenset({-signal.SIGKILL, 0}), strike=_signal(signal.SIGKILL))
WAYS = {
    way.name: way
    for way in (
        KILL,
        Way("term", frozenset({-signal.SIGTERM, 0}), strike=_signal(signal.SIGTERM)),
        Way("full", frozenset({0, 2}), ("disk is full",), strike=_fill, around=_free_again, needs_disk=True),
        Way("pipe", frozenset({0, 1, -signal.SIGPIPE}), at_start=True, nobody_reads=True),
        Way("read-only", frozenset({2}), ("read-only", "not permitted"), around=_read_only, needs_disk=True,
            at_start=True),
    )
}  # fmt: skip
