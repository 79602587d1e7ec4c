"""What each section of the page shows, as plain values for the template. Text stays text: the template escapes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eosin.report import words
from eosin.report.drawing.curves import stage_curves, wants_curves
from eosin.report.drawing.figures import accuracy_chart, split_chart
from eosin.report.drawing.numbers import (
    count,
    duration,
    figure,
    num,
    pair,
    percent,
    percent_with_interval,
    points_with_interval,
)
from eosin.report.drawing.pictures import Picture
from eosin.report.records.load import BASE, ExamRun, Run
from eosin.report.sections.baselines import best_baseline, title
from eosin.report.sections.replies import KNOWN_TAGS, Group, clipped, pieces, term_names
from eosin.report.sections.rl import term_names_of

_STEP_PARTS = ("data", "generate", "rewards", "judge", "compute")


def headline(run: Run) -> list[dict[str, str]]:
    """The few figures that stand in large type."""
    last = run.result_exam
    if last is None:
        return []
    tiles = [_tile("Accuracy", last.summary, stage=words.stage_title(last.stage), main="yes")]
    balanced = num(last.summary.get("balanced_accuracy"))
    if balanced is not None:
        exam = {"accuracy": balanced, "ci95": last.summary.get("balanced_ci95")}
        tiles.append(_tile("Balanced accuracy", exam, stage=words.stage_title(last.stage), main="yes"))
    first = run.of_exam(last.name)[0]
    if first.stage != last.stage:
        tiles.append(_tile("Accuracy", first.summary, stage=words.stage_title(first.stage)))
    if best := best_baseline(run.baselines.get(last.name, {}), last.summary):
        tiles.append(_tile(title(best[0]), best[1], stage="best baseline"))
    blank = words.probe_figures(last).get("blank")
    if blank:
        tiles.append(_tile("Blank image", blank, stage="probe"))
    return tiles


def _tile(name: str, exam: Mapping[str, Any], stage: str, main: str = "") -> dict[str, str]:
    ends = pair(exam.get("ci95"))
    spread = "" if ends is None else f"95\u00a0% interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f}\u00a0%"
    return {"name": name, "value": percent(exam.get("accuracy")), "stage": stage, "spread": spread, "main": main}


def as_text(value: Any) -> str:
    """A setting as text: words as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def provenance_rows(run: Run) -> list[dict[str, Any]]:
    """Every field of the recipe with its value and where it comes from; what is not by default comes first."""
    rows = [
        {"field": as_text(p.get("field")), "value": as_text(p.get("value")), "from": as_text(p.get("from"))}
        for p in run.provenance
    ]
    return sorted(rows, key=lambda r: r["from"] == "default")


def exam_sections(run: Run) -> list[dict[str, Any]]:
    """For each exam: the chart, the table of accuracy and the table of probes."""
    return [_exam_section(run, name, i) for i, name in enumerate(run.exam_names)]


def _exam_section(run: Run, name: str, place: int) -> dict[str, Any]:
    runs = run.of_exam(name)
    rows = [_accuracy_row(run, e) for e in runs] + _baseline_rows(run, name)
    chance = words.chance_of(runs[-1]) if runs else None
    alt = f"Accuracy in the exam {name}: " + "; ".join(f"{r['label']} {r['shown']}" for r in rows)
    drawable = [r for r in rows if r["accuracy"] is not None]
    chart = accuracy_chart(drawable, chance, f"accuracy{place}", alt) if drawable else ""
    cluster = str(runs[-1].summary.get("cluster") or "case") if runs else "case"
    return {
        "name": name,
        "split": run.split_of(name),
        "chart": Markup(chart),
        "rows": rows,
        "has_entities": any(r["entities"] for r in rows),
        "chance": None if chance is None else percent(chance),
        "cluster": cluster,
        "probes": _probe_rows(run, runs),
        "probe_sentence": words.probe_sentence(run, runs[-1]) if runs else "",
        "skipped": _skipped(runs[-1]) if runs else [],
        "confusion": confusion_of(runs[-1]) if runs else None,
        "reasons": _reasons(runs[-1]) if runs else [],
        "sampled": _sampled(runs[-1]) if runs else "",
    }


