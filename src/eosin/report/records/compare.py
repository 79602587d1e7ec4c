"""Several runs side by side: what each stage is worth, over seeds, with intervals, in one table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.seeds import ENOUGH_SEEDS, SeedChange
from eosin.report import words
from eosin.report.drawing.curves import with_train_seconds
from eosin.report.drawing.numbers import num, pair
from eosin.report.records.load import BASE, ExamRun, Run, StageRun, load
from eosin.report.records.over_seeds import (
    Exams,
    SeedFigure,
    difference,
    figure_json,
    figures_over_seeds,
    lost_over_seeds,
    seed_json,
)
from eosin.report.records.stats import Change, paired_change
from eosin.report.sections.rl import prompts_seen, train_seconds

# Two-sided 95 % quantiles of Student's t by degrees of freedom; beyond them the normal's.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
MAX_DIFFERENCES = 10  # stages beyond which the table of differences is left out


@dataclass(frozen=True)
class SeedStats:
    """A figure over seeds.

    Attributes:
        values: one a run, in the order of the runs.
        sd: sample standard deviation over the runs; None for one run.
        t95: 95 % interval of the mean over seeds (Student's t); None for one run.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def sd(self) -> float | None:
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    @property
    def t95(self) -> tuple[float, float] | None:
        if self.sd is None:
            return None
        n = len(self.values)
        half = (_T95[n - 2] if n - 2 < len(_T95) else 1.96) * self.sd / n**0.5
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Entry:
    """One stage of one run, in one exam."""

    run: int
    stage: str
    exam: ExamRun
    before: ExamRun | None
    change: Change | None
    info: StageRun | None


@dataclass
class Row:
    """One stage over all runs that have it.

    Attributes:
        title: the algorithm's true name, or what kind of stage it is.
        start: the nearest examined checkpoint that it was trained from.
        pooled: accuracy over all questions of all runs, with an interval by a bootstrap over cases.
        change: paired change from `start`, over all runs, with such an interval.
        figures: balanced accuracy, accuracy, findings, unparsed: level and change over seeds and cases.
        lost: labels of the runs that lost a class, by class.
        exams: what `figures` is made from.
    """

    key: str
    title: str
    start: str
    entries: list[Entry]
    pooled: Change | None
    change: Change | None
    figures: dict[str, SeedFigure] = field(default_factory=dict)
    lost: dict[str, list[str]] = field(default_factory=dict)
    exams: list[Exams] = field(default_factory=list)

    @property
    def headline(self) -> SeedFigure | None:
        """Balanced accuracy where the answers form classes, else accuracy; None where no predictions are on disk."""
        return self.figures.get("balanced_accuracy") or self.figures.get("accuracy")

    @property
    def accuracy(self) -> SeedStats:
        return _spread(e.exam.summary.get("accuracy") for e in self.entries)

    @property
    def balanced(self) -> SeedStats | None:
        return _some(e.exam.summary.get("balanced_accuracy") for e in self.entries)

    @property
    def sampled(self) -> SeedStats | None:
        """Accuracy of sampled replies, where the exam drew any: what reinforcement learning raises by its objective."""
        found = (e.exam.summary.get("sampled") for e in self.entries)
        return _some(s.get("accuracy") for s in found if isinstance(s, Mapping))

    @property
    def before(self) -> SeedStats | None:
        return _some(e.before.summary.get("accuracy") for e in self.entries if e.before is not None)

    @property
    def changes(self) -> SeedStats | None:
        return _some(e.change.difference for e in self.entries if e.change is not None)

    @property
    def unparsed(self) -> SeedStats | None:
        return _some(e.exam.summary.get("unparsed_rate") for e in self.entries)

    def of_stage(self, what: Any) -> SeedStats | None:
        """A figure of the training stage over seeds; None where no run has it."""
        return _some(what(e.info) for e in self.entries if e.info is not None)

    @property
    def steps(self) -> SeedStats | None:
        return self.of_stage(lambda s: s.info.get("num_steps"))

    @property
    def prompts(self) -> SeedStats | None:
        return self.of_stage(prompts_seen)

    @property
    def seconds(self) -> SeedStats | None:
        return self.of_stage(lambda s: train_seconds(s) if s.metrics else s.info.get("seconds"))


@dataclass
class Comparison:
    """What `eosin report compare` found.

    Attributes:
        tables: rows by exam.
        differences: by exam, (row key, other key) -> the first minus the second, over seeds and cases.
        curves: by stage key, one list of points a run: step, prompts_seen, train_seconds, valid_accuracy.
        notes: what a reader must know before comparing.
    """

    runs: list[Run]
    tables: dict[str, list[Row]]
    differences: dict[str, dict[tuple[str, str], SeedChange]]
    curves: dict[str, list[list[dict[str, float]]]]
    titles: dict[str, str]
    notes: list[str] = field(default_factory=list)


def _spread(values: Any) -> SeedStats:
    return SeedStats(tuple(v for v in map(num, values) if v is not None))


def _some(values: Any) -> SeedStats | None:
    found = _spread(values)
    return found if found.values else None


def compare_runs(run_dirs: Sequence[Path]) -> Comparison:
    """Read runs and put the same stages of all of them together.

    Raises:
        EosinError: fewer than one run, the same folder twice, or no exam in any of them.
    """
    places = [Path(d).resolve() for d in run_dirs]
    if not places or len(set(places)) < len(places):
        raise EosinError(
            "Runs to compare are given once each.",
            expected="one or more folders of different runs",
            found=", ".join(map(str, run_dirs)) or "none",
        )
    runs = [load(p) for p in places]
    exams = list(dict.fromkeys(name for r in runs for name in r.exam_names if r.of_exam(name)))
    if not exams:
        raise EosinError(
            "None of these runs has an exam on disk.",
            where=", ".join(map(str, run_dirs)),
            next_step="give finished runs, or run `eosin run` again in their folders to finish them",
        )
    tables = {exam: _rows(runs, exam) for exam in exams}
    return Comparison(
        runs=runs,
        tables=tables,
        differences={exam: _differences(rows) for exam, rows in tables.items()},
        curves=_curves(runs),
        titles={_key(runs, r, s.name): _title(s) for r in runs for s in r.stages},
        notes=_notes(runs, tables),
    )


def _key(runs: Sequence[Run], run: Run, stage: str) -> str:
    """A stage's name; with the recipe's before it where runs of several recipes are compared."""
    return stage if len({r.name for r in runs}) == 1 else f"{run.name}/{stage}"


def _title(stage: StageRun) -> str:
    algorithm = stage.info.get("algorithm")
    return str(algorithm) if algorithm else words.KINDS.get(stage.kind, stage.kind)


def _rows(runs: list[Run], exam: str) -> list[Row]:
    found: dict[str, list[Entry]] = {}
    for i, run in enumerate(runs):
        for one in run.of_exam(exam):
            info = next((s for s in run.stages if s.name == one.stage), None)
            entry = Entry(i, one.stage, one, run.exam_before(one), words.change_of(run, one), info)
            if num(one.summary.get("accuracy")) is not None:
                found.setdefault(_key(runs, run, one.stage), []).append(entry)
    return [_row(key, entries, labels_of(runs)) for key, entries in found.items()]


def labels_of(runs: Sequence[Run]) -> list[str]:
    """A short name of each run: its seed, with its folder where two runs share a seed."""
    seeds = [str(r.recipe.get("seed", "not recorded")) for r in runs]
    return [f"seed {s}" + (f" ({r.root.name})" if seeds.count(s) > 1 else "") for s, r in zip(seeds, runs, strict=True)]


def _row(key: str, entries: list[Entry], labels: Sequence[str]) -> Row:
    stage = entries[0].info
    befores = [e for e in entries if e.before is not None]
    exams = [Exams(labels[e.run], e.before, e.exam) for e in entries]
    return Row(
        key=key,
        title="before training" if stage is None else _title(stage),
        start="" if not befores or befores[0].before is None else befores[0].before.stage,
        entries=entries,
        pooled=paired_change(_marked(entries, wrong=True), _marked(entries)),
        change=paired_change(_marked_before(befores), _marked(befores)),
        figures=figures_over_seeds(exams),
        lost=lost_over_seeds(exams),
        exams=exams,
    )


def _marked(entries: Sequence[Entry], *, wrong: bool = False) -> list[dict[str, Any]]:
    """Rows of all runs, each question under its run's number; the cases stay one cluster over the runs.

    Args:
        wrong: every answer counts as wrong, so that a "change" from these rows is an accuracy.
    """
    changed = {"correct": False} if wrong else {}
    return [_under(e.run, row) | changed for e in entries for row in e.exam.rows if "id" in row]


def _marked_before(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [_under(e.run, row) for e in entries if e.before is not None for row in e.before.rows if "id" in row]


def _under(run: int, row: Mapping[str, Any]) -> dict[str, Any]:
    group = row.get("group") or row["id"]
    return {"id": f"{run}/{row['id']}", "group": group, "correct": row.get("correct")}


def _differences(rows: list[Row]) -> dict[tuple[str, str], SeedChange]:
    """Paired difference of every two trained stages on the same questions of the same runs, in the headline's figure,
    over seeds and cases."""
    trained = [r for r in rows if r.entries[0].stage != BASE]
    if not 2 <= len(trained) <= MAX_DIFFERENCES:
        return {}
    found = {}
    for one in trained:
        for other in trained:
            if one is other or one.headline is None or other.headline is None:
                continue
            change = difference(one.exams, other.exams, one.headline.name)
            if change is not None:
                found[one.key, other.key] = change
    return found


_POINT = ("step", "prompts_seen", "train_seconds", "valid_accuracy")


def _curves(runs: list[Run]) -> dict[str, list[list[dict[str, float]]]]:
    found: dict[str, list[list[dict[str, float]]]] = {}
    for run in runs:
        for stage in run.stages:
            points: dict[float, dict[str, float]] = {}
            for row in map(with_train_seconds, stage.metrics):
                point = {k: v for k in _POINT if (v := num(row.get(k))) is not None}
                if "valid_accuracy" in point and "step" in point:
                    points[point["step"]] = point
            if points:
                found.setdefault(_key(runs, run, stage.name), []).append([points[s] for s in sorted(points)])
    return found


def _notes(runs: list[Run], tables: Mapping[str, list[Row]]) -> list[str]:
    notes = [f"{_label(r)} is {r.state}: what is on disk so far is shown." for r in runs if r.state != "complete"]
    notes += [
        f"{_label(r)}: stage {s.name} was stopped because its policy had collapsed."
        for r in runs
        for s in r.stages
        if s.state == "collapsed"
    ]
    notes += _setting_notes(runs)
    for exam, rows in tables.items():
        asked = [frozenset(str(q.get("id")) for q in e.exam.rows) for r in rows for e in r.entries if e.exam.rows]
        if any(a != b for a, b in pairwise(asked)):
            notes.append(f"The exam \u201c{exam}\u201d does not ask the same questions in all runs.")
        fewest = min((len(r.entries) for r in rows), default=0)
        if 0 < fewest < ENOUGH_SEEDS:
            seeds = "one run" if fewest == 1 else f"{fewest} runs"
            notes.append(
                f"Some stages of the exam \u201c{exam}\u201d have {seeds} only. A gain is a mean over at least "
                f"{ENOUGH_SEEDS} seeds, beside a control of as much plain training."
            )
    return list(dict.fromkeys(notes))


_NOT_TRAINED = ("seed", "name", "description", "report")
"""Fields of a recipe that change no weight and no figure, and the seed."""


def _setting_notes(runs: list[Run]) -> list[str]:
    """Settings in which runs of one recipe differ, other than the seed."""
    notes = []
    by_recipe: dict[str, list[Run]] = {}
    for run in runs:
        by_recipe.setdefault(run.name, []).append(run)
    for name, own in by_recipe.items():
        flat = [_flat({k: v for k, v in r.recipe.items() if k not in _NOT_TRAINED}) for r in own]
        keys = list(dict.fromkeys(k for f in flat for k in f))
        changed = [k for k in keys if len({json.dumps(f.get(k), default=str) for f in flat}) > 1]
        if changed:
            shown = ", ".join(changed[:6]) + (", \u2026" if len(changed) > 6 else "")
            notes.append(f"Runs of the recipe {name} differ in {shown}: their spread is not one of seeds alone.")
        seeds = [str(r.recipe.get("seed")) for r in own]
        if len(set(seeds)) < len(seeds):
            notes.append(f"Runs of the recipe {name} share a seed ({', '.join(seeds)}).")
    return notes


def _flat(value: Any, where: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {
            k: v for n, inner in value.items() for k, v in _flat(inner, f"{where}.{n}" if where else str(n)).items()
        }
    return {where: value}


def _label(run: Run) -> str:
    return f"{run.root.name} (seed {run.recipe.get('seed', 'not recorded')})"


def as_json(found: Comparison) -> dict[str, Any]:
    """The comparison as plain data, for a table of one's own."""
    return {
        "schema_version": 2,
        "runs": [
            {"folder": r.root.name, "recipe": r.name, "seed": r.recipe.get("seed"), "state": r.state}
            for r in found.runs
        ],
        "exams": {exam: [_row_json(found, row) for row in rows] for exam, rows in found.tables.items()},
        "differences": {
            exam: [{"stage": a, "against": b, **seed_json(c)} for (a, b), c in table.items()]
            for exam, table in found.differences.items()
        },
        "curves": found.curves,
        "notes": found.notes,
        "note": "Research use only, not for diagnosis.",
    }


def _row_json(found: Comparison, row: Row) -> dict[str, Any]:
    return {
        "stage": row.key,
        "what": row.title,
        "start": row.start,
        "runs": [
            {
                "folder": found.runs[e.run].root.name,
                "seed": found.runs[e.run].recipe.get("seed"),
                "accuracy": num(e.exam.summary.get("accuracy")),
                "ci95": pair(e.exam.summary.get("ci95")),
                "before": None if e.before is None else num(e.before.summary.get("accuracy")),
                "before_ci95": None if e.before is None else pair(e.before.summary.get("ci95")),
                "change": None if e.change is None else _change_json(e.change),
            }
            for e in row.entries
        ],
        "headline": None if row.headline is None else row.headline.name,
        "figures": {name: figure_json(f) for name, f in row.figures.items()},
        "classes_lost": row.lost,
        "accuracy": _spread_json(row.accuracy),
        "balanced_accuracy": _spread_json(row.balanced),
        "accuracy_ci95_over_cases": None if row.pooled is None else [row.pooled.lo, row.pooled.hi],
        "sampled_accuracy": _spread_json(row.sampled),
        "before": _spread_json(row.before),
        "change": _spread_json(row.changes),
        "change_over_cases": None if row.change is None else _change_json(row.change),
        "unparsed_rate": _spread_json(row.unparsed),
        "num_steps": _spread_json(row.steps),
        "prompts_seen": _spread_json(row.prompts),
        "train_seconds": _spread_json(row.seconds),
    }


def _spread_json(value: SeedStats | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"mean": value.mean, "sd": value.sd, "t95": value.t95, "values": list(value.values)}


def _change_json(change: Change) -> dict[str, Any]:
    return {"difference": change.difference, "ci95": [change.lo, change.hi], "n": change.n}
