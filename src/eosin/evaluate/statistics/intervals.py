"""95 % intervals clustered by case, and paired comparisons.

Items of one case resemble each other, so that a bootstrap over items gives intervals that are too narrow.
Here whole cases are drawn with replacement (cluster bootstrap; Cameron, Gelbach and Miller 2008,
doi:10.1162/rest.90.3.414, "pairs cluster bootstrap") and percentile limits are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.resampling import draw_sums

Metric = Literal["accuracy", "balanced_accuracy"]
FEW_CLUSTERS = 10
ONE_CLUSTER = "one cluster: variation between clusters cannot be estimated"


@dataclass(frozen=True)
class Interval:
    """An interval, or the reason why there is none.

    Attributes:
        lo, hi: limits; None where no interval can be given.
        method: how it was found.
        reason: why there is no interval.
        warning: why the interval deserves little trust.
    """

    lo: float | None
    hi: float | None
    method: str
    reason: str | None = None
    warning: str | None = None

    @property
    def pair(self) -> list[float] | None:
        """[lo, hi], or None: never NaN, which JSON does not have."""
        return None if self.lo is None or self.hi is None else [self.lo, self.hi]


@dataclass(frozen=True)
class _Tally:
    """Right replies and items by cluster and class: two arrays of shape (G, K)."""

    right: NDArray[np.float64]
    total: NDArray[np.float64]

    @property
    def table(self) -> NDArray[np.float64]:
        """(G, 2 K): right replies, then items."""
        return np.concatenate([self.right, self.total], axis=1)

    def value(self, metric: Metric) -> float:
        """The metric itself."""
        return float(_score(self.table.sum(axis=0)[None], metric)[0])


def _score(sums: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """The metric in every resample, from the sums (B, 2 K) of `_Tally.table`."""
    right, total = np.split(sums, 2, axis=1)
    if metric == "accuracy":
        return right.sum(axis=1) / total.sum(axis=1)
    present = total > 0
    recall = np.divide(right, total, out=np.zeros_like(right), where=present)
    return recall.sum(axis=1) / present.sum(axis=1)


def cluster_interval(
    is_correct: Sequence[bool] | NDArray[np.bool_],
    clusters: Sequence[str],
    gold: Sequence[str] | None = None,
    *,
    metric: Metric = "accuracy",
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Percentile interval of accuracy or balanced accuracy by bootstrap over clusters.

    Balanced accuracy in a resample is the mean recall over the classes that the resample holds. Where every
    reply is right, or every one wrong, resampling cannot vary; the exact binomial (Clopper-Pearson) interval
    with the number of clusters as its n is given then (for balanced accuracy K^2 / sum(1 / G_k), where G_k
    clusters hold class k, if that is smaller).

    Args:
        is_correct: N right or wrong.
        clusters: N ids of case, patient, slide or image.
        gold: N true classes; needed for balanced accuracy.
        resamples: number of resamples.
        seed: seed of the resampling.

    Returns:
        With one cluster no interval, but the reason; with under 10 clusters an interval with a warning.
    """
    right = np.asarray(is_correct, dtype=bool)
    tally = _tally(right, clusters, _classes(gold, metric, len(right)))
    num_clusters = len(tally.total)
    if num_clusters < 2:
        return Interval(None, None, "none", reason=ONE_CLUSTER)
    warning = _few(num_clusters)
    if right.all() or not right.any():
        lo, hi = _exact(bool(right[0]), _effective_n(tally, metric), confidence)
        return Interval(lo, hi, "exact binomial over clusters (no reply differs)", warning=warning)
    draws = _score(draw_sums(tally.table, resamples, seed), metric)
    lo, hi = _percentiles(draws, confidence)
    return Interval(lo, hi, "cluster bootstrap, percentile", warning=warning)


def paired_difference(
    is_correct_a: Sequence[bool] | NDArray[np.bool_],
    is_correct_b: Sequence[bool] | NDArray[np.bool_],
    clusters: Sequence[str],
    gold: Sequence[str] | None = None,
    *,
    metric: Metric = "accuracy",
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, Interval]:
    """Difference a - b on the same items with its interval: both are scored in each resample of clusters.

    Returns:
        (difference, interval). Where no item of any cluster differs, the interval is [0, 0] with a warning.
    """
    a, b = np.asarray(is_correct_a, dtype=bool), np.asarray(is_correct_b, dtype=bool)
    if len(a) != len(b):
        raise EosinError("A paired comparison needs the same items.", expected=str(len(a)), found=str(len(b)))
    classes = _classes(gold, metric, len(a))
    tally_a, tally_b = _tally(a, clusters, classes), _tally(b, clusters, classes)
    num_clusters = len(tally_a.total)
    difference = tally_a.value(metric) - tally_b.value(metric)
    if num_clusters < 2:
        return difference, Interval(None, None, "none", reason=ONE_CLUSTER)
    draws = _paired_draws(tally_a, tally_b, metric, resamples, seed)
    lo, hi = _percentiles(draws, confidence)
    warning = "no item differs" if bool((a == b).all()) else _few(num_clusters)
    return difference, Interval(lo, hi, "paired cluster bootstrap, percentile", warning=warning)


