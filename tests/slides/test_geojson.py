"""GeoJSON as RFC 7946 has it and as QuPath writes it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eosin.core.errors import EosinError
from eosin.slides.annotations.geojson import Shape, collection, write_geojson
from eosin.slides.annotations.geojson_read import check_geojson, measurements_of, read_geojson
from eosin.slides.tissue.segmentation import contours, signed_area

SQUARE = np.array([[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]], dtype=float)
HOLE = np.array([[20, 20], [40, 20], [40, 40], [20, 40], [20, 20]], dtype=float)


def test_written_is_read(tmp_path: Path) -> None:
    shape = Shape([[SQUARE, HOLE]], "Tumor", "first", "annotation", {"Area um^2": 2400.5}, (1, 2, 3))
    write_geojson(tmp_path / "a.geojson", [shape])
    (back,) = read_geojson(tmp_path / "a.geojson").kept
    assert (back.kind, back.name, back.colour) == ("Tumor", "first", (1, 2, 3))
    assert back.measurements == {"Area um^2": 2400.5}
    assert abs(signed_area(back.parts[0][0])) == 10_000 and abs(signed_area(back.parts[0][1])) == 400


def test_rings_run_as_the_rfc_asks() -> None:
    """Outer rings counterclockwise, holes clockwise, all closed, whichever way they came."""
    for outer in (SQUARE, SQUARE[::-1], SQUARE[:-1]):
        (feature,) = collection([Shape([[outer, HOLE]])])["features"]
        first, second = (np.array(r, dtype=float) for r in feature["geometry"]["coordinates"])
        assert signed_area(first) > 0 > signed_area(second)
        assert (first[0] == first[-1]).all() and (second[0] == second[-1]).all()


def test_measurements_are_written_as_a_mapping_and_read_both_ways() -> None:
    (feature,) = collection([Shape([[SQUARE]], measurements={"a": 1, "bad": float("nan")})])["features"]
    assert feature["properties"]["measurements"] == {"a": 1.0}
    assert measurements_of([{"name": "a", "value": 1}, {"name": "b", "value": "NaN?"}, "x"]) == {"a": 1.0}
    assert measurements_of({"a": "2.5", "ok": True, "b": None}) == {"a": 2.5}
    assert measurements_of(None) == {}


def test_ids_are_the_same_again_and_differ_between_shapes() -> None:
    shapes = [Shape([[SQUARE]], name="1"), Shape([[SQUARE]], name="2")]
    ids = [f["id"] for f in collection(shapes)["features"]]
    assert len(set(ids)) == 2 and ids == [f["id"] for f in collection(shapes)["features"]]


def test_old_and_new_qupath(tmp_path: Path) -> None:
    """A bare list, class as {name, colorRGB}, measurements as a list, a multipolygon, a point, no properties."""
    old = [
        {"type": "Feature", "id": "PathAnnotationObject",
         "geometry": {"type": "MultiPolygon", "coordinates": [[SQUARE.tolist()], [(HOLE + 200).tolist()]]},
         "properties": {"classification": {"name": "Stroma", "colorRGB": -6895466}, "isLocked": False,
                        "measurements": [{"name": "Area", "value": 12.0}]}},
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 5]}, "properties": {}},
        {"type": "Feature", "geometry": None, "properties": None},
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE.tolist()]}, "properties": None},
    ]  # fmt: skip
    (tmp_path / "old.geojson").write_text(json.dumps(old))
    found = read_geojson(tmp_path / "old.geojson")
    stroma, plain = found.kept
    assert (stroma.kind, len(stroma.parts), stroma.measurements) == ("Stroma", 2, {"Area": 12.0})
    assert stroma.colour == (150, 200, 150) and stroma.id == ""  # the id is the type, the same for all
    assert plain.kind == "" and plain.object_type == "annotation"
    assert found.reasons() == {"no area": 2}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"type": "Featurecollection"}, "type"),
        ({"type": "FeatureCollection", "features": {}}, "no list"),
        ({"type": ["Feature"]}, "type"),
        ({}, "type"),
        ("text", "neither"),
        (3, "neither"),
        (None, "neither"),
    ],
)
def test_what_is_no_geojson(value: object, fault: str, tmp_path: Path) -> None:
    assert fault in (check_geojson(value) or "")
    (tmp_path / "a.geojson").write_text(json.dumps(value))
    with pytest.raises(EosinError, match="not GeoJSON"):
        read_geojson(tmp_path / "a.geojson")


# ---- one feature is bad, the file goes on ---------------------------------------------------------------------------


def polygon(*rings: Any, **properties: Any) -> dict[str, Any]:
    given = [np.asarray(r).tolist() if isinstance(r, np.ndarray) else r for r in rings] or [SQUARE.tolist()]
    geometry = {"type": "Polygon", "coordinates": given}
    return {"type": "Feature", "id": "a", "geometry": geometry, "properties": properties}


def of(kind: str, coordinates: Any) -> dict[str, Any]:
    return polygon() | {"geometry": {"type": kind, "coordinates": coordinates}}


def read(tmp_path: Path, *features: Any) -> Any:
    """What is read of these features between two good ones, which must both come through."""
    good = [polygon(name="before"), *features, polygon(name="after")]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": good}))
    found = read_geojson(tmp_path / "a.geojson")
    assert (found.kept[0].name, found.kept[-1].name) == ("before", "after") and found.num_in == len(good)
    return found.kept[1:-1], found.dropped


CELL = SQUARE.tolist()
BAD = [
    ({"type": "Feature"}, "no geometry"),
    ({"type": "feature", "geometry": None}, "no Feature"),
    ("text", "no Feature"),
    (None, "no Feature"),
    (polygon() | {"properties": []}, "properties is no object"),
    (polygon() | {"geometry": "POLYGON"}, "geometry is no object"),
    (of("Circle", []), "geometry of no known type"),
    (of(["Polygon"], []), "geometry of no known type"),  # type: ignore[arg-type]
    (of("Polygon", None), "coordinates are no list"),
    (of("Polygon", CELL), "a position is not two or more numbers"),  # one bracket too few
    (of("Polygon", [[CELL]]), "a position is not two or more numbers"),  # one too many
    (of("MultiPolygon", [CELL]), "a position is not two or more numbers"),
    (polygon(CELL[:3]), "a ring of fewer than four positions"),
    (polygon([]), "a ring of fewer than four positions"),
    (polygon(CELL[:-1]), "a ring that is not closed"),
    (polygon(SQUARE, HOLE[:-1]), "a ring that is not closed"),
    (polygon([["1", "2"]] * 5), "a position is not two or more numbers"),
    (polygon([[True, 2]] * 5), "a position is not two or more numbers"),
    (polygon([[1]] * 5), "a position is not two or more numbers"),
    (polygon([[1, None]] * 5), "a position is not two or more numbers"),
    (polygon([[1, float("inf")]] * 5), "a position is not two or more numbers"),
    (polygon([[float("nan"), 1]] * 5), "a position is not two or more numbers"),
    (polygon([[1e300, 1]] * 5), "a position far outside any slide"),
    (polygon([[10**400, 1]] * 5), "a position far outside any slide"),
    (polygon(classification=7), "classification is neither text nor an object"),
    (polygon(classification={"names": ["Tumor", 3]}), "classification is neither text nor an object"),
    (of("Point", [5, 5]), "no area"),
    (of("Point", ["5", 5]), "a position is not two or more numbers"),
    (of("MultiPoint", [[5, 5]]), "no area"),
    (of("LineString", [[5, 5], [6, 6]]), "no area"),
    (of("MultiLineString", [[[5, 5], [6, 6]]]), "no area"),
    (of("Polygon", []), "no area"),
    (of("MultiPolygon", []), "no area"),
    (polygon() | {"geometry": None}, "no area"),
    (polygon() | {"geometry": {"type": "GeometryCollection", "geometries": None}}, "geometries is no list"),
    (polygon() | {"geometry": {"type": "GeometryCollection", "geometries": []}}, "no area"),
]  # fmt: skip


@pytest.mark.parametrize(("feature", "reason"), BAD, ids=[f"{i}-{r[:24]}" for i, (_, r) in enumerate(BAD)])
def test_a_bad_feature_is_dropped_with_its_reason(feature: Any, reason: str, tmp_path: Path) -> None:
    kept, (dropped,) = read(tmp_path, feature)
    assert kept == () and (dropped.reason, dropped.step) == (reason, "geojson")
    value = {"type": "FeatureCollection", "features": [polygon(), feature]}
    assert (check_geojson(value) or "features[1]: no area").startswith(f"features[1]: {reason}")


def test_a_whole_number_of_too_many_digits_costs_its_feature_alone(tmp_path: Path) -> None:
    text = json.dumps([polygon([[7777, 1]] * 5), polygon(name="after")]).replace("7777", "9" * 5000)
    (tmp_path / "a.geojson").write_text(text)
    found = read_geojson(tmp_path / "a.geojson")
    assert [s.name for s in found.kept] == ["after"] and len(found.dropped) == 1


def nested(depth: int) -> dict[str, Any]:
    geometry = {"type": "Point", "coordinates": [1, 1]}
    for _ in range(depth):
        geometry = {"type": "GeometryCollection", "geometries": [geometry]}
    return polygon() | {"geometry": geometry}


def test_geometries_inside_each_other_have_an_end(tmp_path: Path) -> None:
    _, dropped = read(tmp_path, nested(20), nested(200))
    assert [d.reason for d in dropped] == ["no area", "geometries inside each other"]
    (tmp_path / "b.geojson").write_text("[" * 100_000)
    with pytest.raises(EosinError, match="not GeoJSON"):
        read_geojson(tmp_path / "b.geojson")


# ---- what QuPath and others write, with its right values ------------------------------------------------------------

MIXED = {"type": "GeometryCollection", "geometries": [
    {"type": "Point", "coordinates": [1, 1]}, {"type": "Polygon", "coordinates": [CELL]},
    {"type": "GeometryCollection", "geometries": [{"type": "MultiPolygon", "coordinates": [[CELL], [CELL]]}]},
]}  # fmt: skip
READ = [
    (polygon(classification={"names": ["Tumor", "Positive"], "color": [200, 0, 0]}), "kind", "Tumor: Positive"),
    (polygon(classification={"names": ["Tumor"]}), "kind", "Tumor"),
    (polygon(classification={"name": "Tumor: Positive", "colorRGB": -3670016}), "kind", "Tumor: Positive"),
    (polygon(classification={"name": "Tumor: Positive", "colorRGB": -3670016}), "colour", (200, 0, 0)),
    (polygon(classification={"name": None, "names": ["Stroma"]}), "kind", "Stroma"),
    (polygon(classification={"name": None}), "kind", ""),
    (polygon(classification={}), "kind", ""),
    (polygon(classification=None), "kind", ""),
    (polygon(classification="Tumor"), "kind", "Tumor"),
    (polygon(classification=["Tumor", "Negative"]), "kind", "Tumor: Negative"),
    (polygon(classification={"name": "\ud800x"}), "kind", "\ufffdx"),
    (polygon(name=None), "name", ""),
    (polygon(name=7), "name", "7"),
    (polygon(name=["x"]), "name", ""),
    (polygon(classification={"name": "T", "color": [1, 2, 3]}), "colour", (1, 2, 3)),
    (polygon(classification={"name": "T", "color": [1, 2, 3, 255]}), "colour", (1, 2, 3)),
    (polygon(classification={"name": "T", "color": [1.0, 2.2, 3]}), "colour", (1, 2, 3)),
    (polygon(classification={"name": "T", "color": "#0a0B0c"}), "colour", (10, 11, 12)),
    (polygon(classification={"name": "T", "color": -1}), "colour", (255, 255, 255)),
    (polygon(classification={"name": "T", "colorRGB": 0x0A0B0C}), "colour", (10, 11, 12)),
    (polygon(classification={"name": "T", "color": "red"}), "colour", None),
    (polygon(classification={"name": "T", "color": "#gggggg"}), "colour", None),
    (polygon(classification={"name": "T", "color": [1, 2]}), "colour", None),
    (polygon(classification={"name": "T", "color": ["a", "b", "c"]}), "colour", None),
    (polygon(classification={"name": "T", "color": [300, -1, 0]}), "colour", None),
    (polygon(classification={"name": "T", "color": [None, {}, 10**400]}), "colour", None),
    (polygon(classification={"name": "T", "color": {"r": 1}}), "colour", None),
    (polygon(classification={"name": "T", "color": 2**70}), "colour", None),
    (polygon(color=[9, 8, 7]), "colour", (9, 8, 7)),
    (polygon(measurements={"a": 1, "b": "2.5", "c": None, "d": True, "e": "NaN", "f": 10**400, "g": {}, "h": "1_0"}),
     "measurements", {"a": 1.0, "b": 2.5}),
    (polygon(measurements=[{"name": "a", "value": 1}, {"name": None, "value": 2}, {"value": 3}, 4,
                           {"name": [], "value": 5}]),
     "measurements", {"a": 1.0, "[]": 5.0}),
    (polygon(measurements="x"), "measurements", {}),
    (polygon(objectType="cell", isLocked=True) | {"nucleusGeometry": {"type": "Polygon", "coordinates": "none"}},
     "object_type", "cell"),
    (polygon(objectType="detection", isLocked="yes"), "object_type", "detection"),
    (polygon(objectType=None), "object_type", "annotation"),
    (polygon(objectType=["cell"]), "object_type", "annotation"),
    (polygon(object_type="tile"), "object_type", "tile"),
    (polygon() | {"id": "PathCellObject"}, "object_type", "cell"),
    (polygon() | {"id": "PathDetectionObject"}, "id", ""),
    (polygon() | {"id": None}, "id", ""),
    (polygon() | {"id": 0}, "id", "0"),
    (polygon() | {"id": {"x": 1}}, "id", ""),
    (polygon() | {"properties": None}, "kind", ""),
    ({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [CELL]}}, "object_type", "annotation"),
    (polygon([[x, y, 3] for x, y in CELL]), "num", (1, 1, 10_000)),
    (polygon([[x, y, float("nan")] for x, y in CELL]), "num", (1, 1, 10_000)),
    (polygon([*([x, y, 3] for x, y in CELL[:-1]), CELL[0]]), "num", (1, 1, 10_000)),
    (polygon(SQUARE, HOLE), "num", (1, 2, 10_000)),
    (polygon(SQUARE, HOLE, HOLE + 40), "num", (1, 3, 10_000)),
    (of("MultiPolygon", [[CELL], [CELL, HOLE.tolist()], []]), "num", (2, 3, 10_000)),
    (polygon() | {"geometry": MIXED}, "num", (3, 3, 10_000)),
    (polygon(SQUARE - 1000.5), "num", (1, 1, 10_000)),
]  # fmt: skip


@pytest.mark.parametrize(("feature", "what", "right"), READ, ids=[f"{i}-{w}" for i, (_, w, _) in enumerate(READ)])
def test_what_qupath_and_others_write_has_its_right_value(feature: Any, what: str, right: Any, tmp_path: Path) -> None:
    (shape,), dropped = read(tmp_path, feature)
    assert dropped == ()
    rings = [ring for part in shape.parts for ring in part]
    found = (len(shape.parts), len(rings), abs(signed_area(rings[0]))) if what == "num" else getattr(shape, what)
    assert found == right and type(found) is type(right)
    assert all(r.shape == (len(r), 2) and r.dtype == np.float64 for r in rings)
    write_geojson(tmp_path / "b.geojson", [shape])
    (again,) = read_geojson(tmp_path / "b.geojson").kept
    assert (again.kind, again.name, again.object_type, again.measurements) == (
        shape.kind, shape.name, shape.object_type, shape.measurements,
    )  # fmt: skip


TEXT = json.dumps({"type": "FeatureCollection", "features": [polygon(name="\u00e9")]}, ensure_ascii=False)


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + TEXT.encode(), TEXT.encode("utf-16"), TEXT.encode("utf-32"), gzip.compress(TEXT.encode()),
        gzip.compress(b"\xef\xbb\xbf" + TEXT.encode()), json.dumps([polygon(name="\u00e9")]).encode(),
        json.dumps(polygon(name="\u00e9")).encode(), TEXT.encode() + b"\n\n",
    ],
    ids=["mark", "utf-16", "utf-32", "gzip", "gzip and mark", "list", "one feature", "empty lines"],
)  # fmt: skip
def test_every_form_of_a_file_is_read(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_bytes(data)
    (shape,) = read_geojson(tmp_path / "a.geojson").kept
    assert shape.name == "é" and abs(signed_area(shape.parts[0][0])) == 10_000


def test_a_bare_geometry_is_a_feature_and_an_empty_collection_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [CELL]}))
    assert len(read_geojson(tmp_path / "a.geojson").kept) == 1
    for empty in ("[]", '{"type": "FeatureCollection", "features": []}'):
        (tmp_path / "a.geojson").write_text(empty)
        assert read_geojson(tmp_path / "a.geojson").num_in == 0


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "Expecting value"), (b"{", "Expecting"), (b"\xff\xfe\xff", "decode"), (TEXT.encode()[:-9], "Expecting"),
        (gzip.compress(TEXT.encode())[:-12], "ended"), (b"\x1f\x8b\x08junk", ""), (b"PK\x03\x04" + bytes(40), ""),
        (gzip.compress(b"[" + b" " * 40_000_000 + b"]"), "unpack to more"),
    ],
    ids=["empty", "open", "utf-16 cut", "cut", "gzip cut", "gzip junk", "zip", "bomb"],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_named(data: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_bytes(data)
    with pytest.raises(EosinError, match="not GeoJSON") as caught:
        read_geojson(tmp_path / "a.geojson")
    assert "a.geojson" in str(caught.value) and found in str(caught.value.found)
    assert ("unpack the archive" in str(caught.value)) == data.startswith(b"PK")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.geojson")
    for name, message in (("pipe.geojson", "no regular file"), (".", "no regular file"), ("none", "no such file")):
        with pytest.raises(EosinError, match=message):
            read_geojson(tmp_path / name)


def test_outlines_of_a_mask() -> None:
    """Half-pixel corners are cut; area and place are kept; a hole is a ring of its part; order is by size."""
    mask = np.zeros((40, 60), bool)
    mask[5:25, 10:40] = True
    mask[10:15, 20:30] = False
    mask[30:35, 50:56] = True
    large, small = contours(mask, (10.0, 10.0), (600, 400))
    assert len(large) == 2 and len(small) == 1
    assert abs(signed_area(large[0])) == pytest.approx(60_000, rel=0.01)
    assert abs(signed_area(large[1])) == pytest.approx(5_000, rel=0.02)
    assert large[0].min(0).tolist() == [100, 50] and large[0].max(0).tolist() == [400, 250]
    whole = contours(np.ones((4, 6), bool), (100.0, 100.0), (600, 400))
    assert len(whole) == 1 and abs(signed_area(whole[0][0])) == pytest.approx(240_000, rel=0.03)
