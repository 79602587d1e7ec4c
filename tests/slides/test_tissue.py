"""Tissue: found on stained and faint slides, with fat, holes, ink, borders and damage, in the right place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_slides import GLASS, damage, picture, truth, write_tiff
from PIL import Image
from scipy import ndimage

from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.slide import open_slide
from eosin.slides.tiles.grid import TileGrid, tile_grid
from eosin.slides.tiles.quality import blur_flags, sharpness
from eosin.slides.tiles.reading import read_tiles
from eosin.slides.tissue.ink import black_border
from eosin.slides.tissue.morphology import closing, mean_colour, opening, quantiles, remove_small_objects
from eosin.slides.tissue.segmentation import Tissue, TissueSettings, glass_colour, otsu, tissue_mask

pytest.importorskip("openslide", reason="slides need eosin[slides]")


def found_in(folder: Path, pixels: np.ndarray, settings: TissueSettings | None = None, mpp: float = 4.0) -> Tissue:
    """Tissue of a picture as a slide of 4 µm per pixel: 6 x 4.4 mm."""
    with open_slide(write_tiff(folder / "a.tiff", pixels, mpp=mpp, levels=1)) as slide:
        return tissue_mask(slide, settings)


def overlap(tissue: Tissue, right: np.ndarray) -> float:
    """Intersection over union with a mask of level 0."""
    height, width = tissue.mask.shape
    image = Image.fromarray(right.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
    small = np.asarray(image) > 127
    return float((tissue.mask & small).sum() / (tissue.mask | small).sum())


@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_tissue_is_found_however_faint(tmp_path: Path, strength: float) -> None:
    glass = np.array(GLASS, dtype=float)
    pixels = (glass * (picture() / glass) ** strength).clip(0, 255).astype(np.uint8)
    tissue = found_in(tmp_path, pixels)
    assert overlap(tissue, truth()) > 0.96
    area = truth().sum() * 16.0
    assert tissue.area_um2 == pytest.approx(area, rel=0.03) and tissue.share == pytest.approx(truth().mean(), rel=0.03)
    (part,) = tissue.polygons()
    assert part[0].min() > 100 and part[0][:, 0].max() < 1400


@pytest.mark.parametrize("glass", [(250, 250, 250), (221, 236, 232), (236, 214, 226), (205, 205, 210)])
def test_glass_of_any_colour(glass: tuple[int, int, int]) -> None:
    pixels = (picture().astype(float) * np.array(glass) / GLASS).clip(0, 255).astype(np.uint8)
    assert np.abs(np.array(glass_colour(pixels)) - glass).max() < 2.5


def test_a_picture_without_glass_is_all_tissue(tmp_path: Path) -> None:
    tissue = found_in(tmp_path, np.ascontiguousarray(picture()[350:750, 500:1000]))
    assert tissue.share > 0.98


def test_empty_glass_has_no_tissue(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bare = np.clip(np.array(GLASS) + rng.normal(0, 2, (600, 800, 3)), 0, 255).astype(np.uint8)
    tissue = found_in(tmp_path, bare)
    assert not tissue.mask.any() and tissue.polygons() == [] and tissue.area_um2 == 0


@pytest.mark.parametrize("ink", [(40, 60, 165), (20, 120, 60), (28, 26, 30), (190, 30, 40)])
def test_ink_is_no_tissue(tmp_path: Path, ink: tuple[int, int, int]) -> None:
    """Felt pen on glass and across the border of the tissue, in four colours."""
    pixels = picture().astype(float)
    mark = np.zeros(truth().shape, bool)
    mark[60:120, 200:1300] = True
    mark[100:400, 700:760] = True
    pixels = np.where(mark[..., None], pixels * np.array(ink) / 255, pixels).astype(np.uint8)
    tissue = found_in(tmp_path, pixels)
    assert overlap(tissue, truth() & ~mark) > 0.95
    height, width = tissue.pen.shape
    marked = np.asarray(Image.fromarray(mark).resize((width, height)))
    assert (tissue.pen & marked).sum() / (tissue.pen | marked).sum() > 0.75
    kept = found_in(tmp_path / "..", pixels, TissueSettings(keep_pen=True))
    assert kept.area_um2 > tissue.area_um2 * 1.1


def stroked(pixels: np.ndarray, y: int, columns: slice, half_px: int, ink: tuple[int, int, int]) -> np.ndarray:
    """A level stroke of ink with soft edges of 12 px; bool mask of what is inked by half and more."""
    share = np.clip((half_px - np.abs(np.arange(len(pixels)) - y)) / 12 + 0.5, 0, 1)
    weight = np.zeros(pixels.shape[:2])
    weight[:, columns] = share[:, None]
    pixels *= 1 - weight[..., None] * (1 - np.array(ink) / 255)
    return np.asarray(weight >= 0.5)


def test_narrow_ink_and_its_soft_edge_are_no_tissue(tmp_path: Path) -> None:
    """A stroke 56 µm wide that touches the tissue: all of it goes, its edge too, and no glass beside it is filled."""
    pixels = picture().astype(float)
    mark = stroked(pixels, 118, slice(300, 1200), 14, (20, 120, 60))
    tissue = found_in(tmp_path, pixels.astype(np.uint8), mpp=2.0)
    assert overlap(tissue, truth() & ~mark) > 0.97 and len(tissue.polygons()) == 1
    assert tissue.mask[: int(100 / 1100 * len(tissue.mask))].sum() == 0


def test_tissue_that_ink_cuts_off_stays(tmp_path: Path) -> None:
    """A part of the tissue, smaller than the smallest that counts, lies beyond a stroke."""
    pixels, right = picture().astype(float), truth()
    mark = stroked(pixels, 260, slice(0, 1500), 25, (28, 26, 30))
    tissue = found_in(tmp_path, pixels.astype(np.uint8), TissueSettings(min_area_um2=200_000), mpp=2.0)
    beyond = (right & ~mark)[:235]
    assert 0 < beyond.sum() * 4.0 < 200_000
    rows, columns = tissue.mask.shape
    found = tissue.mask[: int(235 / 1100 * rows)].sum() / rows / columns * right.size
    assert found == pytest.approx(beyond.sum(), rel=0.15)


def test_dust_at_the_border_is_no_tissue_and_dust_on_tissue_is(tmp_path: Path) -> None:
    """Dark grey discs of 60 µm, half on the tissue's border, and some amid it."""
    pixels, right = picture(), truth()
    y, x = np.mgrid[: len(pixels), : len(pixels[0])]
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for angle in angles:
        for far in (1.0, 0.5):
            centre = 750 + 540 * far * np.cos(angle), 550 + 374 * far * np.sin(angle)
            pixels[np.hypot(x - centre[0], y - centre[1]) < 15] = 60
    tissue = found_in(tmp_path, pixels, mpp=2.0)
    assert overlap(tissue, right) > 0.98 and len(tissue.polygons()[0]) == 1


