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
    """Turn a full, read-only or forbidden disk into an EosinError that names the place."""
    try:
        yield
    except OSError as exc:
        reasons = {
            errno.ENOSPC: ("The disk is full.", "free some space, then give the same command again"),
            errno.EDQUOT: ("The disk quota is used up.", "free some space, then give the same command again"),
            errno.EFBIG: ("The file would be larger than is allowed here.", "raise the limit (ulimit -f)"),
            errno.EROFS: ("The disk is read-only.", "choose another folder with --out"),
            errno.EACCES: ("Writing there is not permitted.", "choose another folder with --out"),
        }
        if exc.errno not in reasons:
            raise
        message, next_step = reasons[exc.errno]
        found = str(exc.filename) if exc.filename is not None else None
        raise EosinError(message, found=found, where=where, next_step=next_step) from exc
