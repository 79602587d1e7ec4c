"""What a stage changed, exam against exam: figures, confusion, recall by class, items that turned, reward terms, and
the stage's own record of which checkpoint it kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from eosin.evaluate.statistics.before_after import BeforeAfter, figures_changed, recalls_changed
from eosin.report import words
from eosin.report.drawing.numbers import (
    count,
    figure,
    interval,
    num,
    percent,
    percent_with_interval,
    points_with_interval,
)
from eosin.report.records.load import ExamRun, Run, StageRun
from eosin.report.sections.overview import confusion_of
from eosin.report.sections.replies import gallery_rows
from eosin.report.sections.rl import figures_table, term_names_of

MAX_TURNED = 8  # of each direction and exam
NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "entity_f1": "findings: mean F1 of a reply",
    "entity_precision": "findings: precision",
    "entity_recall": "findings: recall",
    "unparsed": "unparsed replies",
    "length": "length of a reply, tokens",
}
_NOT_SHARES = {"length"}
_LOWER_IS_BETTER = {"unparsed"}


def comparisons(run: Run, stage: str) -> list[tuple[ExamRun, ExamRun]]:
    """(before, after) for each exam of a stage that its start, or the nearest examined one before it, has too."""
    found = [(run.exam_before(e), e) for e in run.exams if e.stage == stage]
    return [(b, e) for b, e in found if b is not None and b.rows and e.rows]


def changed_stages(run: Run) -> list[StageRun]:
    """Stages of which there is something to compare, in order."""
    return [s for s in run.stages if comparisons(run, s.name)]


def turned(before: ExamRun, after: ExamRun) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the exam after whose answer turned wrong, and those whose answer turned right."""
    earlier = {str(r.get("id")): bool(r.get("correct")) for r in before.rows}
    known = [r for r in after.rows if str(r.get("id")) in earlier]
    wrong = [r for r in known if earlier[str(r.get("id"))] and not r.get("correct")]
    right = [r for r in known if not earlier[str(r.get("id"))] and r.get("correct")]
    return wrong, right


