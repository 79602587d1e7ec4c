"""Whether two models differ on the same items, after many comparisons, and which differences an exam can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.intervals import ONE_CLUSTER, mcnemar_exact
from eosin.evaluate.statistics.resampling import by_cluster, draw_sums

Bools = Sequence[bool] | NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same items.

    Attributes:
        difference: accuracy of a minus that of b.
        ends: its 95 % interval by a paired cluster bootstrap; None with one cluster.
        p: two-sided; of McNemar's exact test where every item is a cluster of its own, else of the bootstrap.
        test: which of both.
        only_a, only_b: items that only one of them has right.
        n, num_clusters: of the items that both answered.
    """

    difference: float
    ends: tuple[float, float] | None
    p: float | None
    test: str
    only_a: int
    only_b: int
    n: int
    num_clusters: int


def compared(
    is_correct_a: Bools, is_correct_b: Bools, clusters: Sequence[str], *, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Accuracy of a minus accuracy of b on the same items.

    The bootstrap's p is 2 min(P(d* <= 0), P(d* >= 0)), at most 1, each share with one resample added to both sides
    of its fraction, so that it is never 0 (Davison and Hinkley 1997, section 4.2).

    Raises:
        EosinError: no items, or numbers that differ.
    """
    a, b = np.asarray(is_correct_a, dtype=bool), np.asarray(is_correct_b, dtype=bool)
    counts = mcnemar_exact(a, b)
    if not len(a) or len(a) != len(clusters):
        raise EosinError("A comparison needs items, each with its cluster.", found=f"{len(a)}, {len(clusters)}")
    difference = float(a.mean() - b.mean())
    table = by_cluster(clusters, np.stack([a.astype(float) - b, np.ones(len(a))], axis=1))
    only_a, only_b = int(counts["only_a"]), int(counts["only_b"])
    if len(table) < 2:
        return Comparison(difference, None, None, f"none ({ONE_CLUSTER})", only_a, only_b, len(a), len(table))
    sums = draw_sums(table, resamples, seed)
    drawn = sums[:, 0] / sums[:, 1]
    lo, hi = np.percentile(drawn, [2.5, 97.5])
    if len(table) == len(a):
        p, test = float(counts["p"]), "McNemar, exact"
    else:
        below, above = ((1 + int(side.sum())) / (1 + resamples) for side in (drawn <= 0, drawn >= 0))
        p, test = float(min(1.0, 2 * min(below, above))), "paired cluster bootstrap"
    return Comparison(difference, (float(lo), float(hi)), p, test, only_a, only_b, len(a), len(table))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for many comparisons (Holm 1979): the i-th smallest of m becomes the largest of
    min(1, (m - j + 1) p_j) over j <= i. The chance of one false finding among all stays below the level.

    Comparisons without a p value (None) stay without, and do not count in m.

    Raises:
        EosinError: a value outside 0..1.
    """
    known = [(p, i) for i, p in enumerate(p_values) if p is not None]
    if any(not 0 <= p <= 1 for p, _ in known):
        raise EosinError("A p value lies between 0 and 1.", found=str([p for p, _ in known if not 0 <= p <= 1][:5]))
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[place] = largest
    return corrected


def standard_error(values: Sequence[float] | NDArray[np.float64], clusters: Sequence[str]) -> float | None:
    """Standard error of a mean over clusters: sqrt(G / (G - 1) sum_g (sum over i in g of (v_i - mean))^2) / n.

    None with one cluster. The estimator of Liang and Zeger (1986) for a mean.
    """
    found = np.asarray(values, dtype=np.float64)
    table = by_cluster(clusters, (found - found.mean())[:, None])
    num = len(table)
    return None if num < 2 else float(np.sqrt(num / (num - 1) * (table[:, 0] ** 2).sum()) / len(found))


def smallest_difference(error: float, *, power: float = 0.8, level: float = 0.05) -> float:
    """The difference that is told apart from 0 with the given power: (z_(1 - level/2) + z_power) times its error.

    Args:
        error: standard error of the difference.
    """
    return float((stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)) * error)


def smallest_between(
    is_correct: Bools, clusters: Sequence[str], *, power: float = 0.8, level: float = 0.05
) -> float | None:
    """Below which difference another model on an exam of this kind cannot be told from this one.

    The other model is taken to vary as this one does, on items of its own: sqrt(2) times the standard error. On the
    same items the paired comparison tells smaller ones apart. None where no reply differs, or with one cluster.
    """
    error = standard_error(np.asarray(is_correct, dtype=np.float64), clusters)
    return smallest_difference(2**0.5 * error, power=power, level=level) if error else None


def smallest_paired(discordant: float, n: int, *, power: float = 0.8, level: float = 0.05) -> float | None:
    """The smallest paired difference that McNemar's test shows on n items of which a share is discordant.

    Solves n = (z_(1 - level/2) sqrt(s) + z_power sqrt(s - d^2))^2 / d^2 for d (Connor 1987, doi:10.2307/2531961), s the
    share of items that exactly one of two models has right. d is at most s: None where even d = s is not shown.
    """
    if not 0 < discordant <= 1 or n < 1:
        return None
    first, second = stats.norm.ppf(1 - level / 2), stats.norm.ppf(power)

    def needed(d: float) -> float:
        return float((first * discordant**0.5 + second * max(discordant - d * d, 0.0) ** 0.5) ** 2 / d**2)

    low, high = 0.0, float(discordant)
    if needed(high) > n:
        return None
    for _ in range(200):  # needed() falls with d
        middle = (low + high) / 2
        low, high = (middle, high) if middle == 0 or needed(middle) > n else (low, middle)
    return high
