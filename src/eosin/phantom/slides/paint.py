"""Pixels of any block of a phantom slide: materials under the plan's masks, then ink, bubbles, dust and borders.

Masks are soft and slow, so they are computed at every eighth pixel and interpolated; a block that lies wholly in one
material is copied from its page.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from eosin.phantom.slides.pages import FAT, GLASS, Pages
from eosin.phantom.slides.plan import INKS, SlidePlan, Stroke, stroke_distance
from eosin.phantom.tiles.noise import F32, F64
from eosin.phantom.tiles.scenes import NORMAL

COARSE = 8
_TISSUE_SOFT_UM, _LESION_SOFT_UM, _INK_SOFT_UM = 6.0, 12.0, 25.0


class Painter:
    """Paints blocks of one slide. Called from several threads."""

    def __init__(self, plan: SlidePlan, pages: Pages, mpp: float) -> None:
        self._plan, self._mpp = plan, mpp
        self._pages = pages.faded(plan.faint) if plan.faint != 1.0 else pages

    def block(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Pixels of a box of level 0: uint8 (height, width, 3)."""
        grid = _Grid(x, y, width, height, self._mpp)
        picture = self._tissue(grid)
        for stroke in self._plan.strokes:
            picture = _inked(picture, grid, stroke)
        for disc in self._plan.bubbles:
            picture = _bubbled(picture, grid, disc.x, disc.y, disc.radius_um)
        for disc in self._plan.dust:
            picture = _dusty(picture, grid, disc.x, disc.y, disc.radius_um)
        return self._bordered(picture, grid)

    def _tissue(self, grid: _Grid) -> np.ndarray:
        plan = self._plan
        inside = grid.shares(plan.tissue(grid.xs, grid.ys), _TISSUE_SOFT_UM)
        layers: list[tuple[str, F32 | float]] = [(GLASS, 1.0)]
        if not isinstance(inside, float) or inside > 0:
            layers.append((NORMAL, inside))
            if plan.own_scenes:
                return self._fat(self._own_lesions(self._stacked(layers, grid), grid), inside, grid)
            for name, distance in ((plan.case.diagnosis, plan.lesion), (FAT, plan.fat)):
                if (name == FAT and plan.fat_spots) or (name != FAT and plan.lesions):
                    share = grid.shares(distance(grid.xs, grid.ys), _LESION_SOFT_UM)
                    layers.append((name, share * inside if not isinstance(inside, float) or inside < 1 else share))
        return self._stacked(layers, grid)

    def _own_lesions(self, picture: np.ndarray, grid: _Grid) -> np.ndarray:
        """Lesions that have scenes of their own, each painted in its own box."""
        for scene in self._pages.lesions:
            side = scene.picture.shape[0]
            x0, y0 = max(grid.x, scene.x), max(grid.y, scene.y)
            x1, y1 = min(grid.x + grid.width, scene.x + side), min(grid.y + grid.height, scene.y + side)
            if x0 >= x1 or y0 >= y1:
                continue
            part = _Grid(x0, y0, x1 - x0, y1 - y0, self._mpp)
            share = part.shares(self._plan.one_lesion(scene.number, part.xs, part.ys), _LESION_SOFT_UM)
            weight = np.broadcast_to(np.asarray(share, dtype=np.float32), (part.height, part.width))
            rows, cols = slice(y0 - grid.y, y1 - grid.y), slice(x0 - grid.x, x1 - grid.x)
            over = scene.picture[y0 - scene.y : y1 - scene.y, x0 - scene.x : x1 - scene.x]
            picture[rows, cols] = _mixed(picture[rows, cols], over, weight)
        return picture

    def _fat(self, picture: np.ndarray, inside: F32 | float, grid: _Grid) -> np.ndarray:
        if not self._plan.fat_spots:
            return picture
        share = grid.shares(self._plan.fat(grid.xs, grid.ys), _LESION_SOFT_UM)
        if isinstance(share, float) and share <= 0:
            return picture
        weight = np.broadcast_to(np.asarray(share * inside, dtype=np.float32), picture.shape[:2])
        return _mixed(picture, self._pages.cut(FAT, grid.x, grid.y, grid.width, grid.height), weight)

    def _stacked(self, layers: list[tuple[str, F32 | float]], grid: _Grid) -> np.ndarray:
        """Each layer over those before it, where its share says so."""
        whole = [i for i, (_, share) in enumerate(layers) if isinstance(share, float) and share >= 1]
        picture: np.ndarray | None = None
        for name, share in layers[whole[-1] :]:
            if isinstance(share, float) and share <= 0:
                continue
            page = self._pages.cut(name, grid.x, grid.y, grid.width, grid.height)
            picture = page if picture is None or isinstance(share, float) else _mixed(picture, page, share)
        assert picture is not None
        return np.array(picture, order="C") if self._plan.own_scenes else np.ascontiguousarray(picture)

    def _bordered(self, picture: np.ndarray, grid: _Grid) -> np.ndarray:
        if not any(self._plan.border_um):
            return picture
        black = grid.shares(self._plan.border(grid.xs, grid.ys), 2 * self._mpp)
        if isinstance(black, float):
            return picture if black <= 0 else np.full_like(picture, 8)
        return _mixed(picture, np.full_like(picture, 8), black)