def _accuracy_row(run: Run, exam: ExamRun) -> dict[str, Any]:
    summary = exam.summary
    change, before = words.change_of(run, exam), run.exam_before(exam)
    told = ""
    if change is not None and before is not None:
        told = points_with_interval(change.difference, (change.lo, change.hi))
    return {
        "label": words.stage_title(exam.stage),
        "accuracy": num(summary.get("accuracy")),
        "ci95": pair(summary.get("ci95")),
        "balanced": num(summary.get("balanced_accuracy")),
        "is_baseline": False,
        "shown": percent_with_interval(summary.get("accuracy"), summary.get("ci95")),
        "balanced_shown": percent_with_interval(summary.get("balanced_accuracy"), summary.get("balanced_ci95")),
        "change": told,
        **_entity_cells(run, exam),
        "change_from": before.stage if before is not None else "",
        "n": count(summary.get("n")),
        "clusters": count(summary.get("num_clusters")),
        "tolerant": percent(summary.get("tolerant_accuracy")),
        "unparsed": percent(summary.get("unparsed_rate")),
        "truncated": percent(summary.get("truncated_rate")),
    }


def _entity_cells(run: Run, exam: ExamRun) -> dict[str, str]:
    """Entity F1 of an exam and its paired change; empty where the samples have no gold entities."""
    found = exam.summary.get("entities")
    if not isinstance(found, Mapping):
        return {"entities": "", "entity_change": ""}
    change = words.entity_change_of(run, exam)
    told = points_with_interval(change.difference, (change.lo, change.hi)) if change is not None else ""
    return {"entities": percent_with_interval(found.get("f1"), found.get("ci95")), "entity_change": told}


_MODEL_ONLY = ("entities", "entity_change", "tolerant", "unparsed", "truncated", "clusters")


def _baseline_rows(run: Run, name: str) -> list[dict[str, Any]]:
    rows = []
    for key, found in run.baselines.get(name, {}).items():
        if not isinstance(found, Mapping):
            continue
        row = _accuracy_row(run, ExamRun(BASE, "", dict(found)))
        row |= {"label": title(key), "is_baseline": True}
        if row["accuracy"] is None:
            row["shown"] = clipped(found.get("reason") or "not computed", 200)
        rows.append(row | dict.fromkeys(_MODEL_ONLY, ""))
    return rows


def _probe_rows(run: Run, runs: list[ExamRun]) -> list[dict[str, Any]]:
    if not runs:
        return []
    exam = runs[-1]
    first = {"name": "The exam itself", "what": "image, question and options as they are", "flag": False, "gap": ""}
    rows = [{**first, **_figures(exam.summary)}]
    level = words.blind_level(run, exam)
    for key, probe in words.probe_figures(exam).items():
        name, what = words.PROBES.get(key, (key.replace("_", " "), ""))
        flagged = key not in words.NOT_BLIND and words.is_above(probe, level)
        rows.append({"name": name, "what": what, "flag": flagged, "gap": _gap(probe), **_figures(probe)})
    return rows if len(rows) > 1 else []


def _gap(probe: Mapping[str, Any]) -> str:
    """The paired difference exam minus probe, in points, where the exam recorded it."""
    found = probe.get("exam_minus_probe")
    if not isinstance(found, Mapping) or (difference := num(found.get("difference"))) is None:
        return ""
    return points_with_interval(difference, pair(found.get("ci95")))


def _figures(exam: Mapping[str, Any]) -> dict[str, str]:
    return {
        "accuracy": percent_with_interval(exam.get("accuracy"), exam.get("ci95")),
        "balanced": percent(exam.get("balanced_accuracy")),
        "n": count(exam.get("n")),
    }


def _skipped(exam: ExamRun) -> list[str]:
    found = exam.summary.get("probes_skipped")
    if not isinstance(found, Mapping):
        return []
    return [f"{words.PROBES.get(k, (k, ''))[0]} was not run: {v}." for k, v in found.items()]


def _reasons(exam: ExamRun) -> list[tuple[str, str]]:
    found = exam.summary.get("unparsed_reasons")
    return [(str(k), count(v)) for k, v in found.items() if num(v)] if isinstance(found, Mapping) else []


def _sampled(exam: ExamRun) -> str:
    found = exam.summary.get("sampled")
    if not isinstance(found, Mapping) or num(found.get("accuracy")) is None:
        return ""
    return f"Sampled decoding, {as_text(found.get('k'))} replies a question: accuracy {percent(found['accuracy'])}."


