"""Reading GeoJSON, QuPath's above all: every feature on its own, and a bad one is set aside with its reason.

QuPath up to 0.2 wrote measurements as a list of {"name", "value"} and the type of an object as its id; later versions
write a mapping, and classes of several parts as a list of names. All are read.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.slides.annotations.geojson import Shape
from eosin.slides.tissue.segmentation import Ring
from eosin.slides.untrusted import clean, regular_size, told

STEP = "geojson"
NO_AREA = "no area"
_DEPTH = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_OLD_IDS = {"PathAnnotationObject": "annotation", "PathDetectionObject": "detection", "PathCellObject": "cell",
            "PathTileObject": "tile", "PathRootObject": "root", "TMACoreObject": "tma_core"}  # fmt: skip
_FAR = 2**53  # up to here a float holds every whole number; no slide is near it
_MAX_RATIO, _SMALL_BYTES = 25, 16 * 2**20  # of a packed file
_NESTED = 32


class _Fault(Exception):  # noqa: N818
    """What is wrong with a feature: a phrase that can be counted, and what was seen."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, clean(detail)[:120]

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def read_geojson(path: Path) -> Filtered[Shape]:
    """Shapes of a file by QuPath, by Eosin or by another program that obeys the RFC, also packed with gzip.

    A FeatureCollection, a list of features, a single feature or a bare geometry. Polygons are read, also those inside
    a GeometryCollection, in their first two coordinates; of a cell the outline, not the nucleus. A colour, name or
    measurement that cannot be read is left out.

    Returns:
        The shapes, and the features without one: points and lines, which have no area, and what is damaged.

    Raises:
        EosinError: no JSON, or JSON that is no GeoJSON.
    """
    value = _parsed(path)
    try:
        features = _features(value)
    except _Fault as fault:
        raise EosinError("This file is not GeoJSON.", found=str(fault), where=path) from None
    return filtered(_outcome(feature, number) for number, feature in enumerate(features))


def check_geojson(value: Any) -> str | None:
    """The first fault against RFC 7946, or None. A bare list of features, as QuPath can write it, is allowed."""
    where = ""
    try:
        for number, feature in enumerate(_features(value)):
            where = f"features[{number}]: "
            _polygons(_geometry(feature))
            _class_of(feature.get("properties") or {})
    except _Fault as fault:
        return f"{where}{fault}"
    return None


def _parsed(path: Path) -> Any:
    """The JSON of a file: UTF-8, UTF-16 or UTF-32, with or without a byte order mark."""
    size = regular_size(path)
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            room = max(_SMALL_BYTES, _MAX_RATIO * size)
            with gzip.open(path) as packed:
                data = packed.read(room + 1)
            if len(data) > room:
                raise ValueError(f"{size:,} bytes unpack to more than {room:,}")
        try:
            return json.loads(data)
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise
        except ValueError:  # a whole number of more digits than Python reads
            return json.loads(data, parse_int=float)
    except (OSError, EOFError, ValueError, RecursionError, MemoryError, zlib.error) as exc:
        advice = "unpack the archive first" if _is_zip(path) else None
        raise EosinError("This file is not GeoJSON.", found=told(exc), where=path, next_step=advice) from None


