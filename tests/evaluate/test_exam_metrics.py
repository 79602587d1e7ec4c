from __future__ import annotations

import pytest

from eosin.core.errors import EosinError
from eosin.evaluate.statistics import metrics


def test_by_hand() -> None:
    gold = ["a", "a", "a", "b", "b", "c"]
    said = ["a", "a", "b", "b", None, "a"]
    right = [g == s for g, s in zip(gold, said, strict=True)]
    assert metrics.accuracy(right) == pytest.approx(3 / 6)
    assert metrics.recalls(gold, right) == pytest.approx({"a": 2 / 3, "b": 1 / 2, "c": 0})
    assert metrics.balanced_accuracy(gold, right) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert metrics.confusion(gold, said, ["a", "b", "c", "d"]) == [
        [2, 1, 0, 0, 0],
        [0, 1, 0, 0, 1],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_balanced_accuracy_counts_present_classes_only() -> None:
    assert metrics.balanced_accuracy(["a", "a", "a", "b"], [True, True, True, False]) == pytest.approx(0.5)


def test_empty_and_unknown_are_refused() -> None:
    with pytest.raises(EosinError, match="nothing to score"):
        metrics.accuracy([])
    with pytest.raises(EosinError, match="nothing to score"):
        metrics.balanced_accuracy([], [])
    with pytest.raises(EosinError, match="not among the labels"):
        metrics.confusion(["a"], ["z"], ["a"])
