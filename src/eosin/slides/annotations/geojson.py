"""GeoJSON (RFC 7946) as QuPath writes and reads it. Coordinates are pixels of level 0.

QuPath up to 0.2 wrote measurements as a list of {"name", "value"}, later versions write a mapping; both are read, the
mapping is written. Outer rings run counterclockwise in (x, y) and holes clockwise, as the RFC asks.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.store.artifacts import write_text_atomic
from eosin.slides.tiles.tiles import Tiles
from eosin.slides.tissue.segmentation import Ring, Tissue, signed_area

NAMESPACE = uuid.UUID("7b1f3f0e-6f0a-5c4e-9a55-0e0000000005")
COLOURS = {"Tissue": (160, 160, 160), "Tile": (60, 120, 200), "Pen": (20, 160, 60)}
_POSITIONS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}


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


def read_geojson(path: Path) -> list[Shape]:
    """Shapes of a file by QuPath, by Eosin or by another program that obeys the RFC.

    A FeatureCollection, a list of features or a single feature. Polygons are read; points and lines, which have no
    area, are left out.

    Raises:
        EosinError: no GeoJSON, with the place of the first fault.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise EosinError("There is no such file.", where=path) from None
    except (OSError, ValueError, RecursionError) as exc:
        raise EosinError("This file is not GeoJSON.", found=str(exc)[:120], where=path) from None
    fault = check_geojson(value)
    if fault:
        raise EosinError("This file is not GeoJSON.", found=fault, where=path)
    return [shape for feature in _features(value) if (shape := _shape(feature)) is not None]


def _features(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return value
    return value["features"] if value["type"] == "FeatureCollection" else [value]


def _shape(feature: dict[str, Any]) -> Shape | None:
    geometry = feature["geometry"]
    if geometry is None or geometry["type"] not in ("Polygon", "MultiPolygon"):
        return None
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    properties = feature.get("properties") or {}
    kind = properties.get("classification") or {}
    colour = kind.get("color") if isinstance(kind, dict) else None
    return Shape(
        parts=[[np.array([p[:2] for p in ring], dtype=np.float64) for ring in rings] for rings in polygons],
        kind=str(kind.get("name", "")) if isinstance(kind, dict) else str(kind),
        name=str(properties.get("name") or ""),
        object_type=str(properties.get("objectType", properties.get("object_type", "annotation"))),
        measurements=measurements_of(properties.get("measurements")),
        colour=tuple(int(c) for c in colour[:3]) if isinstance(colour, list) and len(colour) >= 3 else None,  # type: ignore[arg-type]
        id=str(feature.get("id") or ""),
    )


def measurements_of(value: Any) -> dict[str, float]:
    """Measurements as a mapping, from a mapping or from a list of {"name", "value"}; what is no number is left out."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = [(m.get("name"), m.get("value")) for m in value if isinstance(m, Mapping)]
    found: dict[str, float] = {}
    for name, number in pairs:
        if name is None or isinstance(number, bool):
            continue
        try:
            found[str(name)] = float(number)
        except (TypeError, ValueError):
            continue
    return found


def check_geojson(value: Any) -> str | None:
    """The first fault against RFC 7946, or None. A bare list of features, as QuPath can write it, is allowed."""
    if isinstance(value, list):
        return next((f"[{i}]: {fault}" for i, v in enumerate(value) if (fault := _check_feature(v))), None)
    if not isinstance(value, dict):
        return "neither an object nor a list"
    if value.get("type") == "Feature":
        return _check_feature(value)
    if value.get("type") != "FeatureCollection":
        return f"type is {str(value.get('type'))[:40]!r}"
    features = value.get("features")
    if not isinstance(features, list):
        return "features is no list"
    return next((f"features[{i}]: {fault}" for i, v in enumerate(features) if (fault := _check_feature(v))), None)


def _check_feature(value: Any) -> str | None:
    if not isinstance(value, dict) or value.get("type") != "Feature":
        return "no Feature"
    if "geometry" not in value:
        return "no geometry"
    if value.get("properties") is not None and not isinstance(value["properties"], dict):
        return "properties is no object"
    if "id" in value and not isinstance(value["id"], (str, int, float)):
        return "id is neither text nor number"
    return None if value["geometry"] is None else _check_geometry(value["geometry"])


def _check_geometry(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "geometry is no object"
    kind = value.get("type")
    if kind == "GeometryCollection":
        inside = value.get("geometries")
        if not isinstance(inside, list):
            return "geometries is no list"
        return next((fault for v in inside if (fault := _check_geometry(v))), None)
    if kind not in _POSITIONS:
        return f"geometry of type {str(kind)[:40]!r}"
    fault = _check_depth(value.get("coordinates"), _POSITIONS[kind])
    if fault or kind not in ("Polygon", "MultiPolygon"):
        return fault
    polygons = value["coordinates"] if kind == "MultiPolygon" else [value["coordinates"]]
    return next((fault for rings in polygons for ring in rings if (fault := _check_ring(ring))), None)


def _check_depth(value: Any, depth: int) -> str | None:
    if not isinstance(value, list):
        return "coordinates are no list"
    if depth == 0:
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in value)
        return None if len(value) >= 2 and numbers else "a position is not two or more numbers"
    return next((fault for v in value if (fault := _check_depth(v, depth - 1))), None)


def _check_ring(ring: Sequence[Sequence[float]]) -> str | None:
    if len(ring) < 4:
        return "a ring of fewer than four positions"
    return None if list(ring[0]) == list(ring[-1]) else "a ring that is not closed"
