"""From graded rows to the figures of summary.json."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from eosin.core.nouns.classes import Classes, normalised
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.exam.items import cluster_kind
from eosin.evaluate.statistics import metrics
from eosin.evaluate.statistics.intervals import cluster_interval

Row = Mapping[str, Any]
NO_CLASSES = "the answers form no classes: options are written for each item"


def score_parts(
    is_correct: Sequence[bool],
    groups: Sequence[str],
    gold: Sequence[str],
    settings: ExamSettings,
    *,
    has_classes: bool,
) -> dict[str, Any]:
    """Accuracy and balanced accuracy with intervals over clusters. What cannot be given is None, with why."""
    accuracy = cluster_interval(is_correct, groups, resamples=settings.bootstrap, seed=settings.seed)
    figures: dict[str, Any] = {
        "accuracy": metrics.accuracy(is_correct), "balanced_accuracy": None, "n": len(is_correct),
        "ci95": accuracy.pair, "balanced_ci95": None, "cluster": cluster_kind(groups),
        "num_clusters": len(set(groups)),
    }  # fmt: skip
    interval = accuracy
    if has_classes:
        interval = cluster_interval(
            is_correct,
            groups,
            gold,
            metric="balanced_accuracy",
            resamples=settings.bootstrap,
            seed=settings.seed,
        )
        figures["balanced_accuracy"] = metrics.balanced_accuracy(gold, is_correct)
        figures["balanced_ci95"] = interval.pair
    else:
        figures["balanced_reason"] = NO_CLASSES
    figures["interval_method"] = accuracy.method
    for key, value in (("interval_reason", accuracy.reason), ("interval_warning", accuracy.warning)):
        if value is not None:
            figures[key] = value
    return figures


def score_rows(rows: Sequence[Row], classes: Classes, settings: ExamSettings) -> dict[str, Any]:
    """Figures of an exam or of a probe: scores with intervals, unparsed and truncated rates."""
    figures = score_parts(
        [r["correct"] for r in rows], [r["group"] for r in rows], [r["label"] for r in rows], settings,
        has_classes=bool(classes.labels),
    )  # fmt: skip
    num = len(rows)
    figures["unparsed_rate"] = sum(r["parsed"] is None for r in rows) / num
    figures["truncated_rate"] = sum(bool(r["truncated"]) for r in rows) / num
    figures["tolerant_accuracy"] = sum(bool(r["tolerant_correct"]) for r in rows) / num
    return figures


def class_figures(rows: Sequence[Row], classes: Classes) -> dict[str, Any]:
    """Unparsed reasons, labels, confusion (rows true, last column unparsed), recall (None: no item)."""
    reasons = Counter(r["unparsed_reason"] for r in rows if r["parsed"] is None)
    figures: dict[str, Any] = {"unparsed_reasons": dict(reasons.most_common())}
    if not classes.labels:
        return {**figures, "labels": [], "confusion": [], "recall": {}}
    gold = [r["label"] for r in rows]
    said = [r["predicted_label"] for r in rows]
    extra = sorted({x for x in (*gold, *said) if x is not None} - set(classes.labels))
    labels = [*classes.labels, *extra]
    recall = metrics.recalls(gold, [r["correct"] for r in rows])
    return {
        **figures,
        "labels": labels,
        "confusion": metrics.confusion(gold, said, labels),
        "recall": {name: recall.get(name) for name in labels},
    }


def chance(samples: Sequence[Sample]) -> float | None:
    """Accuracy of a uniform guess among each item's options; None where an item has none."""
    if not all(s.choices for s in samples):
        return None
    return sum(1 / len(s.choices) for s in samples) / len(samples)


def matching(samples: Sequence[Sample]) -> str:
    """How answers are compared: "option" for closed questions, "exact" for open ones, both where mixed."""
    return "+".join(sorted({"option" if s.choices else "exact" for s in samples}, reverse=True))


def sampled_figures(draws: Sequence[Sequence[Row]], settings: ExamSettings) -> dict[str, Any]:
    """Figures of k sampled replies an item.

    Returns:
        "accuracy" is the mean over items and replies; "pass_at_k" the share of items with a right reply
        among k; "majority_accuracy" the share whose most frequent parsed answer is right (the earlier one
        wins a tie, unparsed replies have no vote).
    """
    by_item: dict[str, list[Row]] = defaultdict(list)
    for rows in draws:
        for row in rows:
            by_item[row["id"]].append(row)
    everything = [r for rows in by_item.values() for r in rows]
    interval = cluster_interval(
        [r["correct"] for r in everything], [r["group"] for r in everything],
        resamples=settings.bootstrap, seed=settings.seed,
    )  # fmt: skip
    return {
        "accuracy": metrics.accuracy([r["correct"] for r in everything]),
        "ci95": interval.pair,
        "pass_at_k": metrics.accuracy([any(r["correct"] for r in rows) for rows in by_item.values()]),
        "majority_accuracy": metrics.accuracy([_majority_right(rows) for rows in by_item.values()]),
        "unparsed_rate": sum(r["parsed"] is None for r in everything) / len(everything),
        "truncated_rate": sum(bool(r["truncated"]) for r in everything) / len(everything),
        "n": len(by_item),
        "k": len(draws),
        "temperature": settings.temperature,
        "top_p": settings.top_p,
    }


def _majority_right(rows: Sequence[Row]) -> bool:
    votes: dict[str, list[bool]] = {}
    for row in rows:
        if row["parsed"] is not None:
            votes.setdefault(normalised(row["parsed"]), []).append(bool(row["correct"]))
    if not votes:
        return False
    return max(votes.values(), key=len)[0]
