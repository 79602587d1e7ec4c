"""`eosin slides ...` as a user gives it: results a slide, resumed, counted, with what was set aside."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_slides import damage, picture, write_tiff
from PIL import Image
from typer.testing import CliRunner, Result

from eosin.cli.material.slides import app
from eosin.core.errors import EosinError
from eosin.slides.annotations.geojson_read import check_geojson, read_geojson
from eosin.slides.open.slide import open_slide
from eosin.slides.tissue.segmentation import signed_area

pytest.importorskip("openslide", reason="slides need eosin[slides]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good slides, a copy of one, a damaged one, one without a scale, an empty one, a text, a folder."""
    place = tmp_path_factory.mktemp("cohort")
    write_tiff(place / "one.tiff", picture())
    (place / "sub").mkdir()
    write_tiff(place / "sub" / "two.tiff", picture(seed=1), jpeg=False)
    (place / "sub" / "copy.tiff").write_bytes((place / "one.tiff").read_bytes())
    write_tiff(place / "damaged.tiff", picture())
    damage(place / "damaged.tiff", 3, 2)
    write_tiff(place / "unscaled.tiff", picture(), mpp=None)
    (place / "empty.svs").write_bytes(b"")
    (place / "text.svs").write_text("hello")
    (place / "folder.ndpi").mkdir()
    return place


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def test_info(folder: Path) -> None:
    done = run("info", folder, "--json")
    assert done.exit_code == 0, done.output
    found = {r["slide"]: r for r in (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))}
    assert set(found) == {"one", "sub/two", "sub/copy", "damaged", "unscaled"}
    assert (found["one"]["width_px"], found["one"]["mpp"], found["one"]["levels"]) == (1500, 0.5, 3)
    assert found["unscaled"]["mpp"] == "" and "does not state" in found["unscaled"]["mpp_note"]
    assert "8 found = 5 done + 3 set aside" in done.output
    for words in ("slide file empty", "not a slide", "slide path is a folder"):
        assert words in done.output


