"""GeoJSON (RFC 7946) as QuPath reads it. Coordinates are pixels of level 0. `geojson_read` reads it back.

Measurements are written as a mapping, as QuPath does since 0.3. Outer rings run counterclockwise in (x, y) and holes
clockwise, as the RFC asks.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.store.artifacts import write_text_atomic
from eosin.slides.tiles.tiles import Tiles
from eosin.slides.tissue.segmentation import Ring, Tissue, signed_area

NAMESPACE = uuid.UUID("7b1f3f0e-6f0a-5c4e-9a55-0e0000000005")
COLOURS = {"Tissue": (160, 160, 160), "Tile": (60, 120, 200), "Pen": (20, 160, 60)}


@dataclass(frozen=True)
class Shape:
    """An annotation or tile.

    Attributes:
        parts: polygons, each an outer ring and its holes; rings are (n, 2) in level-0 pixels.
        kind: class of the object, such as Tissue. name: free text. object_type: annotation, tile, detection, cell.
        measurements: numbers by name. colour: red, green, blue. id: of the feature.
    """

    parts: list[list[Ring]]
    kind: str = ""
    name: str = ""
    object_type: str = "annotation"
    measurements: Mapping[str, float] = field(default_factory=dict)
    colour: tuple[int, int, int] | None = None
    id: str = ""


def tissue_shapes(tissue: Tissue) -> list[Shape]:
    """One shape a part of tissue, with its area."""
    shapes = []
    for number, rings in enumerate(tissue.polygons(), 1):
        area = (abs(signed_area(rings[0])) - sum(abs(signed_area(r)) for r in rings[1:])) * tissue.mpp_level0**2
        shapes.append(Shape([rings], "Tissue", f"tissue {number}", measurements={"Area um^2": area}))
    return shapes


def tile_shapes(tiles: Tiles, measurements: Mapping[str, np.ndarray] | None = None) -> list[Shape]:
    """One square a tile, with its share of tissue and further numbers (N,) by name."""
    shapes = []
    for i in range(len(tiles)):
        box = tiles.box(i)
        ring = np.array([[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1], [box.x0, box.y0]])
        values = {"Tissue share": float(tiles.tissue[i]), "Index": float(i)}
        values |= {name: float(column[i]) for name, column in (measurements or {}).items()}
        values |= {f"Flag {name}": 1.0 for name in tiles.flag_names(i)}
        shapes.append(Shape([[ring]], "Tile", f"tile {i}", "tile", values))
    return shapes


def collection(shapes: Iterable[Shape], facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A FeatureCollection. `facts` stand beside the features, as the RFC allows."""
    return {"type": "FeatureCollection", **(facts or {}), "features": [_feature(s) for s in shapes]}


def write_geojson(path: Path, shapes: Iterable[Shape], facts: Mapping[str, Any] | None = None) -> None:
    """Write a FeatureCollection whole or not at all."""
    write_text_atomic(path, json.dumps(collection(shapes, facts), allow_nan=False, separators=(",", ":")) + "\n")


def _feature(shape: Shape) -> dict[str, Any]:
    polygons = [[_turned(ring, outer=number == 0) for number, ring in enumerate(rings)] for rings in shape.parts]
    single = len(polygons) == 1
    geometry = {"type": "Polygon" if single else "MultiPolygon", "coordinates": polygons[0] if single else polygons}
    properties: dict[str, Any] = {"objectType": shape.object_type}
    if shape.name:
        properties["name"] = shape.name
    if shape.kind:
        colour = shape.colour or COLOURS.get(shape.kind, (200, 60, 90))
        properties["classification"] = {"name": shape.kind, "color": list(colour)}
    numbers = {k: round(float(v), 6) for k, v in shape.measurements.items() if math.isfinite(v)}
    if numbers:
        properties["measurements"] = numbers
    name = shape.id or str(uuid.uuid5(NAMESPACE, json.dumps([geometry, shape.kind, shape.name])))
    return {"type": "Feature", "id": name, "geometry": geometry, "properties": properties}


def _turned(ring: Ring, *, outer: bool) -> list[list[float]]:
    """A closed ring in the direction that the RFC asks, whole numbers written as such."""
    points = np.asarray(ring, dtype=np.float64)
    if not np.array_equal(points[0], points[-1]):
        points = np.concatenate([points, points[:1]])
    if (signed_area(points) > 0) != outer:
        points = points[::-1]
    return [[int(v) if float(v).is_integer() else float(v) for v in p] for p in points.tolist()]
