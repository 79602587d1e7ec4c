"""From graded rows to the figures of summary.json."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eosin.core.nouns.classes import Classes
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.exam.items import cluster_kind
from eosin.evaluate.statistics import metrics
from eosin.evaluate.statistics.calibration import calibration_figures
from eosin.evaluate.statistics.comparisons import smallest_between
from eosin.evaluate.statistics.draws import over_draws, pass_at_k, rungs, vote
from eosin.evaluate.statistics.groups import group_figures
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


def further_figures(rows: Sequence[Row], classes: Classes, settings: ExamSettings) -> dict[str, Any]:
    """Macro F1 (None without classes), accuracy by group, and the difference below which two models are not told apart.

    The last one is for another model on an exam of this size, 80 % power, 5 % level; None where no reply differs.
    """
    clusters = [str(r["group"]) for r in rows]
    figures: dict[str, Any] = {"macro_f1": None, "macro_f1_ci95": None}
    if classes.labels:
        gold, said = [r["label"] for r in rows], [r["predicted_label"] for r in rows]
        figures["macro_f1"] = metrics.macro_f1(gold, said)
        figures["macro_f1_ci95"] = metrics.macro_f1_interval(
            gold, said, clusters, resamples=settings.bootstrap, seed=settings.seed
        )
    figures["groups"] = group_figures(rows, resamples=settings.bootstrap, seed=settings.seed)
    figures["smallest_difference"] = smallest_between([bool(r["correct"]) for r in rows], clusters)
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
        "accuracy" is the mean over items and replies; "by_draw" the accuracy of each decoding seed and "sd" their
        standard deviation; "pass_at" the chance that one of so many replies is right, without bias; "pass_at_k" that
        of all k; "majority_accuracy" the share whose most frequent parsed answer is right (the earlier one wins a tie,
        unparsed replies have no vote); "calibration" how well the replies' agreement says whether that answer is right.
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
    votes = {id: vote(rows) for id, rows in by_item.items()}
    spread = over_draws([metrics.accuracy([r["correct"] for r in rows]) for rows in draws if rows])
    found = {
        "accuracy": metrics.accuracy([r["correct"] for r in everything]),
        "ci95": interval.pair,
        "by_draw": list(spread.by_draw),
        "sd": spread.sd,
        "pass_at": {str(k): _pass_at(by_item.values(), k) for k in rungs(len(draws))},
        "pass_at_k": metrics.accuracy([any(r["correct"] for r in rows) for rows in by_item.values()]),
        "majority_accuracy": metrics.accuracy([v.is_correct for v in votes.values()]),
        "unparsed_rate": sum(r["parsed"] is None for r in everything) / len(everything),
        "truncated_rate": sum(bool(r["truncated"]) for r in everything) / len(everything),
        "n": len(by_item),
        "k": len(draws),
        "temperature": settings.temperature,
        "top_p": settings.top_p,
    }
    if len(draws) > 1:
        found["calibration"] = calibration_figures(
            [v.confidence for v in votes.values()], [v.is_correct for v in votes.values()],
            [by_item[id][0]["group"] for id in votes], resamples=settings.bootstrap, seed=settings.seed,
        )  # fmt: skip
    return found


def _pass_at(items: Iterable[Sequence[Row]], k: int) -> float | None:
    """Mean over the items with at least k replies."""
    each = [pass_at_k(len(rows), sum(bool(r["correct"]) for r in rows), k) for rows in items if len(rows) >= k]
    return sum(each) / len(each) if each else None
