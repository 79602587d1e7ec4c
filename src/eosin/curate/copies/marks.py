"""Marks of a picture: places of blobs at their own scale, described so that turns, flips and stain do not matter.

Places are extrema of differences of Gaussians over space and scale (Lowe 2004). Around each place grey values are taken
on rings whose radius follows the scale; of each ring the sizes of its first Fourier coefficients over the angle are
kept. A turn shifts the angle and a flip reverses it: both change phases only. Values are divided by their spread, so
that brightness and contrast do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

SIDE = 128
NUM = 48
THUMB = 64
_SIGMAS = 1.6 * 2.0 ** (np.arange(9) / 3)
_RINGS = np.array([0.9, 1.7, 2.6, 3.6, 4.7])
_ANGLES = 16
_ORDERS = 5
DIMS = len(_RINGS) * (1 + _ORDERS)
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Marks:
    """Marks of one picture.

    Attributes:
        places: (n, 3) x, y and scale as shares of the picture's longer side.
        words: (n, DIMS) descriptions.
    """

    places: F32
    words: F32


def grey_of(image: Image.Image, side: int) -> F32:
    """(h, w) grey values, the longer side `side` px."""
    width, height = image.size
    scale = side / max(width, height)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), np.float32)


def marks_of(image: Image.Image, num: int = NUM) -> Marks:
    """The `num` strongest marks of a picture; none of a flat one."""
    grey = grey_of(image, SIDE)
    grey = (grey - grey.mean()) / max(float(grey.std()), 3.0)
    levels = np.stack([gaussian_filter(grey, s, mode="reflect") for s in _SIGMAS])
    layers = levels[1:] - levels[:-1]
    places, sigma, level = _extrema(layers, num)
    if not len(places):
        return Marks(np.zeros((0, 3), np.float32), np.zeros((0, DIMS), np.float32))
    words = _described(levels, places, sigma, level)
    return Marks((np.concatenate([places, sigma[:, None]], 1) / SIDE).astype(np.float32), words)


def _extrema(layers: F32, num: int) -> tuple[F32, F32, NDArray[np.intp]]:
    """x, y, scale and level of the strongest extrema within the stack."""
    strong = np.abs(layers)
    top = (layers == maximum_filter(layers, 3)) | (layers == minimum_filter(layers, 3))
    top[0] = top[-1] = False
    top[:, :2] = top[:, -2:] = False
    top[:, :, :2] = top[:, :, -2:] = False
    level, y, x = np.nonzero(top & (strong > 0.03))
    order = np.argsort(-strong[level, y, x], kind="stable")[:num]
    level, y, x = level[order], y[order], x[order]
    before, here, after = (layers[level + d, y, x] for d in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = np.where(np.abs(bend) > 1e-6, 0.5 * (before - after) / np.where(bend == 0, 1, bend), 0).clip(-0.5, 0.5)
    left, right = layers[level, y, x - 1], layers[level, y, x + 1]
    up, down = layers[level, y - 1, x], layers[level, y + 1, x]
    sigma = _SIGMAS[0] * 2.0 ** ((level + shift) / 3)
    places = np.stack([x + _peak(left, here, right), y + _peak(up, here, down)], 1)
    return places.astype(np.float32), sigma.astype(np.float32), level


def _peak(before: F32, here: F32, after: F32) -> F32:
    """Where between -0.5 and 0.5 the parabola through three values has its top."""
    bend = before - 2 * here + after
    return (0.5 * (before - after) / np.where(np.abs(bend) < 1e-6, 1, bend)).clip(-0.5, 0.5)


def _described(levels: F32, places: F32, sigma: F32, level: NDArray[np.intp]) -> F32:
    """(n, DIMS) sizes of Fourier coefficients of grey values on rings."""
    angle = 2 * np.pi * np.arange(_ANGLES) / _ANGLES
    radius = _RINGS[None, :, None] * sigma[:, None, None] * 1.5
    x = places[:, 0, None, None] + radius * np.cos(angle)
    y = places[:, 1, None, None] + radius * np.sin(angle)
    values = _bilinear(levels, np.broadcast_to(level[:, None, None], x.shape), x, y)
    values = values - values.mean((1, 2), keepdims=True)
    values /= np.maximum(values.std((1, 2), keepdims=True), 1e-3)
    spectrum = np.fft.rfft(values, axis=2) / _ANGLES
    sizes = np.abs(spectrum[:, :, 1 : 1 + _ORDERS])
    words = np.concatenate([spectrum[:, :, :1].real, sizes], 2)
    return words.reshape(len(places), -1).astype(np.float32)


def _bilinear(levels: F32, level: NDArray[np.intp], x: NDArray[np.floating], y: NDArray[np.floating]) -> F32:
    """Values between pixels; outside of the picture those of its edge, mirrored."""
    height, width = levels.shape[1:]
    x, y = _mirrored(x, width), _mirrored(y, height)
    x0, y0 = np.floor(x).astype(int).clip(0, width - 2), np.floor(y).astype(int).clip(0, height - 2)
    dx, dy = x - x0, y - y0
    upper = levels[level, y0, x0] * (1 - dx) + levels[level, y0, x0 + 1] * dx
    lower = levels[level, y0 + 1, x0] * (1 - dx) + levels[level, y0 + 1, x0 + 1] * dx
    return upper * (1 - dy) + lower * dy


def _mirrored(x: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    last = size - 1
    return last - np.abs(last - np.abs(x) % (2 * last))
