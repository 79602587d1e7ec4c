"""Phantom tissue: deterministic, true to its findings, told in true words, and not to be told by colour."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eosin.core.errors import EosinError
from eosin.phantom import DIAGNOSES, PhantomTile, case_report, cases, make_case, render_many, render_tile
from eosin.phantom.tiles.language import _ABSENT, _PRESENT, caption, steps
from eosin.phantom.tiles.noise import Window, lattice
from eosin.phantom.tiles.planes import streaks
from eosin.phantom.tiles.tile import optics_of


@pytest.fixture(scope="module")
def tiles() -> list[PhantomTile]:
    return [render_tile(make_case(11, n), 0) for n in range(36)]


def test_a_tile_follows_from_its_numbers_alone() -> None:
    specs = [(case, i) for case in cases(33, 5) for i in range(2)]
    together = list(render_many(specs, size_px=64, workers=2))
    alone = [render_tile(case, i, size_px=64) for case, i in reversed(specs)][::-1]
    assert [t.id for t in together] == [t.id for t in alone]
    for a, b in zip(together, alone, strict=True):
        assert np.array_equal(a.image, b.image)
        assert a.findings == b.findings


def test_tiles_of_a_case_differ_and_seeds_differ() -> None:
    a, b = (render_tile(make_case(0, 0), i, size_px=64).image for i in (0, 1))
    c = render_tile(make_case(1, 0), 0, size_px=64).image
    assert not np.array_equal(a, b) and not np.array_equal(a, c)


def test_cases_are_balanced() -> None:
    names = [c.diagnosis for c in cases(60, 3)]
    assert {names.count(d) for d in DIAGNOSES} == {10}


def test_images_are_tissue_like(tiles: list[PhantomTile]) -> None:
    for tile in tiles:
        assert tile.image.shape == (224, 224, 3) and tile.image.dtype == np.uint8
        grey = tile.image.mean(-1)
        assert grey.std() > 12, tile.id
        assert 70 < grey.mean() < 245, tile.id


def test_boxes_lie_in_the_tile_and_match_the_count(tiles: list[PhantomTile]) -> None:
    for tile in tiles:
        for finding in tile.findings.values():
            if finding.boxes:
                assert finding.count == len(finding.boxes)
            for x0, y0, x1, y1 in finding.boxes:
                assert 0 <= x0 < x1 <= 224 and 0 <= y0 < y1 <= 224


def test_lumens_of_round_glands_are_bright() -> None:
    """The middle of a whole round gland is lumen; the ring around it is epithelium."""
    brighter = []
    for number in range(0, 60, 6):
        tile = render_tile(make_case(2, number), 0)
        for x0, y0, x1, y1 in tile.findings["round glands"].boxes:
            if min(x1 - x0, y1 - y0) < 50 or x0 == 0 or y0 == 0 or x1 == 224 or y1 == 224:
                continue
            grey = tile.image[y0:y1, x0:x1].mean(-1)
            h, w = grey.shape
            yy, xx = np.mgrid[:h, :w]
            r = np.hypot((xx - w / 2) / (w / 2), (yy - h / 2) / (h / 2))
            brighter.append(grey[r < 0.2].mean() > grey[(r > 0.7) & (r < 0.95)].mean() + 10)
    assert len(brighter) > 10
    assert np.mean(brighter) > 0.9


def test_necrosis_and_mucin_only_where_said(tiles: list[PhantomTile]) -> None:
    allowed = {"necrosis": {"adenocarcinoma"}, "mucin pools": {"mucinous adenocarcinoma"}}
    for tile in tiles:
        for name, diagnoses in allowed.items():
            if name in tile.findings and tile.findings[name].present:
                assert tile.case.diagnosis in diagnoses


def truths_told(tile: PhantomTile, text: str) -> int:
    """How many findings a text in lower case states or denies; each must be true of the tile."""
    said = 0
    for words, present in ((_ABSENT, False), (_PRESENT, True)):
        for name, wordings in words.items():
            for wording in wordings:
                if wording in text:
                    assert tile.findings[name].present is present, (tile.id, name, text)
                    said += 1
                    text = text.replace(wording, "")  # "no mitoses are seen" holds "mitoses are seen"
    return said


def test_every_word_is_true_of_the_tile(tiles: list[PhantomTile]) -> None:
    said = 0
    for tile in tiles:
        for seed in range(6):
            rng = np.random.default_rng(seed)
            chain = steps(tile, rng)
            assert 2 <= len(chain) <= 6
            assert tile.case.diagnosis in chain[-1]
            text = " ".join(chain).lower() + " " + caption(tile, rng).lower()
            assert len(" ".join(chain).split()) <= 60
            said += truths_told(tile, text)
    assert said > 400


def test_wording_varies(tiles: list[PhantomTile]) -> None:
    assert len({steps(tiles[0], np.random.default_rng(s)) for s in range(30)}) > 10


def test_cases_have_their_own_colours() -> None:
    means = np.array([render_tile(c, 0, size_px=96).image.mean((0, 1)) for c in cases(24, 9)])
    assert means.std(0).min() > 8
    assert optics_of(make_case(9, 0)) is optics_of(make_case(9, 0))


def test_report_says_phantom(tiles: list[PhantomTile]) -> None:
    text = case_report(make_case(1, 3))
    assert text.startswith("PHANTOM REPORT") and "Research use only" in text
    assert "Diagnosis: mucinous adenocarcinoma." in text
    assert text == case_report(make_case(1, 3))


def test_neighbouring_windows_agree_about_the_world() -> None:
    left, right = Window(0, 0, 100, 80, 1.0), Window(50, 0, 100, 80, 1.0)
    a = lattice(3, left, step_um=(20, 15), jitter=0.5)
    b = lattice(3, right, step_um=(20, 15), jitter=0.5)
    shared = {(round(x, 6), round(y, 6)) for x, y in zip(a.x, a.y, strict=True) if x >= 50}
    assert shared == {(round(x, 6), round(y, 6)) for x, y in zip(b.x, b.y, strict=True) if x < 100}
    assert np.allclose(streaks(left, 0.4, 20, 3, 5)[:, 50:], streaks(right, 0.4, 20, 3, 5)[:, :50])


def test_slide_opens_with_its_scale_and_truth(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    pytest.importorskip("tifffile")
    from eosin.phantom.slides.slide import write_slide

    tiff, truth, report = write_slide(tmp_path / "a.tiff", case_number=2, seed=4, size_px=2048)
    slide = openslide.OpenSlide(str(tiff))
    assert slide.level_dimensions[:2] == ((2048, 2048), (512, 512))
    assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
    assert "PHANTOM" in slide.properties["tiff.ImageDescription"]
    collection = json.loads(truth.read_text())
    names = {f["properties"]["classification"]["name"] for f in collection["features"]}
    assert names == {"Tissue", "Lesion"}
    thumb = np.asarray(slide.read_region((0, 0), 1, (512, 512)).convert("RGB")).mean(-1)
    for feature in collection["features"]:
        ring = np.array(feature["geometry"]["coordinates"][0])
        assert (ring[0] == ring[-1]).all() and ring.min() >= 0 and ring.max() <= 2048
    tissue = max((np.array(f["geometry"]["coordinates"][0]) for f in collection["features"]), key=len)
    centre = (tissue.mean(0) / 4).astype(int)
    assert thumb[centre[1] - 40 : centre[1] + 40, centre[0] - 40 : centre[0] + 40].mean() < thumb[:12, :12].mean() - 15
    assert "PHANTOM" in report.read_text()
    with pytest.raises(EosinError, match="such a file already"):
        write_slide(tiff, case_number=2)


def test_colour_does_not_tell_the_diagnosis() -> None:
    """A colour histogram with logistic regression, trained on other cases, stays under 50 % on six classes."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def table(numbers: range) -> tuple[np.ndarray, np.ndarray]:
        drawn = [render_tile(make_case(21, n), i, size_px=160, mpp=1.4) for n in numbers for i in range(2)]
        rows = [np.sqrt(np.concatenate([np.bincount(t.image[..., c].ravel() >> 4, minlength=16) for c in range(3)]))
                for t in drawn]  # fmt: skip
        return np.array(rows), np.array([t.case.diagnosis for t in drawn])

    (x, y), (test_x, test_y) = table(range(120)), table(range(1000, 1048))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    said = model.predict(test_x)
    assert np.mean([(said[test_y == d] == d).mean() for d in DIAGNOSES]) < 0.5
