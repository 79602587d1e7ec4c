"""What an exam asks: checked samples and their cluster."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.images import digest_of
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef, Sample

T = TypeVar("T")


def check_samples(samples: Sequence[Sample]) -> None:
    """Refuse an exam that is empty, holds an id twice, or holds items without an answer."""
    if not samples:
        raise EosinError(
            "An exam without items has no result.",
            expected="at least one sample in the split that is examined",
            found="none",
            next_step="choose another split, or look at dropped.jsonl beside the samples",
        )
    twice = [i for i, count in Counter(s.id for s in samples).items() if count > 1]
    if twice:
        raise EosinError(
            f"{len(twice)} ids stand more than once in this exam.",
            expected="every id once",
            found=", ".join(twice[:5]),
            next_step="make the ids of the samples unique",
        )
    without = [s.id for s in samples if s.answer is None or not s.answer.strip()]
    if without:
        raise EosinError(
            f"{len(without)} of {len(samples)} samples have no answer and cannot be scored.",
            expected="an answer in every sample",
            found=", ".join(without[:5]),
            next_step="leave these samples out, or give them an answer",
        )


def image_key(ref: ImageRef) -> str:
    """A short name of an image: equal references have equal names."""
    if isinstance(ref, ImageBytes):
        return hashlib.sha256(ref.data).hexdigest()[:16]
    if isinstance(ref, ImageFile):
        return (ref.sha256 or hashlib.sha256(ref.path.encode()).hexdigest())[:16]
    return hashlib.sha256(ref.model_dump_json().encode()).hexdigest()[:16]


def group_of(sample: Sample) -> str:
    """The sample's cluster, with its kind: patient, case, slide or article; else its image; else itself."""
    if sample.origin.group is not None:
        return sample.origin.group
    if sample.origin.digest is not None:
        return f"image:{sample.origin.digest[:16]}"
    if sample.images:
        if len(sample.images) == 1:
            return f"image:{image_key(sample.images[0])}"
        return f"image:{digest_of([image_key(r).encode() for r in sample.images])[:16]}"
    return f"item:{sample.id}"


def cluster_kind(groups: Sequence[str]) -> str:
    """Kind of the clusters: "case", or "case+image" where they differ."""
    return "+".join(sorted({g.split(":", 1)[0] for g in groups}))


def choose_balanced(items: Sequence[T], class_of: Callable[[T], str], size: int | None, seed: int) -> list[T]:
    """A seeded subset that takes from every class in turn, in the given order."""
    if size is None or size >= len(items):
        return list(items)
    rng = np.random.default_rng(seed)
    queues: dict[str, list[int]] = defaultdict(list)
    for i in rng.permutation(len(items)):
        queues[class_of(items[i])].append(int(i))
    kept: list[int] = []
    while len(kept) < size:
        for name in sorted(queues):
            if queues[name] and len(kept) < size:
                kept.append(queues[name].pop())
    return [items[i] for i in sorted(kept)]
