"""Scores by organ, stain, subset and modality: every group with its number and its interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from eosin.evaluate.statistics import metrics
from eosin.evaluate.statistics.intervals import cluster_interval

Row = Mapping[str, Any]
GROUPED_BY = ("organ", "stain", "modality", "subset", "kind")
MAX_GROUPS = 60
OTHERS = "all others"
UNKNOWN = "not stated"


def group_figures(rows: Sequence[Row], *, resamples: int = 2000, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Accuracy of every group of every column that the rows state.

    Args:
        rows: graded rows, with `correct` and `group` (the cluster), and any of the columns GROUPED_BY.

    Returns:
        By column its groups, the largest first, each with name, n, num_clusters, accuracy and ci95; rows that do not
        state the column are a group of their own, so that the n add up. A column with one group is left out.
    """
    found = {}
    for column in GROUPED_BY:
        members: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            members[str(row.get(column) or UNKNOWN)].append(row)
        if len(members) < 2:
            continue
        ordered = sorted(members.items(), key=lambda m: (m[0] in (OTHERS, UNKNOWN), -len(m[1]), m[0]))
        if len(ordered) > MAX_GROUPS:
            rest = [r for _, own in ordered[MAX_GROUPS:] for r in own]
            ordered = [*ordered[:MAX_GROUPS], (OTHERS, rest)]
        found[column] = [_figure(name, own, resamples, seed) for name, own in ordered]
    return found


def _figure(name: str, rows: Sequence[Row], resamples: int, seed: int) -> dict[str, Any]:
    right, clusters = [bool(r["correct"]) for r in rows], [str(r["group"]) for r in rows]
    interval = cluster_interval(right, clusters, resamples=resamples, seed=seed)
    return {
        "name": name, "n": len(rows), "num_clusters": len(set(clusters)), "accuracy": metrics.accuracy(right),
        "ci95": interval.pair,
    }  # fmt: skip