def test_a_small_pocket_of_fat_is_kept(tmp_path: Path) -> None:
    """0.2 mm of fat amid tissue: hardly more than one cell is far enough from it to be judged. A tear is no fat."""
    pixels, right = picture(), truth()
    rows, columns = np.arange(500, 600), np.arange(700, 800)
    pixels[500:600, 700:800] = GLASS
    pixels[rows[rows % 40 < 2][:, None], columns] = (230, 206, 224)
    pixels[rows[:, None], columns[columns % 40 < 2]] = (230, 206, 224)
    tissue = found_in(tmp_path, pixels, mpp=2.0)
    assert overlap(tissue, right) > 0.975 and len(tissue.polygons()[0]) == 1
    pixels[500:600, 700:800] = GLASS
    assert len(found_in(tmp_path / "..", pixels, mpp=2.0).polygons()[0]) == 2


def test_no_ink_where_there_is_none(tmp_path: Path, shared_data: Path) -> None:
    assert not found_in(tmp_path, picture()).pen.any()
    for name in ("cc0/CMU-1-Small-Region.svs", "openslide_crops/OS-1-detail.ome.tif",
                 "dicom/multiframe_camelyon_challenge_image.dcm"):  # fmt: skip
        with open_slide(shared_data / "slides" / name) as slide:
            tissue = tissue_mask(slide)
            assert not tissue.pen.any() and tissue.share > 0.2


