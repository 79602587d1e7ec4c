"""Phantom slides: written in pieces, of any size, without seams, with a truth that is where the pixels are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from eosin.core.errors import EosinError
from eosin.phantom.slides.pages import FAT, GLASS, Pages, make_pages
from eosin.phantom.slides.paint import Painter
from eosin.phantom.slides.slide import ARTEFACTS, SlidePlan, write_slide
from eosin.phantom.slides.tiff import write_pyramid
from eosin.phantom.slides.truth import truth
from eosin.phantom.tiles.scenes import NORMAL
from eosin.phantom.tiles.tile import make_case
from eosin.slides.annotations.geojson_read import check_geojson, read_geojson

openslide = pytest.importorskip("openslide", reason="slides need eosin[slides]")


@pytest.fixture(scope="module")
def flat() -> Pages:
    """Pages of one colour each, so that what lies where can be read from the pixels."""
    colours = {GLASS: (240, 240, 240), NORMAL: (200, 100, 150), "adenocarcinoma": (90, 60, 140), FAT: (250, 200, 60)}
    side = {GLASS: 512}
    pictures = {n: np.full((side.get(n, 640),) * 2 + (3,), c, np.uint8) for n, c in colours.items()}
    return Pages(pictures, (240.0, 240.0, 240.0))


@pytest.fixture(scope="module")
def spotted() -> Pages:
    """Pages of noise, so that every copy and every seam can be seen."""
    rng = np.random.default_rng(0)
    names = (GLASS, NORMAL, "adenocarcinoma", FAT)
    noise = {n: gaussian_filter(rng.normal(0, 1, (320, 320, 3)), (3, 3, 0)) for n in names}
    pictures = {n: np.clip(140 + 400 * v, 0, 255).astype(np.uint8) for n, v in noise.items()}
    return Pages(pictures, (240.0, 240.0, 240.0))


def test_blocks_of_any_cut_are_one_picture(spotted: Pages) -> None:
    """Painted as one block or as many, the same pixels: no seam between blocks, whatever the artefacts."""
    plan = SlidePlan.of(make_case(0, 2), 600.0, ARTEFACTS)
    painter = Painter(plan, spotted, 0.5)
    whole = painter.block(0, 0, 1200, 1200)
    for x, y, width, height in ((0, 0, 512, 512), (512, 512, 512, 512), (1024, 256, 176, 640), (256, 0, 8, 1200)):
        part = painter.block(x, y, width, height)
        assert np.array_equal(part, whole[y : y + height, x : x + width])


def test_pages_repeat_in_a_mirror(spotted: Pages) -> None:
    """Across the border of two copies neighbours are equal; any cut is that of the mirrored plane."""
    page = spotted.pictures[NORMAL]
    twice = np.concatenate([page, page[:, ::-1], page], axis=1)
    plane = np.concatenate([twice, twice[::-1], twice], axis=0)
    for x, y, width, height in ((0, 0, 320, 320), (300, 10, 100, 50), (320, 320, 320, 320), (400, 330, 100, 300),
                                (0, 600, 960, 360), (639, 639, 2, 2)):  # fmt: skip
        assert np.array_equal(spotted.cut(NORMAL, x, y, width, height), plane[y : y + height, x : x + width])


def test_truth_lies_where_the_pixels_are(flat: Pages) -> None:
    """Every class of the truth has its colour: tissue, lesion, fat, ink, border, and nothing else is tissue."""
    from PIL import Image, ImageDraw

    plan = SlidePlan.of(make_case(0, 2), 1000.0, ("pen", "fat", "border", "tears"))
    pixels = Painter(plan, flat, 0.5).block(0, 0, 2000, 2000).astype(int)
    masks = {}
    for feature in truth(plan, 2000, 0.5)["features"]:
        kind = feature["properties"]["classification"]["name"]
        image = masks.setdefault(kind, Image.new("1", (2000, 2000)))
        rings = feature["geometry"]["coordinates"]
        for number, ring in enumerate(rings):
            ImageDraw.Draw(image).polygon([tuple(p) for p in ring], fill=0 if number else 1)
    found = {k: np.asarray(m) for k, m in masks.items()}
    assert set(found) == {"Tissue", "Lesion", "Fat", "Pen", "Border"}
    is_glass = np.abs(pixels - 240).max(-1) < 12
    is_fat = np.abs(pixels - (250, 200, 60)).max(-1) < 50  # half way to its neighbours: its border is soft
    is_black = pixels.max(-1) < 15
    is_lesion = np.abs(pixels - (90, 60, 140)).max(-1) < 20
    assert agreement(is_black & ~found["Pen"], found["Border"] & ~found["Pen"]) > 0.96  # an edge of two soft pixels
    assert agreement(is_fat, found["Fat"]) > 0.93
    assert agreement(is_lesion, found["Lesion"] & ~found["Fat"]) > 0.9
    assert not (is_glass & found["Tissue"]).sum() > 0.02 * found["Tissue"].sum()
    stained = ~is_glass & ~is_black & ~found["Pen"]
    assert agreement(stained, found["Tissue"]) > 0.94
    assert not (found["Tissue"] & found["Pen"]).sum() > 0.002 * found["Pen"].sum()


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("size", [512, 1000, 2051])
def test_any_size_is_a_pyramid(tmp_path: Path, spotted: Pages, size: int) -> None:
    """Level 0 is what was painted, further levels are its means; what has no place in them is left out."""
    painter = Painter(SlidePlan.of(make_case(0, 2), size * 0.5), spotted, 0.5)
    write_pyramid(tmp_path / "a.tiff", painter.block, size, 0.5, "PHANTOM", workers=2)
    slide = openslide.OpenSlide(str(tmp_path / "a.tiff"))
    small = size // 4
    assert slide.level_dimensions[0] == (size, size)
    assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
    read = np.asarray(slide.read_region((0, 0), 0, (size, size)).convert("RGB")).astype(float)
    assert np.abs(read - painter.block(0, 0, size, size)).mean() < 8
    if small >= 256:
        assert slide.level_dimensions[1] == (small, small)
        level = np.asarray(slide.read_region((0, 0), 1, (small, small)).convert("RGB")).astype(float)
        mean = read[: small * 4, : small * 4].reshape(small, 4, small, 4, 3).mean((1, 3))
        assert np.corrcoef(level.mean(-1).ravel(), mean.mean(-1).ravel())[0, 1] > 0.9
        assert np.corrcoef(level[:, 1:].mean(-1).ravel(), mean[:, :-1].mean(-1).ravel())[0, 1] < 0.8
    assert [p.name for p in tmp_path.iterdir()] == ["a.tiff"]


def test_faint_is_the_same_tissue_with_less_stain() -> None:
    pages = Pages({GLASS: np.full((8, 8, 3), 240, np.uint8), NORMAL: np.full((8, 8, 3), 60, np.uint8)}, (240.0,) * 3)
    half = pages.faded(0.5)
    assert half.pictures[NORMAL][0, 0, 0] == pytest.approx(240 * (60 / 240) ** 0.5, abs=1)
    assert (half.pictures[GLASS] == 240).all()


def test_real_material_and_all_artefacts(tmp_path: Path) -> None:
    files = write_slide(tmp_path / "a.tiff", case_number=2, seed=4, size_px=600, artefacts=ARTEFACTS, workers=1)
    shapes = read_geojson(files[1]).kept
    assert check_geojson(json.loads(files[1].read_text())) is None
    assert {"Tissue", "Pen", "Border"} <= {s.kind for s in shapes}
    assert all(s.measurements["Area um^2"] > 0 for s in shapes)
    assert "PHANTOM" in files[2].read_text()
    pages = make_pages(make_case(4, 2), [NORMAL, FAT], 1.0, page_px=256)
    assert pages.pictures[NORMAL].std() > pages.pictures[GLASS].std() and pages.pictures[FAT].mean() > 120


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no such artefact"):
        write_slide(tmp_path / "a.tiff", case_number=2, size_px=600, artefacts=("hair",))
    with pytest.raises(EosinError, match="no size for a slide"):
        write_slide(tmp_path / "a.tiff", case_number=2, size_px=100)
    with pytest.raises(EosinError, match="no scale"):
        write_slide(tmp_path / "a.tiff", case_number=2, size_px=600, mpp=90)
    assert not list(tmp_path.iterdir())
