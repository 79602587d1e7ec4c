"""The one error a user sees: what was expected, what was found, where, and what to do next."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class EosinError(Exception):
    """A mistake the user can mend. The command line prints it without a traceback.

    Args:
        message: one sentence that says what went wrong.
        expected: what would have been right.
        found: what was there instead.
        where: file, line, field or command.
        next_step: the command or edit that mends it.
    """

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        where: str | Path | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.found = found
        self.where = str(where) if where is not None else None
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [self.message]
        for label, value in (
            ("expected", self.expected),
            ("found", self.found),
            ("where", self.where),
            ("next", self.next_step),
        ):
            if value:
                lines.append(f"  {label + ':':<10}{value}")
        return "\n".join(lines)


class RecipeError(EosinError):
    """All problems of a recipe at once."""

    def __init__(self, problems: list[str], where: str | Path) -> None:
        self.problems = problems
        count = f"{len(problems)} problem" + ("s" if len(problems) != 1 else "")
        super().__init__(
            f"The recipe has {count}:\n" + "\n".join(f"  {i}. {p}" for i, p in enumerate(problems, 1)),
            where=where,
            next_step="mend the lines above; `eosin run RECIPE --dry-run` checks a recipe without running it",
        )


class ImageError(EosinError):
    """An image that cannot be used. Its message is short enough to serve as a drop reason."""


class MissingExtraError(EosinError):
    """A part of Eosin whose optional packages are not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"This needs the package {package}, which is not installed.",
            next_step=f"pip install 'eosin[{extra}]'   (eosin doctor shows all that is missing)",
        )


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into an EosinError that names the place.

    Libraries that write through C++ or Rust say so in errors of their own: safetensors, torch, pyarrow.
    """
    try:
        yield
    except EosinError:
        raise
    except Exception as exc:
        number = _errno_of(exc)
        reasons = {
            errno.ENOSPC: ("The disk is full.", "free some space, then give the same command again"),
            errno.EDQUOT: ("The disk quota is used up.", "free some space, then give the same command again"),
            errno.EFBIG: ("The file would be larger than is allowed here.", "raise the limit (ulimit -f)"),
            errno.EROFS: ("The disk is read-only.", "choose another folder with --out"),
            errno.EACCES: ("Writing there is not permitted.", "choose another folder with --out"),
        }
        if number is None or number not in reasons:
            raise
        message, next_step = reasons[number]
        name = getattr(exc, "filename", None)
        raise EosinError(message, found=str(name) if name is not None else None, where=where,
                         next_step=next_step) from exc  # fmt: skip


_SAID = {
    errno.ENOSPC: ("os error 28", "No space left on device", "PytorchStreamWriter failed writing"),
    errno.EDQUOT: ("os error 122", "Disk quota exceeded"),
    errno.EFBIG: ("os error 27", "File too large"),
    errno.EROFS: ("os error 30", "Read-only file system"),
    errno.EACCES: ("os error 13", "Permission denied"),
}


def _errno_of(exc: Exception) -> int | None:
    """The system's number of an error, also where a library has put it into words; None for all other errors."""
    if isinstance(exc, OSError) and exc.errno is not None:
        return exc.errno
    text = str(exc)
    return next((number for number, words in _SAID.items() if any(w in text for w in words)), None)
