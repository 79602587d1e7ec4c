"""Where there is tissue: optical density at low power with an adaptive threshold, then parts, holes, ink and borders.

The threshold is Otsu's (1979) on the density of stain, held inside a range in which glass is glass and the faintest
stain is tissue. Fat is kept: its empty cells are holes in a net of thin walls, and small holes are filled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.slide import Slide
from eosin.slides.tissue.ink import black_border, bubbles, pen_marks, soft_edges
from eosin.slides.tissue.morphology import (
    box_mean,
    box_min,
    closing,
    connected_components,
    dilate,
    gaussian_blur,
    highest,
    mean_colour,
    opening,
    quantiles,
    remove_small_objects,
)

FAT_DENSITY = 0.004  # the faintest wall of a fat cell that is looked for
MAX_DAMAGED = 0.5
SMALLEST_PX = 512  # small slides are looked at more closely, until their picture is this long
FAT_DEPTH_UM = 40.0
FAT_WALLS = 0.12  # share of walls in fat

Ring = np.ndarray
TissueModel = Callable[[np.ndarray, float], np.ndarray]


class TissueSettings(BaseModel):
    """How tissue is found. Lengths are in µm, so that they mean the same at every scale.

    Attributes:
        mpp: microns per pixel of the picture that is looked at; small slides are looked at more closely.
        max_px: longer side of that picture at most, which makes giant slides coarser.
        min_area_um2: smaller parts are dirt. max_hole_um2: smaller holes (fat cells, lumens) are filled.
        close_um: gaps narrower than this are closed. smooth_um: outline is smoothed over this length.
        density_range: the threshold of optical density stays inside.
        keep_fat: look for nets of thin walls. fat_cell_um: widest cell of such a net.
        keep_pen: count ink as tissue. keep_border: count black borders as tissue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mpp: float = Field(default=8.0, gt=0.2, le=64)
    max_px: int = Field(default=6000, ge=64, le=16_000)
    min_area_um2: float = Field(default=20_000.0, ge=0)
    max_hole_um2: float = Field(default=15_000.0, ge=0)
    close_um: float = Field(default=24.0, ge=0)
    smooth_um: float = Field(default=8.0, ge=0)
    density_range: tuple[float, float] = (0.02, 0.10)
    keep_fat: bool = True
    fat_cell_um: float = Field(default=90.0, gt=0)
    keep_pen: bool = False
    keep_border: bool = False


@dataclass(frozen=True)
class Tissue:
    """A tissue mask and what was seen while it was made.

    Attributes:
        mask: True where there is tissue, (height, width) at `mpp` µm a pixel.
        mpp: of the mask. size_px_level0: width, height of the slide.
        mpp_level0: of the slide.
        pen, bubble, border: masks of the same shape, True where ink, an air bubble, a black border was seen.
        damaged: True where the slide cannot be decoded. Such parts count as tissue where tissue surrounds them, so
            that their tiles are listed and fail by name.
        glass: colour of empty glass, 0..255. threshold: of optical density.
    """

    mask: np.ndarray
    mpp: float
    size_px_level0: tuple[int, int]
    mpp_level0: float
    pen: np.ndarray
    bubble: np.ndarray
    border: np.ndarray
    damaged: np.ndarray
    glass: tuple[float, float, float]
    threshold: float

    @property
    def scale(self) -> tuple[float, float]:
        """Level-0 pixels a mask pixel, along x and y."""
        height, width = self.mask.shape
        return self.size_px_level0[0] / width, self.size_px_level0[1] / height

    @property
    def area_um2(self) -> float:
        """Area of the tissue."""
        sx, sy = self.scale
        return float(self.mask.sum()) * sx * sy * self.mpp_level0**2

    @property
    def share(self) -> float:
        """Tissue's share of the slide."""
        return float(self.mask.mean())

    def polygons(self) -> list[list[Ring]]:
        """Outlines in level-0 pixels: a list of parts, each an outer ring and its holes, rings (n, 2), closed."""
        return contours(self.mask, self.scale, self.size_px_level0)