def test_black_border_is_no_tissue(tmp_path: Path) -> None:
    pixels = picture()
    pixels[:, :90] = 4
    pixels[1060:] = 4
    tissue = found_in(tmp_path, pixels)
    assert overlap(tissue, truth()) > 0.96 and tissue.border.mean() == pytest.approx(0.06 + 0.036, abs=0.012)


def test_dark_nuclei_at_the_side_are_no_border() -> None:
    pixels = np.full((200, 300, 3), 200, np.uint8)
    pixels[90:100, :8] = 10
    assert not black_border(pixels).any()


def test_fat_is_kept_and_tears_are_not(tmp_path: Path) -> None:
    """Two squares of 1 mm are cut out of the tissue: one is empty, one has walls a pixel thin round 80 µm cells."""
    pixels, right = picture(), truth()
    hole, fat = (slice(420, 670), slice(450, 700)), (slice(420, 670), slice(820, 1070))
    pixels[hole] = GLASS
    pixels[fat] = GLASS
    rows, columns = np.arange(420, 670), np.arange(820, 1070)
    pixels[rows[rows % 20 == 0][:, None], columns] = (236, 196, 220)
    pixels[rows[:, None], columns[columns % 20 == 0]] = (236, 196, 220)
    right[hole] = False
    tissue = found_in(tmp_path, pixels)
    assert overlap(tissue, right) > 0.96
    without = found_in(tmp_path / "..", pixels, TissueSettings(keep_fat=False, density_range=(0.04, 0.1)))
    assert without.area_um2 < tissue.area_um2 * 0.95


def test_dirt_and_small_holes(tmp_path: Path) -> None:
    """A speck of 60 x 60 µm is left out, a hole of 80 x 80 µm is filled."""
    pixels, right = picture(), truth()
    pixels[40:55, 40:55] = (90, 60, 120)
    pixels[500:520, 700:720] = GLASS
    tissue = found_in(tmp_path, pixels)
    assert overlap(tissue, right) > 0.96 and len(tissue.polygons()) == 1 and len(tissue.polygons()[0]) == 1


def test_a_model_takes_the_place_of_the_threshold(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "a.tiff", picture(), mpp=4.0)) as slide:
        seen: list[tuple[tuple[int, ...], float]] = []

        def left_half(pixels: np.ndarray, mpp: float) -> np.ndarray:
            seen.append((pixels.shape, mpp))
            return np.broadcast_to(np.arange(pixels.shape[1]) < pixels.shape[1] / 2, pixels.shape[:2]) * 0.9

        tissue = tissue_mask(slide, model=left_half)
        assert tissue.share == pytest.approx(0.5, abs=0.01)
        assert seen[0][0][:2] == tissue.mask.shape and seen[0][1] == tissue.mpp
        with pytest.raises(SlideError, match="another shape"):
            tissue_mask(slide, model=lambda pixels, mpp: np.ones((3, 3)))


