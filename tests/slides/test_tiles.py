"""The tile grid: where tiles lie, what share of tissue they have, in what order they are read, what is sampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_slides import damage, picture, truth, write_tiff

from eosin.core.errors import EosinError
from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.slide import Slide, open_slide
from eosin.slides.tiles.grid import (
    TileGrid,
    _fair,
    colour_clusters,
    sample_stratified,
    sample_uniform,
    tile_grid,
    write_table,
)
from eosin.slides.tiles.reading import Failed, read_tiles
from eosin.slides.tiles.tiles import FLAGS, Tiles
from eosin.slides.tissue.segmentation import Tissue

pytest.importorskip("openslide", reason="slides need eosin[slides]")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slides") / "a.tiff", picture())


def given_tissue(slide: Slide, mask: np.ndarray) -> Tissue:
    """Tissue from a mask of any size."""
    mpp = slide.mpp * slide.size_px[0] / mask.shape[1]
    none = [np.zeros_like(mask) for _ in range(4)]
    return Tissue(mask, mpp, slide.size_px, slide.mpp, *none, (240.0, 240.0, 240.0), 0.05)


def everywhere(slide: Slide) -> Tissue:
    return given_tissue(slide, np.ones((11, 15), bool))


def test_corners_by_hand(place: Path) -> None:
    """1500 x 1100 px at 0.5 µm, tiles of 200 px at 1 µm: 400 level-0 px each, three across and two down."""
    with open_slide(place) as slide:
        tiles = tile_grid(slide, everywhere(slide), TileGrid(tile_px=200, mpp=1.0))
        assert (tiles.side_level0, tiles.mpp) == (400, 1.0)
        assert tiles.coords_level0.tolist() == [[0, 0], [400, 0], [800, 0], [0, 400], [400, 400], [800, 400]]
        assert tiles.coords_level0.dtype == np.int64
        assert tiles.coords_um[1].tolist() == [200.0, 0.0] and tiles.box_um(1).x1 == 400.0
        padded = tile_grid(slide, everywhere(slide), TileGrid(tile_px=200, mpp=1.0, edge="pad"))
        assert len(padded) == 12
        outside = padded.flags & FLAGS["outside"] > 0
        assert outside.tolist() == [False] * 3 + [True] + [False] * 3 + [True] + [True] * 4
        assert padded.tissue[3] == pytest.approx(300 / 400) and padded.tissue[11] == pytest.approx(0.75 * 0.75)


def test_stride_does_not_drift(place: Path) -> None:
    """A stride that is no whole number of pixels is rounded anew at every tile, so that errors do not add up."""
    with open_slide(place) as slide:
        tiles = tile_grid(slide, everywhere(slide), TileGrid(tile_px=16, tile_um=10.3, mpp_tolerance=0))
        xs = np.unique(tiles.coords_level0[:, 0])
        assert np.abs(xs - np.arange(len(xs)) * 10.3 / 0.5).max() <= 0.5
        assert tiles.side_level0 == 21 and tiles.mpp == pytest.approx(21 * 0.5 / 16)


def test_overlap(place: Path) -> None:
    with open_slide(place) as slide:
        tiles = tile_grid(slide, everywhere(slide), TileGrid(tile_px=256, mpp=0.5, overlap=0.5))
        assert np.unique(np.diff(np.unique(tiles.coords_level0[:, 0]))).tolist() == [128]


def test_a_level_within_one_percent_is_read_as_it_is(place: Path) -> None:
    """Asked for 1.005 µm, level 1 of 1 µm is taken: whole pixels, and the true scale is told."""
    with open_slide(place) as slide:
        near = tile_grid(slide, everywhere(slide), TileGrid(tile_px=256, mpp=1.005))
        assert (near.side_level0, near.mpp) == (512, 1.0)
        exact = tile_grid(slide, everywhere(slide), TileGrid(tile_px=256, mpp=1.005, mpp_tolerance=0))
        assert exact.side_level0 == 515 and exact.mpp == pytest.approx(515 * 0.5 / 256)


def test_share_of_tissue_is_exact(place: Path) -> None:
    """A mask of 100-px squares, tiles of 150: the share is the area, also where a tile cuts mask pixels."""
    mask = np.zeros((11, 15), bool)
    mask[1, 1] = True
    with open_slide(place) as slide:
        tiles = tile_grid(slide, given_tissue(slide, mask), TileGrid(tile_px=150, mpp=0.5, min_tissue=0.01))
        got = {tuple(c): float(s) for c, s in zip(tiles.coords_level0.tolist(), tiles.tissue, strict=True)}
        quarter = 50 * 50 / 150**2
        assert got == {k: pytest.approx(quarter) for k in ((0, 0), (150, 0), (0, 150), (150, 150))}
        none = tile_grid(slide, given_tissue(slide, mask), TileGrid(tile_px=150, mpp=0.5, min_tissue=0.2))
        assert len(none) == 0 and list(read_tiles(slide, none)) == []


def test_flags_of_ink(place: Path) -> None:
    with open_slide(place) as slide:
        tissue = everywhere(slide)
        tissue.pen[0, 0] = True
        tiles = tile_grid(slide, tissue, TileGrid(tile_px=200, mpp=0.5))
        assert tiles.flag_names(0) == ["pen"] and not tiles.flags[1:].any()


@pytest.mark.parametrize(
    "grid",
    [TileGrid(tile_px=256, mpp=0.5), TileGrid(tile_px=100, mpp=0.83, overlap=0.3, edge="pad"),
     TileGrid(tile_px=64, mpp=2.3), TileGrid(tile_px=128, mpp=0.48)],
    ids=["as it is", "resampled, padded", "coarse", "finer than the slide"],
)  # fmt: skip
@pytest.mark.parametrize("workers", [1, 3])
def test_reading_many_is_reading_one_by_one(place: Path, grid: TileGrid, workers: int) -> None:
    """In order, and the pixels of a read of each tile alone."""
    with open_slide(place) as slide:
        tiles = tile_grid(slide, everywhere(slide), grid)
        got = list(read_tiles(slide, tiles, workers=workers))
        assert [i for i, _ in got] == list(range(len(tiles))) and len(tiles) > 3
        for i, tile in got:
            assert isinstance(tile, np.ndarray) and tile.shape == (grid.tile_px, grid.tile_px, 3)
            assert np.array_equal(tile, slide.read(tiles.box(i), out_px=(grid.tile_px, grid.tile_px)))


@pytest.mark.parametrize("how", ["body", "header", "zeros"])
def test_only_the_tiles_on_the_damage_fail(tmp_path: Path, place: Path, how: str) -> None:
    """One tile of the file is spoiled: what touches it fails by name, all else is as in the healthy file."""
    broken = tmp_path / "b.tiff"
    broken.write_bytes(place.read_bytes())
    damage(broken, 3, 2, how)  # pixels 720..960, 480..720
    with open_slide(broken) as slide, open_slide(place) as healthy:
        tiles = tile_grid(slide, everywhere(slide), TileGrid(tile_px=128, mpp=0.5))
        right = dict(read_tiles(healthy, tiles))
        failed = set()
        for i, tile in read_tiles(slide, tiles):
            box = tiles.box(i)
            touches = box.x0 < 960 and box.x1 > 720 and box.y0 < 720 and box.y1 > 480
            assert isinstance(tile, Failed) == touches, (box, tile)
            if isinstance(tile, Failed):
                assert "tile damaged" in tile.reason and "3, 2" in tile.reason
                failed.add(i)
            else:
                assert np.array_equal(tile, right[i])
        assert len(failed) == 9


def test_a_slide_coarser_than_the_tiles_is_refused(place: Path) -> None:
    with open_slide(place) as slide:
        with pytest.raises(SlideError, match="coarser than the tiles"):
            tile_grid(slide, everywhere(slide), TileGrid(mpp=0.25))
        assert len(tile_grid(slide, everywhere(slide), TileGrid(mpp=0.25, max_upsample=4)))


def test_tile_um_or_mpp() -> None:
    assert TileGrid(tile_px=256, tile_um=128).asked_mpp == 0.5
    with pytest.raises(ValueError, match="not both"):
        TileGrid(tile_um=128, mpp=0.5)


def _tiles(num: int) -> Tiles:
    coords = np.stack([np.arange(num), np.zeros(num)], -1).astype(np.int64)
    return Tiles(coords, 1, 8, 0.5, 0.5, np.ones(num, np.float32), np.zeros(num, np.uint8))


def test_samples_are_of_the_grid_and_the_same_again() -> None:
    tiles = _tiles(100)
    some = sample_uniform(tiles, 10, seed=3)
    xs = some.coords_level0[:, 0]
    assert len(set(xs.tolist())) == 10 and (np.diff(xs) > 0).all()
    assert np.array_equal(xs, sample_uniform(tiles, 10, seed=3).coords_level0[:, 0])
    assert not np.array_equal(xs, sample_uniform(tiles, 10, seed=4).coords_level0[:, 0])
    assert len(sample_uniform(tiles, 1000)) == 100


def test_stratified_sample_is_fair() -> None:
    """Clusters of 90, 7 and 3 tiles, 30 wanted: 3 and 7 of the small ones, the rest of the large one."""
    clusters = np.array([0] * 90 + [1] * 7 + [2] * 3)
    some = sample_stratified(_tiles(100), clusters, 30)
    taken = clusters[some.coords_level0[:, 0]]
    assert np.bincount(taken).tolist() == [20, 7, 3]
    with pytest.raises(EosinError, match="One cluster a tile"):
        sample_stratified(_tiles(100), clusters[:50], 30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 200))
def test_fair_shares(sizes: list[int], num: int) -> None:
    num = min(num, sum(sizes))
    takes = _fair(np.array(sizes), num)
    assert takes.sum() == num and (takes <= np.array(sizes)).all()
    short = takes < np.array(sizes)
    assert not short.any() or takes[short].max() - takes[short].min() <= 1
    assert not short.any() or (takes[~short] <= takes[short].max() + 1).all()


def test_clusters_by_colour(place: Path) -> None:
    """Tiles on glass and tiles on tissue fall into different clusters."""
    with open_slide(place) as slide:
        tiles = tile_grid(slide, everywhere(slide), TileGrid(tile_px=100, mpp=0.5))
        low = slide.thumbnail(300)
        clusters = colour_clusters(low, tiles, (1500 / low.shape[1], 1100 / low.shape[0]), 2)
    inside = truth()
    share = np.array([inside[y : y + 100, x : x + 100].mean() for x, y in tiles.coords_level0])
    glass, tissue = clusters[share == 0], clusters[share == 1]
    assert len(set(glass.tolist())) == 1 and len(set(tissue.tolist())) == 1 and glass[0] != tissue[0]


def test_table(place: Path, tmp_path: Path) -> None:
    with open_slide(place) as slide:
        tiles = tile_grid(slide, everywhere(slide), TileGrid(tile_px=200, mpp=1.0))
        write_table(tiles, tmp_path / "tiles.csv")
    lines = (tmp_path / "tiles.csv").read_text().splitlines()
    assert lines[0] == "index,x_level0,y_level0,x_um,y_um,tissue,flags"
    assert lines[2] == "1,400,0,200.000,0.000,1.0000," and len(lines) == 7
