"""What stands on the page that compares models on exams: figures, groups, differences, probes, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eosin.evaluate.statistics import metrics
from eosin.evaluate.statistics.comparisons import Comparison, compared, holm, smallest_between
from eosin.evaluate.statistics.groups import group_figures
from eosin.evaluate.statistics.intervals import cluster_interval
from eosin.report.drawing.numbers import count, figure, pair, percent, percent_with_interval, points_with_interval
from eosin.report.records.exams import Examined, shared

RESAMPLES = 2000
PAIRED_RESAMPLES = 10_000
CLEAR = 0.05
_PROBES = ("blank", "noise", "swapped", "wrong_organ", "question_only", "options_shuffled", "cut_reasoning",
           "corrupted_step", "other_reasoning")  # fmt: skip


@dataclass(frozen=True)
class Paired:
    """Two models on one exam, with the p value as corrected for all comparisons of the page."""

    exam: str
    one: str
    other: str
    found: Comparison
    corrected: float | None
    num_other_questions: int

    @property
    def is_clear(self) -> bool:
        return self.corrected is not None and self.corrected < CLEAR


def score_row(e: Examined) -> dict[str, Any]:
    """Figures of one exam, computed anew from its replies."""
    right, clusters = [r["correct"] for r in e.rows], [r["group"] for r in e.rows]
    interval = cluster_interval(right, clusters, resamples=RESAMPLES)
    classes = bool(e.summary.get("labels"))
    gold = [str(r.get("label")) for r in e.rows]
    return {
        "model": e.model,
        "n": len(e.rows),
        "num_clusters": len(set(clusters)),
        "cluster": e.summary.get("cluster"),
        "accuracy": metrics.accuracy(right),
        "ci95": interval.pair,
        "balanced_accuracy": metrics.balanced_accuracy(gold, right) if classes else None,
        "macro_f1": metrics.macro_f1(gold, [r.get("predicted_label") for r in e.rows]) if classes else None,
        "tolerant_accuracy": metrics.accuracy([r["tolerant_correct"] for r in e.rows]),
        "unparsed_rate": 1 - metrics.accuracy([r["parsed"] for r in e.rows]),
        "num_set_aside": int(e.summary.get("num_set_aside") or 0),
        "chance": e.summary.get("chance"),
        "smallest_difference": smallest_between(right, clusters),
        "leaks": e.summary.get("leaks"),
    }


def score_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a model under SCORES."""
    aside = row["num_set_aside"]
    return (
        row["model"],
        percent_with_interval(row["accuracy"], row["ci95"]),
        "" if row["balanced_accuracy"] is None else percent(row["balanced_accuracy"]),
        "" if row["macro_f1"] is None else percent(row["macro_f1"]),
        percent(row["tolerant_accuracy"]),
        percent(row["unparsed_rate"]),
        count(row["n"]) + (f" ({count(aside)} set aside)" if aside else ""),
        f"{count(row['num_clusters'])} {row['cluster'] or ''}".strip(),
        clean_cell(row["leaks"]),
    )


SCORES = ("model", "accuracy", "balanced", "macro F1", "tolerant", "unparsed", "questions", "clusters", "without leaks")


