"""Which pictures are the same, nearly the same, blank, tiny, or cannot be read."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from eosin.chain.audit.found import Found, hits_of
from eosin.core.errors import ImageError
from eosin.core.images import decode
from eosin.core.nouns.classes import normalised
from eosin.core.nouns.sample import Sample, SlideBag, SlideRegion
from eosin.curate.copies.pictures import Pictures, measure_pictures
from eosin.curate.hashes import FLAT_STD, content_of
from eosin.evaluate.exam.items import group_of

MIN_SIDE_PX = 48
_GREY_PX = 32
_NO_TISSUE = re.compile(r"background|blank|empty|no tissue|no-tissue|\bback\b|white", re.I)


@dataclass(frozen=True)
class Picture:
    """The images of a sample, as far as comparisons need them.

    Attributes:
        keys: a digest of each image's content.
        is_flat: whether the first one is nearly of one colour.
        size: width and height of the first one in pixels.
        why_not: why an image cannot be read.
    """

    keys: tuple[str, ...]
    is_flat: bool = False
    size: tuple[int, int] = (0, 0)
    why_not: str = ""


@dataclass(frozen=True)
class Near:
    """Two pictures that show the same, by their numbers, with their likeness (0 to 1). Exact copies are none."""

    first: int
    second: int
    likeness: float


def look_at(samples: Sequence[Sample]) -> list[Picture]:
    """Read the images of all samples."""
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        return list(pool.map(_look, samples))


def _look(sample: Sample) -> Picture:
    keys = []
    is_flat, size = False, (0, 0)
    for i, ref in enumerate(sample.images):
        try:
            content = content_of(ref)
            keys.append(hashlib.sha256(content).hexdigest())
            if i == 0 and not isinstance(ref, SlideRegion | SlideBag):
                picture = decode(content, getattr(ref, "path", None))
                small = picture.convert("L").resize((_GREY_PX, _GREY_PX), Image.Resampling.BOX)
                is_flat, size = float(np.asarray(small).std()) < FLAT_STD, picture.size
        except ImageError as exc:
            return Picture(tuple(keys), False, size, f"image {i}: {exc.message}")
    return Picture(tuple(keys), is_flat, size)


def near_pairs_of(parts: Sequence[Sequence[Sample]], pictures: Sequence[Picture], *, crops: bool) -> list[Near]:
    """Near pictures among the samples of several data sets, numbered through; see `curate.copies.pictures`."""
    held = Pictures([pa.table(measure_pictures(part, crops=crops)) for part in parts])
    return [
        Near(i, j, like) for i, j, like in held.verified(held.candidates(crops))
        if not (pictures[i].is_flat or pictures[j].is_flat) and pictures[i].keys != pictures[j].keys
    ]  # fmt: skip


def image_faults(
    samples: Sequence[Sample], pictures: Sequence[Picture], pairs: Sequence[Near]
) -> tuple[list[Found], dict[str, Any]]:
    """Faults of pictures within one data set, and what the page shows. Pairs with other data sets are passed by."""
    shown = [(s, p) for s, p in zip(samples, pictures, strict=True) if s.images]
    found = [*_unusable(shown), *_same(shown), *_nearly(samples, pairs)]
    sizes = sorted({p.size for _, p in shown if p.size != (0, 0)})
    return found, {
        "with_images": len(shown), "different_images": len({k for _, p in shown for k in p.keys}),
        "smallest": list(min(sizes, default=(0, 0))), "largest": list(max(sizes, default=(0, 0))),
    }  # fmt: skip


def _unusable(shown: Sequence[tuple[Sample, Picture]]) -> Iterator[Found]:
    n = len(shown)
    yield from hits_of("images that cannot be read", "{n} of {of} samples have an image that cannot be read.",
                       [(s.id, p.why_not) for s, p in shown if p.why_not], n)  # fmt: skip
    blank = [
        (s.id, "") for s, p in shown if p.is_flat and not _NO_TISSUE.search(f"{s.label} {s.answer_text} {s.caption}")
    ]
    yield from hits_of("blank images", "{n} of {of} pictures are nearly of one colour, and no text says so.", blank, n)
    tiny = [(s.id, f"{p.size[0]} x {p.size[1]} px") for s, p in shown if 0 < min(p.size) < MIN_SIDE_PX]
    yield from hits_of("tiny images", "{n} of {of} pictures have a side of under 48 pixels.", tiny, n)


def _told(sample: Sample) -> str:
    return f"{sample.label} {sample.answer_text} {sample.caption}"


def _same(shown: Sequence[tuple[Sample, Picture]]) -> Iterator[Found]:
    holders: dict[tuple[str, ...], list[Sample]] = defaultdict(list)
    for s, p in shown:
        if p.keys and not p.why_not:
            holders[p.keys].append(s)
    repeats = {k: own for k, own in holders.items() if len(own) > 1}
    again: list[tuple[str, str]] = []
    differing: list[tuple[str, str]] = []
    strangers: list[tuple[str, str]] = []
    for own in repeats.values():
        asked: dict[Any, Sample] = {}
        for s in own:
            first = asked.setdefault(_matter(s), s)
            if first is not s and first.answer_text != s.answer_text:
                differing.append((s.id, f"{s.answer_text}; {first.id} says {first.answer_text}"[:120]))
            elif first is not s:
                again.append((s.id, f"as {first.id}"))
            if s.origin.group and own[0].origin.group and s.origin.group != own[0].origin.group:
                strangers.append((s.id, f"{s.origin.group}; {own[0].id} is {own[0].origin.group}"))
    n = len(shown)
    yield from hits_of(
        "the same question twice", "{n} of {of} samples ask the same of the same picture again.", again, n
    )
    yield from hits_of("one picture, two answers", "{n} of {of} samples answer a question about a picture otherwise "
                       "than an earlier sample.", differing, n)  # fmt: skip
    yield from hits_of("one picture, two patients", "{n} of {of} samples show a picture that another patient or slide "
                       "also has.", strangers, n)  # fmt: skip
    several = sum(map(len, repeats.values()))
    if several:
        said = f"{several:,} samples share {len(repeats):,} pictures: they must stand in one split."
        yield Found("several samples about one picture", "note", said, several, n)


def _matter(sample: Sample) -> tuple[object, ...]:
    options = frozenset(normalised(c.text) for c in sample.choices)
    wording = normalised(sample.question)
    return (options,) if len(options) > 2 else (wording, options)


def _nearly(samples: Sequence[Sample], pairs: Sequence[Near]) -> Iterator[Found]:
    own: list[tuple[str, str]] = []
    strangers: list[tuple[str, str]] = []
    for pair in pairs:
        if max(pair.first, pair.second) >= len(samples):
            continue
        a, b = samples[pair.first], samples[pair.second]
        is_known = a.origin.group is not None and b.origin.group is not None
        hit = (b.id, f"as {a.id}, likeness {pair.likeness:.2f}")
        (strangers if is_known and group_of(a) != group_of(b) else own).append(hit)
    said = (
        "{n} pairs of pictures of different patients or slides show the same: a copy, a crop, a turn or a new encoding."
    )
    yield from hits_of("nearly one picture, two patients", said, strangers, len(samples))
    said = "{n} pairs of pictures show nearly the same."
    yield from hits_of("nearly the same picture twice", said, own, len(samples), level="note")
