"""Whether a model beats the best of its exam's baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eosin.core.nouns.classes import Classes
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.baselines.baselines import Results
from eosin.evaluate.statistics.intervals import Metric, paired_difference


def against_baselines(
    rows: Sequence[Mapping[str, Any]], results: Results, classes: Classes, settings: ExamSettings
) -> dict[str, Any]:
    """The model against the best baseline on the same items.

    Each is compared on the items that both answered, by balanced accuracy (accuracy where the answers form no classes).
    The difference model - baseline has the paired interval over clusters; the model beats the baseline if all of it
    lies above 0. The best is the one by which the model gains least, of those that it does not beat if there are any,
    so that baselines that were asked other items can be told apart. One without an interval is the best only
    where no other has one.

    Args:
        rows: the exam's graded rows.

    Returns:
        {"best", "metric", "model", "baseline", "difference", "ci95", "n", "beats"}; "beats" is None, with "reason",
        where there is nothing to compare or no interval.
    """
    metric: Metric = "balanced_accuracy" if classes.labels else "accuracy"
    by_id = {r["id"]: r for r in rows}
    found = [_compare(name, by_id, right, metric, settings) for name, right in results.rows.items()]
    able = [f for f in found if f is not None]
    if not able:
        return {"best": None, "beats": None, "reason": "no baseline answered an item of this exam"}
    compared = [f for f in able if f["beats"] is not None] or able
    return min(compared, key=lambda f: (bool(f["beats"]), f["difference"]))


def _compare(
    name: str, by_id: Mapping[str, Mapping[str, Any]], right: Mapping[str, bool], metric: Metric, settings: ExamSettings
) -> dict[str, Any] | None:
    ids = [i for i in by_id if i in right]
    if not ids:
        return None
    own = [bool(by_id[i]["correct"]) for i in ids]
    gold = [by_id[i]["label"] for i in ids]
    difference, interval = paired_difference(
        own, [right[i] for i in ids], [by_id[i]["group"] for i in ids], gold, metric=metric,
        resamples=settings.bootstrap, seed=settings.seed,
    )  # fmt: skip
    model = _score(own, gold, metric)
    return {
        "best": name, "metric": metric, "model": model, "baseline": model - difference, "difference": difference,
        "ci95": interval.pair, "n": len(ids), "beats": None if interval.lo is None else interval.lo > 0,
        "reason": interval.reason, "warning": interval.warning,
    }  # fmt: skip


def _score(right: Sequence[bool], gold: Sequence[str], metric: Metric) -> float:
    from eosin.evaluate.statistics import metrics

    return metrics.accuracy(right) if metric == "accuracy" else metrics.balanced_accuracy(gold, right)
