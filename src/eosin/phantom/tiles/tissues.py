"""What stands between and beside glands: stroma, muscle, fat, lymphocytes, necrosis, mucin, blood."""

from __future__ import annotations

import numpy as np

from eosin.phantom.tiles.glands import Drawn, GlandStyle, paint_gland
from eosin.phantom.tiles.noise import F32, F64, lattice
from eosin.phantom.tiles.planes import Planes, blob, cover, fresh_seed, grid_um, slow, streaks

Rng = np.random.Generator


def stroma(planes: Planes, rng: Rng, *, desmoplastic: bool, cells_um: float, level: float) -> None:
    """Collagen with fibres and fibroblasts; desmoplastic: broad wavy bundles and plump cells.

    Args:
        cells_um: spacing of stromal cells.
        level: eosin of the collagen.
    """
    window = planes.window
    angle = rng.uniform(0, np.pi) + 0.7 * slow(window, fresh_seed(rng), 90, 300)
    seeds = fresh_seed(rng), fresh_seed(rng)
    # Finer fibres than these cannot be seen at 1 um per pixel.
    fine = streaks(window, angle, 16.0, 1.8, seeds[0]) if window.mpp < 0.8 else np.float32(0)
    broad = streaks(window, angle, 34.0, 4.5 if desmoplastic else 3.0, seeds[1])
    weight = 0.46 if desmoplastic else 0.38
    texture = level * np.clip(1 + weight * broad + 0.2 * fine, 0.1, 2.4)
    planes.eosin = np.where(planes.no_cells, planes.eosin, texture)
    clefts = np.clip(1.5 * (broad + 0.5 * fine) - (2.6 if desmoplastic else 2.0), 0, 0.9)
    planes.glass = np.where(planes.no_cells, planes.glass, np.maximum(planes.glass, clefts))
    sites = lattice(fresh_seed(rng), window, step_um=(cells_um * 1.5, cells_um), jitter=0.9, margin_um=8)
    turn = planes.at(angle, sites.x, sites.y) + 0.25 * (sites.u[:, 0] - 0.5)
    keep = ~planes.at(planes.no_cells, sites.x, sites.y)
    kind = "plump" if desmoplastic else "fibroblast"
    planes.put(kind, sites.x[keep], sites.y[keep], turn[keep], sites.u[keep, 1])


def free_cells(planes: Planes, rng: Rng, kind: str, step_um: float, within: F32 | None = None) -> int:
    """Cells of one kind scattered over the free stroma, or over where `within` (signed distance) is positive."""
    sites = lattice(fresh_seed(rng), planes.window, step_um=(step_um, step_um * 0.9), jitter=0.85, margin_um=5)
    keep = ~planes.at(planes.no_cells, sites.x, sites.y)
    if within is not None:
        keep &= planes.at(within, sites.x, sites.y) > (sites.u[:, 2] - 0.5) * 8
    else:
        keep &= sites.u[:, 2] < 0.9
    x, y, u = sites.x[keep], sites.y[keep], sites.u[keep]
    return planes.put(kind, x, y, 2 * np.pi * u[:, 0], u[:, 1])


def lymphoid_aggregate(planes: Planes, rng: Rng, x: float, y: float, radius_um: float) -> F32:
    """A dense nodule of lymphocytes."""
    distance = blob(planes.window, x, y, radius_um, fresh_seed(rng))
    distance[planes.taken] = -50
    inside = cover(distance, 6)
    planes.eosin *= 1 - 0.55 * inside
    planes.haem += 0.1 * inside
    free_cells(planes, rng, "lymphocyte", 6.4, distance)
    planes.no_cells |= distance > 0
    return distance


