"""95 % intervals of means of real numbers, clustered by case: entity F1, falls in probability, shares of hits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.intervals import FEW_CLUSTERS, ONE_CLUSTER, Interval
from eosin.evaluate.statistics.resampling import draw_sums

METHOD = "cluster bootstrap, percentile"


def mean_interval(
    values: Sequence[float], clusters: Sequence[str], *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, Interval]:
    """The mean over items, and its percentile interval when whole clusters are drawn with replacement.

    Paired differences are values too: give the differences of the same items.

    Args:
        values: N finite numbers.
        clusters: N ids of case, patient, slide or image.

    Returns:
        (mean, interval). With one cluster no interval, but the reason; with few clusters a warning.

    Raises:
        EosinError: no values, or another number of clusters.
    """
    ones = [1.0] * len(values)
    return ratio_interval(values, ones, clusters, resamples=resamples, seed=seed, confidence=confidence)


def ratio_interval(
    values: Sequence[float],
    over: Sequence[float],
    clusters: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, Interval]:
    """Sum of the values over the sum of N others, with its interval as in `mean_interval`.

    A ratio of sums, not a mean of ratios: an item with a small denominator does not rule the result.

    Args:
        over: N positive numbers.
    """
    if not len(values) or not len(values) == len(over) == len(clusters):
        found = f"{len(values)}, {len(clusters)}"
        raise EosinError("A mean needs values, each with its cluster.", found=found)
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(place, weights=np.asarray(values, dtype=np.float64))
    counts = np.bincount(place, weights=np.asarray(over, dtype=np.float64))
    mean = float(sums.sum() / counts.sum())
    num = len(counts)
    if num < 2:
        return mean, Interval(None, None, "none", reason=ONE_CLUSTER)
    drawn = draw_sums(np.stack([sums, counts], axis=1), resamples, seed)
    draws = drawn[:, 0] / drawn[:, 1]
    tail = 50 * (1 - confidence)
    lo, hi = np.percentile(draws, [tail, 100 - tail])
    few = f"only {num} clusters: the interval is rough and likely too narrow" if num < FEW_CLUSTERS else None
    return mean, Interval(float(lo), float(hi), METHOD, warning=few)