def test_tiles_and_their_files(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("tiles", folder, "--out", out, "--tile-px", 128, "--quality", "--pictures")
    assert done.exit_code == 0, done.output
    table = {r["slide"]: r for r in rows(out / "tiles.csv")}
    aside = {r["slide"]: r["reason"] for r in rows(out / "tiles.set_aside.csv")}
    assert set(table) == {"one", "sub/two", "sub/copy", "damaged"}
    assert aside["unscaled"] == "microns per pixel unknown" and aside["empty"] == "slide file empty"
    assert len(table) + len(aside) == 8
    assert int(table["damaged"]["failed"]) > 0 == int(table["one"]["failed"])
    place = out / "one"
    listed = rows(place / "tiles.csv")
    assert len(listed) == int(table["one"]["tiles"]) > 10
    assert len(list((place / "tiles").glob("*.png"))) == len(listed)
    with open_slide(folder / "one.tiff") as slide:
        x, y = int(listed[5]["x_level0"]), int(listed[5]["y_level0"])
        right = slide.backend.region(0, x, y, 128, 128)
    assert np.array_equal(np.asarray(Image.open(place / "tiles" / f"{x}_{y}.png")), right)
    assert min(Image.open(place / "sheet.png").size) > 400
    for name in ("tissue.geojson", "tiles.geojson"):
        obeys_the_rfc(json.loads((place / name).read_text()))
    shapes = read_geojson(place / "tiles.geojson").kept
    assert len(shapes) == len(listed) and abs(signed_area(shapes[0].parts[0][0])) == 128**2
    (tissue,) = read_geojson(place / "tissue.geojson").kept
    assert tissue.measurements["Area um^2"] == pytest.approx(float(table["one"]["tissue_mm2"]) * 1e6, rel=0.02)


def obeys_the_rfc(value: dict[str, Any]) -> None:
    """RFC 7946, sections 3.1.6, 3.2, 3.3 and 7.1: types, closed rings of four positions or more, winding."""
    assert check_geojson(value) is None and value["type"] == "FeatureCollection"
    assert not {"geometry", "coordinates", "properties", "crs"} & set(value)
    ids = [f["id"] for f in value["features"]]
    assert len(set(ids)) == len(ids) > 0
    for feature in value["features"]:
        assert feature["geometry"]["type"] == "Polygon" and isinstance(feature["properties"], dict)
        for number, ring in enumerate(feature["geometry"]["coordinates"]):
            assert len(ring) >= 4 and ring[0] == ring[-1] and all(len(p) == 2 for p in ring)
            assert (signed_area(np.array(ring, dtype=float)) > 0) == (number == 0)


def test_resume_is_a_slide_at_a_time(folder: Path, tmp_path: Path) -> None:
    """Done slides are not done again; a changed file is; what was killed before its mark is; not other settings."""
    out = tmp_path / "out"
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    for name in ("one", "damaged"):
        (cohort / f"{name}.tiff").write_bytes((folder / f"{name}.tiff").read_bytes())
    assert "2 found = 2 done + 0" in run("tissue", cohort, "--out", out).output
    marks = {n: (out / n / "tissue.json").stat().st_mtime_ns for n in ("one", "damaged")}
    (out / "damaged" / "tissue.json").unlink()  # as if killed before the mark
    again = run("tissue", cohort, "--out", out)
    assert "2 done, 1 of them before" in again.output
    assert (out / "one" / "tissue.json").stat().st_mtime_ns == marks["one"]
    write_tiff(cohort / "one.tiff", picture(seed=5))
    assert "2 done, 1 of them before" in run("tissue", cohort, "--out", out).output
    assert (out / "one" / "tissue.json").stat().st_mtime_ns > marks["one"]
    with pytest.raises(EosinError, match="other settings"):
        CliRunner().invoke(app, ["tissue", str(cohort), "--out", str(out), "--min-area", "5"], catch_exceptions=False)


def test_a_slow_slide_is_set_aside(folder: Path, tmp_path: Path) -> None:
    done = run("tissue", folder / "one.tiff", "--out", tmp_path / "o", "--timeout", "0.01")
    assert done.exit_code == 1
    assert rows(tmp_path / "o" / "tissue.set_aside.csv")[0]["reason"] == "timed out"
    assert not (tmp_path / "o" / "one" / "tissue.json").exists()


def test_scale_stated_by_the_user(folder: Path, tmp_path: Path) -> None:
    done = run("tiles", folder / "unscaled.tiff", "--out", tmp_path, "--mpp", "0.25", "--tile-mpp", "0.5")
    assert done.exit_code == 0, done.output
    (row,) = rows(tmp_path / "tiles.csv")
    assert (float(row["mpp"]), int(row["side_level0"])) == (0.5, 512)


def test_samples(folder: Path, tmp_path: Path) -> None:
    for how in ("uniform", "stratified"):
        done = run("tiles", folder / "one.tiff", "--out", tmp_path / how, "--sample", 9, "--sample-how", how,
                   "--tile-px", 64)  # fmt: skip
        assert done.exit_code == 0, done.output
        assert len(rows(tmp_path / how / "one" / "tiles.csv")) == 9
    with pytest.raises(EosinError, match="No such way"):
        run_raising("tiles", folder / "one.tiff", "--out", tmp_path / "x", "--sample-how", "odd")
    with pytest.raises(EosinError):
        run_raising("tiles", folder / "one.tiff", "--out", tmp_path / "x", "--overlap", "1.5")


def run_raising(*arguments: object) -> None:
    CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_audit(folder: Path, tmp_path: Path) -> None:
    done = run("audit", folder, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    table = {r["slide"]: r for r in rows(tmp_path / "audit.csv")}
    assert "damaged tiles" in table["damaged"]["issues"] and int(table["damaged"]["tiles_failed"]) > 0
    assert "microns per pixel unknown" in table["unscaled"]["issues"]
    assert table["one"]["issues"] == "there more than once" and "sub/copy" in table["one"]["details"]
    assert table["sub/two"]["issues"] == ""


def test_labels_leave_only_on_request(shared_data: Path, tmp_path: Path) -> None:
    slide = shared_data / "slides" / "cc0" / "CMU-1-Small-Region.svs"
    assert run("thumbnail", slide, "--out", tmp_path / "a", "--size", 300).exit_code == 0
    assert sorted(p.name for p in (tmp_path / "a" / slide.stem).iterdir()) == ["thumbnail.json", "thumbnail.png"]
    assert Image.open(tmp_path / "a" / slide.stem / "thumbnail.png").size == (224, 300)
    assert run("thumbnail", slide, "--out", tmp_path / "b", "--with-label").exit_code == 0
    names = {p.stem for p in (tmp_path / "b" / slide.stem).glob("*.png")}
    assert {"label", "macro"} <= names
    said = run("info", slide, "--properties").output
    assert "aperio.MPP = 0.4990" in said and "b414003d" not in said and "aperio.Filename" not in said
    assert "b414003d" in run("info", slide, "--properties", "--with-label").output