def smooth_muscle(
    planes: Planes, rng: Rng, region: F32, fascicle_um: float, spacing_um: float = 13.0, level: float = 0.88
) -> None:
    """Interlacing fascicles of spindle cells with blunt nuclei, some cut across.

    Args:
        region: signed distance in µm; muscle is laid where it is positive.
        fascicle_um: width of a fascicle.
        spacing_um: between nuclei. level: eosin of the muscle.
    """
    area = _box_of(region, -2.0)
    if area is None:
        return
    window = planes.window.part(*area)
    centres = lattice(fresh_seed(rng), window, step_um=(fascicle_um * 1.5, fascicle_um), jitter=0.8,
                      angle=rng.uniform(0, np.pi), margin_um=1.6 * fascicle_um)  # fmt: skip
    x, y = grid_um(window)
    wave = 0.16 * fascicle_um * slow(window, fresh_seed(rng), 30, 90)
    nearest, second, owner = _two_nearest(x + wave, y - wave, centres.x, centres.y)
    border = np.clip((second - nearest) / 5.0, 0, 1)
    # Neighbouring fascicles differ: three directions 60 degrees apart, by the site's place in the lattice.
    turn = ((centres.ix + 2 * centres.iy) % 3) * (np.pi / 3) + rng.uniform(0, np.pi) + 0.3 * (centres.u[:, 0] - 0.5)
    across = centres.u[:, 1] < 0.25
    angle = turn[owner] + 0.18 * slow(window, fresh_seed(rng), 60, 160)
    cut = across[owner]
    grain = np.where(cut, slow(window, fresh_seed(rng), 4, 9), streaks(window, angle, 22.0, 1.8, fresh_seed(rng)))
    inside = cover(region[area], 3) * ~planes.taken[area]
    pink = np.clip(level * (1 + 0.18 * grain), 0.1, 1.6) * (0.72 + 0.28 * border)
    for plane, value in ((planes.eosin, pink), (planes.haem, 0.05), (planes.glass, 0.0)):
        plane[area] += (value - plane[area]) * inside
    for is_across, kind, step in ((False, "cigar", (spacing_um * 1.7, spacing_um)), (True, "cross_cut", (12.5, 11.0))):
        sites = lattice(fresh_seed(rng), window, step_um=step, jitter=0.8, margin_um=8)
        at = window.rows(sites.y), window.columns(sites.x)
        keep = (planes.at(region, sites.x, sites.y) > 2) & (cut[at] == is_across)
        keep &= ~planes.at(planes.taken, sites.x, sites.y)
        direction = angle[at] + 0.12 * (sites.u[:, 0] - 0.5)
        planes.put(kind, sites.x[keep], sites.y[keep], direction[keep], sites.u[keep, 1])
    planes.no_cells |= region > 0


def fat(planes: Planes, rng: Rng, region: F32, cell_um: float = 46.0) -> None:
    """Round empty fat cells with thin walls."""
    area = _box_of(region, -3.0)
    if area is None:
        return
    window = planes.window.part(*area)
    sites = lattice(fresh_seed(rng), window, step_um=(cell_um, cell_um * 0.88), jitter=0.28, margin_um=cell_um)
    inside = cover(region[area], 2) * ~planes.taken[area]
    nearest, second, _ = _two_nearest(*grid_um(window), sites.x, sites.y)
    wall = (second - nearest) / 2
    for plane, value in ((planes.eosin, 0.42), (planes.haem, 0.0), (planes.glass, cover(wall - 1.3, 1.2))):
        plane[area] += (value - plane[area]) * inside
    flat = lattice(fresh_seed(rng), window, step_um=(60, 52), jitter=1.0, margin_um=4)
    keep = (planes.at(region, flat.x, flat.y) > 4) & (wall[window.rows(flat.y), window.columns(flat.x)] < 2.5)
    planes.put("fibroblast", flat.x[keep], flat.y[keep], 6.28 * flat.u[keep, 0], flat.u[keep, 1])
    planes.taken[area] |= inside > 0.5
    planes.no_cells |= region > -1


