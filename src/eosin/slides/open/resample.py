"""From a level's pixels to the asked scale: mean over area, in bands, so that memory stays small."""

from __future__ import annotations

import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from PIL import Image

from eosin.slides.open.backends.base import Backend, RegionError

BAND_PX = 2_000_000  # pixels of a level that a thread holds at once
WHOLE_PX = 16_000_000  # a level of at most so many pixels is read whole, and averaged in one go
BAND_THREADS = min(4, os.cpu_count() or 1)
STRIP_ROWS = 480
DAMAGED_GREY = 128
MAX_FAILURES = 200
_WHOLE = 1e-3  # positions nearer than this to a whole pixel are that pixel


def level_for(downsamples: tuple[float, ...], scale: float) -> int:
    """The coarsest level that is not coarser than `scale` level-0 pixels a result pixel (0.1 % slack)."""
    best = 0
    for number, down in enumerate(downsamples):
        if down <= scale * 1.001:
            best = number
    return best


def read_scaled(
    backend: Backend,
    level: int,
    downsample: float,
    box: tuple[float, float, float, float],
    out_px: tuple[int, int],
) -> np.ndarray:
    """Pixels of a level-0 box at a size: uint8 (height, width, 3), white outside the level.

    Args:
        box: x0, y0, x1, y1 in level-0 pixels. out_px: width, height of the result.
    """
    x0, y0, x1, y1 = (_snapped(v / downsample) for v in box)
    width, height = out_px
    step = (y1 - y0) / height
    columns = math.ceil(x1) - math.floor(x0)
    rows_a_band = max(1, int(BAND_PX / max(1, columns) / max(step, 1e-9)))
    if rows_a_band >= height:
        return area_resize(backend, level, (x0, y0, x1, y1), out_px)
    if columns * (math.ceil(y1) - math.floor(y0)) <= WHOLE_PX:
        return _whole_resize(backend, level, (x0, y0, x1, y1), out_px)
    result = np.empty((height, width, 3), dtype=np.uint8)

    def band(top: int) -> None:
        bottom = min(height, top + rows_a_band)
        part = (x0, _snapped(y0 + top * step), x1, _snapped(y0 + bottom * step))
        result[top:bottom] = area_resize(backend, level, part, (width, bottom - top))

    with ThreadPoolExecutor(BAND_THREADS) as pool:
        for _ in pool.map(band, range(0, height, rows_a_band)):
            pass
    return result


