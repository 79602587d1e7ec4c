"""Pictures are encoded once, and what may not leave does not leave."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, PngImagePlugin

from eosin.core.images import encode_png
from eosin.engines.picture_bytes import PictureBytes


def noise(seed: int, side: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_a_picture_that_comes_again_is_encoded_once() -> None:
    pictures = PictureBytes()
    first, again, other = (pictures.of(noise(seed)) for seed in (0, 0, 1))
    assert first == again == encode_png(noise(0)) != other
    assert (pictures.num_encoded, pictures.num_as_stored) == (2, 0)


def test_a_plain_file_leaves_as_it_is_and_another_without_its_words() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "A. Person")
    buffer = io.BytesIO()
    noise(0).save(buffer, "PNG", compress_level=1, pnginfo=info)
    plain = io.BytesIO()
    noise(0).save(plain, "JPEG")
    pictures = PictureBytes()
    assert pictures.of(noise(0), plain.getvalue()) == plain.getvalue()
    sent = pictures.of(noise(0), buffer.getvalue())
    assert b"A. Person" in buffer.getvalue() and b"A. Person" not in sent
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sent))), np.asarray(noise(0)))


def test_what_is_kept_has_a_limit() -> None:
    one = len(encode_png(noise(0)))
    pictures = PictureBytes(kept_bytes=2 * one + one // 2)
    for seed in (0, 1, 0, 2, 0, 1):  # two of them stay: the third drives out the one that was not asked for
        pictures.of(noise(seed))
    assert pictures.num_encoded == 4


def test_many_threads_get_the_same_bytes() -> None:
    pictures = PictureBytes()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: pictures.of(noise(k % 5)), range(100)))
    assert found == [encode_png(noise(k % 5)) for k in range(100)]
