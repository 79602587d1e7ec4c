"""Exams of clip stages: zero-shot with a row a class, few-shot beside the colour histogram, retrieval both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from eosin.core.errors import EosinError
from eosin.core.store.artifacts import read_object
from eosin.report.drawing.few_shot import few_shot_chart
from eosin.report.drawing.numbers import count, num, percent, percent_with_interval
from eosin.report.records.load import Run
from eosin.report.sections.baselines import baseline_verdict, figures_of, title

_WAYS = (("image_to_text", "caption for a picture"), ("text_to_image", "picture for a caption"))


def clip_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """The exam in a few lines for the terminal."""
    if found := summary.get("zero_shot"):
        shown = percent_with_interval(found["balanced_accuracy"], found["balanced_ci95"])
        yield f"zero-shot balanced accuracy {shown}, macro F1 {percent(found['macro_f1'])}, n {found['n']}"
        if words := baseline_verdict(found):
            yield words
    if found := summary.get("retrieval"):
        for way, words in _WAYS:
            one = found[way]
            chance, rank = percent(found["chance"]["r@5"]), f"median rank {one['median_rank']:g} of {found['n']}"
            yield f"{words}: R@1 {percent(one['r@1'])}, R@5 {percent(one['r@5'])} (chance {chance}), {rank}"
    if found := summary.get("few_shot"):
        for size in found["sizes"]:
            told = ", ".join(
                f"{k.replace('_', ' ')} {percent(v['balanced_accuracy'])}" for k, v in size["features"].items()
            )
            yield f"few-shot, {size['shots'] or 'all'} a class: {told}"
    if summary.get("dropped"):
        yield f"set aside: {summary['dropped']}"


def clip_sections(run: Run) -> list[dict[str, Any]]:
    """One section for each clip stage that was examined."""
    sections: list[dict[str, Any]] = []
    for stage in run.stages:
        file = run.root / "stages" / stage.name / "exam" / "summary.json"
        if stage.kind != "clip" or not file.is_file():
            continue
        try:
            summary = read_object(file)
            sections.append(clip_section(stage.name, summary, len(sections)))
        except (EosinError, KeyError, TypeError, ValueError) as exc:
            run.notes.append(f"The exam of the stage {stage.name} cannot be read: {type(exc).__name__}.")
    return sections


def clip_section(stage: str, summary: Mapping[str, Any], place: int = 0) -> dict[str, Any]:
    """What the page shows of one exam."""
    zero, shots, found = (summary.get(k) for k in ("zero_shot", "few_shot", "retrieval"))
    return {
        "stage": stage,
        "zero_shot": _zero_shot(zero, summary.get("prompts") or {}) if zero else None,
        "few_shot": _few_shot(shots, f"fewshot{place}") if shots else None,
        "retrieval": _retrieval(found) if found else None,
        "dropped": [{"reason": k, "n": count(v)} for k, v in (summary.get("dropped") or {}).items()],
    }


def _zero_shot(found: Mapping[str, Any], prompts: Mapping[str, Any]) -> dict[str, Any]:
    words: Mapping[str, Sequence[str]] = prompts.get("classes") or {}
    return {
        "balanced": percent_with_interval(found["balanced_accuracy"], found["balanced_ci95"]),
        "accuracy": percent_with_interval(found["accuracy"], found["ci95"]),
        "f1": percent(found["macro_f1"]), "chance": percent(found["chance"]), "n": count(found["n"]),
        "clusters": count(found["num_clusters"]), "warning": found.get("interval_warning") or "",
        "templates": " / ".join(prompts.get("templates") or []), "verdict": baseline_verdict(found),
        "baselines": [
            {"name": title(name), "balanced": percent_with_interval(b["balanced_accuracy"], b.get("balanced_ci95"))}
            for name, b in figures_of(found.get("baselines") or {}).items()
        ],
        "cut": count(found["cut_prompts"]) if num(found.get("cut_prompts")) else "",
        "classes": [
            {
                "name": c["name"], "words": "; ".join(words.get(c["name"], [])), "n": count(c["n"]),
                "recall": _or_none(c["recall"]), "precision": _or_none(c["precision"]), "f1": percent(c["f1"]),
            }
            for c in found["classes"]
        ],
    }  # fmt: skip


def _or_none(value: Any) -> str:
    """A share, or that there is none: a class that was never said has no precision."""
    return "none" if value is None else percent(value)


def _few_shot(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    kinds = list(found["sizes"][0]["features"])
    rows = [
        {
            "shots": "all" if s["shots"] is None else count(s["shots"]), "n": count(s["n_train"]),
            "cells": [_spread(s["features"][k]) for k in kinds], "short": ", ".join(s["short_classes"]),
        }
        for s in found["sizes"]
    ]  # fmt: skip
    curves = {
        k.replace("_", " "): [
            (
                s["n_train"],
                s["features"][k]["balanced_accuracy"],
                s["features"][k]["lowest"],
                s["features"][k]["highest"],
            )
            for s in found["sizes"]
        ]
        for k in kinds
    }
    return {
        "kinds": [k.replace("_", " ") for k in kinds], "rows": rows, "n_test": count(found["n_test"]),
        "chart": Markup(few_shot_chart(curves, name)), "unseen": ", ".join(found.get("unseen_classes") or []),
    }  # fmt: skip


def _spread(one: Mapping[str, Any]) -> str:
    sd = num(one.get("sd"))
    return percent(one["balanced_accuracy"]) + ("" if sd is None else f" (sd {100 * sd:.1f})")


def _retrieval(found: Mapping[str, Any]) -> dict[str, Any]:
    keys = [k for k in found["image_to_text"] if k.startswith("r@")]
    rows = [
        {"way": words, "cells": [percent(found[way][k]) for k in keys], "median": f"{found[way]['median_rank']:g}"}
        for way, words in _WAYS
    ]
    rows.append({"way": "a random order", "cells": [percent(found["chance"][k]) for k in keys], "median": ""})
    return {
        "keys": [k.upper() for k in keys], "rows": rows, "n": count(found["n"]),
        "different": count(found["different_captions"]), "cut": count(found["cut_captions"]),
        "dropped": [f"{count(n)} {reason}" for reason, n in found["dropped"].items()],
    }  # fmt: skip