def tissue_mask(slide: Slide, settings: TissueSettings | None = None, model: TissueModel | None = None) -> Tissue:
    """Find the tissue of a slide.

    Args:
        model: instead of the density threshold: pixels (h, w, 3) uint8 and their µm per pixel in, a mask or
            probabilities (h, w) out. Small parts and holes are treated as ever.

    Raises:
        SlideError: the scale is unknown, most of the slide cannot be decoded, or the model's mask has another shape.
    """
    settings = settings or TissueSettings()
    pixels, damaged, mpp = overview(slide, settings)
    if damaged.mean() > MAX_DAMAGED:
        raise SlideError("slide damaged", found=f"{100 * damaged.mean():.0f} % of it cannot be decoded",
                         where=slide.path)  # fmt: skip
    glass = glass_colour(pixels[~damaged][None] if damaged.any() else pixels)
    if damaged.any():
        pixels[damaged] = np.asarray(glass).round()
    density = optical_density(pixels, glass)
    border = black_border(pixels)
    pen = pen_marks(density, mpp, ~border)
    threshold = 0.0
    if model is None:
        threshold = density_threshold(density, pen | border, settings.density_range)
        raw = gaussian_blur(highest(density), settings.smooth_um / 2 / mpp) > threshold
    else:
        raw = np.asarray(model(pixels, mpp))
        if raw.shape != pixels.shape[:2]:
            raise SlideError("tissue model gave a mask of another shape", expected=str(pixels.shape[:2]),
                             found=str(raw.shape), where=slide.path)  # fmt: skip
        raw = raw > 0.5
    bubble, lines, specks = bubbles(density, mpp, ~(pen | border))
    never = (border & (not settings.keep_border)) | (pen & (not settings.keep_pen))
    lines, specks = _beside(raw, lines, specks, mpp)
    if model is None and settings.keep_fat:
        unfit = never | lines | specks
        fat = fat_cells(density, raw & ~unfit, unfit, mpp, settings)
        raw |= fat
        if fat.any():
            lines, specks = _beside(raw, lines, specks, mpp)
    mask = tidy(raw & ~(never | lines | specks), mpp, settings, pen & never, (lines & bubble) | (border & never))
    mask |= damaged & _amid(mask & ~damaged, damaged, mpp, 400.0)
    return Tissue(mask, mpp, slide.size_px, slide.mpp, pen, bubble, border, damaged, glass, threshold)


def _beside(tissue: np.ndarray, lines: np.ndarray, specks: np.ndarray, mpp: float) -> tuple[np.ndarray, np.ndarray]:
    """What of lines and specks does not lie amid tissue."""
    dirt = lines | specks
    if not dirt.any():
        return lines, specks
    outside = ~_amid(tissue & ~dirt, dirt, mpp)
    return lines & outside, specks & outside


def _amid(tissue: np.ndarray, lines: np.ndarray, mpp: float, around_um: float = 140.0) -> np.ndarray:
    """True where what surrounds a line (or a damaged part) is mostly tissue, so that it lies on tissue."""
    if not lines.any():
        return lines
    width = max(3, round(around_um / mpp) | 1)
    return box_mean(tissue, width) > 0.5 * np.maximum(box_mean(~lines, width), 1e-6)


def overview(slide: Slide, settings: TissueSettings) -> tuple[np.ndarray, np.ndarray, float]:
    """The picture that tissue is looked for in, uint8 (height, width, 3), where it is damaged, its µm per pixel."""
    width, height = slide.size_px
    longest_um = max(width, height) * slide.mpp
    mpp = max(min(settings.mpp, longest_um / SMALLEST_PX), longest_um / settings.max_px, slide.mpp)
    out_px = max(1, round(width * slide.mpp / mpp)), max(1, round(height * slide.mpp / mpp))
    pixels, damaged = slide.overview(out_px)
    return pixels.copy() if damaged.any() else pixels, damaged, mpp


