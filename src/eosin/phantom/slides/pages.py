"""The material that slides are laid with: one page of each tissue, rendered as one scene and repeated in a mirror.

Scenes that are rendered in separate windows do not meet without a seam, because glands are placed one after the other
inside a window. A page has no seam inside; mirrored repetition has none between its copies. The price is that the
same tissue returns, turned over, every two pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eosin.core.processes import one_thread, worker_processes
from eosin.phantom.slides.lesions import LesionScene
from eosin.phantom.tiles import tissues
from eosin.phantom.tiles.noise import Window
from eosin.phantom.tiles.planes import Planes
from eosin.phantom.tiles.scenes import Finding, build_scene
from eosin.phantom.tiles.tile import PhantomCase, case_rng, optics_of

PAGE_PX = 2048
FAT = "fat"
GLASS = "glass"


@dataclass(frozen=True)
class Pages:
    """The material of one slide.

    Attributes:
        pictures: of each material, uint8 (side, side, 3), by the name of the tissue.
        glass: colour of bare glass.
        findings: what each page of tissue shows.
        lesions: the lesions that have scenes of their own.
    """

    pictures: dict[str, np.ndarray]
    glass: tuple[float, float, float]
    findings: dict[str, dict[str, Finding]] = field(default_factory=dict)
    lesions: tuple[LesionScene, ...] = ()

    def cut(self, name: str, x: int, y: int, width: int, height: int) -> np.ndarray:
        """A box of the plane that a page covers in mirrored copies: uint8 (height, width, 3)."""
        page = self.pictures[name]
        side = page.shape[0]
        if x % side + width <= side and y % side + height <= side:  # inside one copy: no index arrays
            return page[_span(y, height, side), _span(x, width, side)]
        return page[_mirror(y, height, side)[:, None], _mirror(x, width, side)[None, :]]

    def faded(self, exponent: float) -> Pages:
        """As if all were stained less: light to the power `exponent`, against the glass."""
        levels = np.arange(256, dtype=np.float64)
        tables = [np.clip(g * (levels / g) ** exponent, 0, 255).round().astype(np.uint8) for g in self.glass]
        pictures = {name: page if name == GLASS else _toned(page, tables) for name, page in self.pictures.items()}
        lesions = tuple(replace(x, picture=_toned(x.picture, tables)) for x in self.lesions)
        return Pages(pictures, self.glass, self.findings, lesions)


def _toned(page: np.ndarray, tables: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([tables[c][page[..., c]] for c in range(3)], axis=-1)


def _span(start: int, length: int, side: int) -> slice:
    """Where a range that lies inside one copy stands in the page; backwards in every second copy."""
    copy, first = divmod(start, side)
    if copy % 2 == 0:
        return slice(first, first + length)
    last = side - 1 - first
    stop = last - length
    return slice(last, stop if stop >= 0 else None, -1)


def _mirror(start: int, length: int, side: int) -> np.ndarray:
    place = np.arange(start, start + length) % (2 * side)
    return np.where(place < side, place, 2 * side - 1 - place)


def make_pages(
    case: PhantomCase,
    names: Sequence[str],
    mpp: float,
    *,
    page_px: int = PAGE_PX,
    workers: int = 1,
    lesions: tuple[LesionScene, ...] = (),
) -> Pages:
    """Render the pages of a case.

    Args:
        names: diagnoses, and FAT. page_px: side of a page. workers: processes.
        lesions: scenes that are there already.
    """
    wanted = list(dict.fromkeys([*names, GLASS]))
    jobs = [(case, name, mpp, page_px) for name in wanted]
    if workers > 1 and len(jobs) > 2:
        with worker_processes(min(workers, len(jobs)), one_thread) as pool:
            made = list(pool.map(_page, jobs))
    else:
        made = [_page(job) for job in jobs]
    pictures = {name: picture for name, (picture, _) in zip(wanted, made, strict=True)}
    findings = {name: found for name, (_, found) in zip(wanted, made, strict=True) if found}
    colour = pictures[GLASS].reshape(-1, 3).mean(0)
    return Pages(pictures, (float(colour[0]), float(colour[1]), float(colour[2])), findings, lesions)


def _page(job: tuple[PhantomCase, str, float, int]) -> tuple[np.ndarray, dict[str, Finding]]:
    case, name, mpp, side = job
    optics = optics_of(case)
    noise = case_rng(case, 7, sum(name.encode()))
    if name == GLASS:
        side = 512
        nothing = {k: np.zeros((side, side), np.float32) for k in ("haem", "eosin", "red", "mucin")}
        return optics.expose(nothing, mpp, noise, jpeg=False), {}
    if name == FAT:
        return optics.expose(_fat_planes(case, mpp, side // 2), mpp, noise, jpeg=False), {}
    window = Window(2000.0, 2000.0, side, side, mpp)
    scene = build_scene(name, window, case_rng(case, 6, len(name)), extras=False)
    return optics.expose(scene.planes.flatten(), mpp, noise, jpeg=False), scene.findings


def _fat_planes(case: PhantomCase, mpp: float, side: int) -> dict[str, np.ndarray]:
    """Fat is a function of position, so it can be painted in small windows, which takes far less memory."""
    whole = {k: np.empty((side, side), np.float32) for k in ("haem", "eosin", "red", "mucin")}
    step, halo = 256, 16
    for y in range(0, side, step):
        for x in range(0, side, step):
            across = step + 2 * halo
            window = Window(2000.0 + (x - halo) * mpp, 2000.0 + (y - halo) * mpp, across, across, mpp)
            planes = Planes.empty(window)
            tissues.fat(planes, case_rng(case, 8), np.full((across, across), 1e3, dtype=np.float32), 62.0)
            for key, plane in planes.flatten().items():
                part = whole[key][y : y + step, x : x + step]
                part[:] = plane[halo : halo + part.shape[0], halo : halo + part.shape[1]]
    return whole
