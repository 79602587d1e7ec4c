"""Cases and tiles. Everything follows from (seed, case number, tile number), in any order and any process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from eosin.core.images import open_own
from eosin.core.processes import one_thread, worker_processes
from eosin.phantom.tiles.mimics import build_mimic
from eosin.phantom.tiles.noise import Window
from eosin.phantom.tiles.optics import Optics
from eosin.phantom.tiles.scenes import DIAGNOSES, Finding, build_scene

TILE_PX = 224
TILE_MPP = 1.0
ORGAN = "colon"


@dataclass(frozen=True)
class PhantomCase:
    """A made-up case: one diagnosis, one stain, one scanner.

    Attributes:
        seed, number: all that its tiles depend on, beside the two below.
        mimics: its tissue looks like that of other diagnoses (`mimics.build_mimic`).
        stain_shift: how far its stain lies from the usual range (`Optics.draw`).
    """

    seed: int
    number: int
    diagnosis: str
    mimics: bool = False
    stain_shift: float = 0.0

    @property
    def id(self) -> str:
        return f"phantom-{self.seed}-{self.number:05d}"


@dataclass(frozen=True)
class PhantomTile:
    """A tile and the truth about it.

    Attributes:
        jpeg: the picture as the scanner of the case compressed it.
        findings: by name, those that are present and those that were looked for and are absent.
        mpp: microns per pixel.
    """

    case: PhantomCase
    index: int
    jpeg: bytes
    findings: dict[str, Finding]
    mpp: float

    @property
    def id(self) -> str:
        return f"{self.case.id}-{self.index}"

    @cached_property
    def image(self) -> np.ndarray:
        """Pixels, uint8 (size, size, 3)."""
        return np.asarray(open_own(self.jpeg))


def make_case(seed: int, number: int, *, mimics: bool = False, stain_shift: float = 0.0) -> PhantomCase:
    """Case `number` of a series. Diagnoses take turns, so that any run of cases is balanced."""
    return PhantomCase(seed, number, DIAGNOSES[number % len(DIAGNOSES)], mimics, stain_shift)


def cases(num: int, seed: int, first: int = 0, *, mimics: bool = False, stain_shift: float = 0.0) -> list[PhantomCase]:
    """Cases first .. first + num - 1 of a series."""
    return [make_case(seed, first + i, mimics=mimics, stain_shift=stain_shift) for i in range(num)]


def case_rng(case: PhantomCase, *more: int) -> np.random.Generator:
    """The random numbers of a case, or of one thing of it."""
    return np.random.default_rng(np.random.SeedSequence([case.seed, case.number, *more]))


@lru_cache(maxsize=64)
def optics_of(case: PhantomCase) -> Optics:
    """Stain and scanner of a case."""
    return Optics.draw(case_rng(case, 1), case.stain_shift)


def render_tile(case: PhantomCase, index: int, size_px: int = TILE_PX, mpp: float = TILE_MPP) -> PhantomTile:
    """Tile `index` of a case.

    Args:
        size_px: side in pixels.
        mpp: microns per pixel.
    """
    rng = case_rng(case, 2, index)
    window = Window(1000.0 * (index + 1), 500.0, size_px, size_px, mpp)
    build = build_mimic if case.mimics else build_scene
    scene = build(case.diagnosis, window, rng)
    thickness = float(np.exp(rng.normal(0, 0.24)))
    optics = optics_of(case)
    pixels = optics.expose(scene.planes.flatten(), mpp, rng, thickness=thickness, jpeg=False)
    return PhantomTile(case, index, optics.compress(pixels), scene.findings, mpp)


Spec = tuple[PhantomCase, int]


def _render(job: tuple[Sequence[Spec], int, float]) -> list[PhantomTile]:
    specs, size_px, mpp = job
    return [render_tile(case, index, size_px, mpp) for case, index in specs]


def render_many(
    specs: Sequence[Spec], *, size_px: int = TILE_PX, mpp: float = TILE_MPP, workers: int | None = None
) -> Iterator[PhantomTile]:
    """Tiles in the order of `specs`, made by several processes.

    Args:
        workers: number of processes; None: one a core.
    """
    num = workers or os.cpu_count() or 1
    if num == 1 or len(specs) < 64:
        for case, index in specs:
            yield render_tile(case, index, size_px, mpp)
        return
    for case in cases(len(DIAGNOSES), 0):
        render_tile(case, 0, size_px, mpp)  # draws the stamps of all cells once; forked workers inherit them
    jobs = [(specs[i : i + 32], size_px, mpp) for i in range(0, len(specs), 32)]
    with worker_processes(num, one_thread) as pool:
        for tiles in pool.map(_render, jobs):
            yield from tiles
