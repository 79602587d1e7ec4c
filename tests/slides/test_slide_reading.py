"""Opening slides and reading regions: the same picture through every reader, at every scale, in every process."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from make_slides import picture, write_ome, write_tiff
from PIL import Image, ImageCms

from eosin.core.nouns.units import BoxLevel0, BoxMicrons
from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.backends.openslide_backend import OpenSlideBackend
from eosin.slides.open.levels import check_levels
from eosin.slides.open.slide import Slide, open_slide

pytest.importorskip("openslide", reason="slides need eosin[slides]")
pytest.importorskip("imagecodecs", reason="slides need eosin[slides]")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return picture()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> Path:
    """A pyramid without loss: what is read can be compared with the picture itself."""
    return write_tiff(tmp_path_factory.mktemp("slides") / "plain.tiff", pixels, jpeg=False)


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slides") / "jpeg.tiff", pixels)


def box(x0: int, y0: int, x1: int, y1: int) -> BoxLevel0:
    return BoxLevel0(x0=x0, y0=y0, x1=x1, y1=y1)


@pytest.mark.parametrize("reader", ["openslide", "tifffile"])
def test_level0_pixels_are_the_files_own(plain: Path, pixels: np.ndarray, reader: str) -> None:
    with open_slide(plain, reader=reader) as slide:
        assert (slide.reader, slide.size_px, slide.mpp) == (reader, (1500, 1100), pytest.approx(0.5))
        assert slide.level_downsamples == (1.0, 2.0, 4.0)
        assert np.array_equal(slide.read(box(237, 101, 700, 600)), pixels[101:600, 237:700])


@pytest.mark.parametrize("reader", ["openslide", "tifffile", "image"])
def test_outside_is_white(tmp_path: Path, plain: Path, pixels: np.ndarray, reader: str) -> None:
    place = plain
    if reader == "image":
        place = tmp_path / "a.bmp"
        Image.fromarray(pixels).save(place)
    with open_slide(place, reader=reader, mpp=0.5) as slide:
        found = slide.read(box(-50, -30, 70, 40))
        assert (found[:30] == 255).all() and (found[:, :50] == 255).all()
        assert np.array_equal(found[30:, 50:], pixels[:40, :70])
        assert (slide.read(box(5000, 5000, 5010, 5010)) == 255).all()
        corner = slide.read(box(1400, 1050, 1600, 1200))
        assert np.array_equal(corner[:50, :100], pixels[1050:, 1400:]) and (corner[50:] == 255).all()


def test_coarser_is_the_mean_over_area(plain: Path, pixels: np.ndarray) -> None:
    """1.5 µm per pixel is three level-0 pixels: the mean of nine of them, not one of them."""
    with open_slide(plain) as slide:
        found = slide.read(box(100, 100, 700, 700), mpp=1.5)
        twice = slide.read(box(100, 100, 700, 700), mpp=1.0).astype(float)  # level 1 as it is in the file
    assert np.abs(twice - pixels[100:700, 100:700].reshape(300, 2, 300, 2, 3).mean((1, 3))).max() <= 0.75
    rows = np.stack([twice[0::3] + 0.5 * twice[1::3], 0.5 * twice[1::3] + twice[2::3]], 1).reshape(200, 300, 3) / 1.5
    mean = np.stack([rows[:, 0::3] + 0.5 * rows[:, 1::3], 0.5 * rows[:, 1::3] + rows[:, 2::3]], 2)
    mean = mean.reshape(200, 200, 3) / 1.5
    assert np.abs(found - mean).max() <= 1.01
    nearest = pixels[101:700:3, 101:700:3]
    assert np.abs(nearest - mean).mean() > 2


def test_fractions_of_pixels_count_by_their_area(plain: Path) -> None:
    """A result pixel of 1.5 pixels takes one whole and half of its neighbour."""
    with open_slide(plain) as slide:
        fine = slide.read(box(600, 500, 603, 501)).astype(float)
        found = slide.read(box(600, 500, 603, 501), out_px=(2, 1))
    assert np.abs(found[0, 0] - (fine[0, 0] + 0.5 * fine[0, 1]) / 1.5).max() <= 1
    assert np.abs(found[0, 1] - (0.5 * fine[0, 1] + fine[0, 2]) / 1.5).max() <= 1


def test_microns_and_pixels_name_the_same_place(plain: Path) -> None:
    with open_slide(plain) as slide:
        um = slide.read(BoxMicrons(x0=100, y0=50, x1=228, y1=178), mpp=1.0)
        assert um.shape == (128, 128, 3)
        assert np.array_equal(um, slide.read(box(200, 100, 456, 356), mpp=1.0))


def test_the_level_does_not_move_the_picture(plain: Path) -> None:
    """Read coarsely, every level gives the same place: levels are pixels of area, not points."""
    with open_slide(plain) as slide:
        whole = box(0, 0, 1500, 1100)
        at_2 = slide.read(whole, out_px=(750, 550)).astype(float).reshape(275, 2, 375, 2, 3).mean((1, 3))
        at_4 = slide.read(whole, out_px=(375, 275)).astype(float)
    assert np.abs(at_2 - at_4).mean() < 1
    assert np.abs(at_2[:, 1:] - at_4[:, :-1]).mean() > 2


def test_our_decoding_is_openslides_own(jpeg: Path) -> None:
    """Tiles that we decode ourselves are, bit for bit, what OpenSlide gives."""
    with open_slide(jpeg, reader="openslide") as slide:
        backend = slide.backend
        assert isinstance(backend, OpenSlideBackend)
        for level, (width, height) in enumerate(slide.level_sizes_px):
            mine, theirs = backend.region(level, 0, 0, width, height), backend.plain_region(level, 0, 0, width, height)
            assert np.array_equal(mine, theirs)
        assert backend._tiles is not None and backend._tiles.level(0, backend.plain_region) is not None


def test_what_differs_from_openslide_is_left_to_openslide(jpeg: Path) -> None:
    """A level whose tiles are not the same both ways is read through OpenSlide."""
    with open_slide(jpeg, reader="openslide") as slide:
        backend = slide.backend
        assert isinstance(backend, OpenSlideBackend) and backend._tiles is not None
        assert backend._tiles.level(0, lambda *a: 255 - backend.plain_region(*a)) is None
        assert np.array_equal(backend.region(0, 0, 0, 300, 300), backend.plain_region(0, 0, 0, 300, 300))


def test_threads_get_the_pixels_that_one_gets(jpeg: Path) -> None:
    with open_slide(jpeg) as slide:
        boxes = [box(x, y, x + 200, y + 150) for x in range(0, 1400, 130) for y in range(0, 1000, 170)]
        alone = [slide.read(b, mpp=0.8) for b in boxes]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda b: slide.read(b, mpp=0.8), boxes))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def _sum(slide: Slide) -> int:
    return int(slide.thumbnail(64).astype(int).sum())


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_slide_goes_to_another_process(jpeg: Path, start: str) -> None:
    with open_slide(jpeg) as slide:
        expected = _sum(slide)
        with ProcessPoolExecutor(1, mp_context=get_context(start)) as pool:
            assert pool.submit(_sum, slide).result() == expected
        assert _sum(pickle.loads(pickle.dumps(slide))) == expected


def test_a_closed_slide_opens_again(jpeg: Path) -> None:
    slide = open_slide(jpeg)
    before = _sum(slide)
    slide.close()
    assert _sum(slide) == before


@pytest.mark.parametrize(
    ("mpp", "words"),
    [(None, "does not state it"), (264.6, "print resolution"), ((0.5, 0.6), "not square"), (2000.0, "cannot be")],
)
def test_no_scale_is_guessed(tmp_path: Path, pixels: np.ndarray, mpp: float | None, words: str) -> None:
    """Nothing in the file, a print resolution, oblong pixels: refused by name, until the user states the scale."""
    place = write_tiff(tmp_path / "a.tiff", pixels, mpp=mpp, levels=1)
    with open_slide(place) as slide:
        assert not slide.has_mpp
        with pytest.raises(SlideError, match=words) as caught:
            slide.read(box(0, 0, 10, 10), mpp=1.0)
        assert "--mpp" in str(caught.value)
        assert slide.read(box(0, 0, 10, 10)).shape == (10, 10, 3)
    with open_slide(place, mpp=0.5) as slide:
        assert slide.mpp == 0.5 and slide.mpp_note == "stated by the user"


def test_one_percent_of_anisotropy_is_one_scale(tmp_path: Path, pixels: np.ndarray) -> None:
    with open_slide(write_tiff(tmp_path / "a.tiff", pixels, mpp=(0.5, 0.504), levels=1)) as slide:
        assert slide.mpp == pytest.approx(0.502, abs=1e-4)


def test_ome_tiff_and_its_units(tmp_path: Path, pixels: np.ndarray) -> None:
    with open_slide(write_ome(tmp_path / "a.ome.tif", pixels, 0.25)) as slide:
        assert (slide.reader, slide.mpp) == ("tifffile", pytest.approx(0.25))
        assert np.array_equal(slide.read(box(300, 300, 700, 600)), pixels[300:600, 300:700])
    with open_slide(write_ome(tmp_path / "b.ome.tif", pixels, None)) as slide:
        assert not slide.has_mpp


def test_icc_profile_is_applied_on_request(tmp_path: Path) -> None:
    import tifffile

    grey = np.full((300, 300, 3), 120, np.uint8)
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    place = tmp_path / "icc.tif"
    tifffile.imwrite(place, grey, tile=(128, 128), photometric="rgb", iccprofile=wide)
    with open_slide(place, icc=True, mpp=0.5) as slide:
        assert np.abs(slide.read(box(0, 0, 50, 50)).astype(int) - 120).max() <= 1
    bare = tmp_path / "bare.tif"
    tifffile.imwrite(bare, grey, tile=(128, 128), photometric="rgb")
    with pytest.raises(SlideError, match="without a colour profile"):
        open_slide(bare, icc=True)


def test_real_slides_agree_with_openslide(shared_data: Path) -> None:
    """Size, scale, levels and pixels of the real slides are what OpenSlide itself says."""
    import openslide

    known = 0
    for path in sorted((shared_data / "slides").rglob("*.*")):
        if path.suffix not in (".svs", ".dcm"):
            continue
        known += 1
        theirs = openslide.OpenSlide(str(path))
        with open_slide(path) as slide:
            assert slide.size_px == theirs.dimensions and slide.level_sizes_px == theirs.level_dimensions
            assert slide.mpp == pytest.approx(float(theirs.properties["openslide.mpp-x"]), rel=0.01)
            assert slide.level_downsamples == pytest.approx(theirs.level_downsamples)
            assert set(slide.associated) == set(theirs.associated_images)
            width, height = slide.size_px
            whole = np.asarray(theirs.read_region((0, 0), 0, (width, height)).convert("RGB"))
            assert np.array_equal(slide.read(box(0, 0, width, height)), whole)
    assert known >= 3


def test_every_real_slide_opens_or_says_why(shared_data: Path) -> None:
    for path in sorted(p for p in (shared_data / "slides").rglob("*") if p.is_file()):
        if path.suffix in (".svs", ".dcm", ".tif"):
            with open_slide(path) as slide:
                assert slide.thumbnail(64).std() > 1 and slide.mpp > 0
        else:
            with pytest.raises(SlideError, match="not a slide"):
                open_slide(path)


def test_label_and_macro_stay_inside(shared_data: Path) -> None:
    with open_slide(shared_data / "slides" / "cc0" / "CMU-1-Small-Region.svs") as slide:
        assert slide.associated_image("thumbnail").shape == (768, 574, 3)
        for name in ("label", "macro"):
            with pytest.raises(SlideError, match="can hold names"):
                slide.associated_image(name)
        assert slide.associated_image("label", with_label=True).shape == (463, 387, 3)
        with pytest.raises(SlideError, match="no such image"):
            slide.associated_image("map")


def test_dicom_through_both_readers(shared_data: Path) -> None:
    pytest.importorskip("wsidicom", reason="DICOM needs eosin[slides]")
    path = shared_data / "slides" / "dicom" / "multiframe_camelyon_challenge_image.dcm"
    with open_slide(path) as a, open_slide(path, reader="wsidicom") as b:
        assert (a.size_px, a.mpp) == (b.size_px, pytest.approx(b.mpp))
        assert np.array_equal(a.read(box(100, 100, 500, 400)), b.read(box(100, 100, 500, 400)))


def test_far_levels_of_fine_detail_agree(tmp_path: Path) -> None:
    """A level sixteen times coarser cannot show what the finest shows; that is no disagreement. Another picture is."""
    rng = np.random.default_rng(0)
    fine = np.repeat(np.repeat(rng.choice([100, 220], (300, 400)).astype(np.uint8), 6, axis=0), 6, axis=1)
    pixels = np.stack([fine] * 3, axis=-1)
    good = write_tiff(tmp_path / "good.tiff", pixels, levels=5, jpeg=False)
    other = write_tiff(
        tmp_path / "other.tiff", pixels, levels=5, jpeg=False,
        level_pixels={4: np.full((113, 150, 3), 230, np.uint8)},
    )  # fmt: skip
    with open_slide(good) as slide:
        assert slide.level_downsamples[4] == 16.0
        check_levels(slide, [0, 4])
    with open_slide(other) as slide, pytest.raises(SlideError, match="levels disagree in content"):
        check_levels(slide, [0, 4])