def score_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells under SCORES, without the columns that no model fills."""
    cells = [score_cells(r) for r in rows]
    used = [i for i in range(len(SCORES)) if any(c[i] for c in cells)]
    return [SCORES[i] for i in used], [[c[i] for i in used] for c in cells]


def clean_cell(leaks: Any) -> str:
    """Accuracy without the items that training samples hold, and how many those are."""
    if not isinstance(leaks, Mapping):
        return ""
    if leaks.get("reason"):
        return str(leaks["reason"])
    if not leaks.get("num_leaked"):
        return "no leak found"
    return (
        f"{percent_with_interval(leaks.get('clean_accuracy'), leaks.get('clean_ci95'))}, {leaks['num_leaked']} left out"
    )


def paired_rows(exams: Sequence[Examined]) -> list[Paired]:
    """Every pair of models on every exam, corrected together (Holm)."""
    found: list[tuple[Examined, Examined, Comparison, int]] = []
    for i, one in enumerate(exams):
        for other in exams[i + 1 :]:
            if one.exam != other.exam:
                continue
            mine, theirs, num_others = shared(one, other)
            if mine:
                groups = [r["group"] for r in mine]
                told = compared(
                    [r["correct"] for r in mine], [r["correct"] for r in theirs], groups, resamples=PAIRED_RESAMPLES
                )
                found.append((one, other, told, num_others))
    corrected = holm([told.p for _, _, told, _ in found])
    return [
        Paired(one.exam, one.model, other.model, told, p, num)
        for (one, other, told, num), p in zip(found, corrected, strict=True)
    ]


PAIRED = ("difference", "points", "only the first right", "only the second right", "questions", "p", "p, corrected",
          "read as", "test")  # fmt: skip


def paired_cells(row: Paired) -> tuple[str, ...]:
    """The cells of a pair under PAIRED."""
    told = row.found
    read = "not tested" if row.corrected is None else "differ" if row.is_clear else "not told apart"
    return (
        f"{row.one} \u2212 {row.other}", points_with_interval(told.difference, told.ends), count(told.only_a),
        count(told.only_b), count(told.n), p_value(told.p), p_value(row.corrected), read, told.test,
    )  # fmt: skip


def p_value(p: float | None) -> str:
    """A p value in as many digits as mean something."""
    if p is None:
        return ""
    return "<\u00a00.001" if p < 0.001 else f"{p:.3f}"


def group_tables(exams: Sequence[Examined]) -> list[dict[str, Any]]:
    """A table a column: groups down, models across, each cell accuracy with interval."""
    by_model = {e.model: group_figures(e.rows, resamples=RESAMPLES) for e in exams}
    columns = dict.fromkeys(c for found in by_model.values() for c in found)
    tables = []
    for column in columns:
        groups: dict[str, dict[str, Mapping[str, Any]]] = {}
        for model, found in by_model.items():
            for one in found.get(column, []):
                groups.setdefault(one["name"], {})[model] = one
        rows = [
            (name, count(max(o["n"] for o in own.values())), *(_group_cell(own.get(m)) for m in by_model))
            for name, own in groups.items()
        ]
        tables.append({"column": column, "models": list(by_model), "rows": rows})
    return tables


def _group_cell(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else percent_with_interval(found["accuracy"], found["ci95"])


def probe_table(exams: Sequence[Examined]) -> dict[str, Any] | None:
    """Probes of every model: accuracy, and what the exam was above it; None where no probe ran."""
    asked = {e.model: e.summary.get("probes") or {} for e in exams}
    names = [
        n for n in (*_PROBES, *sorted({p for a in asked.values() for p in a})) if any(n in a for a in asked.values())
    ]
    names = list(dict.fromkeys(names))
    if not names:
        return None
    rows = []
    for e in exams:
        cells = [_probe_cell(asked[e.model].get(n)) for n in names]
        looks = e.summary.get("looks_at_image")
        rows.append((e.model, *cells, "not tested" if looks is None else "yes" if looks else "not shown"))
    return {"names": [n.replace("_", " ") for n in names], "rows": rows}


def _probe_cell(found: Any) -> str:
    if not isinstance(found, Mapping):
        return ""
    gap = found.get("exam_minus_probe") or {}
    if found.get("answer_changed") is not None:
        return f"{percent(found['answer_changed'])} changed"
    told = percent(found.get("accuracy"))
    if gap.get("difference") is not None:
        told += f" ({points_with_interval(-gap['difference'], _turned(pair(gap.get('ci95'))))})"
    return told


def _turned(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if ends is None else (-ends[1], -ends[0])


CALIBRATION = ("model", "confidence from", "calibration error", "if calibrated", "Brier", "mean confidence", "accuracy",
               "accuracy at 80 % coverage", "area under risk")  # fmt: skip


def calibrations(e: Examined) -> list[tuple[str, Mapping[str, Any]]]:
    """(where the confidence is from, its figures) of an exam."""
    sampled = e.summary.get("sampled") or {}
    found = [
        ("option probabilities", e.summary.get("calibration")),
        ("agreement of replies", sampled.get("calibration")),
    ]
    return [(name, told) for name, told in found if isinstance(told, Mapping) and told.get("n")]


def calibration_rows(exams: Sequence[Examined]) -> list[tuple[str, ...]]:
    """The rows under CALIBRATION."""
    rows: list[tuple[str, ...]] = []
    for e in exams:
        for source, told in calibrations(e):
            plain = told.get("ece_if_calibrated") or {}
            selective = told.get("selective_accuracy") or {}
            rows.append(
                (e.model, source, percent_with_interval(told.get("ece"), told.get("ece_ci95")),
                 f"{percent(plain.get('mean'))}, up to {percent(plain.get('q95'))}", figure(told.get("brier")),
                 percent(told.get("mean_confidence")), percent(told.get("accuracy")), percent(selective.get("0.8")),
                 figure(told.get("area_under_risk")))
            )  # fmt: skip
    return rows


DRAWS = ("model", "replies", "mean over seeds", "sd, points", "pass@k", "majority")


def draw_rows(exams: Sequence[Examined]) -> list[tuple[str, ...]]:
    """Sampled replies of every model: mean over decoding seeds with its spread, pass@k, majority."""
    rows: list[tuple[str, ...]] = []
    for e in exams:
        told = e.summary.get("sampled")
        if not isinstance(told, Mapping):
            continue
        at = told.get("pass_at") or {str(told.get("k")): told.get("pass_at_k")}
        sd = told.get("sd")
        rows.append(
            (e.model, f"{told.get('k')} at temperature {figure(told.get('temperature'))}",
             percent_with_interval(told.get("accuracy"), told.get("ci95")),
             "" if sd is None else f"{100 * sd:.1f}", ", ".join(f"@{k} {percent(v)}" for k, v in at.items()),
             percent(told.get("majority_accuracy")))
        )  # fmt: skip
    return rows


def as_json(row: Paired) -> dict[str, Any]:
    """A pair for table.json."""
    return {"exam": row.exam, "one": row.one, "other": row.other, **asdict(row.found), "p_holm": row.corrected,
            "num_other_questions": row.num_other_questions}  # fmt: skip
