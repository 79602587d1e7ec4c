"""Stamps of single cells: drawn once for every kind, size, shape and angle, then added to a tile by the thousand.

A stamp has up to five planes: `H` haematoxylin, `E` eosin, `R` red-cell haemoglobin, `V` clearing (what a vacuole or a
halo takes away, 0..1) and `M` mucin. Lengths are in µm; angles are in radians, along the longer axis of the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from eosin.phantom.tiles.noise import F32, F64, I64, Window

PLANES = ("H", "E", "R", "V", "M")
_ANGLES = 32


@dataclass(frozen=True)
class CellKind:
    """How one kind of cell is drawn. `half_long_um` and `half_short_um` are ranges of the semi-axes."""

    name: str
    half_long_um: tuple[float, float]
    half_short_um: tuple[float, float]
    dark: tuple[float, float]
    irregular: float = 0.03
    texture: float = 0.15
    rim: float = 0.1
    nucleoli: int = 0
    power: float = 2.0
    reach_um: float = 0.0

    @property
    def radius_um(self) -> float:
        return max(self.half_long_um[1] * 1.25 + 1.0, self.reach_um)


@dataclass(frozen=True)
class _Grid:
    """Rotated coordinates of n stamps: `u` along the cell, `v` across it, each (n, s, s), µm."""

    u: F32
    v: F32
    mpp: float
    rng: np.random.Generator

    @property
    def n(self) -> int:
        return int(self.u.shape[0])

    def draw(self, low: float, high: float) -> F32:
        return self.rng.uniform(low, high, (self.n, 1, 1)).astype(np.float32)

    def noise(self, sigma_um: float) -> F32:
        white = self.rng.standard_normal(self.u.shape).astype(np.float32)
        sigma = max(sigma_um / self.mpp, 0.5)
        field = gaussian_filter(white, (0, sigma, sigma))
        return np.asarray(field / (field.std() + 1e-6), dtype=np.float32)

    def cover(self, distance_um: F32, soft_um: float = 0.7) -> F32:
        """Anti-aliased coverage, 0..1, of the region where the signed distance is positive."""
        width = max(self.mpp, soft_um)
        return np.asarray(np.clip(distance_um / width + 0.5, 0, 1), dtype=np.float32)

    def disc(self, cu: F32 | float, cv: F32 | float, a: F32 | float, b: F32 | float) -> F32:
        """Signed distance (positive inside) to an ellipse at (cu, cv); exact for a circle."""
        r = np.sqrt(((self.u - cu) / a) ** 2 + ((self.v - cv) / b) ** 2)
        return np.asarray((1 - r) * np.minimum(a, b), dtype=np.float32)


Planes = dict[str, F32]


def _nucleus(grid: _Grid, kind: CellKind) -> tuple[F32, F32]:
    """Haematoxylin of a nucleus and its signed distance to the border."""
    a, b = grid.draw(*kind.half_long_um), grid.draw(*kind.half_short_um)
    theta = np.arctan2(grid.v / b, grid.u / a)
    wobble = np.ones_like(theta)
    for order in (2, 3, 5):
        wobble += kind.irregular * grid.draw(0.3, 1.0) * np.cos(order * theta + grid.draw(0, 2 * np.pi))
    p = kind.power
    r = (np.abs(grid.u / a) ** p + np.abs(grid.v / b) ** p) ** (1 / p) / wobble
    distance = ((1 - r) * np.minimum(a, b)).astype(np.float32)
    body = 1 + kind.texture * grid.noise(0.9)
    body += kind.rim * np.exp(-((distance - 0.5) ** 2) / 0.8)
    for _ in range(kind.nucleoli):
        spot = grid.disc(grid.draw(-0.4, 0.4) * a, grid.draw(-0.4, 0.4) * b, 1.1, 1.1)
        body += 0.7 * grid.cover(spot)
    h = grid.draw(*kind.dark) * np.clip(body, 0.3, 2.2) * grid.cover(distance)
    return np.asarray(h, dtype=np.float32), distance


def _plain(grid: _Grid, kind: CellKind) -> Planes:
    return {"H": _nucleus(grid, kind)[0]}


def _plasma(grid: _Grid, kind: CellKind) -> Planes:
    shifted = _Grid(np.asarray(grid.u - 1.6, dtype=np.float32), grid.v, grid.mpp, grid.rng)
    nucleus = _nucleus(shifted, kind)[0]
    cytoplasm = grid.cover(grid.disc(0.0, 0.0, grid.draw(4.6, 5.6), grid.draw(3.4, 4.2)))
    return {"H": nucleus + np.float32(0.18) * cytoplasm, "E": np.asarray(0.22 * cytoplasm, dtype=np.float32)}


def _lobed(grid: _Grid, kind: CellKind, centres: list[tuple[float, float]], lobe_um: float) -> F32:
    h = np.zeros_like(grid.u)
    for cu, cv in centres:
        spot = grid.disc(cu + grid.draw(-0.3, 0.3), cv + grid.draw(-0.3, 0.3), lobe_um, lobe_um * 0.9)
        h = np.maximum(h, grid.cover(spot))
    return np.asarray(h * grid.draw(*kind.dark), dtype=np.float32)


def _neutrophil(grid: _Grid, kind: CellKind) -> Planes:
    h = _lobed(grid, kind, [(-1.9, -0.6), (0.2, 1.4), (1.9, -0.7)], 1.6)
    body = grid.cover(grid.disc(0.0, 0.0, 4.2, 3.9))
    return {"H": h, "E": 0.12 * body, "V": 0.4 * body}


def _eosinophil(grid: _Grid, kind: CellKind) -> Planes:
    h = _lobed(grid, kind, [(-1.7, -0.5), (1.4, 0.5)], 1.8)
    body = grid.cover(grid.disc(0.0, 0.0, 4.4, 4.0)) * (1 + 0.2 * grid.noise(0.6))
    return {"H": h, "R": np.asarray(0.55 * np.clip(body, 0, 1.4), dtype=np.float32)}


def _mitosis(grid: _Grid, kind: CellKind) -> Planes:
    """A third each: metaphase plate, anaphase pair, ragged prometaphase ring; each in a cleared cell body."""
    stage = np.arange(grid.n)[:, None, None] % 3
    rough = 0.5 * grid.noise(0.7)
    plate = grid.disc(0.0, 0.0, grid.draw(4.6, 5.8), grid.draw(1.5, 2.0)) + rough
    gap = grid.draw(2.4, 3.2)
    first, second = (grid.disc(0.0, side * gap, grid.draw(3.8, 4.8), 1.4) for side in (-1, 1))
    pair = np.maximum(first, second) + 0.6 * rough
    radius = np.hypot(grid.u, grid.v)
    ring = 1.5 - np.abs(radius - grid.draw(2.0, 2.8)) + 1.4 * rough
    shape = np.where(stage == 0, plate, np.where(stage == 1, pair, ring)).astype(np.float32)
    halo = grid.cover(grid.disc(0.0, 0.0, grid.draw(7.2, 8.4), grid.draw(6.6, 7.6)), 1.5)
    return {"H": grid.draw(*kind.dark) * grid.cover(shape), "V": 0.75 * halo}


def _debris(grid: _Grid, kind: CellKind) -> Planes:
    h = np.zeros_like(grid.u)
    for _ in range(4):
        size = grid.draw(0.5, 1.5)
        h = np.maximum(h, grid.cover(grid.disc(grid.draw(-4, 4), grid.draw(-4, 4), size, size)))
    return {"H": grid.draw(*kind.dark) * h}


def _ghost(grid: _Grid, kind: CellKind) -> Planes:
    _, distance = _nucleus(grid, kind)
    rim = np.exp(-((distance - 0.2) ** 2) / 0.8)
    return {"H": (grid.draw(*kind.dark) * rim).astype(np.float32), "V": 0.25 * grid.cover(distance)}


def _signet(grid: _Grid, kind: CellKind) -> Planes:
    a = grid.draw(6.5, 8.5)
    body = grid.disc(0.0, 0.0, a, a * 0.92)
    crescent = np.minimum(grid.disc(a * 0.72, 0.0, 3.0, 4.6), body)
    inner = grid.cover(body - 0.9) * (1 - grid.cover(crescent))
    shell = grid.cover(body) - grid.cover(body - 1.2)
    h = grid.draw(*kind.dark) * grid.cover(crescent) + 0.12 * shell
    return {"H": h, "E": 0.3 * shell, "V": inner, "M": grid.draw(0.25, 0.5) * inner}


def _goblet(grid: _Grid, kind: CellKind) -> Planes:
    """A vacuole that widens towards the lumen (positive u) and tapers towards the base."""
    a, b = grid.draw(*kind.half_long_um), grid.draw(*kind.half_short_um)
    width = b * (1 + 0.28 * np.tanh(grid.u / a * 1.5))
    inside = grid.cover(grid.disc(0.0, 0.0, a, width), 1.0)
    shade = np.clip(1 + 0.35 * grid.noise(1.6), 0.2, 2)
    shell = np.clip(grid.cover(grid.disc(0.0, 0.0, a + 1.1, width + 1.1), 1.0) - inside, 0, 1)
    mucin = grid.draw(*kind.dark) * shade * inside
    return {"V": inside, "M": np.asarray(mucin, dtype=np.float32), "E": 0.12 * shell}


def _red_cell(grid: _Grid, kind: CellKind) -> Planes:
    disc = grid.disc(0.0, 0.0, grid.draw(*kind.half_long_um), grid.draw(*kind.half_short_um))
    pallor = 1 - 0.3 * np.exp(-(grid.u**2 + grid.v**2) / 2.2)
    return {"R": (grid.draw(*kind.dark) * pallor * grid.cover(disc)).astype(np.float32)}


_Drawer = Callable[[_Grid, CellKind], Planes]
_KINDS: dict[str, tuple[CellKind, _Drawer]] = {
    kind.name: (kind, drawer)
    for kind, drawer in [
        (CellKind("lymphocyte", (2.9, 3.5), (2.7, 3.3), (1.15, 1.5), texture=0.22), _plain),
        (CellKind("plasma", (2.7, 3.2), (2.6, 3.0), (1.05, 1.4), texture=0.3, reach_um=7), _plasma),
        (CellKind("neutrophil", (3, 4), (3, 4), (1.3, 1.7), reach_um=6), _neutrophil),
        (CellKind("eosinophil", (3, 4), (3, 4), (1.1, 1.5), reach_um=6), _eosinophil),
        (CellKind("fibroblast", (6.0, 9.0), (1.1, 1.6), (0.8, 1.2), irregular=0.08), _plain),
        (CellKind("plump", (6.0, 8.5), (2.1, 3.0), (0.65, 0.95), irregular=0.06, rim=0.25, nucleoli=1), _plain),
        (CellKind("cigar", (7.0, 10.0), (1.7, 2.4), (0.75, 1.1), power=3.0, texture=0.2), _plain),
        (CellKind("cross_cut", (1.8, 2.8), (1.7, 2.4), (0.8, 1.1)), _plain),
        (CellKind("basal", (3.8, 4.8), (2.5, 3.1), (0.8, 1.15), texture=0.2), _plain),
        (CellKind("pencil", (6.0, 8.5), (2.0, 2.7), (1.0, 1.4), texture=0.2), _plain),
        (
            CellKind(
                "pleomorphic", (4.6, 8.0), (3.6, 5.6), (0.7, 1.25), irregular=0.1, texture=0.3, rim=0.4, nucleoli=1
            ),
            _plain,
        ),
        (CellKind("blast", (4.2, 5.2), (3.9, 4.8), (0.55, 0.75), texture=0.25, rim=0.4, nucleoli=2), _plain),
        (CellKind("mitosis", (5, 6), (5, 6), (1.7, 2.1), reach_um=10.5), _mitosis),
        (CellKind("debris", (4, 5), (4, 5), (1.2, 1.7), reach_um=6.5), _debris),
        (CellKind("ghost", (4.0, 6.0), (3.4, 4.8), (0.08, 0.2)), _ghost),
        (CellKind("signet", (7, 8), (7, 8), (1.0, 1.4), reach_um=10), _signet),
        (CellKind("goblet", (6.5, 8.5), (3.9, 5.2), (0.3, 0.6), reach_um=11), _goblet),
        (CellKind("red_cell", (3.2, 3.7), (2.9, 3.5), (0.75, 1.0)), _red_cell),
    ]
}
KINDS: dict[str, CellKind] = {name: kind for name, (kind, _) in _KINDS.items()}


@lru_cache(maxsize=256)
def stamps(name: str, mpp: float) -> Planes:
    """All stamps of a kind at a resolution: plane name -> (angles x variants, s, s) float32.

    Stamp `angle * variants + v` is variant v turned by 2 pi angle / 32.
    """
    kind, drawer = _KINDS[name]
    variants = 12 if mpp >= 0.8 else 6
    half = int(np.ceil(kind.radius_um / mpp))
    axis = (np.arange(-half, half + 1) * mpp).astype(np.float32)
    rng = np.random.default_rng([sum(map(ord, name)), variants])
    angle = np.repeat(np.arange(_ANGLES) * (2 * np.pi / _ANGLES), variants)
    n = len(angle)
    shift = rng.uniform(-0.5 * mpp, 0.5 * mpp, (2, n, 1, 1))
    x, y = axis[None, None, :] - shift[0], axis[None, :, None] - shift[1]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    u, v = (cos * x + sin * y).astype(np.float32), (-sin * x + cos * y).astype(np.float32)
    planes = drawer(_Grid(u, v, mpp, rng), kind)
    for plane in planes.values():
        plane.setflags(write=False)
    return {plane: np.asarray(values, dtype=np.float32) for plane, values in planes.items()}


@dataclass(frozen=True)
class Cells:
    """Cells of one kind: centres in µm, angle in radians, a uniform number that picks the variant, a strength."""

    kind: str
    x: F64
    y: F64
    angle: F64
    pick: F64
    strength: F64

    def __len__(self) -> int:
        return len(self.x)

    def take(self, keep: I64 | np.ndarray) -> Cells:
        """The cells at `keep` (indices or a mask)."""
        return Cells(self.kind, self.x[keep], self.y[keep], self.angle[keep], self.pick[keep], self.strength[keep])


def cells(kind: str, x: F64, y: F64, angle: F64, pick: F64, strength: float | F64 = 1.0) -> Cells:
    """Cells with a common or an own strength (a factor on every plane but the clearing)."""
    return Cells(kind, x, y, angle, pick, np.broadcast_to(np.asarray(strength, np.float64), x.shape))


def by_kind(groups: Sequence[Cells]) -> list[Cells]:
    """The same cells, one group a kind."""
    kinds: dict[str, list[Cells]] = {}
    for group in groups:
        if len(group):
            kinds.setdefault(group.kind, []).append(group)
    fields = ("x", "y", "angle", "pick", "strength")
    return [
        Cells(kind, *(np.concatenate([getattr(g, name) for g in members]) for name in fields))
        for kind, members in kinds.items()
    ]


@dataclass(frozen=True)
class _Packed:
    """The pixels of stamps that are not empty, stamp after stamp: most of a stamp's square is.

    Attributes:
        first: where each stamp begins, (stamps + 1,).
        offset: of each pixel from the stamp's upper left corner, in a canvas of a given width.
        value: of each pixel.
    """

    first: I64
    offset: I64
    value: F32


@lru_cache(maxsize=256)
def _packed(name: str, mpp: float, canvas_width: int) -> tuple[int, int, dict[str, _Packed]]:
    """Side of a kind's stamps in pixels, variants of each angle, and the stamps plane by plane."""
    bank = stamps(name, mpp)
    num, side, _ = next(iter(bank.values())).shape
    packed = {}
    for plane, values in bank.items():
        stamp, row, col = np.nonzero(np.abs(values) > 1e-4)
        first = np.searchsorted(stamp, np.arange(num + 1)).astype(np.int64)
        packed[plane] = _Packed(first, (row * canvas_width + col).astype(np.int64), values[stamp, row, col])
    return side, num // _ANGLES, packed


