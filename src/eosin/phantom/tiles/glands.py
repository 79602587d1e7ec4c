"""Glands: outline, epithelium, lumen, nuclei, goblet cells; one by one into the planes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eosin.phantom.tiles.noise import F32, F64
from eosin.phantom.tiles.planes import Planes, cover, fresh_seed

Rng = np.random.Generator


@dataclass(frozen=True)
class GlandStyle:
    """How the glands of a tissue look. Lengths in µm.

    Attributes:
        half_um, stretch: shorter semi-axis, and how much longer the other one is.
        wall_um: height of the epithelium.
        wobble: irregularity of the outline.
        nucleus: kind of nucleus; spacing_um between nuclei along the base; rows of nuclei; depth of the basal row.
        goblets: share of the places for goblet cells that hold one.
        mitoses: expected number in one gland.
        cytoplasm: eosin of the epithelium; basophilia: its diffuse haematoxylin.
        holes: punched-out lumens in a cribriform gland (0: one central lumen).
        lumen: what fills the lumen: "clear", "mucus", "necrosis" or "pus", and how often.
        strength: haematoxylin of the nuclei, where 1 is usual.
        lifted: share of the nuclei of a row that have left the base for the half of the wall at the lumen.
    """

    half_um: tuple[float, float]
    stretch: tuple[float, float] = (1.0, 1.25)
    wall_um: tuple[float, float] = (17.0, 20.0)
    wobble: float = 0.05
    nucleus: str = "basal"
    spacing_um: float = 6.0
    rows: int = 1
    depth_um: float = 4.6
    goblets: float = 0.0
    mitoses: float = 0.0
    cytoplasm: float = 0.45
    basophilia: float = 0.08
    holes: int = 0
    lumen: str = "clear"
    lumen_share: float = 0.0
    strength: float = 1.0
    lifted: float = 0.0


@dataclass
class Drawn:
    """What was painted and lies inside the window: boxes in pixels, counts, and centres of filled lumens in µm."""

    boxes: list[tuple[int, int, int, int]]
    goblets: int = 0
    mitoses: int = 0
    filled: int = 0
    holes: int = 0
    filled_at: list[tuple[float, float]] = field(default_factory=list)

    @property
    def num(self) -> int:
        return len(self.boxes)


@dataclass
class _Outline:
    """One gland: centre, semi-axes, angle, and a wavy outline."""

    x: float
    y: float
    a: float
    b: float
    angle: float
    amplitude: F64
    phase: F64

    def edge_towards(self, u: F32, v: F32) -> F32:
        """The same factor in the direction of (u, v), a unit vector of the ellipse's own parameter."""
        z = np.empty(u.shape, dtype=np.complex64)
        z.real, z.imag = u, v
        wave = (self.amplitude * np.exp(1j * self.phase)).astype(np.complex64)
        total = wave[-1] * z
        for factor in wave[-2::-1]:  # Horner: the sum of wave[k] z^(k + 2), whose real part is the sum of cosines
            total += factor
            total *= z
        total *= z
        return 1 + total.real

    def edge(self, t: F64) -> F64:
        """Factor on the ellipse at parameter t: shape of t."""
        orders = np.arange(2, 2 + len(self.amplitude))
        return np.asarray(1 + (self.amplitude * np.cos(np.multiply.outer(t, orders) + self.phase)).sum(-1))

    def point(self, t: F64, depth_um: F64 | float) -> tuple[F64, F64, F64]:
        """Positions `depth_um` inside the outline at parameters t, and the direction to the centre."""
        edge = self.edge(t)
        u, v = self.a * edge * np.cos(t), self.b * edge * np.sin(t)
        inward = np.arctan2(-v / self.b**2, -u / self.a**2)
        u, v = u + depth_um * np.cos(inward), v + depth_um * np.sin(inward)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.x + cos * u - sin * v, self.y + sin * u + cos * v, inward + self.angle


