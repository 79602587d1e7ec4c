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
from numpy.typing import NDArray
from PIL import Image

from eosin.chain.audit.found import Found, hits_of
from eosin.core.errors import ImageError
from eosin.core.images import decode
from eosin.core.nouns.classes import normalised
from eosin.core.nouns.sample import ImageRef, Sample, SlideBag, SlideRegion
from eosin.curate.hashes import FLAT_STD, content_of, near_pairs
from eosin.evaluate.exam.items import group_of

SIDE_PX = 72
"""Side of the grey copy that hashes and comparisons are made of: 9 x 8 blocks of whole pixels."""
MAX_BITS = 5
SAME = 0.93
"""Correlation of two grey copies from which on they are one picture (measured, see docs/audit.md)."""
MIN_SIDE_PX = 48
_BLOCK = 4096
_NO_TISSUE = re.compile(r"background|blank|empty|no tissue|no-tissue|\bback\b|white", re.I)
Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """The first image of a sample, as far as comparisons need it.

    Attributes:
        keys: a digest of each image's content.
        grey: (72, 72) copy; None for slides and pictures that cannot be read.
        size: width and height in pixels.
        why_not: why an image cannot be read.
    """

    keys: tuple[str, ...]
    grey: Grey | None = None
    size: tuple[int, int] = (0, 0)
    why_not: str = ""

    @property
    def is_flat(self) -> bool:
        return self.grey is not None and float(self.grey.std()) < FLAT_STD

    def code(self) -> int | None:
        """Its difference hash, or None for a flat or missing picture."""
        return None if self.grey is None or self.is_flat else _code(self.grey)


def _code(grey: Grey) -> int:
    """64 bits: whether each of 8 x 8 blocks is brighter than its right neighbour."""
    blocks = grey.reshape(8, 9, 9, 8).mean(axis=(1, 3))
    return int.from_bytes(np.packbits((blocks[:, :-1] > blocks[:, 1:]).ravel()).tobytes(), "big")


def look_at(samples: Sequence[Sample]) -> list[Picture]:
    """Read the images of all samples. Pictures of one content are decoded once a thread has time for each sample."""
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        return list(pool.map(_look, samples))


def _look(sample: Sample) -> Picture:
    keys = []
    first: Grey | None = None
    size = (0, 0)
    for i, ref in enumerate(sample.images):
        try:
            content = content_of(ref)
            keys.append(hashlib.sha256(content).hexdigest())
            if i == 0 and not isinstance(ref, SlideRegion | SlideBag):
                first, size = _grey(content, ref)
        except ImageError as exc:
            return Picture(tuple(keys), None, size, f"image {i}: {exc.message}")
    return Picture(tuple(keys), first, size)


def _grey(content: bytes, ref: ImageRef) -> tuple[Grey, tuple[int, int]]:
    picture = decode(content, getattr(ref, "path", None))
    small = picture.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8), picture.size


def turned(grey: Grey) -> list[Grey]:
    """The eight ways in which a square picture can lie: four turns, each also as in a mirror."""
    turns = [np.rot90(grey, k) for k in range(4)]
    return [np.ascontiguousarray(t) for t in (*turns, *(np.fliplr(t) for t in turns))]


def likeness(a: Grey, b: Grey) -> float:
    """Correlation of two grey copies; 0 where one is flat."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else 0.0


def near(left: Sequence[Picture], right: Sequence[Picture]) -> Iterator[tuple[int, int, float]]:
    """Pairs (index in left, index in right, correlation) that are nearly one picture, turned and mirrored ones too.

    Hashes that differ in at most `MAX_BITS` bits are candidates; their grey copies must then correlate by `SAME`.
    Exact copies are left out. Crops are not looked for.
    """
    a = [(i, c) for i, p in enumerate(left) if (c := p.code()) is not None]
    turns = [
        (j, _code(t), t) for j, p in enumerate(right) if not p.is_flat and p.grey is not None for t in turned(p.grey)
    ]
    codes = [c for _, c in a]
    seen: set[tuple[int, int]] = set()
    for start in range(0, len(turns), _BLOCK):
        part = turns[start : start + _BLOCK]
        for x, y, _ in near_pairs(codes, [c for _, c, _ in part], MAX_BITS):
            i, (j, _, grey) = a[x][0], part[y]
            own = left[i].grey
            if (i, j) in seen or own is None or left[i].keys == right[j].keys:
                continue
            alike = likeness(own, grey)
            if alike >= SAME:
                seen.add((i, j))
                yield i, j, alike


def image_faults(samples: Sequence[Sample], pictures: Sequence[Picture]) -> tuple[list[Found], dict[str, Any]]:
    """Faults of pictures within one data set, and what the page shows of them."""
    shown = [(s, p) for s, p in zip(samples, pictures, strict=True) if s.images]
    found = [*_unusable(shown), *_same(shown), *_nearly(shown)]
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


def _nearly(shown: Sequence[tuple[Sample, Picture]]) -> Iterator[Found]:
    pictures = [p for _, p in shown]
    own: list[tuple[str, str]] = []
    strangers: list[tuple[str, str]] = []
    for i, j, alike in near(pictures, pictures):
        a, b = shown[i][0], shown[j][0]
        if i < j:
            is_known = a.origin.group is not None and b.origin.group is not None
            hit = (b.id, f"as {a.id}, correlation {alike:.2f}")
            (strangers if is_known and group_of(a) != group_of(b) else own).append(hit)
    yield from hits_of("nearly one picture, two patients", "{n} pairs of pictures of different patients or slides "
                       "are nearly the same: copied, turned or encoded again.", strangers, len(shown))  # fmt: skip
    yield from hits_of("nearly the same picture twice", "{n} pairs of pictures are nearly the same.", own, len(shown),
                       level="note")  # fmt: skip
