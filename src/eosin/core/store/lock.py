"""One writer a place. The operating system holds the lock, so that it ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, disk_errors

__all__ = ["is_held", "lock_beside", "locked"]


def lock_beside(out: Path) -> Path:
    """The lock of whoever writes `out`, in the folder that holds it."""
    return out.with_name(f".{out.name}.lock")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` while entered; it is gone afterwards.

    The lock is `flock` on an open file: neither a clock, nor a process number, nor a file that a killed process left
    decides. What stands in the file is for people to read.

    Raises:
        EosinError: another process holds it.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _take(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: whoever opened it before finds that it no longer stands, and tries again
        os.close(handle)


def _take(path: Path) -> int:
    """An open file that is locked and still stands under its name."""
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            found = _told(handle)
            os.close(handle)
            if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise EosinError(
                    "Another process is writing here.", found=found, where=path.parent,
                    next_step="wait for it, or choose another --out",
                ) from None  # fmt: skip
            raise
        if _stands(handle, path):
            told = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            os.truncate(handle, 0)
            os.pwrite(handle, json.dumps(told).encode("utf-8"), 0)
            return handle
        os.close(handle)


def _stands(handle: int, path: Path) -> bool:
    """Whether the open file is the one that stands at `path` now."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _told(handle: int) -> str:
    try:
        told: dict[str, Any] = json.loads(os.pread(handle, 4096, 0).decode("utf-8"))
        return f"process {told['process']} on {told['host']}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that holds the lock"


def is_held(path: Path) -> bool:
    """Whether a process that lives holds a lock on this file or folder. False where that cannot be told."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(handle)
