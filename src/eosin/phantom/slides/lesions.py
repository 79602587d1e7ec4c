"""Small lesions with a scene each, and what of each scene can really be seen on the slide.

A page of tissue shows only where a mask lets it through; a finding that lies beside the mask is on no slide. So each
lesion gets a window of its own, and its findings are counted again inside what the mask shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from eosin.phantom.slides.plan import SlidePlan
from eosin.phantom.tiles.noise import Window
from eosin.phantom.tiles.scenes import Finding, Scene, build_scene
from eosin.phantom.tiles.tile import case_rng, optics_of

_REACH = 1.4  # of the radius: the border of a lesion waves by an eighth of it
_MIN_POOL_SHARE = 0.05
_MIN_AREA_UM2 = 4000.0
_NEED_GLANDS = {
    "basal nuclei": ("round glands",),
    "stratified nuclei": ("crowded glands",),
    "pleomorphic nuclei": ("irregular glands", "cribriform glands", "floating tumour cells"),
}
_GLANDS = {"round glands", "crowded glands", "irregular glands", "cribriform glands", "distorted glands"}
_CELLS = {"mitoses": "mitosis", "goblet cells": "goblet"}


@dataclass(frozen=True)
class LesionScene:
    """One lesion as it was painted.

    Attributes:
        x, y: upper left corner of `picture` in pixels of level 0.
        picture: uint8 (side, side, 3).
        findings: by name, what of the scene the lesion's mask shows.
        area_um2: of what can be seen of it.
    """

    number: int
    x: int
    y: int
    picture: np.ndarray = field(repr=False)
    findings: Mapping[str, Finding]
    area_um2: float

    @property
    def visible(self) -> bool:
        """Whether enough of it lies in clean tissue to be told."""
        return self.area_um2 >= _MIN_AREA_UM2


def lesion_scenes(plan: SlidePlan, mpp: float) -> tuple[LesionScene, ...]:
    """A scene for each lesion of a plan, in order."""
    return tuple(_lesion_scene(plan, mpp, number) for number in range(len(plan.lesions)))


def _lesion_scene(plan: SlidePlan, mpp: float, number: int) -> LesionScene:
    x_um, y_um, radius = plan.lesions[number]
    reach = _REACH * radius
    x, y = int((x_um - reach) // mpp), int((y_um - reach) // mpp)
    side = max(64, int(2 * reach / mpp) + 1)
    window = Window(x * mpp, y * mpp, side, side, mpp)
    rng = case_rng(plan.case, 12, number)
    scene = build_scene(plan.case.diagnosis, window, rng, extras=False, without=plan.without)
    noise = case_rng(plan.case, 13, number)
    picture = optics_of(plan.case).expose(scene.planes.flatten(), mpp, noise, jpeg=False)
    shown = plan.shown_lesion(number, window.xs(), window.ys()) > 0
    area = float(shown.sum()) * mpp**2
    return LesionScene(number, x, y, picture, seen_within(scene, shown), area)


def seen_within(scene: Scene, shown: np.ndarray) -> dict[str, Finding]:
    """The findings of a scene, counted again where a mask (height, width) is True.

    Glands count by the centre of their box, cells by their centre. What the scene states of the tissue as a whole
    (its stroma, its fascicles) stays as it is; so do findings that it states to be absent. Boxes are those of the
    scene's window.
    """
    if not shown.any():
        return {name: replace(f, present=False, count=0 if f.count is not None else None, boxes=())
                for name, f in scene.findings.items()}  # fmt: skip
    seen = {name: _again(name, f, scene, shown) for name, f in scene.findings.items()}
    for name, needed in _NEED_GLANDS.items():
        if name in seen and seen[name].present and not any(seen[g].present for g in needed if g in seen):
            seen[name] = replace(seen[name], present=False)
    return seen


def _again(name: str, finding: Finding, scene: Scene, shown: np.ndarray) -> Finding:
    if not finding.present:
        return finding
    if name in _CELLS:
        count = _num_cells(scene, _CELLS[name], shown)
        return replace(finding, present=count > 0, count=count)
    if name in scene.places:
        count = sum(_is_shown(scene, x, y, shown) for x, y in scene.places[name])
        spread = name == "necrosis" and _num_cells(scene, "ghost", shown) > 2
        return replace(finding, present=count > 0 or spread, count=count if finding.count is not None else None)
    if name == "mucin pools":
        share = float((scene.planes.mucin[shown] > 0.02).mean())
        return replace(finding, present=share > _MIN_POOL_SHARE)
    if finding.boxes:
        boxes = tuple(b for b in finding.boxes if shown[(b[1] + b[3]) // 2, (b[0] + b[2]) // 2])
        alone = name == "floating tumour cells" and _num_cells(scene, "signet", shown) > 0
        return replace(finding, present=bool(boxes) or alone, count=len(boxes), boxes=boxes)
    return finding


def _num_cells(scene: Scene, kind: str, shown: np.ndarray) -> int:
    total = 0
    for group in scene.planes.queue:
        if group.kind == kind:
            window = scene.planes.window
            inside = window.contains(group.x, group.y) & shown[window.rows(group.y), window.columns(group.x)]
            total += int(inside.sum())
    return total


def _is_shown(scene: Scene, x: float, y: float, shown: np.ndarray) -> bool:
    window = scene.planes.window
    at = np.array([x]), np.array([y])
    return bool(window.contains(*at)[0] and shown[window.rows(at[1])[0], window.columns(at[0])[0]])


def findings_of_slide(background: Mapping[str, Finding], lesions: tuple[LesionScene, ...]) -> dict[str, Finding]:
    """What a slide shows anywhere, by name: present where any part shows it, with the counts of lesions added up.

    A finding that no part shows, and that some part was looked at for, is absent. What the background shows has no
    count: its page returns in mirrored copies.
    """
    found = {n: Finding(n, f.present) for n, f in background.items()}
    for lesion in lesions:
        if not lesion.visible:
            continue
        for name, f in lesion.findings.items():
            old = found.get(name)
            if name in background and background[name].present:
                continue
            counts = [c for c in (old.count if old else None, f.count) if c is not None]
            present = f.present or bool(old and old.present)
            found[name] = Finding(name, present, sum(counts) if counts and present else None)
    if any(f.present and name in _GLANDS for name, f in found.items()):
        found.pop("glands", None)  # a lesion without glands does not make a slide without glands
    return found
