"""A slide as zarr arrays: the slide's own levels and pixels, read only when asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_slides import picture, write_tiff
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.nouns.units import BoxLevel0
from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.slide import open_slide

zarr = pytest.importorskip("zarr")


@pytest.mark.parametrize("jpeg", [True, False])
def test_the_levels_are_those_of_the_slide(tmp_path: Path, jpeg: bool) -> None:
    path = write_tiff(tmp_path / "a.tiff", picture(), jpeg=jpeg)
    with open_slide(path) as slide, slide.zarr() as view:
        assert [(a.shape[1], a.shape[0]) for a in view.levels] == list(slide.level_sizes_px)
        assert view.downsamples == slide.level_downsamples
        assert view.mpp == tuple(0.5 * d for d in slide.level_downsamples)
        assert all(a.dtype == np.uint8 and a.chunks == (240, 240, 3) for a in view.levels)
        whole = slide.read(BoxLevel0(x0=0, y0=0, x1=slide.size_px[0], y1=slide.size_px[1]))
        assert (view.levels[0][:] == whole).all()
        part = slide.read(BoxLevel0(x0=700, y0=310, x1=1210, y1=640))
        assert (view.levels[0][310:640, 700:1210] == part).all()


def test_a_level_that_is_read_is_that_level(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", picture(), jpeg=False)
    with open_slide(path) as slide, slide.zarr() as view:
        width, height = slide.level_sizes_px[1]
        assert (view.levels[1][:] == slide.backend.region(1, 0, 0, width, height)).all()


def test_only_the_tiles_asked_for_are_read(tmp_path: Path) -> None:
    """A tile that is broken in the file does no harm to its neighbours."""
    path = write_tiff(tmp_path / "a.tiff", picture(), jpeg=False)
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        place, size = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(size))
    with open_slide(path) as slide, slide.zarr() as view:
        assert view.levels[0][240:480, 240:480].any()
        with pytest.raises(Exception, match=r".+"):
            view.levels[0][:10, :10]


def test_it_cannot_be_written(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", picture(), jpeg=False)
    before = path.read_bytes()
    with open_slide(path) as slide, slide.zarr() as view, pytest.raises(Exception, match=r"read.?only"):
        view.levels[0][:10, :10] = 0
    assert path.read_bytes() == before


def test_without_a_scale_there_is_none(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tiff", picture(), jpeg=False, mpp=None)
    with open_slide(path) as slide, slide.zarr() as view:
        assert view.mpp is None


def test_what_is_no_tiff_is_refused(tmp_path: Path) -> None:
    Image.fromarray(picture(300, 200)).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide, pytest.raises(SlideError, match="no zarr view") as told:
        slide.zarr()
    assert isinstance(told.value, EosinError) and "slide.read" in str(told.value.next_step)
