"""Noise that depends only on a seed and on the position in micrometres.

Everything a phantom shows is a function of world position, so any window of the same scene agrees with its
neighbours: tiles of a slide are seamless, and no result depends on the order in which windows are rendered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_U64 = np.uint64
_GOLDEN = _U64(0x9E3779B97F4A7C15)
_MIX_A = _U64(0xBF58476D1CE4E5B9)
_MIX_B = _U64(0x94D049BB133111EB)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): one 64-bit word to another."""
    z = (z ^ (z >> _U64(30))) * _MIX_A
    z = (z ^ (z >> _U64(27))) * _MIX_B
    return z ^ (z >> _U64(31))


def uniforms(seed: int, ix: I64, iy: I64, columns: int) -> F64:
    """Uniform numbers in [0, 1) for lattice sites: shape (n, columns), a pure function of seed and site."""
    with np.errstate(over="ignore"):
        base = np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=_U64)
        h = _mix(base + _GOLDEN * ix.astype(np.int64).view(_U64))
        h = _mix(h + _MIX_A * iy.astype(np.int64).view(_U64))
        steps = _GOLDEN * np.arange(1, columns + 1, dtype=_U64)
        words = _mix(h[:, None] + steps[None, :])
    return (words >> _U64(11)).astype(np.float64) * (1.0 / (1 << 53))


@dataclass(frozen=True)
class Window:
    """A rectangle of the world: the upper left corner in µm, the size in pixels, and µm per pixel."""

    x0_um: float
    y0_um: float
    width_px: int
    height_px: int
    mpp: float

    @property
    def x1_um(self) -> float:
        return self.x0_um + self.width_px * self.mpp

    @property
    def y1_um(self) -> float:
        return self.y0_um + self.height_px * self.mpp

    def part(self, rows: slice, cols: slice) -> Window:
        """The window of the pixels [rows, cols]."""
        return Window(
            self.x0_um + cols.start * self.mpp, self.y0_um + rows.start * self.mpp,
            cols.stop - cols.start, rows.stop - rows.start, self.mpp,
        )  # fmt: skip

    def xs(self) -> F64:
        """Pixel centres along x, µm, shape (width,)."""
        return np.asarray(self.x0_um + (np.arange(self.width_px) + 0.5) * self.mpp, dtype=np.float64)

    def ys(self) -> F64:
        """Pixel centres along y, µm, shape (height,)."""
        return np.asarray(self.y0_um + (np.arange(self.height_px) + 0.5) * self.mpp, dtype=np.float64)

    def columns(self, x: F64) -> I64:
        """Pixel column of each x in µm, clipped to the window."""
        return np.clip(np.floor((x - self.x0_um) / self.mpp), 0, self.width_px - 1).astype(np.int64)

    def rows(self, y: F64) -> I64:
        """Pixel row of each y in µm, clipped to the window."""
        return np.clip(np.floor((y - self.y0_um) / self.mpp), 0, self.height_px - 1).astype(np.int64)

    def contains(self, x: F64, y: F64, margin_um: float = 0.0) -> NDArray[np.bool_]:
        """True where a point lies inside the window grown by `margin_um`."""
        inside_x = (x >= self.x0_um - margin_um) & (x < self.x1_um + margin_um)
        return inside_x & (y >= self.y0_um - margin_um) & (y < self.y1_um + margin_um)


def _turned(angle: F64) -> F32:
    """Angles reduced to one turn in double precision, so that the fast single-precision sine is exact enough."""
    return np.asarray(angle - 2 * np.pi * np.rint(angle * (0.5 / np.pi)), dtype=np.float32)


class RandomField:
    """A smooth random field: a sum of plane waves with seeded directions, lengths and phases.

    Unit variance. On a grid it costs one small matrix product, because
    sin(a x + b y + c) = sin(a x + c) cos(b y) + cos(a x + c) sin(b y).
    """

    def __init__(self, seed: int, shortest_um: float, longest_um: float, count: int = 16) -> None:
        u = uniforms(seed, np.arange(count), np.zeros(count, np.int64), 3)
        length = shortest_um * (longest_um / shortest_um) ** u[:, 0]
        angle = 2 * np.pi * u[:, 1]
        self._kx = 2 * np.pi / length * np.cos(angle)
        self._ky = 2 * np.pi / length * np.sin(angle)
        self._phase = 2 * np.pi * u[:, 2]
        self._scale = np.sqrt(2.0 / count)

    def grid(self, xs: F64, ys: F64) -> F32:
        """The field at every (y, x) of a grid: shape (len(ys), len(xs))."""
        ax = _turned(np.outer(self._kx, xs) + self._phase[:, None])
        by = _turned(np.outer(self._ky, ys))
        rows = np.concatenate([np.cos(by), np.sin(by)])
        cols = np.concatenate([np.sin(ax), np.cos(ax)]) * np.float32(self._scale)
        return np.asarray(rows.T @ cols, dtype=np.float32)

    def at(self, x: F64, y: F64) -> F64:
        """The field at points: shape (n,)."""
        arg = np.multiply.outer(x, self._kx) + np.multiply.outer(y, self._ky) + self._phase
        return np.asarray(np.sin(arg).sum(axis=-1) * self._scale)