def mcnemar_exact(
    is_correct_a: Sequence[bool] | NDArray[np.bool_], is_correct_b: Sequence[bool] | NDArray[np.bool_]
) -> dict[str, float | int]:
    """Exact two-sided McNemar test: under the null, "only a right" ~ Binomial(n discordant, 1/2).

    It takes items as independent; with several items a case prefer `paired_difference`.

    Returns:
        {"only_a", "only_b", "p"}; p is 1 where no item is discordant.
    """
    a, b = np.asarray(is_correct_a, dtype=bool), np.asarray(is_correct_b, dtype=bool)
    if len(a) != len(b):
        raise EosinError("A paired comparison needs the same items.", expected=str(len(a)), found=str(len(b)))
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(min(1.0, 2 * stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)))
    return {"only_a": only_a, "only_b": only_b, "p": p}


def compare(
    rows_a: Sequence[dict[str, Any]],
    rows_b: Sequence[dict[str, Any]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two prediction files (rows of predictions.jsonl) of one exam, item by item.

    Raises:
        EosinError: the two sets do not hold the same ids.
    """
    by_id = {r["id"]: r for r in rows_b}
    if not rows_a or {r["id"] for r in rows_a} != set(by_id) or len(rows_a) != len(rows_b):
        raise EosinError(
            "The two prediction sets do not hold the same items.",
            expected=f"the same ids ({len(rows_a)} items)",
            found=f"{len(by_id)} items, {len({r['id'] for r in rows_a} & set(by_id))} in common",
        )
    a = [bool(r["correct"]) for r in rows_a]
    b = [bool(by_id[r["id"]]["correct"]) for r in rows_a]
    groups = [str(r["group"]) for r in rows_a]
    gold = [str(r["label"]) for r in rows_a]
    result: dict[str, Any] = {"n": len(a), "num_clusters": len(set(groups)), "mcnemar": mcnemar_exact(a, b)}
    metrics: tuple[Metric, ...] = ("accuracy", "balanced_accuracy")
    for metric in metrics:
        difference, interval = paired_difference(a, b, groups, gold, metric=metric, resamples=resamples, seed=seed)
        result[metric] = {
            "difference": difference, "ci95": interval.pair, "reason": interval.reason,
            "warning": interval.warning,
        }  # fmt: skip
    return {**result, "resamples": resamples, "seed": seed}


def _classes(gold: Sequence[str] | None, metric: Metric, num_items: int) -> Sequence[str]:
    if metric == "accuracy":
        return [""] * num_items
    if gold is None:
        raise EosinError("Balanced accuracy needs the true classes.")
    return gold


def _tally(right: NDArray[np.bool_], clusters: Sequence[str], gold: Sequence[str]) -> _Tally:
    if len(right) == 0:
        raise EosinError("There is nothing to score.", expected="at least one item", found="an empty exam")
    if not len(right) == len(clusters) == len(gold):
        raise EosinError(
            "Scores, clusters and classes differ in number.",
            found=f"{len(right)}, {len(clusters)}, {len(gold)}",
        )
    names, g = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    kinds, k = np.unique(np.asarray(gold, dtype=str), return_inverse=True)
    totals = np.zeros((len(names), len(kinds)))
    rights = np.zeros_like(totals)
    np.add.at(totals, (g, k), 1.0)
    np.add.at(rights, (g, k), right.astype(float))
    return _Tally(rights, totals)


def _paired_draws(a: _Tally, b: _Tally, metric: Metric, resamples: int, seed: int) -> NDArray[np.float64]:
    """(resamples,): difference a - b of the same items, both scored in each resample of clusters."""
    sums = draw_sums(np.concatenate([a.table, b.table], axis=1), resamples, seed)
    first, second = np.split(sums, 2, axis=1)
    return _score(first, metric) - _score(second, metric)


def _percentiles(draws: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    tail = 50 * (1 - confidence)
    lo, hi = np.percentile(draws, [tail, 100 - tail])
    return float(lo), float(hi)


def _effective_n(tally: _Tally, metric: Metric) -> float:
    num_clusters = float(len(tally.total))
    if metric == "accuracy":
        return num_clusters
    clusters_of_class = (tally.total > 0).sum(axis=0)
    return min(num_clusters, float(len(clusters_of_class) ** 2 / (1 / clusters_of_class).sum()))


def _exact(all_right: bool, n: float, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson limits of n successes in n, or of none in n; n may be fractional."""
    edge = float(((1 - confidence) / 2) ** (1 / n))
    return (edge, 1.0) if all_right else (0.0, 1 - edge)


def _few(num_clusters: int) -> str | None:
    if num_clusters >= FEW_CLUSTERS:
        return None
    return f"only {num_clusters} clusters: the interval is rough and likely too narrow"
