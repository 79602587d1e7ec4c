"""The truth of a phantom slide as GeoJSON: tissue, lesions, fat, ink, borders, in pixels of level 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from eosin.phantom.slides.lesions import findings_of_slide
from eosin.phantom.slides.pages import Pages
from eosin.phantom.slides.plan import SlidePlan
from eosin.phantom.tiles.noise import F32
from eosin.phantom.tiles.scenes import NORMAL, Finding
from eosin.slides.annotations.geojson import Shape, collection
from eosin.slides.tissue.segmentation import signed_area

COLOURS = {"Tissue": (160, 160, 160), "Lesion": (200, 60, 90), "Fat": (230, 200, 80), "Pen": (20, 160, 60),
           "Border": (40, 40, 40), "Tear": (120, 200, 220), "Bubble": (90, 140, 220)}  # fmt: skip
_GRID = 1024


def truth(plan: SlidePlan, size_px: int, mpp: float, pages: Pages | None = None) -> dict[str, Any]:
    """A FeatureCollection. Class Tissue is what can be used: without tears, ink and black borders.

    The name of a lesion is its diagnosis. Every polygon has its area as a measurement. With `pages`, what was painted
    stands beside the features as `findings` and, for lesions with scenes of their own, `lesions`.
    """
    step = plan.side_um / _GRID
    places = np.asarray((np.arange(-1, _GRID + 3) - 0.5) * step, dtype=np.float64)
    fields: list[tuple[str, str, F32]] = [("Tissue", NORMAL, plan.clean_tissue(places, places))]
    if plan.lesions:
        clean = np.minimum(plan.lesion(places, places), fields[0][2])
        fields.append(("Lesion", plan.case.diagnosis, clean))
    if plan.fat_spots:
        fields.append(("Fat", "adipose tissue", np.minimum(plan.fat(places, places), fields[0][2])))
    if plan.strokes:
        fields.append(("Pen", "felt pen", plan.pen(places, places)))
    if any(plan.border_um):
        fields.append(("Border", "not scanned", plan.border(places, places)))
    shapes = [s for kind, name, field in fields for s in _shapes(kind, name, field, places, size_px, mpp)]
    note = f"PHANTOM {plan.case.id}: generated, no tissue. Research use only."
    return collection(shapes, {"phantom": note, "faint": plan.faint, **(_painted(plan, pages) if pages else {})})


def _painted(plan: SlidePlan, pages: Pages) -> dict[str, Any]:
    """Case, diagnosis, the findings of the slide, and each lesion with its own: as JSON values."""
    lesions = [
        {"x_um": round(x, 1), "y_um": round(y, 1), "radius_um": round(r, 1), "area_um2": round(scene.area_um2, 1),
         "visible": scene.visible, "findings": _as_json(scene.findings)}
        for (x, y, r), scene in zip(plan.lesions, pages.lesions, strict=False)
    ]  # fmt: skip
    found = findings_of_slide(pages.findings.get(NORMAL, {}), pages.lesions)
    if not plan.own_scenes:  # whole pages: what a page shows is taken to be on the slide
        for page in pages.findings.values():
            for name, f in page.items():
                found[name] = Finding(name, f.present or (name in found and found[name].present))
    about = {"case": plan.case.id, "diagnosis": plan.case.diagnosis, "findings": _as_json(found)}
    return {**about, "lesions": lesions} if plan.own_scenes else about


def _as_json(findings: Mapping[str, Finding]) -> dict[str, dict[str, Any]]:
    return {
        name: {"present": f.present, **({"count": f.count} if f.count is not None else {})}
        for name, f in findings.items()
    }


def _shapes(kind: str, name: str, field: F32, places: np.ndarray, size_px: int, mpp: float) -> list[Shape]:
    from contourpy import FillType, contour_generator

    field = field.copy()
    field[[0, -1]] = field[:, [0, -1]] = -1e3
    made = contour_generator(places, places, field, fill_type=FillType.OuterOffset).filled(0.0, 1e9)
    shapes = []
    for points, offsets in zip(made[0], made[1], strict=True):
        place = np.clip(np.asarray(points) / mpp, 0, size_px).round(1)
        rings = [place[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True) if b - a >= 4]
        rings = [r for r in rings if abs(signed_area(r)) > 0]
        if rings:
            area = (abs(signed_area(rings[0])) - sum(abs(signed_area(r)) for r in rings[1:])) * mpp**2
            shapes.append(Shape([rings], kind, name, "annotation", {"Area um^2": area}, COLOURS[kind]))
    return shapes
