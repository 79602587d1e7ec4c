"""Scenes whose diagnosis lies in where things are, not in which things are there, nor in how many.

Three diagnoses of mucosa share one inventory: the same glands, nuclei, goblet cells, stroma, inflammation and
clusters of neutrophils, all drawn from the same ranges. What differs:

- normal mucosa: nuclei at the base, neutrophils in the stroma;
- tubular adenoma: part of the nuclei has left the base for the lumen, neutrophils in the stroma;
- active colitis: nuclei at the base, the neutrophils fill lumens.

Two carcinomas share another: the same pools of mucin, clumps of tumour cells and desmoplastic stroma.

- adenocarcinoma: the clumps lie in the stroma, the pools are empty;
- mucinous adenocarcinoma: the clumps float in the pools.

Leiomyoma has no mimic here: it is the muscle of the usual scenes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eosin.phantom.tiles import tissues
from eosin.phantom.tiles.glands import Drawn, GlandStyle
from eosin.phantom.tiles.noise import F32, Window
from eosin.phantom.tiles.planes import Planes, blob, fresh_seed, slow
from eosin.phantom.tiles.scenes import (
    ADENOMA,
    CARCINOMA,
    COLITIS,
    LEIOMYOMA,
    MUCINOUS,
    NORMAL,
    Box,
    Scene,
    build_scene,
    is_visible,
    lay_extras,
    lay_glands,
)

Rng = np.random.Generator
LIFTED = 0.9
_UM2_PER_NEUTROPHIL = 26.0
_TRIES = 12
_APART_UM, _INSIDE_UM = 46.0, 14.0
_CLUMP_AREA = 4.6
"""Area of a clump by the square of its size: pi x 0.97^2 x 1.55 (`tissues.clump`)."""


def build_mimic(diagnosis: str, window: Window, rng: Rng) -> Scene:
    """Paint a window of tissue with this diagnosis, from the inventory that it shares with others."""
    if diagnosis == LEIOMYOMA:
        return build_scene(diagnosis, window, rng)
    scene = Scene(Planes.empty(window))
    # A mucinous carcinoma gets no mucus beside its own pools; its mimic must not either.
    lay_extras(scene, MUCINOUS if diagnosis == CARCINOMA else diagnosis, np.random.default_rng(rng.integers(0, 2**63)))
    _MIMICS[diagnosis](scene, rng)
    return scene


def _mucosa(scene: Scene, rng: Rng, lifted: float, has_pus_inside: bool) -> Drawn:
    """Glands with the inventory of all three diagnoses of mucosa; findings that they share."""
    planes = scene.planes
    style = GlandStyle(
        half_um=(33, 42), stretch=(1.0, rng.uniform(1.1, 1.5)), wall_um=(22, 26), wobble=rng.uniform(0.03, 0.12),
        nucleus=str(rng.choice(["basal", "pencil"])), spacing_um=rng.uniform(5.2, 8.0), rows=1,
        goblets=rng.uniform(0.0, 0.7), cytoplasm=rng.uniform(0.4, 0.52), basophilia=rng.uniform(0.06, 0.18),
        strength=rng.uniform(0.75, 1.0), lifted=lifted, lumen="pus", lumen_share=0.85 if has_pus_inside else 0.0,
    )  # fmt: skip
    step = rng.uniform(90, 122)
    drawn = lay_glands(scene, rng, style, (step, step * 0.92), 0.3)
    if not has_pus_inside:
        for _ in range(int(rng.integers(3, 5))):
            _neutrophils(planes, rng)
    tissues.stroma(planes, rng, desmoplastic=False, cells_um=rng.uniform(14, 26), level=rng.uniform(0.3, 0.7))
    tissues.free_cells(planes, rng, "plasma", rng.uniform(10, 26))
    tissues.free_cells(planes, rng, "lymphocyte", rng.uniform(10.5, 30))
    scene.saw("goblet cells", drawn.goblets > 0, drawn.goblets)
    scene.saw("mitoses", False, 0)
    return drawn


def _neutrophils(planes: Planes, rng: Rng) -> None:
    """A cluster of neutrophils in the stroma between glands, about as large and dense as those in a lumen."""
    window = planes.window
    best: tuple[int, F32 | None] = (0, None)
    for _ in range(_TRIES):  # the roomiest of some places: stroma is narrow
        x = window.x0_um + rng.uniform(0.03, 0.97) * window.width_px * window.mpp
        y = window.y0_um + rng.uniform(0.03, 0.97) * window.height_px * window.mpp
        area = blob(window, x, y, rng.uniform(11, 15), fresh_seed(rng), ragged=0.3)
        area[planes.no_cells] = -50
        free = int(np.count_nonzero(area > 0))
        best = max(best, (free, area), key=lambda found: found[0])
    region = best[1]
    if region is None:
        return
    tissues.free_cells(planes, rng, "neutrophil", float(np.sqrt(_UM2_PER_NEUTROPHIL)), region)
    planes.taken |= region > 0
    planes.no_cells |= region > 0


def _normal(scene: Scene, rng: Rng) -> None:
    drawn = _mucosa(scene, rng, 0.0, has_pus_inside=False)
    scene.saw("round glands", drawn.num > 0, drawn.num, drawn.boxes)
    scene.saw("basal nuclei", drawn.num > 0)
    scene.saw("crypt abscess", False, 0)


def _adenoma(scene: Scene, rng: Rng) -> None:
    drawn = _mucosa(scene, rng, LIFTED, has_pus_inside=False)
    scene.saw("stratified nuclei", drawn.num > 0)
    scene.saw("crypt abscess", False, 0)
    scene.saw("desmoplastic stroma", False)


def _colitis(scene: Scene, rng: Rng) -> None:
    drawn = _mucosa(scene, rng, 0.0, has_pus_inside=True)
    scene.saw("crypt abscess", drawn.filled > 0, drawn.filled)
    scene.places["crypt abscess"] = list(drawn.filled_at)
    scene.saw("basal nuclei", drawn.num > 0)
    scene.saw("pleomorphic nuclei", False)


def _cancer(scene: Scene, rng: Rng, floats: bool) -> list[Box]:
    """Pools, stroma and clumps of both carcinomas; returns the boxes of the clumps."""
    planes = scene.planes
    wave = slow(planes.window, fresh_seed(rng), 90, 190)
    # Clumps cover what they lie in: pools are larger by their area where they float, smaller where they do not.
    num, size = int(rng.integers(5, 9)), rng.uniform(15, 22)
    covered = num * _CLUMP_AREA * size**2 / (planes.taken.size * planes.window.mpp**2)
    level = float(np.quantile(wave, np.clip(rng.uniform(0.45, 0.6) + covered * (-0.5 if floats else 0.5), 0.2, 0.8)))
    pools = (26 * (wave - np.float32(level))).astype(np.float32)
    tissues.mucin_pools(planes, rng, pools)
    drawn = Drawn([])
    for x, y in _places(planes, rng, pools if floats else -pools, num):
        part = tissues.clump(planes, rng, x, y, size, 0.25)
        drawn.boxes += part.boxes
        drawn.mitoses += part.mitoses
    tissues.stroma(planes, rng, desmoplastic=True, cells_um=rng.uniform(11, 20), level=rng.uniform(0.32, 0.72))
    tissues.free_cells(planes, rng, "lymphocyte", rng.uniform(12, 34))
    scene.saw("pleomorphic nuclei", drawn.num > 0)
    scene.saw("mitoses", drawn.mitoses > 0, drawn.mitoses)
    scene.saw("mucin pools", is_visible(pools, 0.05))
    return drawn.boxes


def _places(planes: Planes, rng: Rng, inside: F32, num: int) -> list[tuple[float, float]]:
    """Up to `num` points well inside a signed distance and apart from each other, in µm."""
    window = planes.window
    found: list[tuple[float, float]] = []
    for _ in range(400):
        x = window.x0_um + rng.uniform(0.04, 0.96) * window.width_px * window.mpp
        y = window.y0_um + rng.uniform(0.04, 0.96) * window.height_px * window.mpp
        at = np.array([x]), np.array([y])
        apart = all(np.hypot(x - a, y - b) > _APART_UM for a, b in found)
        if apart and planes.at(inside, *at)[0] > _INSIDE_UM and not planes.at(planes.taken, *at)[0]:
            found.append((x, y))
        if len(found) == num:
            break
    return found


def _carcinoma(scene: Scene, rng: Rng) -> None:
    boxes = _cancer(scene, rng, floats=False)
    scene.saw("irregular glands", bool(boxes), len(boxes), boxes)
    scene.saw("floating tumour cells", False, 0)
    scene.saw("desmoplastic stroma", True)
    scene.saw("goblet cells", False, 0)


def _mucinous(scene: Scene, rng: Rng) -> None:
    boxes = _cancer(scene, rng, floats=True)
    scene.saw("floating tumour cells", bool(boxes), len(boxes), boxes)
    scene.saw("round glands", False, 0)


_MIMICS: dict[str, Callable[[Scene, Rng], None]] = {
    NORMAL: _normal,
    ADENOMA: _adenoma,
    COLITIS: _colitis,
    CARCINOMA: _carcinoma,
    MUCINOUS: _mucinous,
}
