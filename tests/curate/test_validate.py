"""Each kind of bad sample is dropped with its reason; order and counts hold with any number of workers."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from make_samples import picture, sample

from eosin.core.nouns.sample import Choice, ImageBytes, ImageFile, Sample, SlideRegion, make_choices, user_prompt
from eosin.core.nouns.units import BoxLevel0
from eosin.curate import validate


def _claiming(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def _held(data: bytes) -> dict[str, Any]:
    return {"images": (ImageBytes(data=data),)}


REGION = SlideRegion(path="/nowhere/s.svs", box=BoxLevel0(x0=0, y0=0, x1=64, y1=64))
BAD: list[tuple[dict[str, Any], str]] = [
    (_held(picture(1)[:200]), "image truncated or damaged"),
    (_held(b"no image at all"), "not an image"),
    (_held(b""), "image file empty"),
    (_held(_claiming(0, 0)), "not an image"),
    (_held(_claiming(100_000, 100_000)), "image too large"),
    (_held(_claiming(100_000, 20)), "image too large"),
    ({"images": (ImageFile(path="/nowhere/a.png"),)}, "image file missing"),
    ({"images": (REGION,)}, "slide file missing"),
    ({"choices": (), "answer": "B"}, "empty choices"),
    ({"choices": (), "answer": "  "}, "empty answer"),
    ({"choices": make_choices(["fat"])}, "only one choice"),
    ({"choices": make_choices(["fat", " "])}, "empty choice"),
    ({"answer": None}, "no answer"),
    ({"messages": user_prompt("  ")}, "empty question"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD, ids=[f"{r}-{i}" for i, (_, r) in enumerate(BAD)])
def test_bad_samples(changes: dict[str, Any], reason: str) -> None:
    result = validate([sample("good"), sample("bad", **changes), sample("fine")])
    assert [s.id for s in result.kept] == ["good", "fine"]
    assert [(d.id, d.reason, d.step) for d in result.dropped] == [("bad", reason, "validate")]


def test_an_answer_that_slipped_past_the_sample_itself() -> None:
    odd = sample("odd").model_copy(update={"answer": "E"})
    (dropped,) = validate([odd]).dropped
    assert dropped.reason == "answer not among the choices"
    assert "'E'" in dropped.detail


def test_the_second_image_counts_too() -> None:
    two = sample("two", images=(ImageBytes(data=picture(1)), ImageBytes(data=picture(1)[:200])))
    (dropped,) = validate([two]).dropped
    assert dropped.reason == "image truncated or damaged"
    assert dropped.detail.startswith("image 1; ")


def test_a_file_that_changed_since_it_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture(1))
    recorded = sample("s", images=(ImageFile(path=str(path), sha256="0" * 64),))
    (dropped,) = validate([recorded]).dropped
    assert (dropped.reason, str(path) in dropped.detail) == ("image file changed", True)
    assert validate([sample("s", images=(ImageFile(path=str(path)),))]).dropped == ()


def test_what_may_pass() -> None:
    opened = sample("open", choices=(), answer="a cyst")
    unanswered = sample("exam", choices=(), answer=None)
    text_only = sample("text", images=(), messages=user_prompt("What is a cyst?", 0))
    assert validate([opened, unanswered, text_only]).dropped == ()
    assert validate([text_only], need_image=True).reasons() == {"no image": 1}
    assert validate([sample("x", answer=None)], need_answer=False).dropped == ()


def test_slide_regions_are_read_where_there_is_a_reader() -> None:
    from PIL import Image

    from eosin.core.errors import ImageError

    def refuse(region: SlideRegion) -> Image.Image:
        raise ImageError("slide cannot be opened", where=region.path)

    one = [sample("s", images=(REGION,))]
    assert validate(one, read_region=lambda r: Image.new("RGB", (64, 64))).dropped == ()
    assert validate(one, read_region=refuse).reasons() == {"slide cannot be opened": 1}


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_order_and_counts_with_workers(workers: int) -> None:
    rng = random.Random(3)
    good, bad = picture(1), picture(1)[:200]
    mixed: list[Sample] = [
        sample(f"s{i}", images=(ImageBytes(data=bad if rng.random() < 0.3 else good),)) for i in range(1100)
    ]
    result = validate(iter(mixed), workers=workers)
    assert result.num_in == 1100
    assert [s.id for s in result.kept] == [s.id for s in mixed if s.images[0].data == good]  # type: ignore[union-attr]
    assert [d.id for d in result.dropped] == [s.id for s in mixed if s.images[0].data == bad]  # type: ignore[union-attr]
    assert result.reasons() == {"image truncated or damaged": len(result.dropped)}


def test_nothing_in_nothing_out() -> None:
    assert validate([], workers=3).num_in == 0


def test_a_choice_without_text_cannot_even_be_made() -> None:
    with pytest.raises(ValueError, match="at least 1 character"):
        Choice(letter="A", text="")