def paint_gland(planes: Planes, x: float, y: float, style: GlandStyle, rng: Rng, drawn: Drawn) -> None:
    """Paint one gland centred at (x, y) unless another structure has its place."""
    half = rng.uniform(*style.half_um)
    num = 4
    outline = _Outline(
        x, y, half * rng.uniform(*style.stretch), half, rng.uniform(0, np.pi),
        style.wobble * rng.uniform(0.3, 1.0, num) / np.sqrt(1 + np.arange(num)), rng.uniform(0, 2 * np.pi, num),
    )  # fmt: skip
    patch = _patch(planes, outline)
    if patch is None:
        return
    rows, cols, distance, local_u, local_v = patch
    free = ~planes.taken[rows, cols]
    whole = cover(distance)
    inside = whole * free
    if inside.sum() < 0.4 * max(whole.sum(), 1):
        return
    wall = min(rng.uniform(*style.wall_um), 0.8 * half)
    filled = style.lumen if rng.random() < style.lumen_share else "clear"
    if style.holes:
        open_um = _holes(outline, local_u, local_v, distance, style, rng)
    else:
        open_um = distance - wall
    own = np.zeros(planes.taken.shape, dtype=bool)
    own[rows, cols] = (distance > 1.0) & free
    _paint_wall(planes, rows, cols, inside, open_um, distance, style, filled, rng)
    if style.holes:
        num_mitoses = _fill_nuclei(planes, outline, open_um, rows, cols, distance, style, rng, own)
    else:
        num_mitoses = _ring_nuclei(planes, outline, wall, style, rng, drawn, own)
    if filled in ("necrosis", "pus"):
        _fill_lumen(planes, rows, cols, open_um * free, filled, rng)
        drawn.filled += 1
        drawn.filled_at.append((x, y))
    drawn.mitoses += num_mitoses
    box = _box(rows, cols, inside)
    if box is not None:
        drawn.boxes.append(box)
        drawn.holes += style.holes


