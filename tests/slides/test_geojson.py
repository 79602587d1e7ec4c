"""GeoJSON as RFC 7946 has it and as QuPath writes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eosin.core.errors import EosinError
from eosin.slides.annotations.geojson import (
    Shape,
    check_geojson,
    collection,
    measurements_of,
    read_geojson,
    write_geojson,
)
from eosin.slides.tissue.segmentation import outlines, signed_area

SQUARE = np.array([[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]], dtype=float)
HOLE = np.array([[20, 20], [40, 20], [40, 40], [20, 40], [20, 20]], dtype=float)


def test_written_is_read(tmp_path: Path) -> None:
    shape = Shape([[SQUARE, HOLE]], "Tumor", "first", "annotation", {"Area um^2": 2400.5}, (1, 2, 3))
    write_geojson(tmp_path / "a.geojson", [shape])
    (back,) = read_geojson(tmp_path / "a.geojson")
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
    stroma, plain = read_geojson(tmp_path / "old.geojson")
    assert (stroma.kind, len(stroma.parts), stroma.measurements) == ("Stroma", 2, {"Area": 12.0})
    assert plain.kind == "" and plain.object_type == "annotation"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"type": "Featurecollection"}, "type"),
        ({"type": "FeatureCollection", "features": {}}, "no list"),
        ({"type": "FeatureCollection", "features": [{"type": "Feature"}]}, "no geometry"),
        ({"type": "Feature", "geometry": {"type": "Circle", "coordinates": []}}, "Circle"),
        ({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE[:3].tolist()]}}, "four"),
        ({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE[:-1].tolist()]}}, "closed"),
        ({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[["a", "b"]] * 5]}}, "numbers"),
        ({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[1, float("inf")]] * 5]}}, "numbers"),
        ({"type": "Feature", "geometry": None, "properties": []}, "no object"),
        ("text", "neither"),
    ],
)
def test_what_is_no_geojson(value: object, fault: str, tmp_path: Path) -> None:
    assert fault in (check_geojson(value) or "")
    (tmp_path / "a.geojson").write_text(json.dumps(value))
    with pytest.raises(EosinError, match="not GeoJSON"):
        read_geojson(tmp_path / "a.geojson")


def test_outlines_of_a_mask() -> None:
    """Half-pixel corners are cut; area and place are kept; a hole is a ring of its part; order is by size."""
    mask = np.zeros((40, 60), bool)
    mask[5:25, 10:40] = True
    mask[10:15, 20:30] = False
    mask[30:35, 50:56] = True
    large, small = outlines(mask, (10.0, 10.0), (600, 400))
    assert len(large) == 2 and len(small) == 1
    assert abs(signed_area(large[0])) == pytest.approx(60_000, rel=0.01)
    assert abs(signed_area(large[1])) == pytest.approx(5_000, rel=0.02)
    assert large[0].min(0).tolist() == [100, 50] and large[0].max(0).tolist() == [400, 250]
    whole = outlines(np.ones((4, 6), bool), (100.0, 100.0), (600, 400))
    assert len(whole) == 1 and abs(signed_area(whole[0][0])) == pytest.approx(240_000, rel=0.03)
