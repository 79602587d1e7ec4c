"""A PHANTOM slide: a pyramidal tiled TIFF, written block by block, with its truth as GeoJSON and a report.

Normal mucosa lies in a ragged piece of tissue on white glass; one to three lesions of the case's diagnosis lie in it.
Coordinates of the GeoJSON are pixels of level 0, as QuPath reads them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError, disk_errors
from eosin.phantom.noise import F32, Waves, Window
from eosin.phantom.optics import Optics
from eosin.phantom.planes import cover
from eosin.phantom.report import case_report
from eosin.phantom.scenes import NORMAL, build_scene
from eosin.phantom.tile import PhantomCase, case_rng, make_case, optics_of

TILE = 256
BLOCK = 1024
STEP = 4  # level 1 is four times smaller, every further level two times
_COLOURS = {"Tissue": [160, 160, 160], "Lesion": [200, 60, 90]}


@dataclass(frozen=True)
class SlidePlan:
    """Where tissue and lesions lie, as functions of the position in µm.

    Attributes:
        side_um: side of the square slide.
        lesions: centre x, centre y, radius of each, µm.
    """

    case: PhantomCase
    side_um: float
    lesions: tuple[tuple[float, float, float], ...]

    @classmethod
    def of(cls, case: PhantomCase, side_um: float) -> SlidePlan:
        """The plan of a case's slide."""
        rng = case_rng(case, 5)
        num = 0 if case.diagnosis == NORMAL else int(rng.integers(1, 4))
        radius = 0.12 * side_um
        lesions: list[tuple[float, float, float]] = []
        for _ in range(200):
            if len(lesions) == num:
                break
            x, y, r = *rng.uniform(0.28, 0.72, 2) * side_um, rng.uniform(0.7, 1.2) * radius
            if all(np.hypot(x - a, y - b) > 1.2 * (r + c) for a, b, c in lesions):
                lesions.append((float(x), float(y), float(r)))
        return cls(case, side_um, tuple(lesions))

    def tissue(self, xs: np.ndarray, ys: np.ndarray) -> F32:
        """Signed distance in µm to the border of the tissue, positive inside: (len(ys), len(xs))."""
        centre = self.side_um / 2
        wave = Waves(self.case.seed * 7919 + self.case.number, 0.1 * self.side_um, 0.5 * self.side_um).grid(xs, ys)
        u, v = (xs - centre)[None, :] / 0.44, (ys - centre)[:, None] / 0.37
        return np.asarray(self.side_um * (1 + 0.1 * wave) - np.hypot(u, v), dtype=np.float32) * np.float32(0.4)

    def lesion(self, xs: np.ndarray, ys: np.ndarray) -> F32:
        """Signed distance in µm to the border of the nearest lesion, positive inside."""
        best = np.full((len(ys), len(xs)), -1e4, dtype=np.float32)
        wave = Waves(self.case.seed * 104729 + self.case.number, 0.04 * self.side_um, 0.2 * self.side_um).grid(xs, ys)
        for x, y, r in self.lesions:
            distance = r * (1 + 0.12 * wave) - np.hypot((xs - x)[None, :], (ys - y)[:, None])
            best = np.maximum(best, distance.astype(np.float32))
        return np.minimum(best, self.tissue(xs, ys))


def write_slide(
    out: Path, *, case_number: int, seed: int = 0, size_px: int = 8192, mpp: float = 0.5
) -> tuple[Path, Path, Path]:
    """Write OUT.tiff, OUT.geojson and OUT.txt; returns their paths.

    Args:
        out: a new file; nothing is overwritten.
        size_px: side of level 0, a multiple of 1,024.
        mpp: microns per pixel of level 0.

    Memory stays bounded: blocks are rendered as they are written; level 1 lies in a temporary file.
    """
    files = (out, out.with_suffix(".geojson"), out.with_suffix(".txt"))
    for path in files:
        if path.exists():
            raise EosinError("There is such a file already.", where=path, next_step="choose another name")
    if size_px % BLOCK or size_px < 2 * BLOCK:
        raise EosinError("The side of a slide is a multiple of 1,024 px, at least 2,048.", found=str(size_px))
    case = make_case(seed, case_number)
    plan = SlidePlan.of(case, size_px * mpp)
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.tmp")
        try:
            _write_tiff(temporary, plan, size_px, mpp)
            files[1].write_text(json.dumps(geojson(plan, size_px, mpp)), "utf-8")
            files[2].write_text(case_report(case), "utf-8")
            temporary.rename(out)
        finally:
            temporary.unlink(missing_ok=True)
    return files