def shown_turned(before: ExamRun, after: ExamRun) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Those of them that the page shows: classes in turn, a new case before a known one."""
    wrong, right = (
        gallery_rows(ExamRun(after.stage, after.name, {}, rows), MAX_TURNED) for rows in turned(before, after)
    )
    return wrong, right


def class_changes(before: ExamRun, after: ExamRun) -> dict[str, BeforeAfter]:
    """Recall of every class before and after; {} where the answers form no classes."""
    return _class_changes(_Key(before), _Key(after))


class _Key:
    """An exam as it is, hashable by identity: figures of one page are asked for more than once."""

    def __init__(self, exam: ExamRun) -> None:
        self.exam = exam

    def __hash__(self) -> int:
        return id(self.exam)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.exam is self.exam


@lru_cache(32)
def _class_changes(before: _Key, after: _Key) -> dict[str, BeforeAfter]:
    labels = after.exam.summary.get("labels") or before.exam.summary.get("labels")
    if not isinstance(labels, list) or not labels:
        return {}
    return recalls_changed(before.exam.rows, after.exam.rows, [str(v) for v in labels])


def change_warnings(run: Run) -> list[str]:
    """For every stage: classes that were lost, and classes whose recall fell clear of 0."""
    return [w for s in changed_stages(run) for b, e in comparisons(run, s.name) for w in warnings_of(b, e)]


def warnings_of(before: ExamRun, after: ExamRun) -> list[str]:
    """Sentences on the classes that a stage lost or harmed in one exam."""
    told = []
    where = f"{after.stage} against {before.stage}, exam \u201c{after.name}\u201d"
    for label, found in class_changes(before, after).items():
        if found.is_lost:
            told.append(
                f"{where}: the class \u201c{label}\u201d was lost: recall from {percent(found.before, 0)} to 0."
            )
        elif found.is_clear and (found.change or 0.0) < 0:
            size = points_with_interval(found.change or 0.0, found.change_ends)
            shown = f"from {percent(found.before, 0)} to {percent(found.after, 0)}"
            told.append(f"{where}: recall of \u201c{label}\u201d fell {shown} ({size} points).")
    return told


def kept_record(stage: StageRun) -> dict[str, Any] | None:
    """Which checkpoint the stage kept, by its own record in stage.json; None where it has none."""
    found = stage.info.get("keep")
    if not isinstance(found, Mapping):
        return None
    step, n, lost = num(found.get("best_step")), num(found.get("n")), found.get("classes_lost")
    rows = [
        ("figure, on valid cases", str(found.get("figure") or "not recorded")),
        ("at the start", figure(found.get("start"))),
        ("at the end", figure(found.get("end"))),
        ("best", figure(found.get("best")) + ("" if step is None else f", at step {count(step)}")),
        ("kept", str(found.get("kept") or "not recorded")),
        ("questions of valid", "not recorded" if n is None else count(n)),
        ("classes lost on valid", ", ".join(map(str, lost)) if isinstance(lost, list) and lost else "none"),
    ]
    return {"verdict": str(found.get("verdict") or ""), "rows": rows}


def terms_moved(stage: StageRun) -> list[dict[str, str]]:
    """Reward and its terms over the first and the last fifth of the steps; [] for other stages."""
    if stage.kind != "rl":
        return []
    rows = figures_table(stage.metrics, term_names_of(stage))
    return [r for r in rows if r["name"].startswith("reward")]


def exam_change(before: ExamRun, after: ExamRun) -> dict[str, Any]:
    """All that a page shows of one exam, but the items that turned."""
    figures = figures_changed(before.rows, after.rows)
    if not class_changes(before, after):
        figures.pop("balanced_accuracy", None)
    wrong, right = turned(before, after)
    return {
        "name": after.name,
        "before": words.stage_title(before.stage),
        "after": words.stage_title(after.stage),
        "warnings": warnings_of(before, after),
        "figures": [_figure_row(name, found) for name, found in figures.items()],
        "confusions": [c for c in (confusion_of(before), confusion_of(after)) if c is not None],
        "classes": [_class_row(label, found, after) for label, found in class_changes(before, after).items()],
        "num_clusters": count(max((f.num_clusters for f in figures.values()), default=0)),
        "cluster": str(after.summary.get("cluster") or "case"),
        "n": count(len({str(r.get("id")) for r in before.rows} & {str(r.get("id")) for r in after.rows})),
        "num_wrong": len(wrong),
        "num_right": len(right),
    }


def _figure_row(name: str, found: BeforeAfter) -> dict[str, Any]:
    falls = (found.change or 0.0) < 0
    return {
        "name": NAMES[name],
        "before": _shown(found.before, found.before_ends, name),
        "after": _shown(found.after, found.after_ends, name),
        "change": _change(found, name),
        "verdict": _verdict(found, is_worse=falls != (name in _LOWER_IS_BETTER)) if name not in _NOT_SHARES else "",
        "is_bad": found.is_clear and name not in _NOT_SHARES and falls != (name in _LOWER_IS_BETTER),
    }


def _verdict(found: BeforeAfter, *, is_worse: bool) -> str:
    if found.change is None:
        return "cannot be compared"
    if not found.is_clear:
        return "no clear change"
    return "worse" if is_worse else "better"


def _shown(value: float | None, ends: tuple[float, float] | None, name: str) -> str:
    if value is None:
        return "none stated" if name == "entity_precision" else "none"
    if name in _NOT_SHARES:
        return f"{value:.1f}" + ("" if ends is None else f" [{ends[0]:.1f},\u00a0{ends[1]:.1f}]")
    return percent_with_interval(value, ends)


def _change(found: BeforeAfter, name: str) -> str:
    if found.change is None:
        return ""
    if name not in _NOT_SHARES:
        return points_with_interval(found.change, found.change_ends)
    ends = "" if found.change_ends is None else f" [{found.change_ends[0]:+.1f},\u00a0{found.change_ends[1]:+.1f}]"
    return f"{found.change:+.1f}{ends}".replace("-", "\u2212")


def _class_row(label: str, found: BeforeAfter, after: ExamRun) -> dict[str, Any]:
    verdict = "lost" if found.is_lost else _verdict(found, is_worse=(found.change or 0.0) < 0)
    return {
        "label": label,
        "n": count(sum(r.get("label") == label for r in after.rows)),
        "before": percent(found.before, 0),
        "before_ends": interval(found.before_ends),
        "after": percent(found.after, 0),
        "after_ends": interval(found.after_ends),
        "change": _change(found, ""),
        "verdict": verdict,
        "is_bad": verdict in ("lost", "worse"),
        "widths": [f"{100 * (v or 0.0):.1f}" for v in (found.before, found.after)],
    }


def item_pairs(before: ExamRun, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """(row before, row after) of items that turned."""
    earlier = {str(r.get("id")): r for r in before.rows}
    return [(earlier[str(r.get("id"))], r) for r in rows]
