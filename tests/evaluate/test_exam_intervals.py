from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.intervals import (
    cluster_interval,
    compare,
    mcnemar_exact,
    paired_difference,
)


def test_single_item_clusters_agree_with_wilson() -> None:
    rng = np.random.default_rng(3)
    right = rng.random(400) < 0.7
    p, n, z = right.mean(), 400, stats.norm.ppf(0.975)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    found = cluster_interval(right, [f"c{i}" for i in range(n)], resamples=10_000, seed=1)
    assert found.warning is None
    assert found.lo == pytest.approx(centre - half, abs=0.006)
    assert found.hi == pytest.approx(centre + half, abs=0.006)


def test_agrees_with_clustered_standard_error() -> None:
    """Linearised ratio: var = sum over clusters of (sum of residuals)^2 / N^2."""
    rng = np.random.default_rng(5)
    skill = rng.beta(2, 1, size=60)
    cluster = np.repeat(np.arange(60), rng.integers(2, 12, size=60))
    right = rng.random(len(cluster)) < skill[cluster]
    residual = np.bincount(cluster, right - right.mean())
    clustered = math.sqrt((residual**2).sum()) / len(right)
    naive = math.sqrt(right.mean() * (1 - right.mean()) / len(right))
    found = cluster_interval(right, [str(c) for c in cluster], resamples=10_000, seed=2)
    assert found.lo is not None and found.hi is not None
    width = (found.hi - found.lo) / (2 * 1.96)
    assert width == pytest.approx(clustered, rel=0.06)
    assert clustered > 1.2 * naive


def _all_resamples(scores: list[tuple[int, ...]], fn) -> np.ndarray:
    return np.asarray([fn([scores[i] for i in draw]) for draw in itertools.product(range(3), repeat=3)])


def test_three_clusters_by_hand() -> None:
    """All 27 equally likely resamples of three clusters with (right, items) = (2, 2), (1, 2), (0, 1)."""
    exact = _all_resamples([(2, 2), (1, 2), (0, 1)], lambda d: sum(r for r, _ in d) / sum(n for _, n in d))
    right, cluster = [True, True, True, False, False], ["x", "x", "y", "y", "z"]
    found = cluster_interval(right, cluster, resamples=20_000, seed=0, confidence=0.5)
    lo, hi = np.percentile(np.repeat(exact, 2000), [25, 75])
    assert (found.lo, found.hi) == pytest.approx((lo, hi))
    assert found.warning is not None and "3 clusters" in found.warning


@pytest.mark.parametrize("confidence", [0.6, 0.95])
def test_balanced_by_hand_over_all_resamples(confidence: float) -> None:
    """Cluster x: class a, 1 of 2 right. y: class b, 1 of 1. z: a 0 of 1 and b 1 of 2. Mean over resamples."""
    table = {"x": (1, 2, 0, 0), "y": (0, 0, 1, 1), "z": (0, 1, 1, 2)}

    def balanced(draw: list[tuple[int, ...]]) -> float:
        ra, na, rb, nb = (sum(t[k] for t in draw) for k in range(4))
        return float(np.mean([r / n for r, n in ((ra, na), (rb, nb)) if n]))

    exact = np.sort(_all_resamples(list(table.values()), balanced))
    right = [True, False, True, False, True, False]
    found = cluster_interval(
        right, ["x", "x", "y", "z", "z", "z"], ["a", "a", "b", "a", "b", "b"],
        metric="balanced_accuracy", resamples=50_000, confidence=confidence,
    )  # fmt: skip
    lo, hi = np.percentile(np.repeat(exact, 2000), [50 - 50 * confidence, 50 + 50 * confidence])
    assert (found.lo, found.hi) == pytest.approx((lo, hi))


def test_seed_decides() -> None:
    right, cluster = [i % 3 > 0 or i % 7 == 0 for i in range(400)], [str(i * i % 97) for i in range(400)]
    first = cluster_interval(right, cluster, seed=4)
    assert cluster_interval(right, cluster, seed=4) == first
    assert cluster_interval(right, cluster, seed=5) != first


