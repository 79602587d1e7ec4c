"""The tiles of a TIFF decoded without OpenSlide, where they are the very pixels that OpenSlide gives.

OpenSlide decodes a tile as often as it is asked for and turns it through two other pixel formats. Decoding the tiles
ourselves is several times faster and notices damage that OpenSlide paints as noise. A level is read this way only
after some of its tiles were compared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eosin.slides.open.backends.base import RegionError
from eosin.slides.open.native import NativeLevel, NativePixels, TiffFileHandle, open_tiff

Region = Callable[[int, int, int, int, int], np.ndarray]
_COMPARED = 3


class VerifiedTiles:
    """The levels of a TIFF that were found to be the same both ways."""

    def __init__(self, file: Path, level_sizes_px: tuple[tuple[int, int], ...]) -> None:
        self._file, self._sizes = file, level_sizes_px
        self._tiff: Any = None
        self._handle: TiffFileHandle | None = None
        self._levels: dict[int, NativePixels | None] = {}
        self._lock = threading.Lock()

    def level(self, number: int, trusted: Region) -> NativePixels | None:
        """A level's tiles; None where OpenSlide's own way must be taken. Compared at the first call.

        Args:
            trusted: reads a region through OpenSlide.
        """
        if number not in self._levels:
            with self._lock:
                if number not in self._levels:
                    self._levels[number] = self._verified(number, trusted)
        return self._levels[number]

    def _verified(self, number: int, trusted: Region) -> NativePixels | None:
        try:
            if self._tiff is None:
                self._tiff, self._handle = open_tiff(self._file), TiffFileHandle(self._file)
            page = _page_of_size(self._tiff, self._sizes[number])
            if page is None or self._handle is None:
                return None
            native = NativeLevel(self._handle, page, self._file)
            pixels = NativePixels({number: native})
            return pixels if _same(pixels, native, number, trusted) else None
        except Exception:  # whatever is unusual about this file, OpenSlide's own way stays
            return None

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._tiff.close()
            self._tiff, self._handle, self._levels = None, None, {}


def _page_of_size(tiff: Any, size_px: tuple[int, int]) -> Any:
    """The one tiled colour page of a size; None where there is none, or more than one."""
    found = [
        p
        for p in tiff.pages
        if p.is_tiled and (p.imagewidth, p.imagelength) == size_px and p.samplesperpixel == 3 and p.bitspersample == 8
    ]
    return found[0] if len(found) == 1 else None


def _same(pixels: NativePixels, native: NativeLevel, number: int, trusted: Region) -> bool:
    """Whether the fullest tiles of a level are the same both ways. Damaged ones tell nothing and are left out."""
    width, height = native.size_px
    tile_w, tile_h = native.tile_px
    order = np.argsort(native.byte_counts, kind="stable")[::-1]
    spread = order[np.linspace(0, len(order) // 2, 4 * _COMPARED).astype(int)]
    compared = 0
    for index in dict.fromkeys(spread.tolist()):
        x, y = index % native.columns * tile_w, index // native.columns * tile_h
        box = (number, x, y, min(tile_w, width - x), min(tile_h, height - y))
        try:
            mine, theirs = pixels.region(*box), trusted(*box)
        except RegionError:
            continue
        if not np.array_equal(mine, theirs):
            return False
        compared += 1
        if compared == _COMPARED:
            break
    return compared > 0
