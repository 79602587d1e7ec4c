"""Regions of a correction as GeoJSON for QuPath, and back; and everything as tasks of Label Studio."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eosin.serve.corrections.body import CorrectedStatement, Correction, Region
from eosin.serve.corrections.store import Version
from eosin.slides.annotations.geojson import Shape

COLOURS = {"kept": (46, 125, 50), "edited": (239, 108, 0), "struck": (198, 40, 40), "added": (21, 101, 192)}
_NAME = re.compile(r"^([a-z][0-9]{1,4}): ?(.*)$", re.DOTALL)


def slides_of(reading: dict[str, Any]) -> list[dict[str, str]]:
    """Key and name of each slide that a reading is about."""
    return reading.get("slides") or [{"key": reading["slide"], "name": reading["slide_name"]}]


def regions_of(statement: CorrectedStatement, reading: dict[str, Any], slide: str | None = None) -> list[Region]:
    """The expert's regions on one slide, or the model's own where the expert left them. `slide`: its key; None is the
    reading's first."""
    here = (slide or reading["slide"],) if slide not in (None, reading["slide"]) else (reading["slide"], None)
    if statement.regions is not None:
        return [r for r in statement.regions if r.slide in here]
    own: dict[str, Any] = next((s for s in reading["statements"] if s["id"] == statement.id), {})
    told = (own.get("evidence") or {}).get("boxes", [])
    boxes = [b["px"] for b in told if b["px"] and b.get("slide") in here]
    return [Region(points=[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) for x0, y0, x1, y1 in boxes]


def shapes_of(reading: dict[str, Any], correction: Correction, slide: str | None = None) -> list[Shape]:
    """A shape a region of one slide, named "s1: text", its class the state of the statement."""
    shapes = []
    for statement in correction.statements:
        for region in regions_of(statement, reading, slide):
            ring = np.array([*region.points, region.points[0]], dtype=float)
            shapes.append(Shape(
                [[ring]], f"Evidence {statement.state}", f"{statement.id}: {statement.text}",
                colour=COLOURS[statement.state],
            ))  # fmt: skip
    return shapes


def with_shapes(correction: Correction, shapes: Sequence[Shape], key: str) -> tuple[Correction, list[str]]:
    """The correction with the regions that come back from QuPath, unsigned, under a new key.

    A shape named "s1: text" is a region of that statement; all of a statement's regions are those of the shapes. A
    shape with another name is a new statement of its name, or of its class.

    Returns:
        The correction, and a line for each shape that could not be used.
    """
    known = {s.id: s for s in correction.statements}
    rings: dict[str, list[Region]] = {}
    added: dict[str, list[Region]] = {}
    aside = []
    for shape in shapes:
        match = _NAME.match(shape.name)
        for rings_of_part in shape.parts:
            points = [(float(x), float(y)) for x, y in rings_of_part[0][:-1]]
            if not 3 <= len(points) <= 2000:
                aside.append(f"{shape.name or shape.kind}: {len(points)} corners")
                continue
            if match and match.group(1) in known:
                rings.setdefault(match.group(1), []).append(Region(points=points))
            elif text := (shape.name or shape.kind).strip()[:4000]:
                added.setdefault(text, []).append(Region(points=points))
            else:
                aside.append("a shape without name or class")
    elsewhere = {s.id: [r for r in s.regions or [] if r.slide is not None] for s in correction.statements}
    statements = [
        s.model_copy(update={"regions": rings[s.id] + elsewhere[s.id]}) if s.id in rings else s
        for s in correction.statements
    ]
    number = max([int(s.id[1:]) for s in statements if s.id[0] == "a"], default=0)
    for text, regions in added.items():
        number += 1
        statements.append(
            CorrectedStatement(id=f"a{number}", block="findings", text=text, state="added", regions=regions)
        )
    update = {"statements": statements, "key": key, "is_signed": False}
    return Correction.model_validate(correction.model_copy(update=update).model_dump()), aside


def label_studio(
    reading: dict[str, Any], versions: Sequence[Version], size_px: tuple[int, int] | None,
    slide: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A task of Label Studio with one annotation a reader: polygons in percent of the slide, texts, choices, rating.

    Without the size of the slide there are no polygons. `slide`: the one of several that the task shows, with its key
    and name; None is the reading's first.
    """
    shown = slide or {"key": None, "name": reading["slide_name"]}
    annotations = []
    for version in versions:
        said = version.correction
        result: list[dict[str, Any]] = [
            {"from_name": "answer", "to_name": "slide", "type": "textarea", "value": {"text": [said.answer]}}
        ]
        if said.rating is not None:
            result.append(
                {"from_name": "rating", "to_name": "slide", "type": "rating", "value": {"rating": said.rating}}
            )
        for s in said.statements:
            result.append({"id": s.id, "from_name": "statements", "to_name": "slide", "type": "textarea",
                           "value": {"text": [s.text]}, "meta": {"state": [s.state], "block": [s.block]}})  # fmt: skip
            for number, region in enumerate(regions_of(s, reading, shown["key"]) if size_px else []):
                result.append(_polygon(f"{s.id}-{number}", s.state, region, size_px))  # type: ignore[arg-type]
        annotations.append({"completed_by": {"first_name": said.reader}, "result": result, "was_cancelled": False,
                            "unique_id": said.key})  # fmt: skip
    return {
        "data": {"slide": shown["name"], "question": reading["question"], "reply": reading["reply"],
                 "reading": reading["id"], "model": reading.get("model")},
        "annotations": annotations,
    }  # fmt: skip


def _polygon(id: str, state: str, region: Region, size_px: tuple[int, int]) -> dict[str, Any]:
    wide, high = size_px
    points = [[round(100 * x / wide, 5), round(100 * y / high, 5)] for x, y in region.points]
    return {
        "id": id, "from_name": "region", "to_name": "slide", "type": "polygonlabels", "original_width": wide,
        "original_height": high, "image_rotation": 0,
        "value": {"points": points, "closed": True, "polygonlabels": [state]},
    }  # fmt: skip
