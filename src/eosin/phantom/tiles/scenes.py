"""The six diagnoses as scenes: what is laid where, and what of it can be seen in the window.

The difference between diagnoses is architecture and cytology. Cellularity, clear space, blood, fat and inflammation
vary in all of them, and every case has its own colours, so that colour tells little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from eosin.phantom.tiles import tissues
from eosin.phantom.tiles.glands import Drawn, GlandStyle, paint_gland
from eosin.phantom.tiles.noise import Sites, Window, lattice
from eosin.phantom.tiles.planes import Planes, blob, fresh_seed, slow

Rng = np.random.Generator
Box = tuple[int, int, int, int]

NORMAL = "normal mucosa"
ADENOMA = "tubular adenoma"
CARCINOMA = "adenocarcinoma"
MUCINOUS = "mucinous adenocarcinoma"
COLITIS = "active colitis"
LEIOMYOMA = "leiomyoma"
DIAGNOSES = (NORMAL, ADENOMA, CARCINOMA, MUCINOUS, COLITIS, LEIOMYOMA)


@dataclass(frozen=True)
class Finding:
    """One thing that can be seen in a tile, or that was looked for and is not there.

    Attributes:
        name: key of the finding, such as "crowded glands".
        present: False says that the tile shows none of it.
        count: how many, where counting makes sense.
        boxes: x0, y0, x1, y1 in pixels of the tile.
    """

    name: str
    present: bool
    count: int | None = None
    boxes: tuple[Box, ...] = ()


@dataclass
class Scene:
    """Planes with everything painted, the findings, and for some of them where they are: x and y in µm.

    Attributes:
        without: findings of OPTIONAL that are not painted here.
    """

    planes: Planes
    findings: dict[str, Finding] = field(default_factory=dict)
    places: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    without: frozenset[str] = frozenset()

    def saw(self, name: str, present: bool = True, count: int | None = None, boxes: list[Box] | None = None) -> None:
        """Note a finding."""
        self.findings[name] = Finding(name, present, count, tuple(boxes or ()))


ROUND = GlandStyle(half_um=(29, 35), stretch=(1.0, 1.18), wall_um=(20, 23), wobble=0.03, nucleus="basal",
                   spacing_um=6.4, goblets=0.8, mitoses=0.0, cytoplasm=0.42)  # fmt: skip
CROWDED = GlandStyle(half_um=(23, 28), stretch=(1.4, 2.6), wall_um=(19, 22), wobble=0.07, nucleus="pencil",
                     spacing_um=4.9, rows=2, goblets=0.06, mitoses=0.16, cytoplasm=0.5, basophilia=0.16,
                     strength=0.78)  # fmt: skip
IRREGULAR = GlandStyle(half_um=(20, 30), stretch=(1.1, 2.1), wall_um=(12, 16), wobble=0.2, nucleus="pleomorphic",
                       spacing_um=8.6, rows=2, mitoses=0.4, cytoplasm=0.62, basophilia=0.15, lumen="necrosis",
                       lumen_share=0.4)  # fmt: skip
CRIBRIFORM = GlandStyle(half_um=(44, 64), stretch=(1.1, 1.6), wobble=0.14, nucleus="pleomorphic", spacing_um=9.4,
                        mitoses=1.6, cytoplasm=0.62, basophilia=0.15, holes=6, lumen="necrosis",
                        lumen_share=0.3)  # fmt: skip
INFLAMED = GlandStyle(half_um=(22, 30), stretch=(1.0, 1.5), wall_um=(13, 16), wobble=0.1, nucleus="basal",
                      spacing_um=6.2, rows=1, goblets=0.25, mitoses=0.08, cytoplasm=0.5, lumen="pus",
                      lumen_share=0.55)  # fmt: skip


def own_rng(seed: int, sites: Sites, i: int) -> Rng:
    """Random numbers of one site of a lattice, the same in every window that shows it."""
    return np.random.default_rng([seed, int(sites.ix[i]) & 0xFFFFFF, int(sites.iy[i]) & 0xFFFFFF])


def lay_glands(scene: Scene, rng: Rng, style: GlandStyle, step_um: tuple[float, float], jitter: float) -> Drawn:
    drawn = Drawn([])
    sites = lattice(fresh_seed(rng), scene.planes.window, step_um=step_um, jitter=jitter, angle=rng.uniform(0, np.pi),
                    margin_um=55)  # fmt: skip
    # Each gland has random numbers of its own, from its site: neighbouring windows of a slide agree about it.
    seed = fresh_seed(rng)
    for i in np.argsort(sites.u[:, 0]):
        paint_gland(scene.planes, float(sites.x[i]), float(sites.y[i]), style, own_rng(seed, sites, int(i)), drawn)
    return drawn


OPTIONAL = ("mitoses", "necrosis", "cribriform glands", "crypt abscess")
"""Findings that a diagnosis may show or not."""
_FILLINGS = {"necrosis": "necrosis", "pus": "crypt abscess"}


def _style(style: GlandStyle, scene: Scene) -> GlandStyle:
    """A style without what the scene shall not show."""
    if "mitoses" in scene.without:
        style = replace(style, mitoses=0.0)
    return replace(style, lumen_share=0.0) if _FILLINGS.get(style.lumen) in scene.without else style


def _normal(scene: Scene, rng: Rng) -> None:
    planes = scene.planes
    step = rng.uniform(74, 108)
    drawn = lay_glands(scene, rng, ROUND, (step, step * 0.9), 0.16)
    tissues.stroma(planes, rng, desmoplastic=False, cells_um=rng.uniform(14, 24), level=rng.uniform(0.3, 0.7))
    tissues.free_cells(planes, rng, "plasma", rng.uniform(13, 26))
    tissues.free_cells(planes, rng, "lymphocyte", rng.uniform(14, 30))
    scene.saw("round glands", True, drawn.num, drawn.boxes)
    scene.saw("goblet cells", drawn.goblets > 0, drawn.goblets)
    scene.saw("basal nuclei", drawn.num > 0)
    scene.saw("crowded glands", False)
    scene.saw("mitoses", False, 0)


def _adenoma(scene: Scene, rng: Rng) -> None:
    planes = scene.planes
    step = rng.uniform(56, 76)
    drawn = lay_glands(scene, rng, _style(CROWDED, scene), (step * 1.3, step * 0.95), 0.3)
    tissues.stroma(planes, rng, desmoplastic=False, cells_um=rng.uniform(13, 22), level=rng.uniform(0.3, 0.7))
    tissues.free_cells(planes, rng, "lymphocyte", rng.uniform(15, 30))
    scene.saw("crowded glands", True, drawn.num, drawn.boxes)
    scene.saw("stratified nuclei", drawn.num > 0)
    scene.saw("goblet cells", drawn.goblets > 0, drawn.goblets)
    scene.saw("mitoses", drawn.mitoses > 0, drawn.mitoses)
    scene.saw("desmoplastic stroma", False)


def _carcinoma(scene: Scene, rng: Rng) -> None:
    planes = scene.planes
    necrotic = False
    if rng.random() < 0.3 and "necrosis" not in scene.without:
        x, y = _somewhere(planes.window, rng)
        region = blob(planes.window, x, y, rng.uniform(26, 46), fresh_seed(rng), ragged=0.5)
        necrotic = is_visible(tissues.necrosis(planes, rng, region), 0.03)
    spread = rng.uniform(140, 200)
    large = Drawn([])
    if "cribriform glands" not in scene.without:
        large = lay_glands(scene, rng, _style(CRIBRIFORM, scene), (spread, spread * 0.87), 0.5)
    step = rng.uniform(66, 105)
    small = lay_glands(scene, rng, _style(IRREGULAR, scene), (step * 1.1, step), 0.75)
    tissues.stroma(planes, rng, desmoplastic=True, cells_um=rng.uniform(14, 22), level=rng.uniform(0.35, 0.75))
    tissues.free_cells(planes, rng, "lymphocyte", rng.uniform(15, 40))
    scene.saw("irregular glands", small.num > 0, small.num, small.boxes)
    scene.saw("cribriform glands", large.num > 0, large.num, large.boxes)
    scene.saw("pleomorphic nuclei", small.num + large.num > 0)
    scene.saw("mitoses", small.mitoses + large.mitoses > 0, small.mitoses + large.mitoses)
    scene.saw("desmoplastic stroma", True)
    scene.saw("necrosis", necrotic or small.filled + large.filled > 0)
    scene.places["necrosis"] = [*small.filled_at, *large.filled_at]
    scene.saw("goblet cells", False, 0)


def _mucinous(scene: Scene, rng: Rng) -> None:
    planes = scene.planes
    window = planes.window
    wave = slow(window, fresh_seed(rng), 90, 190)
    pools = (26 * (wave + rng.uniform(0.05, 0.8))).astype(np.float32)
    tissues.mucin_pools(planes, rng, pools)
    tissues.stroma(planes, rng, desmoplastic=True, cells_um=rng.uniform(11, 20), level=rng.uniform(0.32, 0.72))
    boxes: list[Box] = []
    mitoses, rate = 0, 0.0 if "mitoses" in scene.without else 0.25
    sites = lattice(fresh_seed(rng), window, step_um=(68, 60), jitter=0.9, margin_um=20)
    seed = fresh_seed(rng)
    for i in range(len(sites)):
        if planes.at(pools, sites.x[i : i + 1], sites.y[i : i + 1])[0] < 10:
            continue
        own = own_rng(seed, sites, i)
        done = tissues.clump(planes, own, float(sites.x[i]), float(sites.y[i]), own.uniform(13, 24), rate)
        boxes += done.boxes
        mitoses += done.mitoses
    signet = tissues.free_cells_in_pools(planes, rng, pools)
    tissues.free_cells(planes, rng, "lymphocyte", rng.uniform(12, 34))
    visible = float((pools > 0).mean())
    scene.saw("mucin pools", visible > 0.05)
    scene.saw("floating tumour cells", len(boxes) + signet > 0, len(boxes), boxes)
    scene.saw("pleomorphic nuclei", len(boxes) > 0)
    scene.saw("mitoses", mitoses > 0, mitoses)
    scene.saw("round glands", False, 0)


def _colitis(scene: Scene, rng: Rng) -> None:
    planes = scene.planes
    step = rng.uniform(76, 116)
    drawn = lay_glands(scene, rng, _style(INFLAMED, scene), (step, step * 0.92), 0.55)
    tissues.stroma(planes, rng, desmoplastic=False, cells_um=rng.uniform(22, 30), level=rng.uniform(0.3, 0.7))
    tissues.free_cells(planes, rng, "plasma", rng.uniform(10, 14.5))
    tissues.free_cells(planes, rng, "lymphocyte", rng.uniform(10.5, 16))
    tissues.free_cells(planes, rng, "neutrophil", rng.uniform(17, 26))
    scene.saw("dense inflammation", True)
    scene.saw("crypt abscess", drawn.filled > 0, drawn.filled)
    scene.places["crypt abscess"] = list(drawn.filled_at)
    scene.saw("distorted glands", drawn.num > 0, drawn.num, drawn.boxes)
    scene.saw("goblet cells", drawn.goblets > 0, drawn.goblets)
    scene.saw("pleomorphic nuclei", False)


def _leiomyoma(scene: Scene, rng: Rng) -> None:
    planes = scene.planes
    everywhere = np.full(planes.taken.shape, 50.0, dtype=np.float32)
    tissues.smooth_muscle(planes, rng, everywhere, rng.uniform(62, 92), rng.uniform(6.8, 14.0), rng.uniform(0.3, 1.0))
    scene.saw("interlacing fascicles", True)
    scene.saw("spindle cells", True)
    scene.saw("glands", False, 0)
    scene.saw("mitoses", False, 0)
    scene.saw("necrosis", False)


def _somewhere(window: Window, rng: Rng) -> tuple[float, float]:
    return (window.x0_um + rng.uniform(0.15, 0.85) * window.width_px * window.mpp,
            window.y0_um + rng.uniform(0.15, 0.85) * window.height_px * window.mpp)  # fmt: skip


def _edge_patch(window: Window, rng: Rng, radius_um: float) -> np.ndarray:
    """A patch that reaches in from one side of the window."""
    side = int(rng.integers(0, 4))
    along = rng.uniform(0.1, 0.9)
    wide, high = window.width_px * window.mpp, window.height_px * window.mpp
    x, y = [(along * wide, 0.0), (along * wide, high), (0.0, along * high), (wide, along * high)][side]
    return blob(window, window.x0_um + x, window.y0_um + y, radius_um, fresh_seed(rng), ragged=0.4)


def lay_extras(scene: Scene, diagnosis: str, rng: Rng) -> None:
    """Up to two things that any tile may hold beside its diagnosis. They say nothing about the diagnosis."""
    possible = ["adipose tissue", "haemorrhage", "lymphoid aggregate", "cleft"]
    if diagnosis != LEIOMYOMA:
        possible.append("muscle strip")
    if diagnosis != MUCINOUS:
        possible.append("mucus")
    wanted = set(rng.choice(possible, size=int(rng.choice([0, 1, 2], p=[0.1, 0.45, 0.45])), replace=False))
    for name in possible:
        shown = name in wanted and _EXTRAS[name](scene.planes, rng)
        if name not in ("cleft", "mucus"):
            scene.saw(name, shown)


def _reach(planes: Planes) -> float:
    return 0.3 * planes.window.width_px * planes.window.mpp


def is_visible(region: np.ndarray, share: float) -> bool:
    return float((region > 0).mean()) > share


def _fat(planes: Planes, rng: Rng) -> bool:
    region = _edge_patch(planes.window, rng, rng.uniform(0.6, 1.5) * _reach(planes))
    region[planes.taken] = -50
    tissues.fat(planes, rng, region)
    return is_visible(region, 0.03)


def _blood(planes: Planes, rng: Rng) -> bool:
    region = _edge_patch(planes.window, rng, rng.uniform(0.5, 1.1) * _reach(planes))
    region[planes.taken] = -50
    tissues.blood(planes, rng, region)
    return is_visible(region, 0.015)


def _aggregate(planes: Planes, rng: Rng) -> bool:
    x, y = _somewhere(planes.window, rng)
    region = tissues.lymphoid_aggregate(planes, rng, x, y, rng.uniform(28, 56))
    planes.taken |= region > 0
    return is_visible(region, 0.03)


def _cleft(planes: Planes, rng: Rng) -> bool:
    region = _edge_patch(planes.window, rng, rng.uniform(0.4, 1.5) * _reach(planes))
    region[planes.taken] = -50
    planes.glass = np.maximum(planes.glass, (region > 0).astype(np.float32))
    planes.no_cells |= region > 0
    planes.taken |= region > 0
    return is_visible(region, 0.03)


def _muscle_strip(planes: Planes, rng: Rng) -> bool:
    region = _edge_patch(planes.window, rng, rng.uniform(0.7, 1.4) * _reach(planes))
    region[planes.taken] = -50
    tissues.smooth_muscle(planes, rng, region, 140.0, rng.uniform(8, 14), rng.uniform(0.4, 0.95))
    planes.taken |= region > 0
    return is_visible(region, 0.05)


def _mucus(planes: Planes, rng: Rng) -> bool:
    region = _edge_patch(planes.window, rng, rng.uniform(0.6, 1.5) * _reach(planes))
    region[planes.taken] = -50
    tissues.mucin_pools(planes, rng, region)
    planes.taken |= region > 0
    return is_visible(region, 0.03)


_EXTRAS: dict[str, Callable[[Planes, Rng], bool]] = {
    "adipose tissue": _fat,
    "haemorrhage": _blood,
    "lymphoid aggregate": _aggregate,
    "cleft": _cleft,
    "muscle strip": _muscle_strip,
    "mucus": _mucus,
}

_SCENES: dict[str, Callable[[Scene, Rng], None]] = {
    NORMAL: _normal,
    ADENOMA: _adenoma,
    CARCINOMA: _carcinoma,
    MUCINOUS: _mucinous,
    COLITIS: _colitis,
    LEIOMYOMA: _leiomyoma,
}


def build_scene(
    diagnosis: str, window: Window, rng: Rng, *, extras: bool = True, without: frozenset[str] = frozenset()
) -> Scene:
    """Paint a window of tissue with this diagnosis.

    Args:
        extras: also lay fat, blood and clefts at random.
        without: findings of OPTIONAL that shall not be painted.
    """
    scene = Scene(Planes.empty(window), without=without)
    before = np.random.default_rng(rng.integers(0, 2**63))
    if extras:
        lay_extras(scene, diagnosis, before)
    _SCENES[diagnosis](scene, rng)
    return scene
