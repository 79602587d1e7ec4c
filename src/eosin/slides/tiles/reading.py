"""Read many tiles of a slide fast: runs of neighbours at once, in threads, each piece of the file decoded once."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eosin.slides.open.backends.base import Backend, SlideError
from eosin.slides.open.resample import area_resize, level_for, padded_region, resize

if TYPE_CHECKING:
    from eosin.slides.open.slide import Slide
    from eosin.slides.tiles.tiles import Tiles

MAX_WORKERS = 8
RUN_TILES = 8
MAX_STRIP_PX = 16_000_000


@dataclass(frozen=True)
class Failed:
    """A tile that could not be read. It is never replaced by a picture."""

    reason: str


TileOrFailed = np.ndarray | Failed


def read_tiles(slide: Slide, tiles: Tiles, *, workers: int | None = None) -> Iterator[tuple[int, TileOrFailed]]:
    """Pixels of each tile, in order: (index, uint8 (tile_px, tile_px, 3)) or (index, Failed).

    Args:
        workers: threads; None: one a core, at most 8.

    The pixels are those of `slide.read(tiles.box(i), out_px=(tile_px, tile_px))`. Memory is bounded: at most some
    runs of tiles wait to be taken.
    """
    num = min(workers or os.cpu_count() or 1, MAX_WORKERS)
    reader = _RunReader(slide, tiles)
    if num == 1:
        for run in _runs(tiles):
            yield from reader(run)
        return
    with ThreadPoolExecutor(num, thread_name_prefix="tiles") as pool:
        yield from _in_order(pool, reader, _runs(tiles), ahead=num + 2)


def _in_order(
    pool: ThreadPoolExecutor,
    read: Callable[[range], list[tuple[int, TileOrFailed]]],
    runs: Iterator[range],
    ahead: int,
) -> Iterator[tuple[int, TileOrFailed]]:
    waiting: deque[Future[list[tuple[int, TileOrFailed]]]] = deque()
    try:
        for run in runs:
            waiting.append(pool.submit(read, run))
            if len(waiting) > ahead:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _runs(tiles: Tiles) -> Iterator[range]:
    """Neighbours in one row, some at a time: ranges of indices."""
    coords, side = tiles.coords_level0, tiles.side_level0
    start = 0
    for i in range(1, len(tiles) + 1):
        near = (
            i < len(tiles)
            and i - start < RUN_TILES
            and coords[i, 1] == coords[start, 1]
            and 0 <= coords[i, 0] - coords[i - 1, 0] <= side
        )
        if not near:
            yield range(start, i)
            start = i


class _RunReader:
    """Reads runs of tiles; called from several threads."""

    def __init__(self, slide: Slide, tiles: Tiles) -> None:
        self._slide, self._tiles = slide, tiles
        self._level = level_for(slide.level_downsamples, tiles.side_level0 / tiles.tile_px)
        self._down = slide.level_downsamples[self._level]
        self._source: Backend = slide.backend

    def __call__(self, run: range) -> list[tuple[int, TileOrFailed]]:
        boxes = [self._box(i) for i in run]
        if len(run) > 1:
            try:
                return list(zip(run, self._together(boxes), strict=True))
            except SlideError:
                pass  # one by one below, so that only the tiles that touch the damage fail
        return [(i, self._alone(box)) for i, box in zip(run, boxes, strict=True)]

    def _box(self, index: int) -> tuple[float, float, float, float]:
        x, y = (int(v) for v in self._tiles.coords_level0[index])
        side = self._tiles.side_level0
        return tuple(_near_whole(v / self._down) for v in (x, y, x + side, y + side))  # type: ignore[return-value]

    def _together(self, boxes: list[tuple[float, float, float, float]]) -> list[TileOrFailed]:
        left, top = math.floor(boxes[0][0]), math.floor(boxes[0][1])
        right, bottom = math.ceil(boxes[-1][2]), math.ceil(boxes[-1][3])
        if (right - left) * (bottom - top) > MAX_STRIP_PX:
            return [self._alone(box) for box in boxes]
        strip = padded_region(self._source, self._level, left, top, right - left, bottom - top)
        return [self._cut(strip, tuple(v - o for v, o in zip(b, (left, top, left, top), strict=True))) for b in boxes]

    def _alone(self, box: tuple[float, float, float, float]) -> TileOrFailed:
        out_px = (self._tiles.tile_px, self._tiles.tile_px)
        try:
            return self._slide.coloured(area_resize(self._source, self._level, box, out_px))
        except SlideError as exc:
            return Failed(f"{exc.message}: {exc.found}" if exc.found else exc.message)

    def _cut(self, strip: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
        """One tile of a strip: the pixels that a read of this tile alone would give."""
        x0, y0, x1, y1 = box
        left, top = math.floor(x0), math.floor(y0)
        part = strip[top : math.ceil(y1), left : math.ceil(x1)]
        moved = (x0 - left, y0 - top, x1 - left, y1 - top)
        out_px = (self._tiles.tile_px, self._tiles.tile_px)
        return self._slide.coloured(np.ascontiguousarray(resize(part, moved, out_px)))


def _near_whole(value: float) -> float:
    whole = round(value)
    return float(whole) if abs(value - whole) < 1e-3 else value
