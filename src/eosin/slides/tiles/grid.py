"""Cut a slide into tiles of equal size in microns, and choose among them.

Rules: the grid starts at the upper left corner of level 0; tile (i, j) starts at round(i stride), round(j stride) in
level-0 pixels, so that the error never adds up; order is row by row. With `edge: inside` no tile reaches outside the
slide; with `edge: pad` what lies outside is white and counts as glass.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from eosin.core.errors import EosinError
from eosin.core.store.artifacts import write_text_atomic
from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.levels import check_levels
from eosin.slides.open.resample import level_for
from eosin.slides.open.slide import Slide
from eosin.slides.tiles.tiles import FLAGS, Tiles
from eosin.slides.tissue.segmentation import Tissue

_MARKED = 0.05  # a tile with more than this share of ink, bubble or black border has the flag


class TileGrid(BaseModel):
    """How a slide is cut.

    Attributes:
        tile_px, mpp: side of a tile as it is read, and its µm per pixel.
        tile_um: side in µm instead of `mpp`: then mpp = tile_um / tile_px.
        overlap: share of the side that neighbours have in common.
        min_tissue: smallest share of tissue.
        edge: inside, or pad.
        mpp_tolerance: a level whose µm per pixel is within this share of `mpp` is read as it is, and the tile's
            true µm per pixel is recorded. 0: always resample.
        max_upsample: a slide that is coarser than the tiles by more than this factor is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tile_px: int = Field(default=256, ge=8, le=8192)
    mpp: float = Field(default=0.5, gt=0, lt=1000)
    tile_um: float | None = Field(default=None, gt=0)
    overlap: float = Field(default=0.0, ge=0, lt=1)
    min_tissue: float = Field(default=0.25, ge=0, le=1)
    edge: Literal["inside", "pad"] = "inside"
    mpp_tolerance: float = Field(default=0.01, ge=0, le=0.05)
    max_upsample: float = Field(default=1.1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _one_size(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tile_um") is not None and data.get("mpp") is not None:
            raise ValueError("give tile_um or mpp, not both")
        return data

    @property
    def asked_mpp(self) -> float:
        """Microns per pixel of a tile as asked."""
        return self.tile_um / self.tile_px if self.tile_um else self.mpp


def tile_grid(slide: Slide, tissue: Tissue, settings: TileGrid | None = None) -> Tiles:
    """The tiles of a slide that hold enough tissue.

    Raises:
        SlideError: the slide's scale is unknown, it is coarser than the tiles, or its levels show different pictures.
    """
    settings = settings or TileGrid()
    side, mpp, step = _sizes(slide, settings)
    downs = slide.level_downsamples
    check_levels(slide, [level_for(downs, side / settings.tile_px), level_for(downs, min(tissue.scale))])
    corners = [_starts(length, side, step, settings.edge) for length in slide.size_px]
    grid_x, grid_y = np.meshgrid(*corners)
    coords = np.stack([grid_x.ravel(), grid_y.ravel()], axis=-1).astype(np.int64).reshape(-1, 2)
    share = _shares(tissue.mask, coords, side, tissue.scale)
    keep = share >= max(settings.min_tissue, 1e-9) if settings.min_tissue > 0 else np.ones(len(coords), bool)
    coords, share = coords[keep], share[keep]
    flags = np.zeros(len(coords), dtype=np.uint8)
    for name in ("pen", "bubble", "border"):
        mask = getattr(tissue, name)
        if mask.any():
            flags[_shares(mask, coords, side, tissue.scale) > _MARKED] |= FLAGS[name]
    flags[((coords + side) > np.asarray(slide.size_px)).any(-1)] |= FLAGS["outside"]
    return Tiles(coords, side, settings.tile_px, mpp, slide.mpp, share.astype(np.float32), flags)


def _sizes(slide: Slide, settings: TileGrid) -> tuple[int, float, float]:
    """Side in level-0 pixels, the tile's exact µm per pixel, and the stride in level-0 pixels."""
    asked = settings.asked_mpp
    if slide.mpp > asked * settings.max_upsample:
        raise SlideError("slide coarser than the tiles", expected=f"at most {asked:g} µm per pixel",
                         found=f"{slide.mpp:g} µm per pixel", where=slide.path,
                         next_step="ask for coarser tiles (--tile-mpp), or allow it (max_upsample)")  # fmt: skip
    for down in slide.level_downsamples:
        if abs(down * slide.mpp / asked - 1) <= settings.mpp_tolerance:
            stride = max(1, round(settings.tile_px * (1 - settings.overlap)))
            return round(settings.tile_px * down), down * slide.mpp, stride * down
    side = max(1, round(settings.tile_px * asked / slide.mpp))
    stride_level0 = settings.tile_px * asked * (1 - settings.overlap) / slide.mpp
    return side, side * slide.mpp / settings.tile_px, max(1.0, stride_level0)


def _starts(length: int, side: int, step: float, edge: str) -> np.ndarray:
    last = length - side if edge == "inside" else length - 1
    if last < 0:
        return np.zeros(0, dtype=np.int64)
    starts = np.round(np.arange(int(last / step) + 2) * step).astype(np.int64)
    return starts[starts <= last]


def _shares(mask: np.ndarray, coords: np.ndarray, side: int, scale: tuple[float, float]) -> np.ndarray:
    """Share of each tile that a mask covers; parts of mask pixels count by their area. (N,)"""
    if not len(coords):
        return np.zeros(0)
    height, width = mask.shape
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = np.cumsum(np.cumsum(mask, 0, dtype=np.float64), 1)
    x0, y0 = coords[:, 0] / scale[0], coords[:, 1] / scale[1]
    x1, y1 = (coords[:, 0] + side) / scale[0], (coords[:, 1] + side) / scale[1]
    covered = _at(total, x1, y1) - _at(total, x0, y1) - _at(total, x1, y0) + _at(total, x0, y0)
    return np.asarray(np.clip(covered * scale[0] * scale[1] / side**2, 0, 1))


def _at(total: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A summed table between its points, by bilinear interpolation, which is exact for pixels of even value."""
    x, y = np.clip(x, 0, total.shape[1] - 1), np.clip(y, 0, total.shape[0] - 1)
    left, top = np.minimum(x.astype(int), total.shape[1] - 2), np.minimum(y.astype(int), total.shape[0] - 2)
    u, v = x - left, y - top
    upper = total[top, left] * (1 - u) + total[top, left + 1] * u
    lower = total[top + 1, left] * (1 - u) + total[top + 1, left + 1] * u
    return np.asarray(upper * (1 - v) + lower * v)


def sample_uniform(tiles: Tiles, num: int, seed: int = 0) -> Tiles:
    """`num` tiles at random without repetition, in grid order; all of them where there are no more."""
    if num >= len(tiles):
        return tiles
    return tiles.take(np.random.default_rng(seed).choice(len(tiles), num, replace=False))


def sample_stratified(tiles: Tiles, clusters: np.ndarray, num: int, seed: int = 0) -> Tiles:
    """`num` tiles with an equal share of each cluster; what a small cluster lacks is spread over the others.

    Args:
        clusters: the cluster of each tile, int (N,).
    """
    clusters = np.asarray(clusters)
    if clusters.shape != (len(tiles),):
        raise EosinError("One cluster a tile.", expected=f"({len(tiles)},)", found=str(clusters.shape))
    if num >= len(tiles):
        return tiles
    rng = np.random.default_rng(seed)
    groups = [rng.permutation(np.flatnonzero(clusters == c)) for c in np.unique(clusters)]
    takes = _fair(np.array([len(g) for g in groups]), num)
    return tiles.take(np.concatenate([g[:n] for g, n in zip(groups, takes, strict=True)]))


def _fair(sizes: np.ndarray, num: int) -> np.ndarray:
    """How many to take of each group: equal shares, never more than a group has, `num` in all."""
    takes = np.zeros_like(sizes)
    while takes.sum() < num:
        open_groups = np.flatnonzero(takes < sizes)
        left = num - int(takes.sum())
        share = left // len(open_groups)
        if share == 0:
            takes[open_groups[:left]] += 1
        else:
            takes[open_groups] = np.minimum(sizes[open_groups], takes[open_groups] + share)
    return takes


def colour_clusters(
    picture: np.ndarray, tiles: Tiles, scale: tuple[float, float], num: int, seed: int = 0
) -> np.ndarray:
    """Clusters of tiles by mean and spread of their colour in a low-power picture: int (N,).

    Args:
        picture: uint8 (h, w, 3). scale: level-0 pixels a picture pixel along x and y.
    """
    from sklearn.cluster import KMeans

    if len(tiles) <= num:
        return np.arange(len(tiles))
    rows = []
    for x, y in tiles.coords_level0:
        x0, y0 = int(x / scale[0]), int(y / scale[1])
        x1, y1 = int((x + tiles.side_level0) / scale[0]) + 1, int((y + tiles.side_level0) / scale[1]) + 1
        part = picture[y0:y1, x0:x1].reshape(-1, 3).astype(np.float64)
        rows.append(np.concatenate([part.mean(0), part.std(0)]))
    return np.asarray(KMeans(num, n_init=4, random_state=seed).fit_predict(np.array(rows)))


COLUMNS = ("index", "x_level0", "y_level0", "x_um", "y_um", "tissue", "flags")


def write_table(tiles: Tiles, path: Path) -> None:
    """Tiles as CSV, one line a tile, written whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in _rows(tiles):
        writer.writerow(row)
    write_text_atomic(path, text.getvalue())


def _rows(tiles: Tiles) -> Iterator[list[object]]:
    um = tiles.coords_um
    for i, (x, y) in enumerate(tiles.coords_level0.tolist()):
        yield [i, x, y, f"{um[i, 0]:.3f}", f"{um[i, 1]:.3f}", f"{tiles.tissue[i]:.4f}", " ".join(tiles.flag_names(i))]