def test_one_cluster_gives_a_reason_and_no_number() -> None:
    found = cluster_interval([True, False, True], ["only"] * 3)
    assert found.pair is None and found.reason is not None and "one cluster" in found.reason


def test_all_right_is_not_certainty() -> None:
    """60 cases of 5 items, all right: Clopper-Pearson with n = 60, not [1, 1]."""
    found = cluster_interval([True] * 300, [str(i // 5) for i in range(300)])
    assert found.lo == pytest.approx(stats.binomtest(60, 60).proportion_ci().low)
    assert found.hi == 1.0 and "exact" in found.method
    none_right = cluster_interval([False] * 300, [str(i // 5) for i in range(300)])
    assert none_right.pair == pytest.approx([0.0, stats.binomtest(0, 60).proportion_ci().high])


def test_all_right_balanced_uses_the_rare_class() -> None:
    """20 clusters, 2 of them hold class b and 18 class a: effective n = 4 / (1/18 + 1/2) = 7.2."""
    gold = ["b" if i < 2 else "a" for i in range(20)]
    found = cluster_interval([True] * 20, [str(i) for i in range(20)], gold, metric="balanced_accuracy")
    assert found.lo == pytest.approx(0.025 ** (1 / 7.2))


def test_mcnemar_by_hand() -> None:
    """6 only a, 1 only b: p = 2 (1 + 7) / 2^7 = 0.125."""
    a = [True] * 6 + [False] + [True] * 5 + [False] * 2
    b = [False] * 6 + [True] + [True] * 5 + [False] * 2
    assert mcnemar_exact(a, b) == {"only_a": 6, "only_b": 1, "p": pytest.approx(0.125)}
    assert mcnemar_exact(a, a) == {"only_a": 0, "only_b": 0, "p": 1.0}
    assert mcnemar_exact([True], [False])["p"] == 1.0


def test_paired_is_narrower_than_unpaired() -> None:
    """Same mistakes on hard cases: pairing removes the variation that both share."""
    rng = np.random.default_rng(0)
    hard = np.repeat(rng.random(50) < 0.5, 4)
    b = ~hard
    a = b | (rng.random(200) < 0.1)
    cluster = [str(i // 4) for i in range(200)]
    difference, paired = paired_difference(a, b, cluster)
    assert difference == pytest.approx(a.mean() - b.mean())
    alone_a, alone_b = cluster_interval(a, cluster), cluster_interval(b, cluster)
    assert paired.lo is not None and paired.hi is not None and alone_a.hi is not None
    assert 0 < paired.lo < difference < paired.hi
    assert paired.hi - paired.lo < 0.5 * (alone_a.hi - alone_a.lo)
    assert alone_b.hi is not None and alone_b.hi > alone_a.lo, "unpaired intervals overlap"


def test_paired_without_difference() -> None:
    difference, interval = paired_difference([True, False] * 8, [True, False] * 8, [str(i) for i in range(16)])
    assert difference == 0 and interval.pair == [0.0, 0.0] and interval.warning == "no item differs"


def test_compare_rows_joins_by_id() -> None:
    def rows(right: list[bool]) -> list[dict]:
        return [
            {"id": str(i), "group": f"case:{i // 2}", "label": "ab"[i % 2], "correct": r} for i, r in enumerate(right)
        ]

    a, b = rows([True] * 12), rows([True, False] * 6)
    found = compare(a, list(reversed(b)))
    assert found["accuracy"]["difference"] == pytest.approx(0.5)
    assert found["balanced_accuracy"]["difference"] == pytest.approx(0.5)
    assert found["mcnemar"] == {"only_a": 6, "only_b": 0, "p": pytest.approx(2 / 2**6)}
    assert found["num_clusters"] == 6
    with pytest.raises(EosinError, match="same items"):
        compare(a, b[:-1])
    with pytest.raises(EosinError, match="same items"):
        compare([], [])
