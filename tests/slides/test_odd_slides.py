"""Slides as scanners, converters and strangers write them: right colours and scale by pixels, or the true reason."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from eosin.core.nouns.units import BoxLevel0
from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.slide import Slide, open_slide

SIDE = 256
RGB = np.zeros((SIDE, SIDE, 3), np.uint8)
RGB[..., 0] = np.arange(SIDE, dtype=np.uint8)[:, None]
RGB[..., 1] = 180
RGB[..., 2] = np.arange(SIDE, dtype=np.uint8)[None]
GREY = RGB[..., 0]
ALPHA = np.full((SIDE, SIDE, 1), 255, np.uint8)
ALPHA[:64] = 0
ALPHA[64:128] = 128
SCALE = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER", "metadata": None}
Make = Callable[[Path], np.ndarray | None]


def whole(slide: Slide) -> np.ndarray:
    return slide.read(BoxLevel0(x0=0, y0=0, x1=slide.size_px[0], y1=slide.size_px[1]))


def plain(**options: Any) -> Make:
    def make(path: Path) -> np.ndarray:
        data = RGB.transpose(2, 0, 1) if options.get("planarconfig") == "separate" else RGB
        tifffile.imwrite(path, data, **{"photometric": "rgb", **SCALE, **options})
        return RGB

    return make


def cmyk(**options: Any) -> Make:
    """What a printing pre-press sends: the same picture, inverted, with some black."""

    def make(path: Path) -> np.ndarray:
        key = np.full((SIDE, SIDE, 1), 51, np.uint8)
        data = np.concatenate([255 - RGB, key], axis=-1)
        planes = data.transpose(2, 0, 1) if options.get("planarconfig") == "separate" else data
        tifffile.imwrite(path, planes, **{"photometric": "separated", **SCALE, **options})
        picture = Image.fromarray(data, "CMYK").convert("RGB")  # an independent converter
        return np.asarray(picture)

    return make


def on_white(kind: str, premultiplied: bool = False, **options: Any) -> Make:
    def make(path: Path) -> np.ndarray:
        a = ALPHA.astype(float) / 255
        colour = np.rint(RGB * a).astype(np.uint8) if premultiplied else RGB
        tifffile.imwrite(path, np.concatenate([colour, ALPHA], axis=-1),
                         **{"photometric": "rgb", "extrasamples": [kind], **SCALE, **options})  # fmt: skip
        return np.rint(RGB * a + 255 * (1 - a)).astype(np.uint8)

    return make


def ycbcr(path: Path) -> np.ndarray:
    """YCbCr in JPEG, in strips."""
    data = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    tifffile.imwrite(path, data, photometric="ycbcr", compression="jpeg", compressionargs={"level": 97},
                     rowsperstrip=64, subsampling=(1, 1), **SCALE)  # fmt: skip
    return RGB


def palette(path: Path) -> np.ndarray:
    table = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    tifffile.imwrite(path, GREY, photometric="palette", colormap=table, **SCALE)
    return (table[:, GREY] // 257).astype(np.uint8).transpose(1, 2, 0)


def two_series(path: Path) -> np.ndarray:
    """An RGB picture beside a larger one of 16 bits."""
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(np.zeros((2 * SIDE, 2 * SIDE), np.uint16), photometric="minisblack", metadata=None)
        tiff.write(RGB, photometric="rgb", **SCALE)
    return RGB


def ome(name: str = "Image", **options: Any) -> Make:
    def make(path: Path) -> np.ndarray:
        tifffile.imwrite(path, RGB, photometric="rgb", ome=True,
                         metadata={"axes": "YXS", "Name": name, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
                         **options)  # fmt: skip
        return RGB

    return make


def ome_of_a_series_elsewhere(path: Path) -> np.ndarray:
    """The first image of the metadata lies in another file: its scale is not that of this picture."""
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0" Name="all"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="10" '
        'SizeY="10" SizeZ="1" SizeC="3" SizeT="1" PhysicalSizeX="10" PhysicalSizeY="10"><Channel ID="C:0" '
        'SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"><UUID FileName="other.ome.tif">urn:uuid:'
        "00000000-0000-0000-0000-000000000001</UUID></TiffData></Pixels></Image>"
        f'<Image ID="Image:1" Name="scan"><Pixels ID="Pixels:1" DimensionOrder="XYCZT" Type="uint8" SizeX="{SIDE}" '
        f'SizeY="{SIDE}" SizeZ="1" SizeC="3" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5"><Channel ID="C:1" '
        'SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, RGB, photometric="rgb", description=xml.encode("utf-8"), metadata=None)
    return RGB


def more_channels(*kinds: str, **options: Any) -> Make:
    """Extra channels of these kinds; only transparency, wherever it stands, is laid on white."""

    def make(path: Path) -> np.ndarray:
        more = [ALPHA if "alpha" in kind else 255 - ALPHA for kind in kinds]
        data = np.concatenate([RGB, *more], axis=-1)
        planes = data.transpose(2, 0, 1) if options.get("planarconfig") == "separate" else data
        tifffile.imwrite(path, planes, **{"photometric": "rgb", "extrasamples": kinds, **SCALE, **options})
        a = ALPHA.astype(float) / 255 if "unassalpha" in kinds else 1.0
        return np.rint(RGB * a + 255 * (1 - np.asarray(a))).astype(np.uint8)

    return make


def inked(ink_set: int, **options: Any) -> Make:
    return cmyk(extratags=[(332, 3, 1, ink_set, True)], **options)


def turned(orientation: int, **options: Any) -> Make:
    """A slide with an orientation is read as it is stored."""
    return plain(extratags=[(274, 3, 1, orientation, True)], **options)


TILED = {"tile": (128, 128)}
# name: how it is made, tolerance in grey levels (lossy codecs), options of open_slide
RIGHT: dict[str, tuple[Make, int, dict[str, Any]]] = {
    "rgb in strips": (plain(rowsperstrip=16), 0, {}),
    "rgb in one strip": (plain(rowsperstrip=SIDE), 0, {}),
    "rgb tiled": (plain(**TILED), 0, {}),
    "rgb in planes, strips": (plain(planarconfig="separate"), 0, {}),
    "rgb in planes, tiled": (plain(planarconfig="separate", **TILED), 0, {}),
    "rgb big-endian": (plain(byteorder=">"), 0, {}),
    "rgb bigtiff": (plain(bigtiff=True, **TILED), 0, {}),
    "lzw strips": (plain(compression="lzw"), 0, {}),
    "lzw with predictor": (plain(compression="lzw", predictor=True), 0, {}),
    "deflate tiled": (plain(compression="deflate", **TILED), 0, {}),
    "zstd tiled": (plain(compression="zstd", **TILED), 0, {}),
    "packbits strips": (plain(compression="packbits"), 0, {}),
    "lzma tiled": (plain(compression="lzma", **TILED), 0, {}),
    "jpeg tiled": (plain(compression="jpeg", compressionargs={"level": 95}, **TILED), 12, {}),
    "jpeg as ycbcr strips": (ycbcr, 8, {}),
    "jpeg 2000 tiled": (plain(compression="jpeg2000", **TILED), 1, {}),
    "jpeg 2000 strips": (plain(compression="jpeg2000", rowsperstrip=128), 1, {}),
    "webp tiled": (plain(compression="webp", compressionargs={"lossless": True}, **TILED), 0, {}),
    "jpeg xl tiled": (plain(compression="jpegxl", compressionargs={"lossless": True}, **TILED), 0, {}),
    "png tiled": (plain(compression="png", **TILED), 0, {}),
    "cmyk strips": (cmyk(rowsperstrip=32), 1, {}),
    "cmyk tiled": (cmyk(**TILED), 1, {}),
    "cmyk in planes": (cmyk(planarconfig="separate"), 1, {}),
    "alpha in strips": (on_white("unassalpha"), 1, {}),
    "alpha tiled": (on_white("unassalpha", **TILED), 1, {}),
    "alpha multiplied in, strips": (on_white("assocalpha", True), 2, {}),
    "alpha multiplied in, tiled": (on_white("assocalpha", True, **TILED), 2, {}),
    "a channel of no kind, strips": (more_channels("unspecified"), 0, {}),
    "a channel of no kind, tiled": (more_channels("unspecified", **TILED), 0, {}),
    "a channel of no kind, planes": (more_channels("unspecified", planarconfig="separate", **TILED), 0, {}),
    "two channels of no kind, tiled": (more_channels("unspecified", "unspecified", **TILED), 0, {}),
    "a channel, then alpha, strips": (more_channels("unspecified", "unassalpha"), 1, {}),
    "a channel, then alpha, tiled": (more_channels("unspecified", "unassalpha", **TILED), 1, {}),
    "alpha, then a channel, tiled": (more_channels("unassalpha", "unspecified", **TILED), 1, {}),
    "cmyk that says so": (inked(1, **TILED), 1, {}),
    "orientation 3, strips": (turned(3), 0, {}),
    "orientation 3, tiled": (turned(3, **TILED), 0, {}),
    "orientation 6, tiled": (turned(6, compression="lzw", **TILED), 0, {}),
    "orientation 8 in jpeg": (turned(8, compression="jpeg", compressionargs={"level": 95}, **TILED), 12, {}),
    "palette": (palette, 0, {}),
    "rgb beside 16 bits": (two_series, 0, {}),
    "ome in strips": (ome(), 0, {}),
    "ome tiled": (ome(**TILED), 0, {}),
    "ome named CD68 macrophages": (ome("CD68 macrophages"), 0, {}),
    "ome named KI67 labelled section": (ome("KI67 labelled section"), 0, {}),
    "ome whose first image lies elsewhere": (ome_of_a_series_elsewhere, 0, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_pixels_and_scale_are_right(name: str, tmp_path: Path) -> None:
    make, tolerance, options = RIGHT[name]
    path = tmp_path / ("slide.ome.tif" if name.startswith("ome") else "slide.tif")
    want = make(path)
    assert want is not None
    with open_slide(path, **options) as slide:
        found = whole(slide)
        assert found.shape == want.shape and found.dtype == np.uint8
        assert int(np.abs(found.astype(int) - want.astype(int)).max()) <= tolerance
        assert slide.mpp == pytest.approx(0.5)
        assert any("not turned" in note for note in slide.notes) == name.startswith("orientation")


def grey(dtype: Any = np.uint8, photometric: str = "minisblack", **options: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = GREY.astype(dtype) * (1 if dtype == np.uint8 else 16)
        tifffile.imwrite(path, data, **{"photometric": photometric, **SCALE, **options})

    return make


def rgb16(**options: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        tifffile.imwrite(path, RGB.astype(np.uint16) * 16, **{"photometric": "rgb", **SCALE, **options})

    return make


def stains(path: Path) -> None:
    """Three channels of fluorescence, which are not red, green and blue."""
    tifffile.imwrite(path, RGB.transpose(2, 0, 1), photometric="minisblack", ome=True, metadata={"axes": "CYX"})


def stains_in_one_page(path: Path) -> None:
    tifffile.imwrite(path, RGB.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate", **SCALE)


def raw(photometric: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        tifffile.imwrite(path, RGB, photometric=photometric, **SCALE)

    return make


def empty_level(path: Path) -> None:
    """An OME-TIFF with a level of size 0, as changed bytes make it."""
    tifffile.imwrite(path, RGB, photometric="rgb", **SCALE)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(0)


def circle(path: Path) -> None:
    """The last page names the first as the next."""
    with tifffile.TiffWriter(path) as tiff:
        for _ in range(3):
            tiff.write(RGB, photometric="rgb", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        first, last = tiff.pages[0].offset, tiff.pages[-1].offset
    data = bytearray(path.read_bytes())
    (num,) = struct.unpack_from("<H", data, last)
    struct.pack_into("<I", data, last + 2 + 12 * num, first)
    path.write_bytes(bytes(data))


def declares(tag: str, value: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        tifffile.imwrite(path, RGB, photometric="rgb", tile=(128, 128), metadata=None)
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tiff.pages[0].tags[tag].overwrite(value)

    return make


def inked16(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((SIDE, SIDE, 4), np.uint16), photometric="separated", metadata=None)


REFUSED: dict[str, tuple[Callable[[Path], None], str, dict[str, Any]]] = {
    "grey strips": (grey(), "a grey picture", {}),
    "grey tiled": (grey(**TILED), "a grey picture", {}),
    "grey tells how": (grey(), "--grey", {}),
    "16-bit grey": (grey(np.uint16), "a grey picture", {}),
    "16-bit grey, asked for grey": (grey(np.uint16), "16 bits a channel", {"grey": True}),
    "16-bit rgb": (rgb16(), "16 bits a channel", {}),
    "16-bit rgb tiled": (rgb16(**TILED), "--depth16", {}),
    "16-bit inks": (inked16, "16 bits a channel", {}),
    "16-bit inks, asked for 16 bits": (inked16, "convert it to 8 bits", {"depth16": "stated"}),
    "three stains": (stains, "channel", {}),
    "three stains, asked for grey": (stains, "channel", {"grey": True}),
    "three stains in one page": (stains_in_one_page, "3 channels without a colour", {}),
    "other inks, strips": (inked(2), "inks other than cyan", {}),
    "other inks, tiled": (inked(2, **TILED), "inks other than cyan", {}),
    "cielab strips": (raw("cielab"), "CIELab", {}),
    "icclab strips": (raw("icclab"), "ICCLab", {}),
    "raw ycbcr": (raw("ycbcr"), "YCbCr without JPEG", {}),
    "floats": (lambda p: tifffile.imwrite(p, RGB.astype(np.float32), photometric="rgb", metadata=None), "float32", {}),
    "a level of size 0": (empty_level, "0 x", {}),
    "pages in a circle": (circle, "turn in a circle", {}),
    "a width of 4 billion": (declares("ImageWidth", 4_000_000_000), "px", {}),
    "more tiles than there are": (declares("ImageLength", 100_000), "pieces for a page", {}),
    "a tile of 16 GB": (declares("TileWidth", 131_072 * 16), "pieces", {}),
    "tiles of width 0": (declares("TileWidth", 0), "pieces", {}),
    "no tiff after its first bytes": (lambda p: p.write_bytes(b"II*\0" + b"\xff" * 60) and None, "outside the", {}),
    "a header alone": (lambda p: p.write_bytes(b"II*\0\x08\0\0\0") and None, "outside the file", {}),
    "text called .svs": (lambda p: p.write_text("no slide") and None, "begins with", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_with_its_true_reason(name: str, tmp_path: Path) -> None:
    make, reason, options = REFUSED[name]
    path = tmp_path / ("slide.ome.tif" if "stains" in name and "page" not in name else "slide.tif")
    make(path)
    with pytest.raises(SlideError) as caught:
        open_slide(path, **options)
    assert reason in str(caught.value), str(caught.value)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("layout", [{}, TILED], ids=["strips", "tiled"])
def test_grey_is_read_when_asked_for(photometric: str, layout: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    grey(photometric=photometric, **layout)(path)
    with open_slide(path, grey=True) as slide:
        want = GREY if photometric == "minisblack" else 255 - GREY
        assert np.array_equal(whole(slide), np.repeat(want[..., None], 3, axis=-1))


def test_sixteen_bits_are_scaled_by_the_range_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    rgb16()(path)  # 12-bit data: values up to 4,080
    with open_slide(path, depth16="stated") as slide:  # the file states 16 bits
        assert np.array_equal(
            whole(slide), np.rint(RGB.astype(np.float32) * 16 * np.float32(255 / 65_535)).astype(np.uint8)
        )
    with open_slide(path, depth16="measured") as slide:
        found = whole(slide)
        assert found.max() == 255 and int(np.abs(found.astype(int) - RGB.astype(int)).max()) <= 2
    tifffile.imwrite(path, RGB.astype(np.uint16) * 16, photometric="rgb", extratags=[(341, 3, 3, (4080,) * 3, True)],
                     **SCALE)  # fmt: skip
    with open_slide(path, depth16="stated") as slide:  # its largest sample value is stated
        assert np.array_equal(whole(slide), RGB)


@pytest.mark.parametrize("layout", [{}, TILED], ids=["strips", "tiled"])
@pytest.mark.parametrize("between", [False, True], ids=["pages alike", "other pages between"])
def test_what_else_a_file_holds_is_said(layout: dict[str, Any], between: bool, tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        for shift in range(3):
            tiff.write(np.roll(RGB, shift, 0), photometric="rgb", **{**SCALE, **layout})
            if between:
                tiff.write(np.zeros((8, 8 + shift), np.uint8), photometric="minisblack", metadata=None)
    with open_slide(path) as slide:
        assert "2 more pages like the first" in slide.notes[0] and all("not read" in n for n in slide.notes)
        assert np.array_equal(whole(slide), RGB)


def test_options_travel_with_the_slide(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "slide.tif"
    grey()(path)
    with open_slide(path, grey=True) as slide:
        copy = pickle.loads(pickle.dumps(slide))
        assert np.array_equal(whole(copy), whole(slide))


def test_readers_say_a_few_things_and_count_the_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    from eosin.slides.open.native import MAX_MESSAGES, cap_messages

    cap_messages(tmp_path / "x.svs")
    for number in range(1000):
        logging.getLogger("tifffile").error("message %d", number)
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == MAX_MESSAGES + 1 and "further messages are not shown" in said[-1]


_OPEN = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from pathlib import Path
from eosin.core.nouns.units import BoxLevel0
from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.slide import open_slide
for name in sys.argv[1:]:
    try:
        with open_slide(name) as slide:
            slide.read(BoxLevel0(x0=0, y0=0, x1=min(64, slide.size_px[0]), y1=min(64, slide.size_px[1])))
    except SlideError:
        continue
"""


def test_files_found_by_fuzzing_end_in_pixels_or_a_reason(shared_data: Path) -> None:
    """Each ended the process, asked for terabytes, or made tifffile write millions of lines."""
    import subprocess
    import sys

    files = [str(f) for f in sorted((shared_data / "odd_files").iterdir()) if f.suffix in (".svs", ".tif")]
    assert len(files) >= 10
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, *files], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stderr) < 20_000
