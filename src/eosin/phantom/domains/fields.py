"""Shapes and noise that the phantoms of other domains are made of. All in pixels of a square picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

F64 = NDArray[np.float64]


def grid(side: int) -> tuple[F64, F64]:
    """y and x of every pixel, (side, side), from -1 to 1."""
    axis = np.linspace(-1.0, 1.0, side)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def ellipse(side: int, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> F64:
    """Distance in radii from an ellipse's centre: below 1 is inside. (side, side); centre is (y, x) in -1..1."""
    y, x = grid(side)
    dy, dx = y - centre[0], x - centre[1]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    return np.hypot(along / radii[0], across / radii[1])


def noise(side: int, sigma: float, rng: np.random.Generator) -> F64:
    """Smooth noise of mean 0 and sd 1, (side, side)."""
    field = gaussian_filter(rng.normal(size=(side, side)), sigma, mode="wrap")
    return (field - field.mean()) / max(float(field.std()), 1e-9)


def soft(inside: F64, width: float) -> F64:
    """1 where `inside` is well below 1, 0 well above, over a rim of this width."""
    return 1.0 / (1.0 + np.exp(np.clip((inside - 1.0) / width, -40, 40)))


def with_share(field: F64, share: float, where: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """The mask of the highest values of a field that covers this share of `where`: its area is always the same."""
    values = field if where is None else field[where]
    cut = np.quantile(values, 1.0 - share)
    mask = field > cut
    return mask if where is None else mask & where


def curve(side: int, start: tuple[float, float], angle: float, length: float, bend: float, rng: np.random.Generator
          ) -> F64:  # fmt: skip
    """Points (n, 2) of a bent line, y and x in -1..1."""
    steps = max(8, int(length * side))
    turns = np.cumsum(rng.normal(0, bend, steps) / np.sqrt(steps))
    heading = angle + turns
    moves = np.stack([np.sin(heading), np.cos(heading)], 1) * (length / steps)
    path: F64 = np.asarray(start) + np.cumsum(moves, 0)
    return path


def drawn(side: int, points: F64, width_px: float) -> F64:
    """A line through points as a soft mask, 0..1, (side, side)."""
    canvas = np.zeros((side, side))
    at = np.rint((points + 1.0) / 2.0 * (side - 1)).astype(int)
    at = at[((at >= 0) & (at < side)).all(1)]
    canvas[at[:, 0], at[:, 1]] = 1.0
    spread = gaussian_filter(canvas, width_px / 2.0)
    return np.clip(spread / max(float(spread.max()), 1e-9) * 1.6, 0, 1)
