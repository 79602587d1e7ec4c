"""The few statistics that the page adds to what the exams wrote: chance level and paired change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eosin.report.drawing.numbers import num, pair

NUM_RESAMPLES = 2000
SEED = 20240
_MAX_CELLS = 1_000_000


@dataclass(frozen=True)
class Change:
    """Change of accuracy, or of another mean, between two exams of the same questions.

    Attributes:
        difference: after minus before, as a share.
        lo, hi: 95 % interval by a paired bootstrap over clusters.
        n: questions that both exams hold.
        num_clusters: cases (or other split units) among them.
    """

    difference: float
    lo: float
    hi: float
    n: int
    num_clusters: int

    @property
    def is_worse(self) -> bool:
        return self.hi < 0

    @property
    def is_better(self) -> bool:
        return self.lo > 0


def chance_level(rows: Sequence[Mapping[str, Any]], labels: Sequence[Any] = ()) -> float | None:
    """Accuracy of blind guessing: the mean of 1 / options over closed questions.

    Without rows it is 1 / classes; None where neither is known.
    """
    sizes = [len(c) for r in rows if isinstance(c := r.get("choices"), Mapping) and c]
    if sizes:
        return float(np.mean([1 / s for s in sizes]))
    return 1 / len(labels) if not rows and labels else None


def paired_change(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    seed: int = SEED,
    *,
    column: str = "correct",
) -> Change | None:
    """Paired difference of accuracy, or of the mean of another column, with a cluster bootstrap (percentile
    interval, 2,000 resamples).

    Clusters are the rows' `group`; a row without one is its own cluster. None where no question is shared
    or there are fewer than two clusters. Rows without the column are left out.
    """
    before, after = ([r for r in rows if column == "correct" or column in r] for rows in (before, after))
    earlier = {str(r["id"]): r for r in before if "id" in r}
    sums: dict[str, list[float]] = {}
    for row in after:
        other = earlier.get(str(row.get("id")))
        if other is None:
            continue
        cluster = sums.setdefault(str(row.get("group") or row["id"]), [0.0, 0.0])
        cluster[0] += float(row.get(column) or 0.0) - float(other.get(column) or 0.0)
        cluster[1] += 1
    if len(sums) < 2:
        return None
    table = np.array(list(sums.values()))
    rng = np.random.default_rng(seed)
    block = max(1, _MAX_CELLS // len(table))
    sizes = [min(block, NUM_RESAMPLES - at) for at in range(0, NUM_RESAMPLES, block)]
    draws = np.concatenate([table[rng.integers(0, len(table), (size, len(table)))].sum(axis=1) for size in sizes])
    shares = draws[:, 0] / draws[:, 1]
    lo, hi = (float(v) for v in np.percentile(shares, [2.5, 97.5]))
    total = table.sum(axis=0)
    return Change(float(total[0] / total[1]), lo, hi, int(total[1]), len(sums))


def lower_end(exam: Mapping[str, Any]) -> float | None:
    """Lower end of the 95 % interval of an accuracy; a Wilson bound where none was recorded."""
    ends = pair(exam.get("ci95"))
    if ends is not None:
        return ends[0]
    p, n = num(exam.get("accuracy")), num(exam.get("n"))
    if p is None or not n or not 0 <= p <= 1:
        return None
    z = 1.96
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n)
