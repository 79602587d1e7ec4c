"""One process a run folder. A lock left by a killed process is taken over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from eosin.core.errors import EosinError, disk_errors


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` as a lock file with this process's number and start time in it."""
    mine = f"{os.getpid()} {psutil.Process().create_time():.0f}"
    with disk_errors(path):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            _refuse_if_alive(path)
            path.unlink(missing_ok=True)
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        with os.fdopen(handle, "w") as file:
            file.write(mine)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _refuse_if_alive(path: Path) -> None:
    try:
        number, started = path.read_text(encoding="utf-8").split()
        alive = f"{psutil.Process(int(number)).create_time():.0f}" == started
    except (ValueError, OSError, psutil.Error):
        alive = False
    if alive:
        raise EosinError(
            "Another process is running in this folder.",
            found=f"process {number}",
            where=path.parent,
            next_step="wait for it, or choose another --out",
        )