def _box_of(region: F32, above: float) -> tuple[slice, slice] | None:
    """Rows and columns of the smallest box that holds all of a signed distance above a value."""
    inside = region > above
    rows, cols = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def _two_nearest(x: F32, y: F32, at_x: F64, at_y: F64) -> tuple[F32, F32, np.ndarray]:
    """Distances of points to the nearest and second nearest centre, and the number of the nearest."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    nearest, second = np.full(shape, 1e8, dtype=np.float32), np.full(shape, 1e8, dtype=np.float32)
    owner = np.zeros(shape, dtype=np.intp)
    for number, (cx, cy) in enumerate(zip(at_x, at_y, strict=True)):
        away = (x - np.float32(cx)) ** 2 + (y - np.float32(cy)) ** 2
        np.copyto(owner, number, where=away < nearest)
        np.minimum(second, np.maximum(nearest, away), out=second)
        np.minimum(nearest, away, out=nearest)
    return np.sqrt(nearest), np.sqrt(second), owner


def blood(planes: Planes, rng: Rng, region: F32) -> None:
    """Free red cells, closely packed."""
    free_cells(planes, rng, "red_cell", 5.6, region)
    inside = cover(region, 8)
    planes.red += 0.3 * inside
    planes.taken |= region > 0
    planes.no_cells |= region > 0


def necrosis(planes: Planes, rng: Rng, region: F32) -> F32:
    """Smudged pink material with ghosts and nuclear dust, and no living cells. Returns the region it took."""
    window = planes.window
    region = np.where(planes.taken, np.float32(-50), region)
    inside = cover(region, 4)
    grain = np.asarray(
        0.8 * slow(window, fresh_seed(rng), 5, 16) + 0.3 * slow(window, fresh_seed(rng), 2, 5), dtype=np.float32
    )
    smudge = np.clip(np.float32(0.78) + np.float32(0.16) * grain, 0.2, 1.5)
    planes.eosin = np.asarray(planes.eosin * (1 - inside) + smudge * inside, dtype=np.float32)
    planes.glass *= 1 - inside
    planes.haem += 0.06 * inside
    free_cells(planes, rng, "ghost", 15, region)
    free_cells(planes, rng, "debris", 13, region)
    planes.taken |= region > 0
    planes.no_cells |= region > 0
    return region


def mucin_pools(planes: Planes, rng: Rng, pools: F32) -> None:
    """Lakes of pale streaming mucin; `pools` is the signed distance, positive in the lakes."""
    window = planes.window
    inside = cover(pools, 3)
    flow = streaks(window, 0.9 * slow(window, fresh_seed(rng), 80, 220), 34.0, 3.2, fresh_seed(rng))
    inside = inside * ~planes.taken
    planes.mucin = planes.mucin * (1 - inside) + np.clip(0.26 + 0.13 * flow, 0.02, 0.8) * inside
    planes.no_cells |= pools > -1


def clump(planes: Planes, rng: Rng, x: float, y: float, size_um: float, mitoses: float) -> Drawn:
    """A strip or ball of malignant cells afloat, with a hole where it is large."""
    style = GlandStyle(
        half_um=(0.8 * size_um, 1.15 * size_um), stretch=(1.1, 2.0), wobble=0.16, nucleus="pleomorphic",
        spacing_um=9.4, mitoses=mitoses, cytoplasm=0.6, basophilia=0.14, holes=1,
    )  # fmt: skip
    drawn = Drawn([])
    paint_gland(planes, x, y, style, rng, drawn)
    return drawn


def free_cells_in_pools(planes: Planes, rng: Rng, pools: F32) -> int:
    """Single signet-ring cells afloat in mucin. Returns how many lie in the window."""
    sites = lattice(fresh_seed(rng), planes.window, step_um=(46, 42), jitter=1.0, margin_um=8)
    keep = (planes.at(pools, sites.x, sites.y) > 8) & ~planes.at(planes.taken, sites.x, sites.y)
    keep &= sites.u[:, 2] < 0.45
    x, y, u = sites.x[keep], sites.y[keep], sites.u[keep]
    return planes.put("signet", x, y, 2 * np.pi * u[:, 0], u[:, 1])
