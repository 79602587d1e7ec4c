"""Webdataset tars: files of one key stand one after the other, KEY.jpg, KEY.txt, KEY.json, and make one sample.

A tar that Eosin wrote (`eosin samples convert --to webdataset`) gives the equal samples; of others the picture and the
text become a sample with a caption.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from eosin.core.formats.dialogue import OUR_KEY
from eosin.core.formats.rows import STEP, BadRowError, Outcome, make_sample, put_bytes_back, read_row
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.prompt import CAPTION_PROMPT
from eosin.core.nouns.sample import ImageBytes, user_prompt

PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
MAX_MEMBER = 2**28
TOO_LARGE = b"too large"

Spanned = tuple[int, int, Outcome]


def iter_tar(path: Path) -> Iterator[Spanned]:
    """(first byte, bytes, sample or Dropped) of every key, in order. A fault that is no row has 0 bytes.

    The tar must not be compressed: a sample is read where it lies.
    """
    key, start, end = "", 0, 0
    held: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header that it has seen
                if not member.isfile():
                    continue
                now, suffix = key_of(member.name)
                if now != key and held:
                    yield start, end - start, sample_of(path, key, held)
                    held = {}
                if not held:
                    key, start = now, member.offset
                file = tar.extractfile(member) if member.size <= MAX_MEMBER else None
                held[suffix] = file.read() if file is not None else TOO_LARGE
                if file is not None and len(held[suffix]) != member.size:
                    raise tarfile.ReadError(f"{member.name} ends early")
                end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    except (tarfile.TarError, EOFError, OSError) as exc:
        yield start, 0, Dropped(path.name, "tar cut off or damaged", str(exc)[:120], STEP)
        return
    if held:
        yield start, end - start, sample_of(path, key, held)


def key_of(name: str) -> tuple[str, str]:
    """The key and the suffix of a file in a tar: "a/0001.cls.png" is ("a/0001", ".cls.png")."""
    stem, _, suffix = PurePosixPath(name).name.partition(".")
    return str(PurePosixPath(name).parent / stem), "." + suffix.lower()


def told_in(held: Mapping[str, bytes]) -> dict[str, Any]:
    """What the json file of a key says; empty without one that is an object."""
    value = json.loads(held[".json"]) if ".json" in held else None
    return value if isinstance(value, dict) else {}


def own_sample(told: Mapping[str, Any], held: Mapping[str, bytes], place: str) -> Outcome | None:
    """The sample that Eosin wrote into a key's files; None where another wrote them."""
    if not isinstance(told.get(OUR_KEY), dict):
        return None
    files = told[OUR_KEY].get("files") or []
    return make_sample(put_bytes_back(told[OUR_KEY]["sample"], [held.get(f) for f in files]), place)


def read_span(path: Path, data: bytes) -> Outcome:
    """The sample of a span of `iter_tar`, from its bytes."""
    held: dict[str, bytes] = {}
    key = ""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for member in tar:
            if member.isfile():
                key, suffix = key_of(member.name)
                file = tar.extractfile(member)
                held[suffix] = file.read() if file is not None else b""
    return sample_of(path, key, held)


def sample_of(path: Path, key: str, held: Mapping[str, bytes]) -> Outcome:
    """The sample that the files of one key make."""
    place = f"{path.stem}/{key}"

    def read() -> Outcome:
        if large := [suffix for suffix, data in held.items() if data is TOO_LARGE]:
            raise BadRowError("file too large", f"{', '.join(large)}: more than {MAX_MEMBER:,} bytes")
        own = own_sample(told_in(held), held, place)
        if own is not None:
            return own
        image = next((held[s] for s in PICTURES if s in held), None)
        if image is None:
            raise BadRowError("no image", ", ".join(held)[:120])
        caption = held.get(".txt", b"").decode("utf-8").strip()
        if not caption:
            raise BadRowError("no caption", "expected a file with the suffix .txt")
        return make_sample(
            {"id": place, "images": (ImageBytes(data=image),), "messages": user_prompt(CAPTION_PROMPT),
             "caption": " ".join(caption.split()), "origin": {"source": path.absolute().parent.name or path.stem}},
            place,
        )  # fmt: skip

    return read_row(read, {"id": place}, place, STEP)
