"""Small slide files made in a moment: pink tissue with dark nuclei on glass, a pyramid with its scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile


def tissue_pixels(size_px: int, seed: int = 0) -> np.ndarray:
    """uint8 (size, size, 3): a disc of tissue on white glass, noisy, with dark blobs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size_px, :size_px]
    inside = np.hypot(x - size_px / 2, y - size_px / 2) < 0.46 * size_px
    pixels = np.full((size_px, size_px, 3), 244.0)
    pixels[inside] = (214, 150, 190)
    for cx, cy in rng.integers(0, size_px, (size_px * size_px // 3000, 2)):
        box = slice(max(cy - 4, 0), cy + 5), slice(max(cx - 4, 0), cx + 5)
        blob = np.hypot(x[box] - cx, y[box] - cy) < 4.5
        pixels[box][blob & inside[box]] = (96, 60, 140)
    pixels += rng.normal(0, 5, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_slide(path: Path, size_px: int = 1024, mpp: float | None = 0.5, seed: int = 0) -> np.ndarray:
    """Write a tiled pyramidal TIFF without loss; returns the pixels of level 0."""
    level = pixels = tissue_pixels(size_px, seed)
    scale = 1.0
    with tifffile.TiffWriter(path) as tiff:
        while True:
            resolution = None if mpp is None else (1e4 / mpp / scale,) * 2
            tiff.write(level, tile=(256, 256), photometric="rgb", compression="deflate", metadata=None,
                       resolution=resolution, resolutionunit="CENTIMETER" if mpp else None,
                       subfiletype=0 if scale == 1 else 1)  # fmt: skip
            if level.shape[0] <= 256:
                return pixels
            level = level.reshape(level.shape[0] // 2, 2, level.shape[1] // 2, 2, 3).mean((1, 3)).round()
            level, scale = level.astype(np.uint8), scale * 2
