"""What a TIFF declares, looked at before any library is given the file.

Libraries believe what a header says: they allocate it, follow it in circles, or end the process. Here the chain of
pages is walked with a bound on everything, and what the pages declare must fit the file.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

from eosin.slides.open.backends.base import SlideError

MAX_PAGES = 20_000
MAX_TAGS = 4_096
MAX_PAGE_SIDE_PX = 2_000_000
MAX_SEGMENT_PX = 120_000_000
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
WIDTH, LENGTH, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH = 256, 257, 278, 322, 323
PLANAR, SAMPLES, STRIP_OFFSETS, TILE_OFFSETS, SUB_PAGES, NDPI = 284, 277, 273, 324, 330, 65420
_LOOKED_AT = {
    WIDTH, LENGTH, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH, PLANAR, SAMPLES, STRIP_OFFSETS, TILE_OFFSETS, SUB_PAGES,
}  # fmt: skip


@dataclass
class _Page:
    """The tags of one page: first value and number of values of those that are looked at."""

    first: dict[int, int] = field(default_factory=dict)
    number: dict[int, int] = field(default_factory=dict)
    below: list[int] = field(default_factory=list)


class _File:
    """A TIFF or BigTIFF read by position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = path.open("rb")
        self.size = os.fstat(self._handle.fileno()).st_size
        head = self.read(0, 16)
        self.order = "<" if head[:2] == b"II" else ">"
        self.is_big = struct.unpack(f"{self.order}H", head[2:4])[0] == 43
        self.first = struct.unpack(
            f"{self.order}{'Q' if self.is_big else 'I'}", head[8:16] if self.is_big else head[4:8]
        )[0]

    def read(self, offset: int, count: int) -> bytes:
        self._handle.seek(offset)
        return self._handle.read(count)

    def unpack(self, code: str, offset: int) -> tuple[int, ...]:
        layout = f"{self.order}{code}"
        data = self.read(offset, struct.calcsize(layout))
        if len(data) < struct.calcsize(layout):
            raise self.damaged(f"a page at byte {offset} lies outside the file of {self.size} bytes")
        return struct.unpack(layout, data)

    def damaged(self, found: str) -> SlideError:
        return SlideError("slide damaged", found=found, where=self.path)

    def close(self) -> None:
        self._handle.close()


def check_declared(path: Path) -> None:
    """Refuse a TIFF whose pages turn in a circle, or that declares more than it can hold.

    Raises:
        SlideError: "slide damaged", with what was found.
    """
    try:
        file = _File(path)
    except (OSError, struct.error) as exc:
        raise SlideError("slide damaged", found=str(exc)[:120], where=path) from None
    try:
        _walk(file)
    finally:
        file.close()


def _walk(file: _File) -> None:
    waiting, seen = [file.first], set[int]()
    while waiting:
        offset = waiting.pop()
        while offset:
            if offset in seen:
                raise file.damaged(f"its pages turn in a circle at byte {offset}")
            if len(seen) >= MAX_PAGES:
                raise file.damaged(f"more than {MAX_PAGES} pages")
            if offset >= file.size:
                raise file.damaged(f"a page at byte {offset} lies outside the file of {file.size} bytes")
            seen.add(offset)
            page, offset = _page_at(file, offset)
            _check(file, page)
            waiting += page.below


def _page_at(file: _File, offset: int) -> tuple[_Page, int]:
    """A page's tags, and where the next page is."""
    (count,) = file.unpack("Q" if file.is_big else "H", offset)
    if not 0 < count <= MAX_TAGS:
        raise file.damaged(f"a page with {count} tags")
    start, each = offset + (8 if file.is_big else 2), 20 if file.is_big else 12
    table = file.read(start, count * each)
    if len(table) < count * each:
        raise file.damaged(f"a page at byte {offset} is cut off")
    page = _Page()
    for i in range(count):
        _tag(file, page, table[i * each : (i + 1) * each], start + i * each)
    code = "Q" if file.is_big else "I"
    after = file.read(start + count * each, struct.calcsize(code))
    # A file that ends with its last page, and NDPI, which writes eight bytes here: nothing follows.
    following = struct.unpack(f"{file.order}{code}", after)[0] if len(after) == struct.calcsize(code) else 0
    return page, 0 if NDPI in page.number and following >= file.size else following


def _tag(file: _File, page: _Page, entry: bytes, place: int) -> None:
    tag, kind = struct.unpack(f"{file.order}HH", entry[:4])
    (number,) = struct.unpack(f"{file.order}{'Q' if file.is_big else 'I'}", entry[4 : 12 if file.is_big else 8])
    page.number[tag] = number
    code, size = _CODES.get(kind), _SIZES.get(kind, 0)
    if code is None or not number or tag not in _LOOKED_AT:
        return
    inline = 8 if file.is_big else 4
    if number * size > file.size and number * size > inline:
        raise file.damaged(f"tag {tag} declares {number} values, and the file has {file.size} bytes")
    at = place + (12 if file.is_big else 8)
    if number * size > inline:
        (at,) = struct.unpack(f"{file.order}{'Q' if file.is_big else 'I'}", file.read(at, inline))
    taken = number if tag == SUB_PAGES else 1
    if tag == SUB_PAGES and number > MAX_TAGS:
        raise file.damaged(f"a page with {number} pages below it")
    data = file.read(at, taken * size)
    if len(data) < taken * size:
        raise file.damaged(f"the values of tag {tag} lie outside the file")
    values = struct.unpack(f"{file.order}{taken}{code}", data)
    page.first[tag] = values[0]
    if tag == SUB_PAGES:
        page.below = [v for v in values if v]


def _check(file: _File, page: _Page) -> None:
    """What a page says of its size against what it says of its pieces."""
    width, length = page.first.get(WIDTH), page.first.get(LENGTH)
    if width is None or length is None:
        return  # a page of settings alone
    if not (0 < width <= MAX_PAGE_SIDE_PX and 0 < length <= MAX_PAGE_SIDE_PX):
        raise file.damaged(f"a page of {width} x {length} px")
    planes = max(1, page.first.get(SAMPLES, 1)) if page.first.get(PLANAR, 1) == 2 else 1
    if TILE_OFFSETS in page.number:
        across, down = page.first.get(TILE_WIDTH, 0), page.first.get(TILE_LENGTH, 0)
        stated = page.number[TILE_OFFSETS]
    elif STRIP_OFFSETS in page.number and NDPI not in page.number:
        across, down = width, min(length, page.first.get(ROWS_PER_STRIP, length) or length)
        stated = page.number[STRIP_OFFSETS]
    else:
        return
    if not (across and down) or across * down > MAX_SEGMENT_PX * (1 if TILE_OFFSETS in page.number else 40):
        raise file.damaged(f"pieces of {across} x {down} px")
    needed = -(-width // across) * -(-length // down) * planes
    if stated < needed:
        raise file.damaged(f"{stated} pieces for a page of {width} x {length} px, which has {needed}")
