"""A run that is asked to end (SIGTERM, as clusters send it before they take a machine back) saves and ends well."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequested(KeyboardInterrupt):
    """The run was asked to end; what it needs to go on stands on disk. Not an error: the exit code is 0."""


class _State:
    asked = False
    depth = 0


def listen() -> None:
    """From now on SIGTERM asks this process to end. Only the main thread can listen."""
    _State.asked, _State.depth = False, 0
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _ask)


def _ask(_number: int, _frame: FrameType | None) -> None:
    _State.asked = True
    if not _State.depth:
        raise StopRequested


def is_asked() -> bool:
    """Whether this process was asked to end."""
    return _State.asked


@contextmanager
def saves_first() -> Iterator[None]:
    """While entered, being asked raises nothing: what is done here looks at `is_asked`, saves and ends by itself.

    Raises:
        StopRequested: on the way out, where this process was asked meanwhile.
    """
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
    if _State.asked and not _State.depth:
        raise StopRequested