class _Grid:
    """A block and the coarse grid on which its masks are computed; the grid reaches one step beyond each side."""

    def __init__(self, x: int, y: int, width: int, height: int, mpp: float) -> None:
        self.x, self.y, self.width, self.height, self.mpp = x, y, width, height, mpp
        self.columns, self.rows = -(-width // COARSE) + 2, -(-height // COARSE) + 2
        self.xs: F64 = np.asarray((x + (np.arange(self.columns) - 0.5) * COARSE) * mpp, dtype=np.float64)
        self.ys: F64 = np.asarray((y + (np.arange(self.rows) - 0.5) * COARSE) * mpp, dtype=np.float64)

    def shares(self, distance: F32, soft_um: float) -> F32 | float:
        """0..1 for each pixel from a coarse signed distance; a plain 0.0 or 1.0 where the block is wholly out or in."""
        margin = soft_um / 2 + COARSE * self.mpp
        low, high = float(distance.min()), float(distance.max())
        if high < -margin:
            return 0.0
        if low > margin:
            return 1.0
        return np.clip(self.fine(distance) / np.float32(soft_um) + np.float32(0.5), 0, 1)

    def fine(self, coarse: F32) -> F32:
        """A coarse field at every pixel, by linear interpolation."""
        image = Image.fromarray(np.ascontiguousarray(coarse, dtype=np.float32))
        full = image.resize((self.columns * COARSE, self.rows * COARSE), Image.Resampling.BILINEAR)
        return np.asarray(full, dtype=np.float32)[COARSE : COARSE + self.height, COARSE : COARSE + self.width]

    def near(self, x_um: float, y_um: float, reach_um: float) -> bool:
        """Whether a round thing can touch the block."""
        x, y = x_um / self.mpp, y_um / self.mpp
        reach = reach_um / self.mpp
        return self.x - reach < x < self.x + self.width + reach and self.y - reach < y < self.y + self.height + reach

    def far(self, x_um: float, y_um: float) -> F32:
        """Distance in µm of every pixel to a point."""
        xs = (self.x + np.arange(self.width, dtype=np.float32) + 0.5) * self.mpp - x_um
        ys = (self.y + np.arange(self.height, dtype=np.float32) + 0.5) * self.mpp - y_um
        return np.asarray(np.hypot(xs[None, :], ys[:, None]), dtype=np.float32)


def _mixed(under: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`over` where share is 1, `under` where it is 0: in whole numbers, rounded."""
    weight = np.asarray(share * 256 + 0.5).astype(np.int32)[..., None]
    summed: np.ndarray = under * (256 - weight) + over * weight + 128
    return np.right_shift(summed, 8).astype(np.uint8)


def _inked(picture: np.ndarray, grid: _Grid, stroke: Stroke) -> np.ndarray:
    share = grid.shares(stroke_distance(stroke, grid.xs, grid.ys), _INK_SOFT_UM)
    if isinstance(share, float) and share <= 0:
        return picture
    light = np.asarray(INKS[stroke.ink], dtype=np.float32) / 255
    weight = np.broadcast_to(np.asarray(share, dtype=np.float32), picture.shape[:2])[..., None]
    return (picture * (1 - weight * (1 - light))).round().astype(np.uint8)


def _bubbled(picture: np.ndarray, grid: _Grid, x: float, y: float, radius_um: float) -> np.ndarray:
    """A dark grey rim, a bright line inside it, and a haze over what lies within."""
    if not grid.near(x, y, radius_um + 40):
        return picture
    depth = radius_um - grid.far(x, y)
    rim = np.exp(-((depth / 14) ** 2))
    shine = np.exp(-(((depth - 34) / 9) ** 2))
    haze = np.where(depth > 0, np.float32(0.12), np.float32(0))
    light = (1 - 0.72 * rim)[..., None] * picture
    light += ((0.25 * shine + haze)[..., None]) * (235 - light)
    return np.clip(light.round(), 0, 255).astype(np.uint8)


def _dusty(picture: np.ndarray, grid: _Grid, x: float, y: float, radius_um: float) -> np.ndarray:
    if not grid.near(x, y, radius_um + 4):
        return picture
    share = np.clip((radius_um - grid.far(x, y)) / 2 + 0.5, 0, 1)
    return _mixed(picture, np.full_like(picture, 60), share)
