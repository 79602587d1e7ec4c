"""What lies on a slide beside tissue: felt pen, black borders, air bubbles, hairs. All at low power."""

from __future__ import annotations

import numpy as np

from eosin.slides.masks import (
    average,
    close,
    filled,
    grow,
    highest,
    lowest,
    mean_around,
    opened,
    parts,
    thickness,
    without_small,
)

BLACK_LEVEL = 45
PEN_DENSITY = 0.45  # in the strongest channel
VERY_DENSE = 0.75
EVEN = 0.13  # standard deviation over mean, over 27 µm: ink is even, tissue at low power is not (0.22 and more)
PEN_ANGLE = 8.0  # degrees between the colour of ink and the colour of this slide's tissue
PEN_AREA_UM2 = 6000.0
GREY = 0.15


def black_border(pixels: np.ndarray) -> np.ndarray:
    """True where black reaches in from a side of the picture: what the scanner did not see. (h, w) bool.

    Only what is black along a tenth of a side at least: dark nuclei that touch the side of a small crop are no border.
    """
    black = highest(pixels) < BLACK_LEVEL
    if not black.any():
        return black
    labels, table = parts(black)
    along = np.zeros(len(table))
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        along = np.maximum(along, np.bincount(side, minlength=len(table)) / len(side))
    along[0] = 0
    border = (along >= 0.1)[labels]
    return grow(border, 2) if border.any() else border


def pen_marks(density: np.ndarray, mpp: float, fit: np.ndarray) -> np.ndarray:
    """True where ink lies: dense, even, and of another colour than the tissue, or very dense. (h, w) bool.

    Args:
        density: optical density (h, w, 3). mpp: its µm per pixel. fit: False where not to look.
    """
    mean, strongest = average(density), highest(density)
    dense = (strongest > PEN_DENSITY) & fit
    if not dense.any():
        return dense
    width = max(3, round(27 / mpp) | 1)
    level = mean_around(mean, width)
    spread = np.sqrt(np.maximum(mean_around(mean * mean, width) - level * level, 0))
    even = dense & (spread < EVEN * level)
    if not even.any():
        return even
    core = even & ((_angles(density, fit & ~even) > PEN_ANGLE) | (strongest > VERY_DENSE))
    core = without_small(opened(core, max(3, round(16 / mpp) | 1)), PEN_AREA_UM2 / mpp**2, diagonal=True)
    return grow(core, width // 2 + max(1, round(8 / mpp))) & fit


def _angles(density: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Angle in degrees between the colour of each pixel and the usual colour of the stained ones."""
    stained = tissue & (highest(density) > 0.08)
    if stained.sum() < 50:
        return np.full(density.shape[:2], 90.0)
    usual = _medians(density[stained])
    usual = usual / max(float(np.linalg.norm(usual)), 1e-6)
    length = np.maximum(np.sqrt(density[..., 0] ** 2 + density[..., 1] ** 2 + density[..., 2] ** 2), 1e-6)
    return np.asarray(np.degrees(np.arccos(np.clip(density @ usual / length, -1, 1))))


def _medians(values: np.ndarray) -> np.ndarray:
    """Median of each column of (n, d), n at least 1. As np.median, which loads numpy.ma at its first call: on a small
    slide that took as long as reading it."""
    half = len(values) // 2
    if len(values) % 2:
        return np.asarray(np.partition(values, half, axis=0)[half])
    return np.asarray(np.partition(values, (half - 1, half), axis=0)[half - 1 : half + 1].mean(axis=0))


def bubbles(density: np.ndarray, mpp: float, fit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Air bubbles with what they enclose, and all thin grey lines (rims of bubbles, hairs): two (h, w) bool masks."""
    mean = average(density)
    grey = (mean > 0.12) & (highest(density) - lowest(density) < GREY * mean) & fit
    inside, lines = np.zeros_like(grey), np.zeros_like(grey)
    if not grey.any():
        return inside, lines
    labels, table = parts(close(grey, 2 * max(1, round(20 / mpp)) + 1), diagonal=True)
    for number, (left, top, width, height, _) in enumerate(table.tolist()):
        if number == 0 or np.hypot(width, height) * mpp < 150:
            continue
        box = np.s_[top : top + height, left : left + width]
        part = labels[box] == number
        if thickness(part) * mpp > 70:
            continue
        lines[box] |= part
        whole = filled(part)
        if whole.sum() > 3 * part.sum():
            inside[box] |= whole
    return inside, lines