def _is_zip(path: Path) -> bool:
    """Whether a file begins as a zip archive, which QuPath can export."""
    try:
        with path.open("rb") as handle:
            return handle.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _features(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise _Fault("neither an object nor a list")
    kind = value.get("type")
    if kind == "Feature":
        return [value]
    if isinstance(kind, str) and (kind in _DEPTH or kind == "GeometryCollection"):
        return [{"type": "Feature", "geometry": value, "properties": None}]
    if kind != "FeatureCollection":
        raise _Fault(f"type is {clean(str(kind))[:40]!r}")
    if not isinstance(value.get("features"), list):
        raise _Fault("features is no list")
    return list(value["features"])


def _outcome(feature: Any, number: int) -> Kept[Shape] | Dropped:
    try:
        shape = _shape(feature)
    except _Fault as fault:
        name = _text(feature.get("id")) if isinstance(feature, dict) else ""
        return Dropped(name[:80] or f"features[{number}]", fault.reason, fault.detail, STEP)
    return Kept(shape)


def _shape(feature: Any) -> Shape:
    parts = _polygons(_geometry(feature))
    properties = feature.get("properties") or {}
    kind, colour = _class_of(properties)
    if not parts:
        geometry = feature["geometry"]
        raise _Fault(NO_AREA, str(geometry["type"]) if geometry else "")
    name = _text(feature.get("id"))
    old = _OLD_IDS.get(name)
    return Shape(
        parts=parts,
        kind=kind,
        name=_text(properties.get("name")),
        object_type=_text(properties.get("objectType") or properties.get("object_type")) or old or "annotation",
        measurements=measurements_of(properties.get("measurements")),
        colour=colour or _colour(properties.get("color")) or _colour(properties.get("colorRGB")),
        id="" if old else name,
    )


# ---- geometry ------------------------------------------------------------------------------------------------------


def _geometry(feature: Any) -> Any:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise _Fault("no Feature")
    if "geometry" not in feature:
        raise _Fault("no geometry")
    if not isinstance(feature.get("properties"), dict | None):
        raise _Fault("properties is no object")
    return feature["geometry"]


def _polygons(geometry: Any, depth: int = 0) -> list[list[Ring]]:
    """Polygons of a geometry, each an outer ring and its holes; those of points and lines are none.

    Raises:
        _Fault: it is against the RFC.
    """
    if geometry is None:
        return []
    if not isinstance(geometry, dict):
        raise _Fault("geometry is no object")
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        inside = geometry.get("geometries")
        if not isinstance(inside, list) or depth > _NESTED:
            raise _Fault("geometries is no list" if depth <= _NESTED else "geometries inside each other")
        return [rings for one in inside for rings in _polygons(one, depth + 1)]
    if not isinstance(kind, str) or kind not in _DEPTH:
        raise _Fault("geometry of no known type", repr(kind)[:60])
    coordinates = geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        for positions in _lists(coordinates, _DEPTH[kind] - 1) if _DEPTH[kind] else [[coordinates]]:
            _points(positions)
        return []
    polygons = [coordinates] if kind == "Polygon" else _list(coordinates)
    return [[_ring(ring) for ring in _list(rings)] for rings in polygons if _list(rings)]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Fault("coordinates are no list")
    return value


def _lists(value: Any, depth: int) -> Iterator[list[Any]]:
    """The lists that lie so deep in a list."""
    if depth == 0:
        yield _list(value)
    else:
        for one in _list(value):
            yield from _lists(one, depth - 1)


def _ring(value: Any) -> Ring:
    ring = _points(_list(value))
    if len(ring) < 4:
        raise _Fault("a ring of fewer than four positions", f"{len(ring)}")
    if not np.array_equal(ring[0], ring[-1]):
        raise _Fault("a ring that is not closed", f"from {ring[0].tolist()} to {ring[-1].tolist()}")
    return ring


def _points(positions: list[Any]) -> Ring:
    """Positions (n, 2) in pixels: two or more numbers each, of which the first two count."""
    if not positions:
        return np.empty((0, 2))
    if set(map(type, positions)) != {list} or min(map(len, positions)) < 2:
        raise _Fault("a position is not two or more numbers")
    if max(map(len, positions)) > 2:
        positions = [p[:2] for p in positions]
    if not set(map(type, itertools.chain.from_iterable(positions))) <= {int, float}:
        raise _Fault("a position is not two or more numbers")
    try:
        points = np.array(positions, dtype=np.float64)
    except OverflowError:
        raise _Fault("a position far outside any slide") from None
    if not np.isfinite(points).all():
        raise _Fault("a position is not two or more numbers", "not finite")
    if np.abs(points).max() > _FAR:
        raise _Fault("a position far outside any slide", f"{np.abs(points).max():g}")
    return points


# ---- properties ----------------------------------------------------------------------------------------------------


def _class_of(properties: Mapping[str, Any]) -> tuple[str, tuple[int, int, int] | None]:
    """Class and colour. QuPath writes a class of several parts as `names`, and shows it as "first: second"."""
    told_of = properties.get("classification")
    if told_of is None:
        return "", None
    if isinstance(told_of, dict):
        colour = _colour(told_of.get("color")) or _colour(told_of.get("colorRGB"))
        name = told_of.get("names") if told_of.get("name") is None else told_of["name"]
    else:
        name, colour = told_of, None
    if isinstance(name, list):
        if not all(isinstance(part, str) for part in name):
            raise _Fault("classification is neither text nor an object", repr(name))
        name = ": ".join(name)
    if name is not None and not isinstance(name, str):
        raise _Fault("classification is neither text nor an object", repr(name))
    return clean(name or ""), colour


def _text(value: Any) -> str:
    """Free text; a number as it is written, nothing for what is neither."""
    if isinstance(value, str):
        return clean(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _colour(value: Any) -> tuple[int, int, int] | None:
    """Red, green, blue of 0 to 255 from a list, from Java's packed number (also below 0), or from #rrggbb."""
    if isinstance(value, str) and len(value) == 7 and value.startswith("#"):
        try:
            value = int(value[1:], 16)
        except ValueError:
            return None
    if isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**32:
        return (value >> 16) & 255, (value >> 8) & 255, value & 255
    if not isinstance(value, list) or len(value) not in (3, 4):
        return None
    numbers = [v for v in value[:3] if isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 255]
    return (round(numbers[0]), round(numbers[1]), round(numbers[2])) if len(numbers) == 3 else None


def measurements_of(value: Any) -> dict[str, float]:
    """Measurements as a mapping, from a mapping or from a list of {"name", "value"}; what is no number is left out."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = [(m.get("name"), m.get("value")) for m in value if isinstance(m, Mapping)]
    found: dict[str, float] = {}
    for name, number in pairs:
        if name is None or not isinstance(number, int | float | str) or isinstance(number, bool) or "_" in str(number):
            continue
        try:
            measured = float(number)
        except (ValueError, OverflowError):
            continue
        if math.isfinite(measured):
            found[clean(str(name))] = measured
    return found