def confusion_of(exam: ExamRun) -> dict[str, Any] | None:
    labels, matrix = exam.summary.get("labels"), exam.summary.get("confusion")
    if not isinstance(labels, list) or not isinstance(matrix, list) or len(matrix) != len(labels) or not labels:
        return None
    recall = exam.summary.get("recall")
    rows: list[dict[str, Any]] = []
    for i, (label, raw) in enumerate(zip(map(str, labels), matrix, strict=True)):
        counts = [num(v) for v in raw] if isinstance(raw, list) else []
        if len(counts) not in (len(labels), len(labels) + 1) or None in counts:
            return None
        whole = [round(c) for c in counts if c is not None]
        total = sum(whole)
        cells = [
            {"count": c, "share": c / total if total else 0.0, "on_diagonal": i == j, "is_unparsed": j == len(labels)}
            for j, c in enumerate(whole)
        ]
        told = recall.get(label) if isinstance(recall, Mapping) else None
        share = num(told) if told is not None else (whole[i] / total if total else None)
        rows.append({"label": label, "cells": cells, "n": total, "recall": share})
    columns = [str(v) for v in labels] + (["unparsed"] if len(rows[0]["cells"]) > len(labels) else [])
    return {"columns": columns, "rows": rows, "stage": words.stage_title(exam.stage)}


def curve_sections(run: Run) -> list[dict[str, Any]]:
    """The curves of each stage that logged any; none where the recipe wants none."""
    if not wants_curves(run.recipe):
        return []
    sections = []
    for i, stage in enumerate(run.stages):
        drawn = stage_curves(stage.metrics, stage.name, stage.kind, f"curve{i}", term_names_of(stage))
        sections.append(
            {
                "name": stage.name,
                "large": [Markup(d.svg) for d in drawn if not d.is_small],
                "small": [Markup(d.svg) for d in drawn if d.is_small],
            }
        )
    return [s for s in sections if s["large"] or s["small"]]


def step_time(run: Run) -> dict[str, Any]:
    """The split of step time: chart, table and the sentence on starving."""
    rows = [(s.name, shares, s) for s in run.stages if (shares := words.step_shares(s))]
    names = dict.fromkeys(p for _, shares, _ in rows for p in shares)
    parts = [p for p in _STEP_PARTS if p in names] + [p for p in names if p not in _STEP_PARTS]
    chart = ""
    if rows:
        told = "; ".join(f"{n}: " + ", ".join(f"{p} {percent(v, 0)}" for p, v in s.items()) for n, s, _ in rows)
        chart = split_chart([(n, s) for n, s, _ in rows], parts, "steptime", f"Split of step time. {told}.")
    table = [
        {
            "name": name,
            "cells": [
                f"{duration(stage.info['step_time'].get(p))} ({percent(shares[p], 1)})" if p in shares else ""
                for p in parts
            ],
        }
        for name, shares, stage in rows
    ]
    return {"chart": Markup(chart), "parts": parts, "table": table, "sentence": words.starve_sentence(run)}


def gallery_item(row: Mapping[str, Any], picture: Picture, tags: tuple[str, ...] = KNOWN_TAGS) -> dict[str, Any]:
    """One held-out image with question, options, gold and reply."""
    choices = row.get("choices")
    options = [
        {"letter": str(k), "text": clipped(v, 300), "gold": k == row.get("answer"), "chosen": k == row.get("parsed")}
        for k, v in (choices.items() if isinstance(choices, Mapping) else ())
    ]
    reasoning = picture.gold.get("reasoning")
    steps = [clipped(r, 1000) for r in reasoning] if isinstance(reasoning, list) else []
    return {
        "id": str(row.get("id")),
        "group": str(row.get("group") or "not recorded"),
        "label": str(row.get("label")),
        "question": clipped(row.get("question"), 1000),
        "options": options,
        "answer": "" if row.get("answer") is None else clipped(row["answer"], 300),
        "parsed": None if row.get("parsed") is None else clipped(row["parsed"], 300),
        "reason": clipped(row.get("unparsed_reason") or "", 200),
        "pieces": pieces(row.get("reply"), tags),
        "is_right": bool(row.get("correct")),
        "is_truncated": bool(row.get("truncated")),
        "num_tokens": row.get("num_tokens"),
        "picture": picture,
        "gold_steps": steps,
        "gold_findings": clipped(picture.gold.get("findings") or "", 1000),
    }


FATES = {
    "kept": "trained on",
    "no variance": "not trained on: all replies earned the same, and another prompt took its place",
    "not needed": "not trained on: the batch was full",
    "kept without variance": "in the batch, but all replies earned the same: it taught nothing",
}