def read_tolerant(
    backend: Backend, level: int, downsample: float, scale: tuple[float, float], out_px: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """A whole level at a size, with parts that cannot be decoded in grey, and where they are.

    What cannot be read is halved until it can, or is at most 8 px long, or too much has failed already.

    Args:
        scale: level-0 pixels a result pixel along x and y.
    """
    width, height = out_px
    pixels = np.full((height, width, 3), DAMAGED_GREY, dtype=np.uint8)
    damaged = np.zeros((height, width), dtype=bool)
    todo = deque([(0, 0, width, height)])
    failures = 0
    while todo:
        x0, y0, x1, y1 = todo.popleft()
        box = (x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1])
        try:
            pixels[y0:y1, x0:x1] = read_scaled(backend, level, downsample, box, (x1 - x0, y1 - y0))
        except RegionError:
            failures += 1
            if max(x1 - x0, y1 - y0) <= 8 or failures > MAX_FAILURES:
                damaged[y0:y1, x0:x1] = True
            elif x1 - x0 >= y1 - y0:
                todo += [(x0, y0, (x0 + x1) // 2, y1), ((x0 + x1) // 2, y0, x1, y1)]
            else:
                todo += [(x0, y0, x1, (y0 + y1) // 2), (x0, (y0 + y1) // 2, x1, y1)]
    return pixels, damaged


def _whole_resize(
    backend: Backend, level: int, box: tuple[float, float, float, float], out_px: tuple[int, int]
) -> np.ndarray:
    """`area_resize` for a box of some million pixels: read in threads, in strips of rows, then averaged at once."""
    left, top, right, bottom = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    pixels = np.empty((bottom - top, right - left, 3), dtype=np.uint8)

    def strip(y: int) -> None:
        rows = min(STRIP_ROWS, bottom - y)
        pixels[y - top : y - top + rows] = padded_region(backend, level, left, y, right - left, rows)

    with ThreadPoolExecutor(BAND_THREADS) as pool:
        for _ in pool.map(strip, range(top, bottom, STRIP_ROWS)):
            pass
    return resize(pixels, (box[0] - left, box[1] - top, box[2] - left, box[3] - top), out_px)


def area_resize(
    backend: Backend, level: int, box: tuple[float, float, float, float], out_px: tuple[int, int]
) -> np.ndarray:
    """Read the whole pixels that a box of level pixels touches, then average them over the box."""
    left, top = math.floor(box[0]), math.floor(box[1])
    right, bottom = math.ceil(box[2]), math.ceil(box[3])
    pixels = padded_region(backend, level, left, top, right - left, bottom - top)
    return resize(pixels, (box[0] - left, box[1] - top, box[2] - left, box[3] - top), out_px)


def resize(pixels: np.ndarray, box: tuple[float, float, float, float], out_px: tuple[int, int]) -> np.ndarray:
    """A box of an image (x0, y0, x1, y1, fractions allowed) at a size.

    Mean over area when shrinking; bilinear when a result is finer than the image. Nothing is changed where box and
    size are the same whole pixels.
    """
    height, width = pixels.shape[:2]
    if box == (0, 0, width, height) and out_px == (width, height):
        return pixels
    x0, y0, x1, y1 = box
    if all(float(v).is_integer() for v in box) and (x1 - x0, y1 - y0) == out_px:
        return np.ascontiguousarray(pixels[int(y0) : int(y1), int(x0) : int(x1)])
    whole_box = all(float(v).is_integer() for v in box)
    if whole_box:
        factor_x, factor_y = (x1 - x0) / out_px[0], (y1 - y0) / out_px[1]
        if factor_x.is_integer() and factor_y.is_integer():
            whole = (int(x0), int(y0), int(x1), int(y1))
            return np.asarray(Image.fromarray(pixels).reduce((int(factor_x), int(factor_y)), box=whole))
    if (x1 - x0) < out_px[0] * 0.999 or (y1 - y0) < out_px[1] * 0.999:
        return np.asarray(Image.fromarray(pixels).resize(out_px, Image.Resampling.BILINEAR, box=box))
    if whole_box:
        import cv2

        return cv2.resize(pixels[int(y0) : int(y1), int(x0) : int(x1)], out_px, interpolation=cv2.INTER_AREA)
    return area_mean(pixels, box, out_px)


def area_mean(pixels: np.ndarray, box: tuple[float, float, float, float], out_px: tuple[int, int]) -> np.ndarray:
    """Mean over area of a box of an image (x0, y0, x1, y1), where parts of pixels count by their area.

    The same as OpenCV's INTER_AREA, for boxes that do not begin and end at whole pixels. (Pillow's box filter takes
    whole pixels only, which moves edges by up to half a pixel.)

    Args:
        pixels: uint8 (height, width, 3). out_px: width, height of the result.
    """
    down = _weighted(pixels, _taps(box[1], box[3], out_px[1], pixels.shape[0]), 0)
    across = _weighted(down, _taps(box[0], box[2], out_px[0], pixels.shape[1]), 1)
    return np.asarray((across + np.float32(0.5)).astype(np.uint8))


@lru_cache(maxsize=64)
def _taps(start: float, stop: float, num: int, length: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """For each of the pixels under a result pixel: its index (num,) and its weight (num,), which sum to one."""
    edges = start + (stop - start) * np.arange(num + 1) / num
    low, high = edges[:-1], edges[1:]
    first = np.floor(low + 1e-9).astype(int)
    taps = []
    for step in range(int(np.ceil((stop - start) / num)) + 1):
        index = first + step
        weight = np.clip(np.minimum(high, index + 1) - np.maximum(low, index), 0, None) / (high - low)
        if weight.any():
            taps.append((np.clip(index, 0, length - 1), weight.astype(np.float32)))
    return tuple(taps)


def _weighted(pixels: np.ndarray, taps: tuple[tuple[np.ndarray, np.ndarray], ...], axis: int) -> np.ndarray:
    total: np.ndarray | None = None
    for index, weight in taps:
        part = np.take(pixels, index, axis=axis) * (weight[:, None, None] if axis == 0 else weight[None, :, None])
        if total is None:
            total = part
        else:
            total += part
    assert total is not None
    return total


def padded_region(backend: Backend, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
    """A box of level pixels that may reach outside the level, where it is white: uint8 (height, width, 3)."""
    full_width, full_height = backend.metadata.level_sizes_px[level]
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + width, full_width), min(y + height, full_height)
    if (x0, y0, x1, y1) == (x, y, x + width, y + height):
        return backend.region(level, x, y, width, height)
    result = np.full((height, width, 3), 255, dtype=np.uint8)
    if x1 > x0 and y1 > y0:
        result[y0 - y : y1 - y, x0 - x : x1 - x] = backend.region(level, x0, y0, x1 - x0, y1 - y0)
    return result


def _snapped(value: float) -> float:
    whole = round(value)
    return float(whole) if abs(value - whole) < _WHOLE else value
