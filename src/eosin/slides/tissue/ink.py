"""What lies on a slide beside tissue: felt pen, black borders, air bubbles, hairs. All at low power."""

from __future__ import annotations

import numpy as np

from eosin.slides.tissue.morphology import (
    average,
    box_mean,
    closing,
    connected_components,
    dilate,
    fill_holes,
    highest,
    lowest,
    opening,
    thickness,
)

BLACK_LEVEL = 45
PEN_DENSITY = 0.45  # in the strongest channel
VERY_DENSE = 0.75
EVEN_UM = 16.0  # a stroke of 50 µm with soft edges still has a core that is wider
EVEN = 0.13  # standard deviation over mean, over that width: ink is even, tissue at low power is so in specks only
PEN_ANGLE = 8.0  # degrees between the colour of ink and the colour of this slide's tissue
PEN_AREA_UM2, PEN_LENGTH_UM = 3000.0, 200.0  # even specks of tissue are shorter
PEN_EDGE = 0.2  # of the soft edge of a stroke, what is denser than this is ink
EDGE_UM = 24.0  # what is narrower and runs along ink is its soft edge
GREY = 0.15
SPECK_DENSITY, SPECK_UM = 0.3, 20.0  # darker and wider than a nucleus at low power


def black_border(pixels: np.ndarray) -> np.ndarray:
    """True where black reaches in from a side of the picture: what the scanner did not see. (h, w) bool.

    Only what is black along a tenth of a side at least: dark nuclei that touch the side of a small crop are no border.
    """
    black = highest(pixels) < BLACK_LEVEL
    if not black.any():
        return black
    labels, table = connected_components(black)
    along = np.zeros(len(table))
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        along = np.maximum(along, np.bincount(side, minlength=len(table)) / len(side))
    along[0] = 0
    border = (along >= 0.1)[labels]
    return dilate(border, 2) if border.any() else border


def pen_marks(density: np.ndarray, mpp: float, fit: np.ndarray) -> np.ndarray:
    """True where ink lies: dense, even, and of another colour than the tissue, or very dense. (h, w) bool.

    Args:
        density: optical density (h, w, 3). mpp: its µm per pixel. fit: False where not to look.
    """
    mean, strongest = average(density), highest(density)
    dense = (strongest > PEN_DENSITY) & fit
    if not dense.any():
        return dense
    width = max(3, round(EVEN_UM / mpp) | 1)
    level = box_mean(mean, width)
    spread = np.sqrt(np.maximum(box_mean(mean * mean, width) - level * level, 0))
    even = dense & (spread < EVEN * level)
    solid = max(3, round(EVEN_UM / 2 / mpp) | 1)
    core = _marks(opening(even, solid), mpp)
    if not core.any():  # colours, which take longer, could only make it smaller
        return core
    core[core] = (_angles(density, fit & ~even, core) > PEN_ANGLE) | (strongest[core] > VERY_DENSE)
    core = _marks(opening(core, solid), mpp)
    return dilate(core, width // 2 + max(1, round(12 / mpp))) & (strongest > PEN_EDGE) & fit


def _marks(core: np.ndarray, mpp: float) -> np.ndarray:
    """The parts of a mask that are as large and as long as what is drawn by hand."""
    labels, table = connected_components(core, diagonal=True)
    long = np.hypot(table[:, 2], table[:, 3]) * mpp >= PEN_LENGTH_UM
    kept = long & (table[:, 4] * mpp**2 >= PEN_AREA_UM2)
    kept[0] = False
    return np.asarray(kept[labels])


def soft_edges(mask: np.ndarray, dirt: np.ndarray, mpp: float) -> np.ndarray:
    """The slivers of a mask that run along ink or a rim: their soft edges, no tissue. (h, w) bool."""
    if not dirt.any():
        return dirt
    near = dilate(dirt, max(1, round(EDGE_UM / mpp)))
    return mask & near & ~opening(mask & ~dirt, EDGE_UM / mpp)


def _angles(density: np.ndarray, tissue: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Angle in degrees between the usual colour of the stained pixels of `tissue` and the pixels of `where`: (n,)."""
    stained = tissue & (highest(density) > 0.08)
    colours = density[where]
    if stained.sum() < 50:
        return np.full(len(colours), 90.0)
    usual = _medians(density[stained])
    usual = usual / max(float(np.linalg.norm(usual)), 1e-6)
    length = np.maximum(np.linalg.norm(colours, axis=1), 1e-6)
    return np.asarray(np.degrees(np.arccos(np.clip(colours @ usual / length, -1, 1))))


def _medians(values: np.ndarray) -> np.ndarray:
    """Median of each column of (n, d), n at least 1. As np.median, which loads numpy.ma at its first call: on a small
    slide that took as long as reading it."""
    half = len(values) // 2
    if len(values) % 2:
        return np.asarray(np.partition(values, half, axis=0)[half])
    return np.asarray(np.partition(values, (half - 1, half), axis=0)[half - 1 : half + 1].mean(axis=0))


def bubbles(density: np.ndarray, mpp: float, fit: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Air bubbles with what they enclose; thin grey lines (rims of bubbles, hairs); dark grey specks that are larger
    than a nucleus (dust). Three (h, w) bool masks.
    """
    mean = average(density)
    grey = (mean > 0.12) & (highest(density) - lowest(density) < GREY * mean) & fit
    inside, lines = np.zeros_like(grey), np.zeros_like(grey)
    if not grey.any():
        return inside, lines, lines
    labels, table = connected_components(closing(grey, 2 * max(1, round(20 / mpp)) + 1), diagonal=True)
    large = np.hypot(table[:, 2], table[:, 3]) * mpp >= 150
    large[0] = False
    for number in np.flatnonzero(large):
        left, top, width, height, _ = table[number].tolist()
        box = np.s_[top : top + height, left : left + width]
        part = labels[box] == number
        if thickness(part) * mpp > 70:
            continue
        lines[box] |= part
        whole = fill_holes(part)
        if whole.sum() > 3 * part.sum():
            inside[box] |= whole
    specks = opening(grey & (mean > SPECK_DENSITY) & ~large[labels], max(3, round(SPECK_UM / mpp) | 1))
    return inside, lines, dilate(specks, max(1, round(8 / mpp))) & fit if specks.any() else specks
