"""Is a tile fit to be read: sharpness, ink, bubbles. Numbers are measured on pixels, flags say what was found."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from eosin.slides.tiles.reading import TileOrFailed
from eosin.slides.tiles.tiles import FLAGS, Tiles
from eosin.slides.tissue.morphology import gaussian_blur

# At about 0.5 µm per pixel, healthy tiles of real and phantom slides have 0.012 to 0.16; blurred by a Gaussian of
# 1.5 µm they have 0.002 to 0.0045.
BLUR_LIMIT = 0.006


def sharpness(tile: np.ndarray) -> float:
    """How much fine detail a tile has for its contrast; near 0 when out of focus.

    The energy that a tile loses when it is blurred by one pixel, over the energy of its contrast, taken where there
    is something to see. Sensor noise is subtracted by its estimate of Immerkaer (1996). Dimensionless.

    Args:
        tile: uint8 (height, width, 3).
    """
    grey = tile.astype(np.float32) @ np.array([0.3, 0.59, 0.11], dtype=np.float32)
    fine = grey - gaussian_blur(grey, 1.0)
    coarse = grey - gaussian_blur(grey, 8.0)
    noise = _noise(grey)
    energy = float(np.mean(fine**2)) - 0.6 * noise**2
    contrast = float(np.mean(coarse**2)) - noise**2
    if contrast < 4.0:
        return 1.0  # nothing to judge by
    return max(0.0, energy) / contrast


def _noise(grey: np.ndarray) -> float:
    """Standard deviation of pixel noise (Immerkaer 1996): the median response to a mask that ignores structure."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    response = np.abs(cv2.filter2D(grey, -1, kernel)[1:-1, 1:-1])
    return float(np.median(response)) / (0.6745 * 6.0)


def blur_flags(tiles: Tiles, pixels: Iterable[tuple[int, TileOrFailed]], limit: float = BLUR_LIMIT) -> np.ndarray:
    """Flags of blurred tiles, to give to `Tiles.with_flags`: uint8 (N,)."""
    flags = np.zeros(len(tiles), dtype=np.uint8)
    for index, tile in pixels:
        if isinstance(tile, np.ndarray) and sharpness(tile) < limit:
            flags[index] |= FLAGS["blur"]
    return flags
