"""Seeded subsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def subset(items: Sequence[T], size: int | None, seed: int) -> list[T]:
    """A seeded random subset in the given order; all of them where `size` is None or not smaller."""
    if size is None or size >= len(items):
        return list(items)
    chosen = np.random.default_rng(seed).permutation(len(items))[:size]
    return [items[i] for i in sorted(chosen)]