def _patch(planes: Planes, o: _Outline) -> tuple[slice, slice, F32, F32, F32] | None:
    """The gland's pixels: slices, signed distance to its outline in µm, and its own coordinates in µm."""
    window = planes.window
    x, y, _ = o.point(_TURN, -5.0)  # the basement membrane lies outside the outline
    c0 = int(max(0, (x.min() - window.x0_um) // window.mpp))
    c1 = int(min(window.width_px, (x.max() - window.x0_um) // window.mpp + 2))
    r0 = int(max(0, (y.min() - window.y0_um) // window.mpp))
    r1 = int(min(window.height_px, (y.max() - window.y0_um) // window.mpp + 2))
    if c1 - c0 < 2 or r1 - r0 < 2:
        return None
    dx = (window.xs()[c0:c1] - o.x)[None, :].astype(np.float32)
    dy = (window.ys()[r0:r1] - o.y)[:, None].astype(np.float32)
    cos, sin = np.float32(np.cos(o.angle)), np.float32(np.sin(o.angle))
    u, v = cos * dx + sin * dy, -sin * dx + cos * dy
    p, q = u * np.float32(1 / o.a), v * np.float32(1 / o.b)
    rho = np.sqrt(p * p + q * q) + np.float32(1e-6)
    edge = o.edge_towards(p / rho, q / rho)
    distance = (edge - rho) * (np.float32(0.5) * np.sqrt(u * u + v * v) / rho + np.float32(0.5 * o.b))
    if np.count_nonzero(distance > 0) < 12:
        return None
    return slice(r0, r1), slice(c0, c1), distance, u, v


_TURN = np.linspace(-np.pi, np.pi, 73)


def _paint_wall(
    planes: Planes, rows: slice, cols: slice, inside: F32, open_um: F32, distance: F32, style: GlandStyle,
    filled: str, rng: Rng,
) -> None:  # fmt: skip
    lumen = cover(open_um) * inside
    wall = inside - lumen
    rest = 1 - inside
    grain = 1 + np.float32(0.1) * planes.grain(rows, cols, fresh_seed(rng))
    wall *= np.clip(np.float32(1.15) - np.float32(0.02) * distance, 0.7, 1.15)
    for plane in (planes.eosin, planes.haem, planes.red, planes.mucin, planes.glass):
        plane[rows, cols] *= rest
    planes.eosin[rows, cols] += np.float32(style.cytoplasm) * wall * grain
    planes.haem[rows, cols] += np.float32(style.basophilia) * wall
    if filled == "mucus":
        planes.mucin[rows, cols] += 0.4 * lumen * grain
    if filled != "necrosis":
        planes.glass[rows, cols] = np.maximum(planes.glass[rows, cols], lumen)
    membrane = np.exp(np.float32(-1 / 1.2) * (distance + np.float32(1)) ** 2) * (~planes.taken[rows, cols])
    planes.eosin[rows, cols] += np.float32(0.3) * membrane
    planes.taken[rows, cols] |= inside > 0.5
    planes.no_cells[rows, cols] |= distance > -2.5


def _ring_nuclei(
    planes: Planes, o: _Outline, wall: float, style: GlandStyle, rng: Rng, drawn: Drawn, own: np.ndarray
) -> int:
    """Rows of nuclei that stand on the base, and goblet cells between them. Returns mitoses in the window."""
    perimeter = np.pi * (o.a + o.b)
    num = max(8, int(perimeter / style.spacing_um))
    for row in range(style.rows):
        t = (np.arange(num) + rng.uniform(0, 1) + rng.uniform(-0.3, 0.3, num)) * 2 * np.pi / num
        top = style.depth_um + (row * 0.26 * wall)
        depth = top + rng.normal(0, 0.7 + 1.1 * (style.rows > 1), num)
        if style.lifted:
            depth = np.where(rng.random(num) < style.lifted, rng.uniform(0.5, 0.8, num) * wall, depth)
        x, y, inward = o.point(t, np.clip(depth, 3.0, 0.8 * wall))
        keep = (rng.random(num) < (1.0 if row == 0 else 0.6)) & _mine(planes, own, x, y)
        lean = rng.normal(0, 0.12 if style.rows == 1 else 0.22, num)
        planes.put(style.nucleus, x[keep], y[keep], inward[keep] + lean[keep], rng.random(num)[keep], style.strength)
    if style.goblets > 0:
        places = max(4, int(perimeter / 12.5))
        t = (np.arange(places) + rng.uniform(0, 1)) * 2 * np.pi / places + rng.normal(0, 0.05, places)
        t = t[rng.random(places) < style.goblets]
        x, y, inward = o.point(t, 0.56 * wall + rng.normal(0, 0.8, len(t)))
        keep = _mine(planes, own, x, y)
        drawn.goblets += planes.put("goblet", x[keep], y[keep], inward[keep], rng.random(len(t))[keep])
    mitoses = rng.poisson(style.mitoses)
    if not mitoses:
        return 0
    t = rng.uniform(0, 2 * np.pi, mitoses)
    x, y, inward = o.point(t, rng.uniform(0.4, 0.7, mitoses) * wall)
    keep = _mine(planes, own, x, y)
    return planes.put("mitosis", x[keep], y[keep], inward[keep] + np.pi / 2, rng.random(mitoses)[keep])


def _mine(planes: Planes, own: np.ndarray, x: F64, y: F64) -> np.ndarray:
    """True for points in the part of the gland that no other structure covers, or outside the window."""
    return np.asarray(planes.at(own, x, y) | ~planes.window.contains(x, y))


def _holes(o: _Outline, u: F32, v: F32, distance: F32, style: GlandStyle, rng: Rng) -> F32:
    """Signed distance to the nearest of several round lumens inside the gland."""
    best = np.full(u.shape, -1e3, dtype=np.float32)
    centres: list[tuple[float, float, float]] = []
    for _ in range(60):
        if len(centres) >= style.holes:
            break
        t, s, r = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 0.55)), rng.uniform(0.12, 0.24) * o.b
        cu, cv = s * o.a * np.cos(t), s * o.b * np.sin(t)
        if all(np.hypot(cu - a, cv - b) > r + c + 9 for a, b, c in centres):
            centres.append((cu, cv, r))
    for cu, cv, r in centres:
        away = np.sqrt((u - np.float32(cu)) ** 2 + (v - np.float32(cv)) ** 2)
        np.maximum(best, np.float32(r) - away, out=best)
    return np.minimum(best, distance - 9)


def _fill_nuclei(
    planes: Planes, o: _Outline, open_um: F32, rows: slice, cols: slice, distance: F32, style: GlandStyle,
    rng: Rng, own: np.ndarray,
) -> int:  # fmt: skip
    """Nuclei all over a solid or cribriform gland, but not in its holes. Returns mitoses in the window."""
    window, step = planes.window, style.spacing_um
    gx, gy = np.meshgrid(np.arange(-o.a * 1.3, o.a * 1.3, step), np.arange(-o.b * 1.3, o.b * 1.3, step))
    u = (gx + 0.5 * step * (np.arange(gx.shape[0]) % 2)[:, None]).ravel() + rng.normal(0, 0.22 * step, gx.size)
    v = gy.ravel() + rng.normal(0, 0.22 * step, gx.size)
    cos, sin = np.cos(o.angle), np.sin(o.angle)
    x, y = o.x + cos * u - sin * v, o.y + sin * u + cos * v
    full = np.full((window.height_px, window.width_px), -99, dtype=np.float32)
    full[rows, cols] = np.where(open_um > -3.2, -99, distance)
    keep = planes.at(full, x, y) > 3.0
    # Everything random is drawn for all nuclei of the gland, seen or not, so that neighbouring windows agree.
    turn, pick = rng.uniform(0, 2 * np.pi, len(x)), rng.random(len(x))
    divides = rng.random(len(x)) < min(0.2, style.mitoses * step**2 / (np.pi * o.a * o.b))
    keep &= window.contains(x, y) & planes.at(own, x, y)
    calm, split = keep & ~divides, keep & divides
    planes.put(style.nucleus, x[calm], y[calm], turn[calm], pick[calm])
    return planes.put("mitosis", x[split], y[split], turn[split], pick[split])


def _fill_lumen(planes: Planes, rows: slice, cols: slice, open_um: F32, filled: str, rng: Rng) -> None:
    """Dirty necrosis or pus in a lumen."""
    window = planes.window
    core = cover(open_um - 2.0)
    ys, xs = np.nonzero(core > 0.5)
    if not len(ys):
        return
    num = int(len(ys) * window.mpp**2 / (26.0 if filled == "pus" else 75.0))
    pick = rng.integers(0, len(ys), num)
    x = window.x0_um + (xs[pick] + cols.start + rng.random(num)) * window.mpp
    y = window.y0_um + (ys[pick] + rows.start + rng.random(num)) * window.mpp
    if filled == "pus":
        planes.put("neutrophil", x, y, rng.uniform(0, 6.28, num), rng.random(num))
        return
    smudge = np.float32(0.75) + np.float32(0.25) * planes.grain(rows, cols, fresh_seed(rng))
    planes.eosin[rows, cols] = planes.eosin[rows, cols] * (1 - core) + smudge * core
    planes.glass[rows, cols] *= 1 - core
    planes.put("debris", x, y, rng.uniform(0, 6.28, num), rng.random(num))


def _box(rows: slice, cols: slice, inside: F32) -> tuple[int, int, int, int] | None:
    """Box of the part in the window, x0 y0 x1 y1 in pixels; None if too little of it shows."""
    ys, xs = np.nonzero(inside > 0.5)
    if len(ys) < 40:
        return None
    return (int(cols.start + xs.min()), int(rows.start + ys.min()), int(cols.start + xs.max() + 1),
            int(rows.start + ys.max() + 1))  # fmt: skip
