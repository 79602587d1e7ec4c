"""From stain to pixels: Beer-Lambert with a case's own stain vectors, then the scanner and its focus.

I = 255 * white * exp(-OD), OD = sum over stains of concentration x vector (Ruifrok and Johnston 2001).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from eosin.phantom.noise import F32, F64

# Optical density of one unit of each stain in red, green, blue.
HAEMATOXYLIN = np.array([0.78, 0.86, 0.42])
EOSIN = np.array([0.08, 0.52, 0.28])
BLOOD = np.array([0.10, 0.72, 0.62])
MUCIN = np.array([0.34, 0.27, 0.13])


@dataclass(frozen=True)
class Optics:
    """How one case was stained and scanned.

    Attributes:
        vectors: optical density of haematoxylin, eosin, blood and mucin, (4, 3).
        white: the scanner's white, (3,). gamma: its tone curve in each channel, (3,).
        blur_px: focus at 1 µm per pixel. noise: standard deviation in grey levels. sharpen: unsharp mask.
        jpeg: quality of the scanner's compression.
    """

    vectors: F64
    white: F64
    gamma: F64
    blur_px: float
    noise: float
    sharpen: float
    jpeg: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Optics:
        """Optics of a new case: strengths, hues and balance vary far more between cases than tissue does."""

        def turned(vector: F64, spread: float) -> F64:
            moved = vector * np.exp(rng.normal(0, spread, 3))
            return np.asarray(moved / np.linalg.norm(moved) * np.linalg.norm(vector))

        strength_h, strength_e = np.exp(rng.uniform(-0.7, 0.45)), np.exp(rng.uniform(-0.85, 0.7))
        vectors = np.stack([
            turned(HAEMATOXYLIN, 0.15) * strength_h,
            turned(EOSIN, 0.28) * strength_e,
            turned(BLOOD, 0.12) * strength_e,
            _mixed(turned(MUCIN, 0.3), turned(EOSIN, 0.2) * strength_e, rng.uniform(0, 0.85)) * rng.uniform(0.4, 1.4),
        ])  # fmt: skip
        return cls(
            vectors=vectors,
            white=np.clip(rng.uniform(0.86, 0.99) * np.exp(rng.normal(0, 0.035, 3)), 0, 1),
            gamma=np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.19, 3)),
            blur_px=float(rng.choice([0.0, 0.35, 0.6, 0.9], p=[0.35, 0.3, 0.25, 0.1])),
            noise=float(rng.uniform(0.8, 2.6)),
            sharpen=float(rng.choice([0.0, 0.35], p=[0.6, 0.4])),
            jpeg=int(rng.integers(82, 96)),
        )

    def expose(
        self, planes: dict[str, F32], mpp: float, rng: np.random.Generator, *, thickness: float = 1.0, jpeg: bool = True
    ) -> np.ndarray:
        """Pixels of a field, uint8 (height, width, 3).

        Args:
            planes: concentrations haem, eosin, red, mucin, each (height, width).
            mpp: microns per pixel, which scales the blur.
            thickness: of the section here, where 1 is usual; all densities scale with it.
            jpeg: pass the picture through the scanner's compression.
        """
        stack = np.stack([planes["haem"], planes["eosin"], planes["red"], planes["mucin"]], axis=-1)
        density = stack.reshape(-1, 4) @ (thickness * self.vectors).astype(np.float32)
        light = np.exp(-density).reshape(*stack.shape[:2], 3)
        if self.blur_px:
            light = gaussian_filter(light, (self.blur_px / mpp, self.blur_px / mpp, 0))
        if self.sharpen:
            light = light + self.sharpen * (light - gaussian_filter(light, (1.2, 1.2, 0)))
        levels = 255 * self.white.astype(np.float32) * np.clip(light, 0.001, 1.02) ** self.gamma.astype(np.float32)
        levels += rng.standard_normal(levels.shape, dtype=np.float32) * np.float32(self.noise)
        pixels = np.clip(levels, 0, 255).astype(np.uint8)
        return _jpeg(pixels, self.jpeg) if jpeg else pixels


def _mixed(a: F64, b: F64, share: float) -> F64:
    return (1 - share) * a + share * b


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(buffer).convert("RGB"))
