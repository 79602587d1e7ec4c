"""Write a pyramidal tiled TIFF while its blocks are painted. What is held in memory does not grow with the slide."""

from __future__ import annotations

import importlib.util
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from PIL import Image

TILE = 256
BLOCK = 1024
STEP = 4  # level 1 is four times smaller, every further level two times
MIN_LEVEL_PX = 256
QUALITY = 90

T = TypeVar("T")
Paint = Callable[[int, int, int, int], np.ndarray]


def write_pyramid(path: Path, paint: Paint, size_px: int, mpp: float, note: str, *, workers: int = 2) -> None:
    """Write a square slide.

    Args:
        paint: gives a box of level 0 (x, y, width, height) as uint8 (height, width, 3); called in threads.
        size_px: side of level 0. mpp: its µm per pixel. note: image description.
    """
    import tifffile

    options: dict[str, Any] = {"tile": (TILE, TILE), "metadata": None, "dtype": np.uint8}
    options["resolutionunit"] = "CENTIMETER"
    if has_jpeg():
        options |= {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2)}
    else:
        options |= {"photometric": "rgb", "compression": "deflate"}
    with (
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
        tifffile.TiffWriter(path, bigtiff=size_px > 30_000) as tiff,
        ThreadPoolExecutor(workers) as pool,
    ):
        small = RawLevel(Path(folder) / "1", size_px // STEP)
        tiles = _encoded(_level0_tiles(paint, size_px, small, pool, workers), pool, workers)
        tiff.write(tiles, shape=(size_px, size_px, 3), description=note,
                   software="Eosin phantom", resolution=(1e4 / mpp, 1e4 / mpp), **options)  # fmt: skip
        level, factor = small, STEP
        while level.side >= MIN_LEVEL_PX:
            following = RawLevel(Path(folder) / str(factor), level.side // 2)
            tiles = _encoded(_level_tiles(level, following), pool, workers)
            tiff.write(tiles, shape=(level.side, level.side, 3), subfiletype=1,
                       resolution=(1e4 / mpp / factor,) * 2, **options)  # fmt: skip
            level.close()
            level, factor = following, factor * 2
        level.close()


def has_jpeg() -> bool:
    """Whether JPEG tiles can be written."""
    return importlib.util.find_spec("imagecodecs") is not None


def _encoded(tiles: Iterator[np.ndarray], pool: ThreadPoolExecutor, workers: int) -> Iterator[bytes | np.ndarray]:
    """JPEG tiles as scanners write them: YCbCr, colours at half resolution. Plain tiles where that is not installed."""
    if not has_jpeg():
        return tiles
    return _ahead(_jpeg, tiles, pool, 8 * workers)


def _jpeg(tile: np.ndarray) -> bytes:
    import imagecodecs

    made = imagecodecs.jpeg8_encode(tile, QUALITY, colorspace="rgb", outcolorspace="ycbcr", subsampling="420")
    return bytes(made)


class RawLevel:
    """A square level in a plain file: rows are appended, then read back some at a time."""

    def __init__(self, path: Path, side: int) -> None:
        self.side = side
        self._file: IO[bytes] = path.open("w+b")

    def append(self, rows: np.ndarray) -> None:
        """Add rows below those that are there, uint8 (n, side, 3)."""
        self._file.write(np.ascontiguousarray(rows).data)

    def rows(self, first: int, count: int) -> np.ndarray:
        """Some rows, fewer at the end: uint8 (n, side, 3)."""
        count = max(0, min(count, self.side - first))
        self._file.seek(first * self.side * 3)
        data = self._file.read(count * self.side * 3)
        return np.frombuffer(data, dtype=np.uint8).reshape(count, self.side, 3)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def _level0_tiles(
    paint: Paint, size_px: int, small: RawLevel, pool: ThreadPoolExecutor, workers: int
) -> Iterator[np.ndarray]:
    """Tiles of level 0 in TIFF order; fills level 1 on the way."""
    columns = range(0, size_px, BLOCK)
    rows = range(0, size_px, BLOCK)
    boxes = [(x, y, min(BLOCK, size_px - x), min(BLOCK, size_px - y)) for y in rows for x in columns]
    blocks = _ahead(lambda box: _painted(paint, box), boxes, pool, 2 * workers + len(columns))
    for _ in rows:
        strip = [next(blocks) for _ in columns]
        height = strip[0][0].shape[0]
        small.append(np.concatenate([reduced for _, reduced in strip], axis=1)[: small.side, : small.side])
        for y in range(0, height, TILE):
            for block, _ in strip:
                yield from _tiles_of_rows(block[y : y + TILE])


def _painted(paint: Paint, box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A block, and the block four times smaller; a rest of fewer than four pixels has no place in level 1."""
    block = paint(*box)
    height, width = block.shape[0] // STEP * STEP, block.shape[1] // STEP * STEP
    if not height or not width:
        return block, np.zeros((height // STEP, width // STEP, 3), dtype=np.uint8)
    return block, np.asarray(Image.fromarray(block[:height, :width]).reduce(STEP))


def _ahead(work: Callable[[Any], T], items: Iterable[Any], pool: ThreadPoolExecutor, ahead: int) -> Iterator[T]:
    """Results in order, some of them computed in advance."""
    waiting: deque[Future[T]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _level_tiles(level: RawLevel, following: RawLevel) -> Iterator[np.ndarray]:
    """Tiles of a level; fills the next one on the way."""
    for row in range(0, level.side, TILE):
        rows = level.rows(row, TILE)
        even = rows[: rows.shape[0] // 2 * 2, : level.side // 2 * 2]
        if even.shape[0]:
            following.append(np.asarray(Image.fromarray(np.ascontiguousarray(even)).reduce(2)))
        yield from _tiles_of_rows(rows)


def _tiles_of_rows(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Whole tiles of up to TILE rows; what lies beyond the slide is white."""
    for x in range(0, rows.shape[1], TILE):
        part = rows[:, x : x + TILE]
        if part.shape[:2] == (TILE, TILE):
            yield np.ascontiguousarray(part)
            continue
        tile = np.full((TILE, TILE, 3), 255, dtype=np.uint8)
        tile[: part.shape[0], : part.shape[1]] = part
        yield tile
