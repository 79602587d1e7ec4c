"""The planes of one window while it is painted: concentrations of stain, clearing, mucin, and queued cells."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eosin.phantom.tiles.noise import DIRECTIONS, F32, F64, STEPS, RandomField, Window, fibre_bank, sample_bank, white
from eosin.phantom.tiles.sprites import Canvas, Cells, by_kind, cells

Mask = np.ndarray


@dataclass
class Planes:
    """Stain concentrations (1 is a usual strength) over a window, each (height, width) float32.

    Attributes:
        haem: diffuse haematoxylin. eosin: eosin. red: haemoglobin. mucin: pale blue-grey mucin.
        glass: 0..1, where there is no tissue at all: lumens, fat, clefts.
        taken: True where a gland, pool, fat or clump stands already; later structures keep off.
        no_cells: True where cells of the stroma must not lie.
    """

    window: Window
    haem: F32
    eosin: F32
    red: F32
    mucin: F32
    glass: F32
    taken: Mask
    no_cells: Mask
    queue: list[Cells] = field(default_factory=list)

    @classmethod
    def empty(cls, window: Window) -> Planes:
        """Nothing painted yet."""
        shape = (window.height_px, window.width_px)

        def zeros() -> F32:
            return np.zeros(shape, dtype=np.float32)

        return cls(window, zeros(), zeros(), zeros(), zeros(), zeros(), np.zeros(shape, bool), np.zeros(shape, bool))

    def at(self, plane: np.ndarray, x: F64, y: F64) -> np.ndarray:
        """Values of a plane at points in µm; the edge's value outside."""
        return np.asarray(plane[self.window.rows(y), self.window.columns(x)])

    def grain(self, rows: slice, cols: slice, seed: int) -> F32:
        """White noise of unit variance for a patch, the same wherever the window lies."""
        window = self.window
        corner = (round(window.y0_um / window.mpp) + rows.start, round(window.x0_um / window.mpp) + cols.start)
        return white((rows.stop - rows.start, cols.stop - cols.start), (corner[0] + seed // 1024, corner[1] + seed))

    def put(self, kind: str, x: F64, y: F64, angle: F64, pick: F64, strength: float | F64 = 1.0) -> int:
        """Queue cells; returns how many have their centre inside the window."""
        self.queue.append(cells(kind, x, y, angle, pick, strength))
        return int(self.window.contains(x, y).sum())

    def flatten(self) -> dict[str, F32]:
        """All planes with the queued cells stamped in: haem, eosin, red, mucin."""
        canvas = Canvas(self.window)
        for group in by_kind(self.queue):
            canvas.add(group)
        stamped = {name: canvas.plane(name) for name in ("H", "E", "R", "V", "M")}
        keep = 1 - self.glass
        if stamped["V"] is not None:
            keep *= 1 - np.clip(stamped["V"], 0, 1)

        def total(base: F32, name: str) -> F32:
            extra = stamped[name]
            return base * keep + (extra if extra is not None else np.float32(0))

        # Nuclei that lie over each other darken less than their sum: they are not in one plane of focus.
        haem = 1.55 * np.tanh(total(self.haem, "H") / 1.55)
        mucin = self.mucin + (stamped["M"] if stamped["M"] is not None else np.float32(0))
        return {"haem": haem, "eosin": total(self.eosin, "E"), "red": total(self.red, "R"), "mucin": mucin}


def fresh_seed(rng: np.random.Generator) -> int:
    """A seed for a lattice or a field of its own."""
    return int(rng.integers(0, 2**31))


def grid_um(window: Window) -> tuple[F32, F32]:
    """Pixel centres in µm: (1, width) and (height, 1)."""
    return window.xs()[None, :].astype(np.float32), window.ys()[:, None].astype(np.float32)


def streaks(window: Window, angle: F32 | float, along_um: float, across_um: float, seed: int) -> F32:
    """A streaky texture, mean 0 and variance about 1, running along `angle` (a number or one for each pixel).

    A mixture of textures in five fixed directions, weighted by how near each is to the angle: turning one texture
    by an angle that changes from pixel to pixel would tear it far from the origin.
    """
    total = np.zeros((window.height_px, window.width_px), dtype=np.float32)
    power = np.full_like(total, 1e-6)
    double = np.float32(2) * np.asarray(angle, dtype=np.float32)
    cos_2a, sin_2a = np.cos(double), np.sin(double)
    for number in range(DIRECTIONS):
        turn = number * np.pi / DIRECTIONS
        near = np.maximum(cos_2a * np.float32(np.cos(2 * turn)) + sin_2a * np.float32(np.sin(2 * turn)), 0)
        if np.max(near) < 0.2:
            continue
        weight = near * near * near
        shift = (seed + 389 * number, seed // 1024 + 211 * number)  # each direction reads another part of the noise
        total += weight * sample_bank(fibre_bank(along_um, across_um, number), window, shift)
        power += weight * weight
    return np.asarray(total / (STEPS * np.sqrt(power)), dtype=np.float32)


def slow(window: Window, seed: int, shortest_um: float, longest_um: float) -> F32:
    """A smooth random field of unit variance."""
    return RandomField(seed, shortest_um, longest_um).grid(window.xs(), window.ys())


def blob(window: Window, x_um: float, y_um: float, radius_um: float, seed: int, ragged: float = 0.25) -> F32:
    """Signed distance in µm (positive inside) to a round patch with a wavy border."""
    x, y = grid_um(window)
    wave = slow(window, seed, 0.5 * radius_um, 1.6 * radius_um)
    away = np.sqrt((x - np.float32(x_um)) ** 2 + (y - np.float32(y_um)) ** 2)
    return np.asarray(np.float32(radius_um) * (1 + np.float32(0.5 * ragged) * wave) - away, dtype=np.float32)


def cover(distance_um: np.ndarray, soft_um: float = 1.2) -> F32:
    """Coverage 0..1 of the inside of a signed distance, with a soft edge."""
    return np.clip(distance_um * np.float32(1 / soft_um) + np.float32(0.5), 0, 1).astype(np.float32, copy=False)
