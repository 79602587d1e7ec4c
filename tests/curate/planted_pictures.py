"""Pictures of blobs, and ways in which a copy of one may differ."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def texture(seed: int, side: int = 160) -> Image.Image:
    """Blobs of many sizes on a pale ground, as nuclei lie in tissue."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side]
    grey = np.full((side, side), 225.0)
    for _ in range(90):
        cx, cy, r = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(2, 9)
        stretch, angle = rng.uniform(0.5, 1), rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
        grey -= rng.uniform(40, 130) * np.exp(-(u**2 + (v / stretch) ** 2) / (2 * r**2))
    grey = grey.clip(10, 250)
    return Image.fromarray(
        np.stack([grey * 0.9 + 20, grey * 0.7 + 20, grey * 0.95 + 10], 2).clip(0, 255).astype(np.uint8)
    )


def jpeg(image: Image.Image) -> Image.Image:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=40)
    return Image.open(io.BytesIO(held.getvalue())).convert("RGB")


def stained(image: Image.Image) -> Image.Image:
    density = -np.log((np.asarray(image, float) + 1) / 256) * np.array([0.75, 1.3, 1.1])
    return Image.fromarray((256 * np.exp(-density) - 1).clip(0, 255).astype(np.uint8))