@dataclass(frozen=True)
class Sites:
    """Points of a jittered lattice: position in µm, lattice indices, and uniform numbers (n, columns)."""

    x: F64
    y: F64
    ix: I64
    iy: I64
    u: F64

    def take(self, keep: NDArray[np.bool_]) -> Sites:
        """The sites where `keep` is True."""
        return Sites(self.x[keep], self.y[keep], self.ix[keep], self.iy[keep], self.u[keep])

    def __len__(self) -> int:
        return len(self.x)


def lattice(
    seed: int,
    window: Window,
    *,
    step_um: tuple[float, float],
    jitter: float,
    angle: float = 0.0,
    margin_um: float = 0.0,
    columns: int = 3,
) -> Sites:
    """Sites of a rotated brick lattice, each moved by up to `jitter` of a step, that fall near the window.

    `step_um` is the spacing (along, across) the direction `angle`; every second row is shifted by half a step.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    corners_x = np.array([window.x0_um, window.x1_um, window.x0_um, window.x1_um])
    corners_y = np.array([window.y0_um, window.y0_um, window.y1_um, window.y1_um])
    along = cos * corners_x + sin * corners_y
    across = -sin * corners_x + cos * corners_y
    a0, a1 = (along.min() - margin_um) / step_um[0], (along.max() + margin_um) / step_um[0]
    b0, b1 = (across.min() - margin_um) / step_um[1], (across.max() + margin_um) / step_um[1]
    ia = np.arange(int(np.floor(a0)) - 2, int(np.ceil(a1)) + 2)
    ib = np.arange(int(np.floor(b0)) - 1, int(np.ceil(b1)) + 2)
    gx, gy = (grid.ravel().astype(np.int64) for grid in np.meshgrid(ia, ib))
    u = uniforms(seed, gx, gy, columns + 2)
    a = (gx + 0.5 * (gy & 1) + jitter * (u[:, 0] - 0.5)) * step_um[0]
    b = (gy + jitter * (u[:, 1] - 0.5)) * step_um[1]
    sites = Sites(cos * a - sin * b, sin * a + cos * b, gx, gy, u[:, 2:])
    return sites.take(window.contains(sites.x, sites.y, margin_um))


_BANK_SIZE = 1024
STEPS = 32  # banks hold whole steps of 1/32 standard deviation, one byte each: four times less to read
BANK_UM = 0.5
DIRECTIONS = 5
I8 = NDArray[np.int8]


def _as_steps(field: NDArray[np.floating]) -> I8:
    scaled = (field - field.mean()) * (STEPS / field.std())
    return np.clip(np.rint(scaled), -127, 127).astype(np.int8)


@lru_cache(maxsize=4)
def white_bank(seed: int = 11) -> I8:
    """White noise, (1024, 1024), mean 0, standard deviation 32."""
    return _as_steps(np.random.default_rng(seed).standard_normal((_BANK_SIZE, _BANK_SIZE), dtype=np.float32))


@lru_cache(maxsize=1)
def _white_spectrum() -> NDArray[np.complex64]:
    return np.asarray(np.fft.rfft2(white_bank(7).astype(np.float32)), dtype=np.complex64)


@lru_cache(maxsize=64)
def fibre_bank(along_um: float, across_um: float, direction: int) -> I8:
    """A texture of streaks, (1024, 1024) at 0.5 µm, periodic along both axes; mean 0, standard deviation 32.

    The streaks run at an angle of `direction` x 180 / 5 degrees to axis 1. They are turned in the spectrum, so that
    the texture repeats along the axes in every direction and is read without turning any position.
    """
    turn = direction * np.pi / DIRECTIONS
    fx = np.fft.rfftfreq(_BANK_SIZE)[None, :]
    fy = np.fft.fftfreq(_BANK_SIZE)[:, None]
    along, across = np.cos(turn) * fx + np.sin(turn) * fy, np.cos(turn) * fy - np.sin(turn) * fx
    shape = np.exp(-2 * (np.pi / BANK_UM) ** 2 * ((along * along_um) ** 2 + (across * across_um) ** 2))
    return _as_steps(np.fft.irfft2(_white_spectrum() * shape.astype(np.float32)))


def sample_bank(bank: I8, window: Window, shift: tuple[int, int]) -> I8:
    """Nearest value of a texture of 0.5 µm at every pixel, (height, width); the texture repeats every 512 µm.

    Args:
        shift: rows and columns by which the texture is moved.
    """
    row = (np.floor(window.ys() * (1 / BANK_UM)).astype(np.int64) + shift[0]) & (_BANK_SIZE - 1)
    col = (np.floor(window.xs() * (1 / BANK_UM)).astype(np.int64) + shift[1]) & (_BANK_SIZE - 1)
    return np.asarray(bank[row].take(col, axis=1))


def white(shape: tuple[int, int], corner: tuple[int, int]) -> F32:
    """White noise of unit variance, read from one bank at `corner` (row, column): it repeats every 1,024 pixels."""
    row = (corner[0] + np.arange(shape[0])) & (_BANK_SIZE - 1)
    col = (corner[1] + np.arange(shape[1])) & (_BANK_SIZE - 1)
    return white_bank()[row].take(col, axis=1) * np.float32(1 / STEPS)