def group_item(group: Group, pictures: Sequence[Picture], tags: tuple[str, ...] = KNOWN_TAGS) -> dict[str, Any]:
    """One prompt with its sampled replies, every reward term, the total and the advantage."""
    terms = term_names(group.rows)
    has_advantage = any(num(r.get("advantage")) is not None for r in group.rows)
    rows = []
    for row in group.rows:
        found = row.get("terms")
        values = found if isinstance(found, Mapping) else {}
        reward, advantage = num(row.get("reward")), num(row.get("advantage"))
        gap = None if reward is None or group.mean is None else reward - group.mean
        rows.append(
            {
                "pieces": pieces(row.get("reply"), tags),
                "terms": ["unscored" if num(values.get(t)) is None else figure(values[t]) for t in terms],
                "unscored": _unscored(row),
                "reward": figure(reward),
                "advantage": _signed(advantage if has_advantage else gap),
                "is_up": (shade := (advantage if has_advantage else gap or 0) or 0),
                "shade": f"{min(1.0, abs(shade) / 2):.2f}",
                "in_loss": row.get("in_loss") is not False or not has_advantage,
                "tokens": as_text(row.get("num_tokens", "")),
                "is_truncated": bool(row.get("truncated")),
            }
        )
    return {
        "step": group.step,
        "sample_id": group.sample_id,
        "question": clipped(group.question, 1200),
        "terms": [clipped(t, 40) for t in terms],
        "advantage_name": "advantage" if has_advantage else "reward minus group mean",
        "rows": rows,
        "num_rows": group.num_rows,
        "mean": figure(group.mean),
        "std": figure(group.std),
        "fate": FATES.get(group.fate, ""),
        "is_kept": group.fate in ("", "kept"),
        "answer": clipped(group.answer, 300),
        "pictures": list(pictures),
    }


def _unscored(row: Mapping[str, Any]) -> str:
    found = row.get("unscored")
    return clipped("; ".join(f"{k}: {v}" for k, v in found.items()), 200) if isinstance(found, Mapping) else ""


def _signed(value: float | None) -> str:
    return "none" if value is None else f"{value:+.2f}"


def data_card(run: Run) -> dict[str, Any]:
    """What the data is: sizes, classes, split unit, what was dropped and why."""
    card = run.card
    groups, reasons, counts = (
        v if isinstance(v := card.get(k), Mapping) else {} for k in ("groups", "drop_reasons", "counts")
    )
    sizes = {s.name: s.num_samples for s in run.splits} or {k: v for k, v in counts.items() if k != "dropped"}
    units = {s.name: len(s.groups) for s in run.splits if s.groups} or groups
    return {
        "name": as_text(card.get("name", "not recorded")),
        "licence": as_text(card.get("licence", "not recorded")),
        "unit": as_text(card.get("split_unit", "not recorded")),
        "split_rule": words.split_rule(run),
        "counted": words.counted(card, sizes),
        "splits": [{"name": str(k), "samples": count(v), "groups": count(units.get(k))} for k, v in sizes.items()],
        "dropped": count(counts.get("dropped")),
        "reasons": [(str(k), count(v)) for k, v in reasons.items()],
        "classes": _classes(run),
        "curation": _curation(card.get("curation")),
        "other": [
            (str(k).replace("_", " "), clipped(as_text(v), 400))
            for k, v in card.items()
            if k not in _CARD_KNOWN and v not in (None, "", [], {})
        ],
    }


_CARD_KNOWN = ("name", "licence", "split_unit", "counts", "groups", "drop_reasons", "labels", "schema_version",
               "curation")  # fmt: skip


def _curation(steps: Any) -> list[dict[str, Any]]:
    """The ledger of `data.curate`: a row a step, with what it set aside by reason."""
    rows = []
    for step in steps if isinstance(steps, list) else []:
        if not isinstance(step, Mapping):
            continue
        aside = found if isinstance(found := step.get("set_aside"), Mapping) else {}
        rows.append({
            "step": as_text(step.get("step")), **{k: count(step.get(k)) for k in ("in", "kept", "made", "out")},
            "aside": "; ".join(f"{count(n)} {reason}" for reason, n in aside.items()),
        })  # fmt: skip
    return rows


def _classes(run: Run) -> dict[str, Any]:
    """Samples by class and split, counted from the sample files; else only the names of the classes."""
    labels = run.card.get("labels")
    names = [str(v) for v in labels] if isinstance(labels, list) else []
    names = list(dict.fromkeys([*names, *sorted(x for s in run.splits for x in s.labels)]))
    rows = [{"name": n, "cells": [count(s.labels.get(n, 0)) for s in run.splits]} for n in names]
    return {"names": names, "splits": [s.name for s in run.splits], "rows": rows if run.splits else []}


def record_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The record as rows of name and value, nested names joined with a dot."""
    rows: list[tuple[str, str]] = []
    for key, value in record.items():
        if isinstance(value, Mapping) and key not in ("recipe",):
            rows += [(f"{key}.{k}", v) for k, v in record_rows(value)]
        elif key != "recipe":
            rows.append((str(key), clipped(as_text(value), 400)))
    return rows


def relative(path: Path) -> str:
    """A relative path as a link, with every unusual character encoded."""
    from urllib.parse import quote

    return quote(path.as_posix())
