"""Agreement of two judges on the same items: weighted kappa, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.intervals import FEW_CLUSTERS, ONE_CLUSTER, Interval
from eosin.evaluate.statistics.mean_intervals import METHOD
from eosin.evaluate.statistics.resampling import by_cluster, draw_sums

Weights = Literal["none", "linear", "quadratic"]


def weighted_kappa(
    first: Sequence[int], second: Sequence[int], clusters: Sequence[str] | None = None, *,
    weights: Weights = "quadratic", grades: Sequence[int] | None = None, resamples: int = 2000, seed: int = 0,
) -> tuple[float | None, Interval]:  # fmt: skip
    """Cohen's weighted kappa: 1 - sum w_ij O_ij / sum w_ij E_ij (Cohen 1968), and its 95 % interval over clusters.

    O holds the shares of items that the first judge gave grade i and the second grade j, E the products of their
    margins; w_ij is 0 on the diagonal and 1 off it ("none"), |i - j| ("linear") or (i - j)^2 ("quadratic").

    Args:
        first, second: N grades of each judge.
        clusters: N ids; None takes every item as its own.
        grades: all grades that could be given, in order, so that the weights are those of the scale; by default the
            grades that were given.

    Returns:
        (kappa, interval). kappa is None where both gave one and the same grade throughout: chance alone agrees then.

    Raises:
        EosinError: no items, other numbers of them, or a grade outside the scale.
    """
    if not len(first) or len(first) != len(second):
        raise EosinError("Agreement needs the same items of both judges.", found=f"{len(first)}, {len(second)}")
    scale = sorted({*first, *second}) if grades is None else list(grades)
    outside = sorted({*first, *second} - set(scale))
    if outside:
        raise EosinError("A grade lies outside the scale.", expected=str(scale), found=str(outside[:5]))
    k = len(scale)
    cells = np.zeros((len(first), k * k))
    place = {grade: i for i, grade in enumerate(scale)}
    cells[np.arange(len(first)), [place[a] * k + place[b] for a, b in zip(first, second, strict=True)]] = 1
    cost = _cost(scale, weights)
    value = _kappa(cells.sum(axis=0)[None], cost)[0]
    kappa = None if np.isnan(value) else float(value)
    table = by_cluster([str(i) for i in range(len(first))] if clusters is None else clusters, cells)
    if len(table) < 2:
        return kappa, Interval(None, None, "none", reason=ONE_CLUSTER)
    drawn = _kappa(draw_sums(table, resamples, seed), cost)
    drawn = drawn[~np.isnan(drawn)]
    if kappa is None or not len(drawn):
        return kappa, Interval(None, None, "none", reason="one grade only: agreement beyond chance is not defined")
    lo, hi = np.percentile(drawn, [2.5, 97.5])
    few = f"only {len(table)} clusters: the interval is rough and likely too narrow"
    return kappa, Interval(float(lo), float(hi), METHOD, warning=few if len(table) < FEW_CLUSTERS else None)


def _cost(scale: Sequence[int], weights: Weights) -> NDArray[np.float64]:
    apart = np.abs(np.subtract.outer(np.arange(len(scale)), np.arange(len(scale)))).astype(float)
    return {"none": (apart > 0).astype(float), "linear": apart, "quadratic": apart**2}[weights]


def _kappa(counts: NDArray[np.float64], cost: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kappa of each table of counts (B, K * K); NaN where no disagreement is expected."""
    k = len(cost)
    shares = (counts / counts.sum(axis=1, keepdims=True)).reshape(-1, k, k)
    expected = shares.sum(axis=2)[:, :, None] * shares.sum(axis=1)[:, None, :]
    observed, by_chance = (shares * cost).sum(axis=(1, 2)), (expected * cost).sum(axis=(1, 2))
    return 1 - np.divide(observed, by_chance, out=np.full(len(shares), np.nan), where=by_chance > 0)