def _write_tiff(path: Path, plan: SlidePlan, size_px: int, mpp: float) -> None:
    import tifffile

    has_jpeg = _has_jpeg()
    options: dict[str, Any] = {
        "tile": (TILE, TILE),
        "photometric": "rgb",
        "compression": "jpeg" if has_jpeg else "deflate",
        "compressionargs": {"level": 90} if has_jpeg else None,
        "resolutionunit": "CENTIMETER",
        "metadata": None,
    }
    note = f"PHANTOM slide {plan.case.id}, {plan.case.diagnosis}; generated by Eosin, no tissue. Research use only."
    small_px = size_px // STEP
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        small = np.memmap(Path(folder) / "level1", dtype=np.uint8, mode="w+", shape=(small_px, small_px, 3))
        with tifffile.TiffWriter(path, bigtiff=size_px > 30_000) as tiff:
            tiff.write(
                _level0_tiles(plan, size_px, mpp, small), shape=(size_px, size_px, 3), dtype=np.uint8,
                description=note, resolution=(1e4 / mpp, 1e4 / mpp), software="Eosin phantom", **options,
            )  # fmt: skip
            level: np.ndarray = small
            factor = STEP
            while level.shape[0] >= TILE:
                tiff.write(
                    _tiles_of(level), shape=level.shape, dtype=np.uint8, subfiletype=1,
                    resolution=(1e4 / mpp / factor,) * 2, **options,
                )  # fmt: skip
                level, factor = _halved(level), factor * 2
        del small


def _has_jpeg() -> bool:
    import importlib.util

    return importlib.util.find_spec("imagecodecs") is not None


def _level0_tiles(plan: SlidePlan, size_px: int, mpp: float, small: np.ndarray) -> Iterator[np.ndarray]:
    """Tiles of level 0 in TIFF order; fills level 1 on the way."""
    for row in range(0, size_px, BLOCK):
        strip = np.empty((BLOCK, size_px, 3), dtype=np.uint8)
        for col in range(0, size_px, BLOCK):
            block = render_block(plan, col, row, mpp)
            strip[:, col : col + BLOCK] = block
            mean = block.reshape(BLOCK // STEP, STEP, BLOCK // STEP, STEP, 3).mean((1, 3))
            small[row // STEP : (row + BLOCK) // STEP, col // STEP : (col + BLOCK) // STEP] = mean.round()
        for y in range(0, BLOCK, TILE):
            for x in range(0, size_px, TILE):
                yield np.ascontiguousarray(strip[y : y + TILE, x : x + TILE])


def render_block(plan: SlidePlan, col: int, row: int, mpp: float) -> np.ndarray:
    """Pixels of the block whose upper left corner is (col, row) of level 0: uint8 (1024, 1024, 3)."""
    window = Window(col * mpp, row * mpp, BLOCK, BLOCK, mpp)
    tissue = plan.tissue(window.xs(), window.ys())
    optics = optics_of(plan.case)
    if tissue.max() < -20:
        return _glass(optics, plan, col, row)
    lesion = plan.lesion(window.xs(), window.ys())
    inside = cover(tissue, 6)
    share = cover(lesion, 12)
    planes = None
    for diagnosis, weight in ((NORMAL, 1 - share), (plan.case.diagnosis, share)):
        if weight.max() <= 0:
            continue
        rng = case_rng(plan.case, 6, len(diagnosis))
        painted = build_scene(diagnosis, window, rng, extras=False).planes.flatten()
        planes = {k: v * weight * inside + (planes[k] if planes else 0) for k, v in painted.items()}
    assert planes is not None
    return optics.expose(planes, mpp, case_rng(plan.case, 7, col, row), jpeg=False)


def _glass(optics: Optics, plan: SlidePlan, col: int, row: int) -> np.ndarray:
    nothing = {k: np.zeros((BLOCK, BLOCK), np.float32) for k in ("haem", "eosin", "red", "mucin")}
    return optics.expose(nothing, 1.0, case_rng(plan.case, 7, col, row), jpeg=False)


def _tiles_of(level: np.ndarray) -> Iterator[np.ndarray]:
    for y in range(0, level.shape[0], TILE):
        for x in range(0, level.shape[1], TILE):
            tile = np.full((TILE, TILE, 3), 255, dtype=np.uint8)
            part = level[y : y + TILE, x : x + TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _halved(level: np.ndarray) -> np.ndarray:
    height, width = level.shape[0] // 2 * 2, level.shape[1] // 2 * 2
    blocks = np.asarray(level[:height, :width]).reshape(height // 2, 2, width // 2, 2, 3)
    return np.asarray(blocks.mean((1, 3)).round(), dtype=np.uint8)


def geojson(plan: SlidePlan, size_px: int, mpp: float) -> dict[str, Any]:
    """Tissue and lesions as a FeatureCollection of polygons in pixels of level 0."""
    from contourpy import contour_generator

    step_um = plan.side_um / 512
    places = (np.arange(-1, 514) - 0.5) * step_um
    features = []
    for name, label, field in (
        ("Tissue", NORMAL, plan.tissue(places, places)),
        ("Lesion", plan.case.diagnosis, plan.lesion(places, places)),
    ):
        field[[0, -1]] = field[:, [0, -1]] = -1e3
        for line in contour_generator(places, places, field).lines(0.0):
            points = np.clip(np.asarray(line) / mpp, 0, size_px).round(1)
            if len(points) >= 4:
                features.append(_feature(name, label, points))
    return {
        "type": "FeatureCollection",
        "phantom": f"PHANTOM {plan.case.id}: generated, no tissue. Research use only.",
        "features": features,
    }


def _feature(name: str, label: str, points: np.ndarray) -> dict[str, Any]:
    ring = points.tolist()
    if ring[0] != ring[-1]:
        ring.append(ring[0])
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "objectType": "annotation",
            "name": label,
            "classification": {"name": name, "color": _COLOURS[name]},
        },
    }
