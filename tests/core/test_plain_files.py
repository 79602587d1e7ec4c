"""Only files that hold nothing but their picture leave as they are."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from eosin.core.images import decode
from eosin.core.plain_files import MAX_PLAIN_BYTES, is_plain

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
COLOUR = Image.fromarray(PIXELS)


def saved(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def exif(**tags: Any) -> Image.Exif:
    found = Image.Exif()
    for tag, value in tags.items():
        found[int(tag[1:])] = value
    return found


def named() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "A. Person")
    return info


PLAIN = {
    "png": saved(COLOUR, "PNG"),
    "png grey": saved(COLOUR.convert("L"), "PNG"),
    "png palette": saved(COLOUR.quantize(200), "PNG"),
    "png with dpi": saved(COLOUR, "PNG", dpi=(300, 300)),
    "jpeg": saved(COLOUR, "JPEG"),
    "jpeg grey": saved(COLOUR.convert("L"), "JPEG"),
    "jpeg progressive": saved(Image.fromarray(np.kron(PIXELS, np.ones((8, 8, 1), np.uint8))), "JPEG", progressive=True),
    "jpeg with restarts": saved(COLOUR, "JPEG", restart_marker_blocks=1),
}
NOT_PLAIN = {
    "png with a name in it": saved(COLOUR, "PNG", pnginfo=named()),
    "png with EXIF": saved(COLOUR, "PNG", exif=exif(t274=6)),
    "png that is clear": saved(COLOUR.convert("RGBA"), "PNG"),
    "png with a clear colour": saved(COLOUR, "PNG", transparency=(1, 2, 3)),
    "png of 16 bits": saved(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "PNG"),
    "png with more after its end": saved(COLOUR, "PNG") + b"A. Person",
    "png cut off": saved(COLOUR, "PNG")[:-12],
    "png of two frames": saved(COLOUR, "PNG", save_all=True, append_images=[COLOUR.rotate(180)]),
    "jpeg with EXIF": saved(COLOUR, "JPEG", exif=exif(t271="A. Person")),
    "jpeg with a comment": saved(COLOUR, "JPEG", comment="A. Person"),
    "jpeg of four colours": saved(COLOUR.convert("CMYK"), "JPEG"),
    "jpeg with more after its end": saved(COLOUR, "JPEG") + b"A. Person",
    "jpeg with another behind it": saved(COLOUR, "JPEG") * 2,
    "jpeg cut off": saved(COLOUR, "JPEG")[:-40],
    "jpeg with a profile": saved(COLOUR, "JPEG", icc_profile=b"A. Person" * 20),
    "webp": saved(COLOUR, "WEBP"),
    "tiff": saved(COLOUR, "TIFF"),
    "nothing": b"",
    "a start": b"\xff\xd8",
    "text": b"A. Person",
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_picture_alone_is_plain(name: str) -> None:
    data = PLAIN[name]
    assert is_plain(data)
    with Image.open(io.BytesIO(data)) as found:  # as a reader sees it that knows nothing of ours
        assert np.array_equal(np.asarray(found.convert("RGB")), np.asarray(decode(data)))


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_holds_more_or_reads_in_two_ways_is_not(name: str) -> None:
    assert not is_plain(NOT_PLAIN[name])


def test_a_comment_between_two_scans_is_found() -> None:
    data = PLAIN["jpeg progressive"]
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    comment = b"\xff\xfe" + (11).to_bytes(2, "big") + b"A. Person"
    assert not is_plain(data[:second] + comment + data[second:])


def test_what_is_too_large_is_not() -> None:
    assert not is_plain(PLAIN["png"] + bytes(MAX_PLAIN_BYTES))
