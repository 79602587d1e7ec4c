"""What every reader of a source yields, and how it reads lines without trusting them."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError
from eosin.core.formats.cells import cells_up_to
from eosin.knowledge.graph.concepts import Scope

MAX_CELL_CHARS = 1 << 17
MAX_LINE_BYTES = 1 << 20
"""A longer line is no text that a person or a tool wrote for reading: it is refused, and skipped unread."""


@dataclass(slots=True)
class ConceptRow:
    """A concept, or a part of what a source says about one.

    Attributes:
        label: None where this row only adds to a concept that another row names.
        names: further names with their scope.
        whole: True where a second whole row of the same id in the same file is a mistake.
        identifies: False where the cross-references only point to near meanings, so that they never merge.
    """

    id: str
    label: str | None = None
    names: Sequence[tuple[str, Scope]] = ()
    type: str | None = None
    definition: str | None = None
    xrefs: Sequence[str] = ()
    line: int = 0
    whole: bool = True
    identifies: bool = True


@dataclass(slots=True)
class RelationRow:
    """A relation in the source's own words; `predicate` is looked up in the vocabulary."""

    subject: str
    predicate: str
    object: str
    weight: float = 1.0
    evidence: str = ""
    line: int = 0


@dataclass(slots=True)
class LabelRelationRow:
    """A relation whose object is given by its label, to be looked up among the concepts of `prefixes`.

    The label must belong to exactly one of them; it is a reference of the source, never a reason to merge.
    """

    subject: str
    predicate: str
    label: str
    prefixes: Sequence[str] = ()
    line: int = 0


@dataclass(slots=True)
class MappingRow:
    """Two ids that the source maps to each other.

    Attributes:
        how: what the source calls it.
        secondary: b is an old id of a, and no concept itself.
        predicate: "" where the two are equal; else the relation to keep between them. An id that no source defines
            is no fault in a mapping.
    """

    a: str
    b: str
    how: str
    line: int = 0
    secondary: bool = False
    predicate: str = ""
    weight: float = 1.0


@dataclass(slots=True)
class Refused:
    """A part of the source that cannot be taken over. See `concepts.Refusal`; `num` rows alike make one entry."""

    reason: str
    detail: str
    line: int = 0
    fault: bool = True
    num: int = 1


@dataclass(slots=True)
class RelationColumns:
    """Relations by the columns: positions in `ids`. For sources too large for single rows.

    Attributes:
        ids: CURIEs; every one was given by a ConceptRow before.
        lines: line of each relation in the file.
    """

    ids: Sequence[str]
    subject: NDArray[np.int32]
    object: NDArray[np.int32]
    predicates: Sequence[str]
    predicate: NDArray[np.int16]
    lines: NDArray[np.int64]
    mirrored: int = 0


@dataclass(slots=True)
class OwnPredicate:
    """A predicate as its source defines it: name, plain words, and further ids under which a vocabulary may know it."""

    name: str
    words: str = ""
    also: Sequence[str] = ()


@dataclass(slots=True)
class Header:
    """What the file says about itself: version, licence, and its own predicates. Comes before the relations."""

    version: str = ""
    licence: str = ""
    predicates: Sequence[OwnPredicate] = field(default_factory=tuple)


Row = ConceptRow | RelationRow | LabelRelationRow | MappingRow | Refused | RelationColumns | Header
Reader = Callable[[Path], Iterator[Row]]


# What unpacking and reading a damaged file raises.
UNPACKING_ERRORS = (EOFError, OSError, zlib.error)


def open_bytes(path: Path) -> IO[bytes]:
    """A file for reading, unpacked where it ends in .gz.

    Raises:
        EosinError: there is no such file, it is a folder, or it may not be read.
    """
    try:
        if path.suffix == ".gz":
            return cast("IO[bytes]", gzip.open(path, "rb"))
        return path.open("rb")
    except FileNotFoundError:
        raise EosinError("There is no such source file.", where=path) from None
    except IsADirectoryError:
        raise EosinError("A source must be a file, and this is a folder.", where=path) from None
    except PermissionError:
        raise EosinError("Reading this source file is not permitted.", where=path) from None


def lines_of(path: Path, max_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, str | Refused]]:
    """Lines of a UTF-8 file with their numbers, from 1, without line ends.

    A line that is too long, is no UTF-8, or holds a zero byte comes as `Refused`. No more than `max_bytes` of a line
    are ever in memory.
    """
    number = 0
    with open_bytes(path) as handle:
        try:
            while piece := handle.readline(max_bytes + 1):
                number += 1
                if len(piece) > max_bytes:
                    size = len(piece) + _skip_line(handle, piece)
                    yield number, Refused("line too long", f"{size} bytes, at most {max_bytes} are read", number)
                    continue
                yield number, _decode(piece, number)
        except UNPACKING_ERRORS as exc:
            yield number + 1, Refused("file is cut off or damaged", str(exc)[:160], number + 1)


def _decode(piece: bytes, number: int) -> str | Refused:
    if number == 1:
        piece = piece.removeprefix(b"\xef\xbb\xbf")
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError as exc:
        shown = piece[max(0, exc.start - 30) : exc.start + 30].decode("utf-8", "backslashreplace")
        return Refused("not UTF-8", f"byte {exc.start + 1}: {shown.strip()}", number)
    if "\x00" in text:
        return Refused("zero byte in text", text.replace("\x00", "\\0")[:120], number)
    return text.rstrip("\r\n")


def _skip_line(handle: IO[bytes], piece: bytes) -> int:
    """Read on to the end of a line in pieces; gives the number of bytes."""
    size = 0
    while not piece.endswith(b"\n"):
        piece = handle.readline(1 << 16)
        if not piece:
            break
        size += len(piece)
    return size


def split_csv(line: str, delimiter: str = ",") -> list[str]:
    """Cells of one line of a table with quotes; a line that cannot be split, or with a very long cell, is one cell."""
    try:
        with cells_up_to(MAX_CELL_CHARS):
            return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return [line]


def shorten(text: Any, limit: int = 200) -> str:
    """Text for a message, on one line."""
    flat = " ".join(str(text).encode("utf-8", "backslashreplace").decode("utf-8").split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
