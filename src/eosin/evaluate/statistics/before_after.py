"""One figure of an exam before and after a stage: both values, each with its interval, and the paired change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eosin.core.nouns.classes import is_lost
from eosin.evaluate.statistics.intervals import cluster_interval
from eosin.evaluate.statistics.ratios import FIGURES, Ratios, Reading, paired, recall_of
from eosin.evaluate.statistics.resampling import draw_weights
from eosin.evaluate.statistics.seeds import change_over_seeds

RESAMPLES = 2000
SEED = 0
Row = Mapping[str, Any]
Ends = tuple[float, float] | None


@dataclass(frozen=True)
class BeforeAfter:
    """A figure on the questions that both exams hold.

    Attributes:
        before, after: values; None where there is nothing to count.
        before_ends, after_ends: 95 % intervals, clustered; None with one cluster.
        change, change_ends: paired difference, after minus before, and its interval from the same resamples.
        num_clusters: cases (or other split units).
    """

    before: float | None
    after: float | None
    before_ends: Ends
    after_ends: Ends
    change: float | None
    change_ends: Ends
    num_clusters: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the change leaves out 0."""
        return self.change_ends is not None and not self.change_ends[0] <= 0 <= self.change_ends[1]

    @property
    def is_lost(self) -> bool:
        """For a recall: whether the class is answered rightly no more, and was before."""
        return self.before is not None and self.after is not None and is_lost(self.before, self.after)


def lost_classes(before: Sequence[Row], after: Sequence[Row], labels: Sequence[str]) -> list[str]:
    """The classes that were told before and are lost, on the questions that both exams hold."""
    lost = []
    for label in labels:
        pair = paired(before, after, recall_of(label))
        if pair is not None and None not in (recalls := [side.value for side in pair]):
            lost += [label] if is_lost(*(float(r or 0.0) for r in recalls)) else []
    return lost


def before_after(before: Sequence[Row], after: Sequence[Row], reading: Reading) -> BeforeAfter | None:
    """A figure before and after; None where no question is shared or none has the figure."""
    pair = paired(before, after, reading)
    if pair is None:
        return None
    first, second = pair
    change, ends = None, None
    if first.value is not None and second.value is not None:
        found = change_over_seeds([pair], resamples=RESAMPLES, seed=SEED)
        change, ends = found.mean, found.bootstrap
    return BeforeAfter(
        first.value, second.value, interval_of(first), interval_of(second), change, ends, len(first.clusters)
    )


def interval_of(figure: Ratios) -> Ends:
    """95 % interval of a figure by bootstrap over clusters; None with one cluster or with nothing to count.

    Where every reply is right, or every one wrong, resampling cannot vary: then it is the exact binomial one over
    clusters, as in the exams (`intervals.cluster_interval`).
    """
    if len(figure.clusters) < 2 or figure.value is None:
        return None
    if figure.value in (0.0, 1.0) and (figure.under >= figure.over).all():
        per_cluster = [bool(figure.value)] * len(figure.clusters)
        pair = cluster_interval(per_cluster, figure.clusters).pair
        return None if pair is None else (pair[0], pair[1])
    draws = np.concatenate([figure.score(w) for w in draw_weights(len(figure.clusters), RESAMPLES, SEED)])
    lo, hi = np.nanpercentile(draws, [2.5, 97.5])
    return float(lo), float(hi)


def figures_changed(before: Sequence[Row], after: Sequence[Row]) -> dict[str, BeforeAfter]:
    """Every figure of `ratios.FIGURES` that both exams have, by name."""
    found = {name: before_after(before, after, reading) for name, reading in FIGURES.items()}
    return {name: one for name, one in found.items() if one is not None}


def recalls_changed(before: Sequence[Row], after: Sequence[Row], labels: Sequence[str]) -> dict[str, BeforeAfter]:
    """The recall of every class that a shared question has."""
    found = {label: before_after(before, after, recall_of(label)) for label in labels}
    return {label: one for label, one in found.items() if one is not None}
