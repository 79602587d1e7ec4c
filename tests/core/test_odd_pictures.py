"""Pictures as strangers hold them: turned, deep, hostile. Each with its right pixels or its reason."""

from __future__ import annotations

import ast
import io
import os
import re
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eosin.core.errors import ImageError
from eosin.core.images import decode, load_image, open_own, read_regular_file, size_of
from eosin.core.nouns.sample import Entity, ImageBytes, ImageFile, Origin, Sample, user_prompt
from eosin.core.nouns.units import BoxPixels
from eosin.curate import validate

SRC = Path(__file__).resolve().parents[2] / "src" / "eosin"
RED, BLUE = (220, 30, 30), (30, 30, 220)


def corner(kind: str, orientation: int | None, **options: Any) -> bytes:
    """A blue picture of 32 x 16 px whose stored upper left quarter is red."""
    image = Image.new("RGB", (32, 16), BLUE)
    image.paste(RED, (0, 0, 16, 8))
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


# Where the stored upper left quarter is seen, by the EXIF standard.
SEEN = {1: "left top", 2: "right top", 3: "right bottom", 4: "left bottom",
        5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom"}  # fmt: skip


@pytest.mark.parametrize("orientation", [*SEEN, None, 0, 9, 77])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_picture_is_turned_as_browsers_turn_it(kind: str, orientation: int | None) -> None:
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    image = decode(corner(kind, orientation, **options))
    turned = orientation in (5, 6, 7, 8)
    assert image.size == ((16, 32) if turned else (32, 16))
    across, down = SEEN.get(orientation or 1, "left top").split()
    x = image.width // 4 if across == "left" else 3 * image.width // 4
    y = image.height // 4 if down == "top" else 3 * image.height // 4
    red = np.asarray(image).astype(int)
    assert red[y, x, 0] > 180
    red[max(0, y - image.height // 4) : y + image.height // 4, max(0, x - image.width // 4) : x + image.width // 4] = 0
    assert red[..., 0].max() < 80


def test_exif_that_cannot_be_read_turns_nothing() -> None:
    data = corner("JPEG", 6)
    broken = data.replace(b"Exif\0\0MM", b"Exif\0\0XX").replace(b"Exif\0\0II", b"Exif\0\0XX")
    assert broken != data
    assert decode(broken).size == (32, 16)


def test_boxes_are_in_pixels_of_the_picture_as_it_is_shown() -> None:
    data = corner("JPEG", 6, quality=95, subsampling=0)
    shown = BoxPixels(x0=8, y0=0, x1=16, y1=16)  # the red quarter, seen at the upper right of 16 x 32 px
    stored = BoxPixels(x0=17, y0=0, x1=31, y1=8)
    assert np.asarray(decode(data).crop((9, 1, 15, 15)))[..., 0].min() > 180

    def sample(name: str, box: BoxPixels) -> Sample:
        return Sample(
            id=name, images=(ImageBytes(data=data),), messages=user_prompt("What?"), origin=Origin(source="t"),
            entities=(Entity(name="gland", boxes=(box,)),),
        )  # fmt: skip

    good, bad = sample("good", shown), sample("bad", stored)
    found = validate([good, bad])
    assert [s.id for s in found.kept] == ["good"] and found.reasons() == {"box outside the image": 1}


def grey(values: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(top: int, kind: type) -> np.ndarray:
    return np.linspace(0, top, 16 * 16).round().reshape(16, 16).astype(kind)


@pytest.mark.parametrize(
    ("top", "kind", "format"),
    [
        (255, np.uint16, "PNG"), (1023, np.uint16, "PNG"), (4095, np.uint16, "PNG"), (16383, np.uint16, "PNG"),
        (65535, np.uint16, "PNG"), (1023, np.uint16, "TIFF"), (4095, np.uint16, "TIFF"), (65535, np.uint16, "TIFF"),
        (255, np.int32, "TIFF"), (4095, np.int32, "TIFF"),
    ],
)  # fmt: skip
def test_grey_of_any_depth_is_scaled_and_never_black(top: int, kind: type, format: str) -> None:
    values = np.asarray(decode(grey(ramp(top, kind), format)).convert("L")).ravel()
    assert values[0] == 0 and values[-1] == 255
    assert np.abs(values - np.linspace(0, 255, 256)).max() <= 1


def test_the_range_that_a_tiff_states_goes_before_the_measured_one() -> None:
    dark = ramp(1000, np.uint16)
    measured = np.asarray(decode(grey(dark, "TIFF")))
    stated = np.asarray(decode(grey(dark, "TIFF", tiffinfo={281: 4095})))
    assert measured.max() == round(1000 * 255 / 1023) and stated.max() == round(1000 * 255 / 4095)


def test_the_bits_that_a_tiff_states_are_its_range_and_packed_ten_bits_are_set_aside() -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    values = np.resize(ramp(1000, np.uint16), (64, 64))
    for bits, brightest in ((12, round(1000 * 255 / 4095)), (10, None)):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, values, photometric="minisblack", bitspersample=bits)
        if brightest is None:
            with pytest.raises(ImageError, match="a TIFF of a layout that is not supported"):
                decode(buffer.getvalue())
        else:
            assert np.asarray(decode(buffer.getvalue())).max() == brightest


@pytest.mark.parametrize(
    "values",
    [ramp(1, np.uint16), ramp(10, np.uint16), ramp(70_000, np.int32), ramp(100, np.int32) - 50],
    ids=["mask of 0 and 1", "values to 10", "more than 16 bits", "below zero"],
)
def test_a_range_that_is_not_clear_is_set_aside(values: np.ndarray) -> None:
    with pytest.raises(ImageError, match="depth not clear"):
        decode(grey(values, "TIFF"))


def _png_of(rows: bytes, width: int, height: int, depth: int, colour: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("colour", [2, 6])
def test_deep_colours_that_use_few_bits_are_set_aside(colour: int) -> None:
    bands = 3 if colour == 2 else 4
    for top, fits in ((4000, False), (60_000, True)):
        line = b"\0" + struct.pack(f">{16 * bands}H", *([top] * 3 + [65535] * (bands - 3)) * 16)
        data = _png_of(zlib.compress(line * 16), 16, 16, 16, colour)
        if fits:
            assert decode(data).getpixel((3, 3)) == (234, 234, 234)
        else:
            with pytest.raises(ImageError, match="depth not clear"):
                decode(data)


def test_a_small_file_of_gibibytes_is_refused_before_it_is_unpacked() -> None:
    """13,000 x 13,000 px of RGBA: 0.7 MB of file."""
    code = (
        "import sys, zlib, struct, resource\n"
        "from eosin.core.errors import ImageError\n"
        "from eosin.core.images import decode\n"
        "def chunk(n, b): return struct.pack('>I', len(b)) + n + b + struct.pack('>I', zlib.crc32(n + b))\n"
        "pack = zlib.compressobj(9)\n"
        "line = b'\\0' + bytes(13000 * 4)\n"
        "rows = b''.join(pack.compress(line) for _ in range(13000)) + pack.flush()\n"
        "head = struct.pack('>IIBBBBB', 13000, 13000, 8, 6, 0, 0, 0)\n"
        "data = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', head) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decode(data)\n"
        "except ImageError as exc: print(exc.message)\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "image too large", done.stderr[-2000:]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_pipes_and_devices_are_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), Path("/dev/null")):
        if path.exists():
            with pytest.raises(ImageError, match="no regular file"):
                load_image(ImageFile(path=str(path)))
    (tmp_path / "link.png").symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="no regular file"):
        load_image(ImageFile(path=str(tmp_path / "link.png")))


def test_a_file_larger_than_may_be_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ImageError, match="image file too large"):
        load_image(ImageFile(path=str(tmp_path / "sparse.png")))
    assert read_regular_file(__file__).startswith(b'"""Pictures')


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"
OTHERS = {
    "eps": EPS, "pdf": b"%PDF-1.4\n" + b" " * 64, "gif": None, "ppm": None, "tga": None, "ico": None,
    "psd": b"8BPS\0\1", "fits": b"SIMPLE  =                    T" + b" " * 2850,
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_only_the_documented_formats_are_opened_and_no_program_is_started(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gs", "gswin64c", "convert", "djpeg", "ffmpeg"):
        fake = tmp_path / name
        fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # looked for again
    data = OTHERS[kind]
    if data is None:
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32)).save(buffer, kind)
        data = buffer.getvalue()
    for reader in (decode, lambda d: size_of(ImageBytes(data=d)), lambda d: open_own(d).load()):
        with pytest.raises((ImageError, OSError)):
            reader(data)
    assert not (tmp_path / "started").exists()


def test_pictures_are_opened_in_one_place_of_the_code() -> None:
    """`Image.open` without a list of formats opens what starts other programs."""
    found = []
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "open" and ast.unparse(node.value).split(".")[-1] in (
                "Image", "PIL",
            ):  # fmt: skip
                found.append(path.relative_to(SRC).as_posix())
            if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
                found += [path.name for a in node.names if a.name == "open"]
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "imread":
                found.append(path.relative_to(SRC).as_posix())
    assert set(found) == {"core/images.py"}
    text = (SRC / "core" / "images.py").read_text("utf-8")
    assert text.count("Image.open(") == len(re.findall(r"formats=\(?\*?KINDS", text)) == len(found)
