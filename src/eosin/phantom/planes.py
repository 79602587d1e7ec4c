"""The planes of one window while it is painted: concentrations of stain, clearing, mucin, and queued cells."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from eosin.phantom.noise import F32, F64, Waves, Window, fibre_bank, sample_bank
from eosin.phantom.sprites import Canvas, Cells, cells

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

    def put(self, kind: str, x: F64, y: F64, angle: F64, pick: F64, strength: float | F64 = 1.0) -> int:
        """Queue cells; returns how many have their centre inside the window."""
        self.queue.append(cells(kind, x, y, angle, pick, strength))
        return int(self.window.contains(x, y).sum())

    def flatten(self) -> dict[str, F32]:
        """All planes with the queued cells stamped in: haem, eosin, red, mucin."""
        canvas = Canvas(self.window)
        for group in self.queue:
            canvas.add(group)
        stamped = {name: canvas.plane(name) for name in ("H", "E", "R", "V", "M")}
        clear = np.clip(stamped["V"], 0, 1) if stamped["V"] is not None else np.float32(0)
        keep = (1 - self.glass) * (1 - clear)

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


_DIRECTIONS = 5


def streaks(window: Window, angle: F32 | float, along_um: float, across_um: float, seed: int) -> F32:
    """A streaky texture, mean 0 and variance about 1, running along `angle` (a number or one for each pixel).

    A mixture of textures in five fixed directions, weighted by how near each is to the angle: turning one texture
    by an angle that changes from pixel to pixel would tear it far from the origin.
    """
    x, y = grid_um(window)
    bank, offset = fibre_bank(along_um, across_um), (seed % 509) * 1.7
    total = np.zeros((window.height_px, window.width_px), dtype=np.float32)
    power = np.full_like(total, 1e-6)
    double = np.float32(2) * np.asarray(angle, dtype=np.float32)
    cos_2a, sin_2a = np.cos(double), np.sin(double)
    for number in range(_DIRECTIONS):
        turn = number * np.pi / _DIRECTIONS
        near = np.maximum(cos_2a * np.float32(np.cos(2 * turn)) + sin_2a * np.float32(np.sin(2 * turn)), 0)
        if np.max(near) < 0.2:
            continue
        weight = near * near * near
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        total += weight * sample_bank(bank, cos * x + sin * y + offset, cos * y - sin * x - 3 * offset + 97 * number)
        power += weight * weight
    return np.asarray(total / np.sqrt(power), dtype=np.float32)


def slow(window: Window, seed: int, shortest_um: float, longest_um: float) -> F32:
    """A smooth random field of unit variance."""
    return Waves(seed, shortest_um, longest_um).grid(window.xs(), window.ys())


def blob(window: Window, x_um: float, y_um: float, radius_um: float, seed: int, ragged: float = 0.25) -> F32:
    """Signed distance in µm (positive inside) to a round patch with a wavy border."""
    x, y = grid_um(window)
    wave = slow(window, seed, 0.5 * radius_um, 1.6 * radius_um)
    return np.asarray(radius_um * (1 + ragged * 0.5 * wave) - np.hypot(x - x_um, y - y_um), dtype=np.float32)


def cover(distance_um: np.ndarray, soft_um: float = 1.2) -> F32:
    """Coverage 0..1 of the inside of a signed distance, with a soft edge."""
    return np.asarray(np.clip(distance_um / soft_um + 0.5, 0, 1), dtype=np.float32)
