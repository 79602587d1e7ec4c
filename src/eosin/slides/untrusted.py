"""Files of strangers: only regular files are opened, and what a library throws at them is told in clean text."""

from __future__ import annotations

import stat
from pathlib import Path

from eosin.core.errors import EosinError


def regular_size(path: Path, kind: str = "file") -> int:
    """Bytes of a regular file. A pipe or a device can keep a reader for ever, so it is not opened.

    Raises:
        EosinError: there is nothing, or something else than a regular file.
    """
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise EosinError(f"There is no such {kind}.", where=path) from None
    except (OSError, ValueError) as exc:  # a name that is too long or holds a null byte; a folder that is closed
        raise EosinError(f"This {kind} cannot be reached.", found=told(exc), where=clean(str(path))[:300]) from None
    if not stat.S_ISREG(about.st_mode):
        found = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe, socket or device"
        raise EosinError(f"This {kind} is no regular file.", found=found, where=path)
    return about.st_size


def clean(text: str) -> str:
    """Text that can be written as UTF-8: a lone surrogate becomes a replacement character."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def told(exc: BaseException) -> str:
    """What a library said, in at most 160 characters, without the kind of an EosinError or OSError before it."""
    text = clean(str(exc))[:160]
    return text if isinstance(exc, EosinError | OSError) else f"{type(exc).__name__}: {text}"
