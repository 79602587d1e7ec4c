"""Names that come with data become names of files here, and nowhere else; and paths that come with data stay inside
their own folder."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
import uuid
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

__all__ = ["file_name", "inside", "inside_any", "is_file_name", "unfinished", "unfinished_of"]

MAX_BYTES = 120
_RESERVED = {"con", "prn", "aux", "nul", *(f"{n}{i}" for n in ("com", "lpt") for i in range(1, 10))}
_PLAIN = re.compile(r"(?:[\w-][\w. -]*/)*[\w-][\w. -]*", re.ASCII)
_UNFIT = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u2028\u2029\ufeff\ud800-\udfff]')


def file_name(text: str) -> str:
    """A name for a file or folder from any text: one part of a path, visible, at most 120 bytes of UTF-8.

    A text that is fit already is returned as it is. Any other one is cleaned and gets eight digits of its SHA-256, so
    that two texts never share a name: `../../x` becomes `_.._x-` and its digits.
    """
    if is_file_name(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    clean = _UNFIT.sub("_", unicodedata.normalize("NFC", text)).strip(" .")
    clean = clean.encode("utf-8")[: MAX_BYTES - 10].decode("utf-8", "ignore").rstrip(" .")
    if clean.partition(".")[0].lower() in _RESERVED:
        clean = f"_{clean}"
    return f"{clean or 'unnamed'}-{digest}"


def is_file_name(text: str) -> bool:
    """Whether a text can be the name of a file as it stands, on every system."""
    return (
        bool(text)
        and text == text.strip(" .")
        and not _UNFIT.search(text)
        and len(text.encode("utf-8")) <= MAX_BYTES
        and text.partition(".")[0].lower() not in _RESERVED
    )


def inside(folder: str | os.PathLike[str], name: str) -> Path | None:
    """The path that `name` stands for in a folder, or None where it leads out of it.

    Absolute paths, `..`, and links out of the folder all lead out. The file need not exist.
    """
    try:
        root = Path(folder).resolve()
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError):  # a null byte, a link to itself, a lone surrogate
        return None
    return path if path.is_relative_to(root) and path != root else None


def inside_any(folder: str | os.PathLike[str], name: str, others: Sequence[str | os.PathLike[str]] = ()) -> Path | None:
    """The file that a name in a data set stands for: in the data's folder, or in a folder that the user allows.

    A relative name is looked for in the data's folder first, then in the others. None where it leads out of all.
    """
    at_home = os.path.join(folder, name)
    if _lies_in(folder, name, at_home) and (not others or os.path.exists(at_home)):
        return Path(at_home)
    names = (os.path.abspath(at_home), name)
    found = [path for other in others for n in names if (path := inside(other, n)) is not None]
    return next((p for p in found if p.exists()), found[0] if found else None)


def _lies_in(folder: str | os.PathLike[str], name: str, path: str) -> bool:
    """Whether a name stays inside a folder. Folders of plain names are looked at once: they hold thousands of files."""
    head, tail = os.path.split(name)
    if _PLAIN.fullmatch(name) and tail and not os.path.islink(path):
        return not head or _folder_lies_in(os.fspath(folder), head)
    return inside(folder, name) is not None


@lru_cache(1024)
def _folder_lies_in(folder: str, name: str) -> bool:
    return inside(folder, name) is not None


_UNFINISHED = re.compile(r"^\.(?P<name>.+)\.[0-9a-f]{8}\.tmp$", re.DOTALL)


def unfinished(path: Path) -> Path:
    """A new name beside `path` for what is written there until it is whole, or removed from there."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def unfinished_of(path: Path) -> str | None:
    """The name whose `unfinished` name this is; None where it is none."""
    found = _UNFINISHED.match(path.name)
    return found["name"] if found else None
