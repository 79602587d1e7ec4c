"""The tiles of a TIFF as they lie in the file: found once, read by position, decoded in any thread."""

from __future__ import annotations

import logging
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np

from eosin.slides.open.backends.base import RegionError, SlideError
from eosin.slides.open.colours import PixelOptions, turn_of
from eosin.slides.open.tiff_check import MAX_SEGMENT_PX

MAX_MESSAGES = 5  # of tifffile about one file
CACHE_BYTES = 96 * 2**20
_JPEG = 7
# In the coded data of a JPEG picture, FF stands before 00 or a restart marker only; anything else before the end is
# damage, which the decoder itself passes over in silence and paints as noise.
_BROKEN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class MissingTileError(RegionError):
    """The file holds nothing for a tile."""


class TiffFileHandle:
    """A file read by position, so that threads need no lock."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor = os.open(file, os.O_RDONLY)

    def read(self, offset: int, count: int) -> bytes:
        """Bytes at an offset; fewer than asked for raise RegionError."""
        data = os.pread(self._descriptor, count, offset)
        while len(data) < count:
            more = os.pread(self._descriptor, count - len(data), offset + len(data))
            if not more:
                raise RegionError("tile outside the file", found=f"{len(data)} of {count} bytes", where=self._file)
            data += more
        return data

    def close(self) -> None:
        """Give the file back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class NativeLevel:
    """One page of a TIFF as a grid of tiles (strips are tiles as wide as the page).

    Attributes:
        size_px: width, height of the page. tile_px: width, height of a tile. columns, rows: of the grid.
    """

    def __init__(
        self, handle: TiffFileHandle, page: Any, file: Path, options: PixelOptions | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:  # fmt: skip
        self._handle, self._page, self._file = handle, page, file
        self._turn = turn_of(page, options or PixelOptions(), value_range)
        self.size_px = (int(page.imagewidth), int(page.imagelength))
        width, height = self.size_px
        if page.is_tiled:
            self.tile_px = (int(page.tilewidth), int(page.tilelength))
        else:
            self.tile_px = (width, int(min(page.rowsperstrip, height)))
        if self.tile_px[0] * self.tile_px[1] > MAX_SEGMENT_PX:
            raise SlideError("slide not tiled", expected="tiles or strips that fit in memory",
                             found=f"one piece of {self.tile_px[0]} x {self.tile_px[1]} px", where=file)  # fmt: skip
        self.columns, self.rows = -(-width // self.tile_px[0]), -(-height // self.tile_px[1])
        self._planes = max(1, int(page.samplesperpixel)) if page.planarconfig == 2 else 1
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        expected = self.columns * self.rows * self._planes
        if len(self._offsets) < expected or len(self._counts) < expected:
            raise SlideError("slide damaged", expected=f"{expected} tiles", found=f"{len(self._offsets)} tiles",
                             where=file)  # fmt: skip
        self._tables = page.jpegtables
        self._header = page.jpegheader
        self._is_jpeg = int(page.compression) == _JPEG
        page.decode  # noqa: B018  built once here, because building it is not safe between threads

    @property
    def byte_counts(self) -> np.ndarray:
        """How many bytes each tile takes in the file, row by row, int64 (rows * columns,)."""
        return np.asarray(self._counts[: self.columns * self.rows], dtype=np.int64)

    def decode(self, column: int, row: int) -> np.ndarray:
        """A whole tile, uint8 (tile height, tile width, 3).

        Raises:
            RegionError: the tile's data are damaged or outside the file. MissingTileError: there are none.
        """
        tile = self._turn(self.raw(column, row))
        width, height = self.tile_px
        if tile.shape[:2] == (height, width) and tile.shape[2] == 3:
            return tile
        full = np.full((height, width, 3), 255, dtype=np.uint8)
        full[: tile.shape[0], : tile.shape[1]] = tile[:height, :width, :3]
        return full

    def raw(self, column: int, row: int) -> np.ndarray:
        """A tile as its decoder gives it: (height, width, samples)."""
        parts = [self._plane(plane, column, row) for plane in range(self._planes)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def _plane(self, plane: int, column: int, row: int) -> np.ndarray:
        index = (plane * self.rows + row) * self.columns + column
        count = int(self._counts[index])
        if count == 0:
            raise MissingTileError("tile missing", found=f"tile {column}, {row}", where=self._file)
        data = self._handle.read(int(self._offsets[index]), count)
        if self._is_jpeg and not sound_jpeg(data):
            raise RegionError("tile damaged", found=f"tile {column}, {row}: broken JPEG data", where=self._file)
        try:
            pixels = self._page.decode(data, index, jpegtables=self._tables, jpegheader=self._header)[0]
        except Exception as exc:  # decoders meet damaged data with many kinds of error
            found = f"tile {column}, {row}: {str(exc)[:120]}"
            raise RegionError("tile damaged", found=found, where=self._file) from None
        if pixels is None or pixels.dtype.kind != "u":
            raise RegionError("tile damaged", found=f"tile {column}, {row}", where=self._file)
        return np.asarray(pixels[0])


def sound_jpeg(data: bytes) -> bool:
    """Whether the coded part of a JPEG stream has no marker in its middle, and an end.

    Progressive pictures have several scans, with markers between them: they are not looked at.
    """
    scan = data.find(b"\xff\xda")
    if scan < 0 or b"\xff\xc2" in data[:scan]:
        return True  # the decoder says what is wrong
    broken = _BROKEN_SCAN.search(data, scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big"))
    return broken is not None and data[broken.start() : broken.start() + 2] == b"\xff\xd9"


def open_tiff(file: Path) -> Any:
    """A tifffile.TiffFile.

    Raises:
        SlideError: it is no TIFF that can be read.
    """
    import tifffile

    cap_messages(file)
    try:
        return tifffile.TiffFile(file)
    except Exception as exc:  # a damaged header gives many kinds of error
        raise SlideError("slide damaged", found=str(exc)[:200], where=file) from None


class _MessageCap(logging.Filter):
    """Lets the first messages about a file through, and counts the rest: a damaged file makes millions of them."""

    def __init__(self) -> None:
        super().__init__()
        self.file: Path | None = None
        self.num = 0

    def filter(self, record: logging.LogRecord) -> bool:
        self.num += 1
        if self.num == MAX_MESSAGES + 1:
            record.msg, record.args = f"more is wrong with {self.file}; further messages are not shown", None
        return self.num <= MAX_MESSAGES + 1


_CAP = _MessageCap()


def cap_messages(file: Path) -> None:
    """From now on tifffile says at most MAX_MESSAGES things, those about this file."""
    logger = logging.getLogger("tifffile")
    if _CAP not in logger.filters:
        logger.addFilter(_CAP)
    _CAP.file, _CAP.num = file, 0


def check_whole(file: Path) -> None:
    """Refuse a TIFF some of whose tiles lie beyond the end of the file: a copy that was cut off.

    Raises:
        SlideError: "slide truncated".
    """
    size = file.stat().st_size
    with open_tiff(file) as tiff:
        try:
            ends = [
                int(np.max(np.asarray(p.dataoffsets, np.int64) + np.asarray(p.databytecounts, np.int64), initial=0))
                for p in tiff.pages
                if len(p.dataoffsets) == len(p.databytecounts)
            ]
        except SlideError:
            raise
        except Exception as exc:
            raise SlideError("slide damaged", found=str(exc)[:200], where=file) from None
    if max(ends, default=0) > size:
        raise SlideError("slide truncated", expected=f"{max(ends)} bytes", found=f"{size} bytes", where=file)


class TileCache:
    """The last decoded tiles, bounded in bytes; safe between threads."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max = max_bytes
        self._held: dict[tuple[int, int, int], np.ndarray] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int, int]) -> np.ndarray | None:
        """A tile, now the youngest; None if it is not held."""
        with self._lock:
            tile = self._held.pop(key, None)
            if tile is not None:
                self._held[key] = tile
            return tile

    def put(self, key: tuple[int, int, int], tile: np.ndarray) -> None:
        """Hold a tile; the oldest make room."""
        with self._lock:
            if key in self._held:
                return
            self._held[key] = tile
            self._bytes += tile.nbytes
            while self._bytes > self._max and len(self._held) > 1:
                oldest = next(iter(self._held))
                self._bytes -= self._held.pop(oldest).nbytes


class NativePixels:
    """Boxes of levels, put together from tiles as they lie in the file; each tile is decoded once while it is held."""

    def __init__(self, levels: dict[int, NativeLevel], *, missing: int | None = None) -> None:
        """`missing`: the grey of tiles that the file does not hold; None: they raise MissingTileError."""
        self.levels = levels
        self._missing = missing
        self._cache = TileCache()

    def region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See Backend.region."""
        native = self.levels[level]
        tile_w, tile_h = native.tile_px
        if width == tile_w and height == tile_h and x % tile_w == 0 and y % tile_h == 0:
            return self._tile(level, x // tile_w, y // tile_h).copy()
        result = np.empty((height, width, 3), dtype=np.uint8)
        for row in range(y // tile_h, (y + height - 1) // tile_h + 1):
            for column in range(x // tile_w, (x + width - 1) // tile_w + 1):
                tile = self._tile(level, column, row)
                left, top = max(x, column * tile_w), max(y, row * tile_h)
                right, bottom = min(x + width, (column + 1) * tile_w), min(y + height, (row + 1) * tile_h)
                result[top - y : bottom - y, left - x : right - x] = tile[
                    top - row * tile_h : bottom - row * tile_h, left - column * tile_w : right - column * tile_w
                ]
        return result

    def _tile(self, level: int, column: int, row: int) -> np.ndarray:
        key = (level, column, row)
        tile = self._cache.get(key)
        if tile is None:
            tile = self._decoded(level, column, row)
            self._cache.put(key, tile)
        return tile

    def _decoded(self, level: int, column: int, row: int) -> np.ndarray:
        try:
            return self.levels[level].decode(column, row)
        except MissingTileError:
            if self._missing is None:
                raise
            width, height = self.levels[level].tile_px
            return np.full((height, width, 3), self._missing, dtype=np.uint8)