def glass_colour(pixels: np.ndarray) -> tuple[float, float, float]:
    """Colour of empty glass: the most frequent of the brightest greys; near white where a slide shows no glass."""
    thin = pixels[:: max(1, pixels.shape[0] // 1500), :: max(1, pixels.shape[1] // 1500)]
    bright = (thin[..., 0].astype(np.int16) + thin[..., 1] + thin[..., 2]) // 3
    counts = np.bincount(bright.ravel(), minlength=256)
    top = int(np.searchsorted(np.cumsum(counts), 0.998 * bright.size))
    low = max(0, top - 40)
    smooth = np.convolve(counts[low : top + 1], np.ones(5), "same")
    mode = low + int(np.argmax(smooth))
    if mode < 170:
        return 240.0, 240.0, 240.0
    colour = mean_colour(thin, np.abs(bright - mode) <= 3)
    if max(colour) - min(colour) > 45:  # the brightest thing is stained: there is no glass in the picture
        return (max(float(top), 235.0),) * 3
    return colour


def optical_density(pixels: np.ndarray, glass: tuple[float, float, float]) -> np.ndarray:
    """-log10(I / glass), never negative: float32 (height, width, 3)."""
    levels = np.arange(256, dtype=np.float64)
    table = np.stack([np.maximum(-np.log10(np.maximum(levels, 1) / max(g, 1.0)), 0) for g in glass], axis=-1)
    return np.stack([table.astype(np.float32)[:, c][pixels[..., c]] for c in range(3)], axis=-1)


def density_threshold(density: np.ndarray, unfit: np.ndarray, limits: tuple[float, float]) -> float:
    """Otsu's threshold of the strongest channel, inside `limits` and above the unrest of the glass."""
    values = highest(density)[~unfit]
    if values.size < 64:
        return limits[0]
    low = values[values <= limits[1]]
    quiet = low[low <= quantiles(low, 0.6)[0]] if low.size > 64 else low
    unrest = quantiles(quiet, 0.95)[0] if quiet.size else 0.0
    split = otsu(np.sqrt(np.minimum(values, 1.0))) ** 2
    return float(np.clip(min(split, max(0.5 * split, 2.5 * unrest)), *limits))


def fat_cells(
    density: np.ndarray, tissue: np.ndarray, unfit: np.ndarray, mpp: float, settings: TissueSettings
) -> np.ndarray:
    """True in nets of thin walls round empty cells, where density itself is next to nothing. (h, w) bool.

    A wall is darker than the lightest of its surroundings by more than the unrest of the glass, and hangs together
    with others. Closing by the width of a cell fills the cells. What that adds to the tissue counts where it is wider
    than half a cell, as large as two, and has walls inside, where it is deep enough for half a cell.
    """
    dark = np.minimum(highest(density), settings.density_range[1])
    width = max(3, round(2 * settings.fat_cell_um / mpp) | 1)
    local = dark - box_min(dark, width)
    empty = local[(box_mean(dark, width) < 0.5 * settings.density_range[0]) & ~unfit]
    usual, high = quantiles(empty, 0.5, 0.95) if empty.size >= 64 else (0.0, FAT_DENSITY)
    cell_px = settings.fat_cell_um / mpp
    thin = (local > max(FAT_DENSITY, usual + 2 * (high - usual))) & ~unfit
    walls = remove_small_objects(thin | tissue, cell_px**2 / 3, diagonal=True)
    body = opening(closing(tissue, settings.close_um / mpp), cell_px / 3)
    added = opening(closing(walls, cell_px) & ~dilate(body, 2) & ~unfit, cell_px / 2)
    labels, table = connected_components(added)
    if len(table) == 1:
        return added
    deep = ~dilate(body | unfit, round(FAT_DEPTH_UM / mpp))  # beside tissue and ink, compression rings like thin walls
    area = np.bincount(labels[deep], minlength=len(table))
    inner = np.bincount(labels[deep & thin], minlength=len(table))
    good = (table[:, -1] >= 2 * cell_px**2) & (area >= cell_px**2 / 2) & (inner >= FAT_WALLS * area)
    good[0] = False
    return dilate(good[labels], 3) & ~unfit


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """The value that divides into two groups with the smallest variance inside them (Otsu 1979)."""
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return float(centres[int(np.argmax(np.nan_to_num(between)))])


def tidy(raw: np.ndarray, mpp: float, settings: TissueSettings, pen: np.ndarray, rims: np.ndarray) -> np.ndarray:
    """Close gaps, leave out small parts and the edges of ink and of rims (of bubbles, of the scan), fill small holes.

    A part that ink cuts off the tissue is not small, and glass between ink and tissue is no hole.
    """
    mask = closing(raw, settings.close_um / mpp) & ~pen
    mask &= ~soft_edges(mask, pen | rims, mpp)
    mask = remove_small_objects(mask | pen, settings.min_area_um2 / mpp**2) & ~pen
    return ~remove_small_objects(~mask, settings.max_hole_um2 / mpp**2, at_border=True) & ~pen


def contours(mask: np.ndarray, scale: tuple[float, float], size_px: tuple[int, int]) -> list[list[Ring]]:
    """Rings of a mask in level-0 pixels: for each part the outer ring, then its holes. Deterministic order."""
    from contourpy import FillType, contour_generator

    padded = np.pad(mask.astype(np.float32), 1)
    made = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    found: list[list[Ring]] = []
    for points, offsets in zip(made[0], made[1], strict=True):
        place = np.clip((np.asarray(points) - 0.5) * np.asarray(scale), 0, np.asarray(size_px))
        rings = [place[a:b].round(1) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        rings = [r for r in rings if len(r) >= 4 and abs(signed_area(r)) > 0]
        if rings:
            found.append(rings)
    return sorted(found, key=lambda rings: (-abs(signed_area(rings[0])), *rings[0][0].tolist()))


def signed_area(ring: Ring) -> float:
    """Area inside a closed ring; its sign says which way round it runs."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
