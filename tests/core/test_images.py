"""Bad images give an ImageError with a short reason, never a crash and never half an image."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from eosin.core.errors import ImageError
from eosin.core.images import check_size, decode, digest_of, encode_png, load_image, read_bytes
from eosin.core.nouns.sample import ImageBytes, ImageFile, SlideRegion
from eosin.core.nouns.units import BoxLevel0


def _encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> bytes:
    image = Image.effect_noise(size, 60).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _png_claiming(width: int, height: int) -> bytes:
    """A tiny file whose header claims this size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_usual_kinds_decode_to_rgb(kind: str) -> None:
    image = decode(_encoded(kind))
    assert (image.mode, image.size) == ("RGB", (64, 48))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert decode(_encoded("PNG", mode)).mode == "RGB"


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    buffer = io.BytesIO()
    Image.new("I;16", (16, 16), 128 * 257).save(buffer, "PNG")
    assert decode(buffer.getvalue()).getpixel((3, 3)) == (128, 128, 128)


def test_floating_point_pixels_are_refused() -> None:
    buffer = io.BytesIO()
    Image.new("F", (16, 16), 0.5).save(buffer, "TIFF")
    with pytest.raises(ImageError, match="depth not supported"):
        decode(buffer.getvalue())


def test_transparent_pixels_are_white_as_on_a_slide() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(buffer, "PNG")
    assert decode(buffer.getvalue()).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image file empty"),
        (b"this is text", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
        (_encoded("PNG")[:1500], "image truncated or damaged"),
        (_encoded("JPEG")[:900], "image truncated or damaged"),
        (_encoded("TIFF")[:2000], "image truncated or damaged"),
        (_encoded("WEBP")[:500], "image truncated or damaged"),
        (_png_claiming(100_000, 100_000), "image too large"),
        (_png_claiming(100_000, 16), "image too large"),
        (_png_claiming(16_000, 16_000), "image too large"),
        (_png_claiming(500, 500), "image truncated or damaged"),
        (_png_claiming(0, 16), "image too small"),
        (_png_claiming(0, 0), "image too small"),
        (_encoded("PNG", size=(7, 64)), "image too small"),
    ],
)
def test_bad_images(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data, "there.png")
    assert caught.value.message in (reason, "not an image" if "small" in reason else reason)
    assert "there.png" in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_no_damage_anywhere_in_a_file_gives_another_error(kind: str) -> None:
    """Cut at many places and with bytes overwritten: an image or an ImageError, nothing else."""
    data = _encoded(kind)
    for i in range(0, len(data), max(1, len(data) // 60)):
        for bad in (data[:i], data[:i] + b"\xff\x00\xff\xff" + data[i + 4 :]):
            try:
                assert decode(bad).mode == "RGB"
            except ImageError as exc:
                assert exc.message


def test_sizes_at_the_limits() -> None:
    check_size(8, 20_000)
    with pytest.raises(ImageError, match="too small"):
        check_size(7, 100)
    with pytest.raises(ImageError, match="too large"):
        check_size(100, 20_001)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no.png", "image file missing"), (tmp_path, "image path is a folder")):
        with pytest.raises(ImageError) as caught:
            load_image(ImageFile(path=str(path)))
        assert caught.value.message == reason
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ImageError) as caught:
        read_bytes(ImageFile(path=str(tmp_path / "file" / "below.png")))
    assert caught.value.message == "image file missing"
    with pytest.raises(ImageError):
        read_bytes(ImageFile(path="x" * 5000))
    with pytest.raises(ImageError):
        read_bytes(ImageFile(path="nul\0inside.png"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_encoded("PNG"))
    path.chmod(0)
    with pytest.raises(ImageError, match="not readable"):
        load_image(ImageFile(path=str(path)))


def test_bytes_files_and_regions_load_the_same_pixels(tmp_path: Path) -> None:
    data = _encoded("PNG")
    (tmp_path / "a.png").write_bytes(data)
    a = load_image(ImageBytes(data=data))
    b = load_image(ImageFile(path=str(tmp_path / "a.png")))
    assert a.tobytes() == b.tobytes()
    region = SlideRegion(path="s.svs", box=BoxLevel0(x0=0, y0=0, x1=64, y1=48))
    assert load_image(region, lambda r: a.crop((0, 0, r.box.x1, 8))).size == (64, 8)
    with pytest.raises(ImageError, match="slide reader"):
        load_image(region)


def test_png_round_trip_is_exact() -> None:
    image = decode(_encoded("PNG"))
    assert decode(encode_png(image)).tobytes() == image.tobytes()


def test_digest_sees_order_and_borders() -> None:
    assert digest_of([b"a", b"b"]) != digest_of([b"b", b"a"])
    assert digest_of([b"ab", b""]) != digest_of([b"a", b"b"])
    assert len(digest_of([])) == 64
