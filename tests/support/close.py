"""How computed numbers are compared: with a tolerance, since another processor, another number of threads or another
address in memory rounds otherwise. Bits are for files, weights, and one tensor in one process."""

from __future__ import annotations

from typing import Any

import numpy as np

TOLERANCE = 1e-5


def farthest(first: Any, second: Any) -> float:
    """Largest difference of two arrays or tensors of one shape, relative to the largest value (at least 1)."""
    a, b = (np.asarray(getattr(x, "detach", lambda x=x: x)(), dtype=np.float64) for x in (first, second))
    assert a.shape == b.shape, f"{a.shape} and {b.shape}"
    if not a.size:
        return 0.0
    return float(np.abs(a - b).max() / max(1.0, float(np.abs(a).max())))


def same_numbers(first: Any, second: Any) -> bool:
    """Whether two results of one computation agree but for rounding."""
    return farthest(first, second) <= TOLERANCE


def other_numbers(first: Any, second: Any) -> bool:
    """Whether two results differ by more than rounding ever does."""
    return farthest(first, second) > 10 * TOLERANCE