def test_damage_in_the_tissue_is_told_and_listed(tmp_path: Path) -> None:
    """A broken tile amid tissue counts as tissue, so that its tiles are listed and fail by name; not on glass."""
    place = write_tiff(tmp_path / "a.tiff", picture(), mpp=1.0, levels=1)
    damage(place, 3, 2, "header")  # 720..960, 480..720: amid tissue
    damage(place, 0, 0, "header")  # glass
    with open_slide(place) as slide:
        tissue = tissue_mask(slide)
    height, width = tissue.mask.shape
    assert 0.05 < tissue.damaged.mean() < 0.09
    assert tissue.mask[int(600 / 1100 * height), int(840 / 1500 * width)]
    assert not tissue.mask[10, 10] and overlap(tissue, truth()) > 0.95


def test_a_wholly_broken_slide_is_refused(tmp_path: Path) -> None:
    place = write_tiff(tmp_path / "a.tiff", picture(), levels=1)
    for row in range(5):
        for column in range(7):
            damage(place, column, row, "header")
    with open_slide(place) as slide, pytest.raises(SlideError, match="slide damaged"):
        tissue_mask(slide)


def test_scale_matters_not_pixels(tmp_path: Path) -> None:
    """The same tissue scanned twice as finely has the same outline in µm."""
    coarse = found_in(tmp_path, np.asarray(Image.fromarray(picture()).reduce(2)), mpp=8.0)
    fine = found_in(tmp_path / "..", picture(), mpp=4.0)
    assert fine.area_um2 == pytest.approx(coarse.area_um2, rel=0.02)


def test_otsu_by_hand() -> None:
    assert 2 < otsu(np.array([1.0] * 50 + [2.0] * 50 + [8.0] * 50 + [9.0] * 50)) < 8


@pytest.mark.parametrize("size", [1, 2, 3, 100, 4321])
def test_quantiles_and_mean_colour_against_numpy(size: int) -> None:
    rng = np.random.default_rng(size)
    values = rng.random(size).astype(np.float32)
    shares = (0.0, 0.5, 0.6, 0.95, 1.0)
    assert quantiles(values, *shares) == pytest.approx(np.quantile(values, shares).tolist(), rel=1e-5)
    pixels = rng.integers(0, 256, (size, 7, 3), dtype=np.uint8)
    where = pixels[..., 0] > 40
    right = pixels[where].mean(axis=0) if where.any() else np.zeros(3)
    assert mean_colour(pixels, where) == pytest.approx(right.tolist())


def test_close_open_and_parts_against_scipy() -> None:
    rng = np.random.default_rng(0)
    mask = ndimage.gaussian_filter(rng.random((120, 90)), 2) > 0.5
    for size in (3, 5, 9):
        square = np.ones((size, size))
        padded = np.pad(mask, size)
        right = ndimage.binary_closing(padded, square)[size:-size, size:-size]
        assert np.array_equal(closing(mask, size), right)
        inner = np.s_[size:-size, size:-size]
        assert np.array_equal(opening(mask, size)[inner], ndimage.binary_opening(mask, square)[inner])
    labels, count = ndimage.label(mask)
    sizes = ndimage.sum(mask, labels, range(count + 1))
    assert np.array_equal(remove_small_objects(mask, 40), (sizes >= 40)[labels] & mask)


def test_blurred_tiles_of_a_real_slide_are_flagged(shared_data: Path) -> None:
    with open_slide(shared_data / "slides" / "cc0" / "CMU-1-Small-Region.svs") as slide:
        tiles = tile_grid(slide, tissue_mask(slide), TileGrid(min_tissue=0.5))
        pixels = list(read_tiles(slide, tiles))
    assert not blur_flags(tiles, pixels).any() and len(pixels) > 30
    blurred = [(i, np.asarray(ndimage.gaussian_filter(t, (3, 3, 0)))) for i, t in pixels]
    assert blur_flags(tiles, blurred).all()
    assert tiles.with_flags(blur_flags(tiles, blurred)).flag_names(0) == ["blur"]


def test_sharpness_falls_with_blur() -> None:
    tile = picture()[400:656, 600:856]
    values = [sharpness(np.asarray(ndimage.gaussian_filter(tile, (s, s, 0)))) for s in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[0] > 5 * values[3]
