"""Small lesions with scenes of their own: what the truth says is what the slide shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eosin.core.errors import EosinError
from eosin.core.nouns.units import BoxLevel0
from eosin.phantom.slides.lesions import LesionScene, findings_of_slide, lesion_scenes, seen_within
from eosin.phantom.slides.plan import SlidePlan
from eosin.phantom.slides.series import SlideJob, write_slides
from eosin.phantom.slides.slide import write_slide
from eosin.phantom.tiles.noise import Window
from eosin.phantom.tiles.scenes import CARCINOMA, COLITIS, DIAGNOSES, Finding, build_scene
from eosin.phantom.tiles.tile import make_case
from eosin.slides.open.slide import open_slide


def scene_of(diagnosis: str, side: int = 300):
    return build_scene(diagnosis, Window(0.0, 0.0, side, side, 1.0), np.random.default_rng(3), extras=False)


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_a_mask_over_all_finds_what_the_scene_says(diagnosis: str) -> None:
    scene = scene_of(diagnosis)
    seen = seen_within(scene, np.ones((300, 300), bool))
    assert seen.keys() == scene.findings.keys()
    for name, finding in scene.findings.items():
        if name in ("mitoses", "goblet cells"):
            assert seen[name].count == finding.count
        if name not in ("crypt abscess", "necrosis"):  # lumens whose centre lies outside the window do not count
            assert seen[name].present == finding.present, name


def test_glands_and_cells_are_counted_where_the_mask_shows_them() -> None:
    scene = scene_of(CARCINOMA)
    left = np.zeros((300, 300), bool)
    left[:, :150] = True
    seen, whole = seen_within(scene, left), scene.findings
    by_hand = sum((b[0] + b[2]) // 2 < 150 for b in whole["irregular glands"].boxes)
    assert seen["irregular glands"].count == by_hand < whole["irregular glands"].count
    right = seen_within(scene, ~left)
    assert seen["mitoses"].count + right["mitoses"].count == whole["mitoses"].count
    assert seen["goblet cells"] == whole["goblet cells"] and not seen["goblet cells"].present


def test_nothing_is_seen_through_an_empty_mask() -> None:
    scene = scene_of(COLITIS)
    assert scene.findings["dense inflammation"].present
    assert not any(f.present for f in seen_within(scene, np.zeros((300, 300), bool)).values())


def lesion(number: int, visible: bool = True, **findings: Finding) -> LesionScene:
    named = {f.name: f for f in findings.values()}
    return LesionScene(number, 0, 0, np.zeros((1, 1, 3), np.uint8), named, 5000.0 if visible else 0.0)


def test_a_slide_shows_what_any_part_of_it_shows() -> None:
    background = {"goblet cells": Finding("goblet cells", True, 90), "mitoses": Finding("mitoses", False, 0)}
    first = lesion(0, a=Finding("mitoses", True, 2), b=Finding("goblet cells", False, 0), c=Finding("necrosis", False))
    second = lesion(1, a=Finding("mitoses", True, 3), d=Finding("necrosis", True))
    hidden = lesion(2, visible=False, a=Finding("mitoses", True, 50), e=Finding("crypt abscess", True))
    found = findings_of_slide(background, (first, second, hidden))
    assert found["mitoses"] == Finding("mitoses", True, 5)
    assert found["goblet cells"] == Finding("goblet cells", True)  # what the lesion lacks, the mucosa around it has
    assert found["necrosis"].present and "crypt abscess" not in found


def test_a_lesion_without_glands_makes_no_slide_without_glands() -> None:
    background = {"round glands": Finding("round glands", True, 9)}
    assert "glands" not in findings_of_slide(background, (lesion(0, g=Finding("glands", False, 0)),))
    assert "glands" in findings_of_slide({}, (lesion(0, g=Finding("glands", False, 0)),))


def test_lesions_keep_their_old_size_unless_asked() -> None:
    case = make_case(0, 2)
    old, small = SlidePlan.of(case, 2000.0), SlidePlan.of(case, 2000.0, lesion_um=90.0)
    assert not old.own_scenes and small.own_scenes
    assert all(0.7 * 240 <= r <= 1.2 * 240 for _, _, r in old.lesions)
    assert all(0.7 * 90 <= r <= 1.2 * 90 for _, _, r in small.lesions)
    with pytest.raises(EosinError, match="no radius"):
        SlidePlan.of(case, 2000.0, lesion_um=900.0)


@pytest.fixture(scope="module")
def carcinoma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("slides") / "c.tiff"
    return write_slide(out, case_number=2, size_px=600, mpp=1.0, lesion_um=80.0, page_px=256, workers=1)[0]


def test_the_slide_shows_the_scenes_at_their_places(carcinoma: Path) -> None:
    scenes = lesion_scenes(SlidePlan.of(make_case(0, 2), 600.0, (), 80.0), 1.0)
    truth = json.loads(carcinoma.with_suffix(".geojson").read_text())
    with open_slide(carcinoma) as slide:
        for scene, told in zip(scenes, truth["lesions"], strict=True):
            x, y = round(told["x_um"]), round(told["y_um"])
            pixels = slide.read(BoxLevel0(x0=x - 20, y0=y - 20, x1=x + 20, y1=y + 20)).astype(float)
            painted = scene.picture[y - 20 - scene.y : y + 20 - scene.y, x - 20 - scene.x : x + 20 - scene.x]
            assert np.abs(pixels - painted).mean() < 12  # JPEG at half the colours' resolution
            assert told["visible"] and told["findings"]["desmoplastic stroma"]["present"]


def test_truth_and_report_say_the_same(carcinoma: Path) -> None:
    truth = json.loads(carcinoma.with_suffix(".geojson").read_text())
    polygons = [f for f in truth["features"] if f["properties"].get("classification", {}).get("name") == "Lesion"]
    told = sum(f["properties"]["measurements"]["Area um^2"] for f in polygons)
    assert told == pytest.approx(sum(x["area_um2"] for x in truth["lesions"]), rel=0.1)
    assert truth["diagnosis"] == CARCINOMA and truth["findings"]["round glands"]["present"]
    for name, found in truth["findings"].items():
        in_lesion = [x["findings"][name]["present"] for x in truth["lesions"] if name in x["findings"]]
        assert found["present"] >= any(in_lesion)
    report = carcinoma.with_suffix(".txt").read_text()
    assert "Diagnosis: adenocarcinoma." in report and "PHANTOM" in report


def job(folder: Path, number: int) -> SlideJob:
    return SlideJob(folder / f"{number}.tiff", number, 0, 512, 1.0, 60.0, 256)


def test_a_series_goes_on_where_it_stopped(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    assert write_slides([job(tmp_path, 0)], workers=1) == 1
    before = (tmp_path / "0.tiff").stat().st_mtime_ns
    (tmp_path / "5.geojson").write_text("of a run that was killed")
    assert write_slides([job(tmp_path, 0), job(tmp_path, 5)], workers=1, report=lambda *t: told.append(t)) == 1
    assert (tmp_path / "0.tiff").stat().st_mtime_ns == before and told == [(2, 2)]
    assert json.loads((tmp_path / "5.geojson").read_text())["diagnosis"] == "leiomyoma"


def test_findings_that_need_not_be_there_can_be_left_out() -> None:
    window = Window(0.0, 0.0, 300, 300, 1.0)
    away = frozenset({"mitoses", "necrosis", "cribriform glands"})
    bare = build_scene(CARCINOMA, window, np.random.default_rng(3), extras=False, without=away)
    assert not any(bare.findings[name].present for name in away) and bare.findings["irregular glands"].present
    assert scene_of(CARCINOMA).findings["mitoses"].present
    colitis = build_scene(COLITIS, window, np.random.default_rng(3), extras=False, without=frozenset({"crypt abscess"}))
    assert not colitis.findings["crypt abscess"].present and colitis.findings["dense inflammation"].present


def test_cases_differ_in_the_findings_they_may_show() -> None:
    plans = [SlidePlan.of(make_case(0, n), 1000.0, (), 80.0, 0.5) for n in range(60)]
    shares = [np.mean(["mitoses" in p.without for p in plans]), np.mean(["necrosis" in p.without for p in plans])]
    assert all(0.3 < s < 0.7 for s in shares) and len({p.without for p in plans}) > 8
    assert not SlidePlan.of(make_case(0, 2), 1000.0, (), 80.0).without
