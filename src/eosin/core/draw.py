"""Seeded subsets, by items and by whole groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from eosin.core.nouns.sample import Sample

T = TypeVar("T")


def subset(items: Sequence[T], size: int | None, seed: int) -> list[T]:
    """A seeded random subset in the given order; all of them where `size` is None or not smaller."""
    if size is None or size >= len(items):
        return list(items)
    chosen = np.random.default_rng(seed).permutation(len(items))[:size]
    return [items[i] for i in sorted(chosen)]


def part_of(samples: Sequence[Sample], part: tuple[float, float] | None, seed: int) -> list[Sample]:
    """The samples of some of the groups (patients, cases, slides, articles; without one each sample for itself).

    Groups stand in a seeded order within each class, and those whose place in it, as a share of the class, lies in
    [first, last) of `part` are taken: parts that do not overlap share no patient, and have the classes of the whole.

    Args:
        part: first and last share, 0..1; None takes all.
    """
    if part is None:
        return list(samples)
    classes: dict[str, set[str]] = {}
    for sample in samples:
        classes.setdefault(sample.label or "", set()).add(_group_of(sample))
    chosen: set[str] = set()
    seen: set[str] = set()
    for label in sorted(classes):
        own = sorted(g for g in classes[label] if g not in seen)  # a patient with two classes belongs to the first
        seen.update(own)
        order = np.random.default_rng([seed, 31]).permutation(len(own))
        chosen |= {own[i] for place, i in enumerate(order) if part[0] <= place / len(own) < part[1]}
    return [s for s in samples if _group_of(s) in chosen]


def _group_of(sample: Sample) -> str:
    return sample.origin.group or f"item:{sample.id}"
