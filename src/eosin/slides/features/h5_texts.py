"""Texts of no fixed length in h5 files, looked at before HDF5 reads them.

Such a text stands in a heap; where it is used stands a mark: its length (4 bytes), the place of the heap (8) and its
number there (4). HDF5 makes room for whatever length a mark states, and goes from entry to entry of a heap by the sizes
that stand in it, for ever where one is 0. So the marks of an object, and the heaps that they lead to, are read here
first. Where marks stand is not parsed in full: each eight bytes that lead to a heap are taken for one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.extras import need

MAX_TEXT_BYTES = 16 * 2**20
_NOWHERE = 2**64 - 1
_CONTINUED, _DENSE_ATTRIBUTES = 0x10, 0x15  # types of header messages
_MAX_PARTS, _MAX_PART_BYTES = 256, 4 * 2**20
_HEAP_HEADER, _SUPERBLOCK, _MAX_NUMBER = 16, 48, 2**16


def check_attribute_texts(held: Any, path: Path) -> None:
    """Refuse an object whose attributes hold a text that HDF5 cannot read without harm.

    Raises:
        EosinError: a length that no text has, a heap without end, or a header that is damaged.
    """
    h5py = need("h5py", "slides")
    start, address = _start(held), int(h5py.h5o.get_info(held.id).addr)
    with path.open("rb", buffering=0) as handle:
        _check_sizes(handle, start, path)
        parts = list(_header_parts(handle, start, address, path))
        # Where attributes stand apart from the header the whole file is looked through.
        for part in _whole(handle) if None in parts else parts:
            _check_marks(part or b"", handle, start, path)


def check_dataset_texts(held: Any, path: Path) -> None:
    """Refuse a data set of texts that HDF5 cannot read without harm. It must lie in one piece, as Eosin writes it.

    Raises:
        EosinError: as `check_attribute_texts`, or the data set is in pieces.
    """
    at, size = held.id.get_offset(), held.id.get_storage_size()
    if at is None or size > _MAX_PART_BYTES:
        raise _damaged("texts that do not lie in one piece", path)
    with path.open("rb", buffering=0) as handle:
        start = _start(held)
        _check_sizes(handle, start, path)
        _check_marks(_read(handle, at, size), handle, start, path)


def _start(held: Any) -> int:
    """Where the file of an object begins for HDF5: programs may put something of their own before it."""
    return int(need("h5py", "slides").h5i.get_file_id(held.id).get_create_plist().get_userblock())


def _damaged(what: str, path: Path) -> EosinError:
    return EosinError("This h5 file cannot be read.", found=what, where=path)


def _read(handle: FileIO, at: int, size: int) -> bytes:
    handle.seek(at)
    return handle.read(size)


def _check_sizes(handle: FileIO, start: int, path: Path) -> None:
    """Places and lengths in the file must have eight bytes, as HDF5 writes them everywhere."""
    head = _read(handle, start, 16)
    sizes = head[13:15] if head[8:9] in (b"\x00", b"\x01") else head[9:11]
    if sizes != b"\x08\x08":
        raise _damaged("places that have not eight bytes", path)


def _whole(handle: FileIO) -> Iterator[bytes]:
    before, at = b"", 0
    while block := _read(handle, at, _MAX_PART_BYTES):
        yield before + block
        before, at = block[-16:], at + len(block)


def _header_parts(handle: FileIO, start: int, address: int, path: Path) -> Iterator[bytes | None]:
    """The parts of an object's header; None where its attributes stand apart from it."""
    head = _read(handle, start + address, 64)
    new = head[:4] == b"OHDR"
    if new:
        flags = head[5]
        at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        waiting = [(address + at + width, int.from_bytes(head[at : at + width], "little"))]
        skip = 6 if flags & 4 else 4
    else:
        waiting, skip = [(address + 16, int.from_bytes(head[8:12], "little"))], 8
    for _ in range(_MAX_PARTS):
        if not waiting:
            return
        at, size = waiting.pop()
        if size > _MAX_PART_BYTES:
            raise _damaged("a header that is too large", path)
        part = _read(handle, start + at, size)
        yield part
        for kind, body in _messages(part[4:] if part[:4] == b"OCHK" else part, skip):
            if kind == _CONTINUED:
                waiting.append((int.from_bytes(body[:8], "little"), int.from_bytes(body[8:16], "little")))
            elif kind == _DENSE_ATTRIBUTES:
                heap = body[4:12] if body[1:2] and body[1] & 1 else body[2:10]
                if int.from_bytes(heap, "little") != _NOWHERE:
                    yield None
    raise _damaged("a header in too many parts", path)


def _messages(part: bytes, skip: int) -> Iterator[tuple[int, bytes]]:
    """Type and body of each message of a part; `skip` bytes stand before a body."""
    at, wide = 0, skip == 8
    while at + skip <= len(part):
        kind = int.from_bytes(part[at : at + 2], "little") if wide else part[at]
        size = int.from_bytes(part[at + 2 : at + 4] if wide else part[at + 1 : at + 3], "little")
        yield kind, part[at + skip : at + skip + size]
        at += skip + size


def _check_marks(part: bytes, handle: FileIO, start: int, path: Path) -> None:
    """Look at each eight bytes that lead to a heap, and at the length before them."""
    end = os.fstat(handle.fileno()).st_size
    num = max(0, len(part) - 15)  # a mark can begin at every byte
    lengths = np.ndarray((num,), "<u4", part, strides=(1,))
    places = np.ndarray((num,), "<u8", part, offset=4 if num else 0, strides=(1,))
    numbers = np.ndarray((num,), "<u4", part, offset=12 if num else 0, strides=(1,))
    longest: dict[int, int] = {}
    led = np.flatnonzero(places - np.uint64(_SUPERBLOCK) < end - _SUPERBLOCK)  # what is smaller becomes huge
    for at in led[(numbers[led] > 0) & (numbers[led] < _MAX_NUMBER)]:
        place = int(places[at])
        longest[place] = max(longest.get(place, 0), int(lengths[at]))
    for place, length in longest.items():
        if _read(handle, start + place, 4) != b"GCOL":
            continue
        if length > min(MAX_TEXT_BYTES, end):
            raise _damaged(f"a text of {length:,} bytes", path)
        if _is_endless(handle, start + place):
            raise _damaged("a damaged heap of texts", path)


def _is_endless(handle: FileIO, at: int) -> bool:
    """Whether a heap has a nameless entry of no size before its end."""
    size = int.from_bytes(_read(handle, at + 8, 8), "little")
    heap = _read(handle, at, min(size, MAX_TEXT_BYTES))
    place = _HEAP_HEADER
    while place + _HEAP_HEADER <= len(heap):
        index = int.from_bytes(heap[place : place + 2], "little")
        length = int.from_bytes(heap[place + 8 : place + 16], "little")
        if index == 0 and length == 0:
            return True
        place += length if index == 0 else _HEAP_HEADER + -(-length // 8) * 8
    return False
