"""Baselines in words: their names, the best of them, and whether the model beats it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eosin.report.drawing.numbers import count, num, pair, percent, percent_with_interval, points_with_interval

BASELINES = {
    "majority": "Majority class",
    "text_only": "Text only",
    "colour_histogram": "Colour histogram",
    "colour_forest": "Random forest on colour",
    "colour_texture": "Colour and texture",
    "mean_features": "Mean of the patch features",
    "feature_extremes": "Mean, spread and extremes of the patch features",
    "attention_mil": "Small attention MIL",
    "nearest_image": "Nearest training image",
    "nearest_caption": "Caption of the nearest training image",
}


def title(name: str) -> str:
    """A baseline's name in words."""
    return BASELINES.get(name, name.replace("_", " "))


def figures_of(baselines: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The baselines of an exam that have an accuracy."""
    return {k: v for k, v in baselines.items() if isinstance(v, Mapping) and num(v.get("accuracy")) is not None}


def best_baseline(baselines: Mapping[str, Any], exam: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The baseline that the exam was compared with; of exams that were not compared the most accurate one."""
    able = figures_of(baselines)
    named = _against(exam).get("best")
    if isinstance(named, str) and named in able:
        return named, able[named]
    if not able:
        return None
    best = max(able, key=lambda k: num(able[k]["accuracy"]) or 0.0)
    return best, able[best]


def baseline_verdict(exam: Mapping[str, Any]) -> str:
    """One sentence: whether the model beats the best baseline beyond the interval; empty where nothing was compared.

    Args:
        exam: summary.json of an exam.
    """
    found = _against(exam)
    difference, ends, name = num(found.get("difference")), pair(found.get("ci95")), found.get("best")
    if difference is None or not isinstance(name, str):
        return ""
    metric = "balanced accuracy" if found.get("metric") == "balanced_accuracy" else "accuracy"
    shown = (
        f"{percent(found.get('model'))} against {percent(found.get('baseline'))} {metric}, difference in points on the "
        f"same {count(found.get('n'))} questions {points_with_interval(difference, ends)}"
    )
    if ends is None:
        reason = found.get("reason") or "no interval"
        return f"Whether the model beats its best baseline ({title(name).lower()}) is not known: {shown}; {reason}."
    if ends[0] > 0:
        return f"The model beats every baseline; the best of them is {title(name).lower()}: {shown}."
    if ends[1] < 0:
        return f"The model is worse than its best baseline, {title(name).lower()}: {shown}."
    return f"The model does not beat its best baseline, {title(name).lower()}: {shown}."


def baseline_words(name: str, baseline: Mapping[str, Any]) -> str:
    """A baseline with its accuracy and interval, or why it has none."""
    if num(baseline.get("accuracy")) is None:
        return f"{title(name).lower()} not computed ({baseline.get('reason') or 'no reason recorded'})"
    return f"{title(name).lower()} {percent_with_interval(baseline['accuracy'], baseline.get('ci95'))}"


def _against(exam: Mapping[str, Any]) -> Mapping[str, Any]:
    found = exam.get("against_baselines")
    return found if isinstance(found, Mapping) else {}
