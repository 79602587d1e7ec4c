"""The truth of a phantom slide as GeoJSON: tissue, lesions, fat, ink, borders, in pixels of level 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from eosin.phantom.noise import F32
from eosin.phantom.scenes import NORMAL
from eosin.phantom.slide_plan import SlidePlan
from eosin.slides.geojson import Shape, collection
from eosin.slides.tissue import signed_area

COLOURS = {"Tissue": (160, 160, 160), "Lesion": (200, 60, 90), "Fat": (230, 200, 80), "Pen": (20, 160, 60),
           "Border": (40, 40, 40), "Tear": (120, 200, 220), "Bubble": (90, 140, 220)}  # fmt: skip
_GRID = 1024


def truth(plan: SlidePlan, size_px: int, mpp: float) -> dict[str, Any]:
    """A FeatureCollection. Class Tissue is what can be used: without tears, ink and black borders.

    The name of a lesion is its diagnosis. Every polygon has its area as a measurement.
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
    return collection(shapes, {"phantom": note, "faint": plan.faint})


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
