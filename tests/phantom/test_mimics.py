"""Mimics: equal inventories, another arrangement; and stains of two laboratories."""

from __future__ import annotations

import numpy as np
import pytest
from tests.phantom.test_phantom import truths_told

from eosin.core.settings.data import PhantomData
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.baselines.baselines import run_baselines
from eosin.phantom import DIAGNOSES, PhantomTile, make_case, render_tile
from eosin.phantom.tiles.language import caption, steps
from eosin.phantom.tiles.mimics import build_mimic
from eosin.phantom.tiles.noise import Window
from eosin.phantom.tiles.optics import Optics
from eosin.phantom.tiles.tile import case_rng, optics_of
from eosin.sources.phantom import read_phantom

WINDOW = Window(0.0, 0.0, 224, 224, 1.0)
MUCOSA = ("normal mucosa", "tubular adenoma", "active colitis")
CANCER = ("adenocarcinoma", "mucinous adenocarcinoma")


@pytest.fixture(scope="module")
def tiles() -> list[PhantomTile]:
    return [render_tile(make_case(11, n, mimics=True), 0) for n in range(36)]


def test_the_usual_phantom_is_as_before() -> None:
    """Cases without the options draw the same numbers: no digest of an older data set moves."""
    plain = make_case(5, 1)
    assert (plain.mimics, plain.stain_shift) == (False, 0.0)
    assert np.array_equal(Optics.draw(case_rng(plain, 1)).vectors, Optics.draw(case_rng(plain, 1), 0.0).vectors)
    few = {"train_cases": 2, "valid_cases": 1, "test_cases": 2, "tiles_per_case": 1, "tile_px": 64}
    usual = read_phantom(PhantomData(**few), 3)
    moved = read_phantom(PhantomData(**few, stain_shift=1.0), 3)
    mimics = read_phantom(PhantomData(**few, mimics=True), 3)
    for other in (moved, mimics):
        assert [s.id for s in other.samples.kept] == [s.id for s in usual.samples.kept]
        assert all(a.images != b.images for a, b in zip(other.samples.kept, usual.samples.kept, strict=True))


def test_test_cases_are_stained_elsewhere() -> None:
    """Haematoxylin gains and eosin loses strength from train to test; everything else of a case stays its own."""
    train, usual, test = (optics_of(make_case(5, 1, stain_shift=s)) for s in (-0.5, 0.0, 0.5))
    assert (test.vectors[0] > usual.vectors[0]).all() and (usual.vectors[0] > train.vectors[0]).all()
    assert (test.vectors[1] < usual.vectors[1]).all() and (usual.vectors[1] < train.vectors[1]).all()
    assert train.jpeg == usual.jpeg == test.jpeg and np.array_equal(train.gamma, test.gamma)


def _counts(diagnosis: str, num: int = 12) -> dict[str, float]:
    """Mean number of cells of each kind in the window, and the mean of each plane, over some tiles."""
    total: dict[str, float] = {}
    for seed in range(num):
        scene = build_mimic(diagnosis, WINDOW, np.random.default_rng(seed))
        for group in scene.planes.queue:
            inside = int(WINDOW.contains(group.x, group.y).sum())
            kind = "wall" if group.kind in ("basal", "pencil") else group.kind
            total[kind] = total.get(kind, 0.0) + inside / num
        for name, plane in scene.planes.flatten().items():
            total[name] = total.get(name, 0.0) + float(plane.mean()) / num
    return total


def test_mimics_share_their_inventory() -> None:
    for group, kinds in ((MUCOSA, ("wall", "neutrophil")), (CANCER, ("pleomorphic", "plump"))):
        found = [_counts(d) for d in group]
        for name in (*kinds, "haem", "eosin"):
            values = [f[name] for f in found]
            assert max(values) < 1.35 * min(values), (group, name, values)


def test_what_differs_is_where_things_are() -> None:
    for seed in range(6):
        scenes = {d: build_mimic(d, WINDOW, np.random.default_rng(seed)) for d in (*MUCOSA, *CANCER)}
        assert scenes["active colitis"].findings["crypt abscess"].present
        for name in ("normal mucosa", "tubular adenoma"):
            planes = scenes[name].planes
            assert not scenes[name].findings["crypt abscess"].present
            clusters = [g for g in planes.queue if g.kind == "neutrophil"]
            assert sum(len(g) for g in clusters) > 10
        assert scenes["mucinous adenocarcinoma"].findings["floating tumour cells"].present
        assert not scenes["adenocarcinoma"].findings["floating tumour cells"].present
        assert all(scenes[d].findings["mucin pools"].present for d in CANCER)


def test_every_word_is_true_of_a_mimic(tiles: list[PhantomTile]) -> None:
    said = 0
    for tile in tiles:
        for seed in range(4):
            rng = np.random.default_rng(seed)
            chain = steps(tile, rng)
            assert 2 <= len(chain) <= 6 and tile.case.diagnosis in chain[-1]
            text = " ".join(chain).lower() + " " + caption(tile, rng).lower()
            said += truths_told(tile, text)
    assert said > 250


def test_a_tile_of_a_mimic_follows_from_its_numbers() -> None:
    a, b = (render_tile(make_case(4, 2, mimics=True), 1, size_px=96) for _ in range(2))
    assert a.jpeg == b.jpeg and a.findings == b.findings
    assert {render_tile(make_case(4, n, mimics=True), 0, 64).case.diagnosis for n in range(6)} == set(DIAGNOSES)


def test_colour_tells_little_of_mimics() -> None:
    settings = PhantomData(train_cases=60, valid_cases=0, test_cases=36, tiles_per_case=2, mimics=True)
    found = read_phantom(settings, 1)
    train, test = ([s for s in found.samples.kept if s.split == name] for name in ("train", "test"))
    exam = ExamSettings(baselines=["colour_histogram", "colour_texture"], bootstrap=100)
    figures = run_baselines(train, test, exam)
    assert figures["colour_histogram"]["balanced_accuracy"] < 0.55
    assert figures["colour_texture"]["balanced_accuracy"] < 0.85
