"""PDF files of strangers are opened here: what cannot be read says why in a few words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.core.images import MAX_FILE_BYTES, read_regular_file

_PASSWORD = 4
_SECURITY = 5
HEAD = 1024
"""A PDF's mark may stand in so many of its first bytes."""


def pdfium() -> Any:
    """The package pypdfium2, imported when it is needed.

    Raises:
        MissingExtraError: it is not installed.
    """
    return need("pypdfium2", "documents")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A PDF document, closed at the end. Nothing in it is run, and no link is followed.

    Raises:
        EosinError: the message is a short reason: file empty, not a PDF, encrypted, damaged, without pages.
    """
    library = pdfium()
    data = read_regular_file(path, MAX_FILE_BYTES)
    if not data:
        raise EosinError("file empty", where=path)
    if b"%PDF-" not in data[:HEAD]:
        raise EosinError("not a PDF", found=f"first bytes {data[:8]!r}", where=path)
    try:
        document = library.PdfDocument(data)
    except library.PdfiumError as exc:
        code = getattr(exc, "err_code", None)
        if code == _PASSWORD:
            raise EosinError("PDF is encrypted", where=path, next_step="save a copy without a password") from None
        reason = "PDF is locked by a security handler" if code == _SECURITY else "PDF truncated or damaged"
        raise EosinError(reason, found=str(exc)[:120], where=path) from None
    try:
        if len(document) < 1:
            raise EosinError("PDF has no pages", where=path)
        yield document
    finally:
        document.close()