class Canvas:
    """Collects stamps and adds them up, plane by plane."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._pad = int(np.ceil(14.0 / window.mpp))
        self._width = window.width_px + 2 * self._pad
        self._height = window.height_px + 2 * self._pad
        self._index: dict[str, list[I64]] = {plane: [] for plane in PLANES}
        self._value: dict[str, list[F32]] = {plane: [] for plane in PLANES}

    def add(self, group: Cells) -> None:
        """Queue cells; those farther out than a stamp can reach are ignored."""
        window, pad = self._window, self._pad
        side, variants, bank = _packed(group.kind, window.mpp, self._width)
        half = side // 2
        col = np.floor((group.x - window.x0_um) / window.mpp).astype(np.int64) + pad - half
        row = np.floor((group.y - window.y0_um) / window.mpp).astype(np.int64) + pad - half
        fits = (col >= 0) & (row >= 0) & (col + side <= self._width) & (row + side <= self._height)
        if not fits.any():
            return
        corner = row[fits] * self._width + col[fits]
        turn = np.round(group.angle[fits] * (_ANGLES / (2 * np.pi))).astype(np.int64) % _ANGLES
        which = turn * variants + np.minimum((group.pick[fits] * variants).astype(np.int64), variants - 1)
        strength = group.strength[fits].astype(np.float32)
        for plane, packed in bank.items():
            first = packed.first[which]
            num = packed.first[which + 1] - first
            before = np.cumsum(num) - num
            source = np.repeat(first - before, num) + np.arange(int(num.sum()))
            value = packed.value[source]
            self._index[plane].append(packed.offset[source] + np.repeat(corner, num))
            self._value[plane].append(value if plane == "V" else value * np.repeat(strength, num))

    def plane(self, name: str) -> F32 | None:
        """The sum of a plane over the window, (height, width), or None where nothing was stamped."""
        if not self._index[name]:
            return None
        index, value = np.concatenate(self._index[name]), np.concatenate(self._value[name])
        total = np.bincount(index, value, self._width * self._height).reshape(self._height, self._width)
        pad = self._pad
        return total[pad:-pad, pad:-pad].astype(np.float32)
