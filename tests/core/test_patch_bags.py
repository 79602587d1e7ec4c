"""Bags that cannot be shown are refused with the slide's name and the fix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eosin.core.errors import ImageError
from eosin.core.nouns.bags import PatchBag

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
CENTRES = np.arange(8, dtype=np.float64).reshape(4, 2)


def bag(**changes: Any) -> PatchBag:
    return PatchBag(**{"name": "slide-7", "features": FEATURES, "centres_um": CENTRES, "tile_um": 100.0, "mpp": 1.0,
                       **changes})  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"features": FEATURES[:0], "centres_um": CENTRES[:0]}, "empty bag"),
        ({"centres_um": CENTRES[:3]}, "without a place"),
        ({"centres_um": CENTRES[:, :1]}, "without a place"),
        ({"features": np.where(FEATURES == 5, np.nan, FEATURES)}, "not finite"),
        ({"centres_um": np.where(CENTRES == 3, np.inf, CENTRES)}, "not finite"),
    ],
)
def test_bad_bags_name_the_slide_and_the_fix(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        bag(**changes)
    assert caught.value.where == "slide-7" and caught.value.next_step


def test_patches_keep_their_numbers() -> None:
    whole = bag()
    assert whole.numbers.tolist() == [0, 1, 2, 3] and len(whole) == 4 and whole.dimension == 3
    some = whole.take(np.array([True, False, True, True])).take(np.array([2, 0]))
    assert some.numbers.tolist() == [3, 0]
    assert np.array_equal(some.features, FEATURES[[3, 0]]) and np.array_equal(some.centres_um, CENTRES[[3, 0]])
    assert not some.blank().features.any() and np.array_equal(some.blank().centres_um, some.centres_um)
