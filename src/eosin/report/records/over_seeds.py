"""A stage over several runs: each figure's level and its change from the start, over seeds and cases; the worst seed;
the classes that a seed lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.before_after import lost_classes
from eosin.evaluate.statistics.ratios import FIGURES, Ratios, paired
from eosin.evaluate.statistics.seeds import SeedChange, change_over_seeds, seeds_in_words
from eosin.report.drawing.numbers import num
from eosin.report.records.load import ExamRun

RESAMPLES = 2000
SEED = 0
SHOWN = ("balanced_accuracy", "accuracy", "entity_f1", "entity_precision", "entity_recall", "unparsed")
LOWER_IS_BETTER = {"unparsed"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Exams:
    """The same exam of one run before (None: nothing was examined) and after a stage; `label` names the run."""

    label: str
    before: ExamRun | None
    after: ExamRun


@dataclass(frozen=True)
class SeedFigure:
    """One figure of a stage over runs.

    Attributes:
        level: the figure after the stage, as a change from 0.
        labels: of the runs in `level`.
        change: from the start; None where no run has the exam of its start.
        changed: labels of the runs in `change`, in its order.
        num_left_out: runs that have both exams, but not the figure.
    """

    name: str
    level: SeedChange
    labels: tuple[str, ...]
    change: SeedChange | None
    changed: tuple[str, ...]
    num_left_out: int

    @property
    def worst(self) -> tuple[str, float] | None:
        """The run that gained least or lost most, and its change."""
        if self.change is None:
            return None
        sign = -1 if self.name in LOWER_IS_BETTER else 1
        place = int(np.argmin([sign * v for v in self.change.by_seed]))
        return self.changed[place], self.change.by_seed[place]

    @property
    def read_as(self) -> str:
        """ "one run" or "few seeds (3)" where there are fewer than five; else whether the change is clear of 0."""
        if self.change is None:
            return ""
        few = seeds_in_words(len(self.change.by_seed))
        clear = "clear of 0" if self.change.is_clear else "not clear of 0"
        return f"{few}; {clear}" if few else clear


def figures_over_seeds(exams: Sequence[Exams]) -> dict[str, SeedFigure]:
    """Every figure that all of these exams could give, by name. Balanced accuracy only where answers form classes."""
    has_classes = all(num(e.after.summary.get("balanced_accuracy")) is not None for e in exams)
    found = {n: _figure(n, exams) for n in SHOWN if n != "balanced_accuracy" or has_classes}
    return {name: one for name, one in found.items() if one is not None}


def _figure(name: str, exams: Sequence[Exams]) -> SeedFigure | None:
    asked = shared_questions([e.after for e in exams])
    levels = [(e.label, p[1]) for e in exams if (p := paired(rows := _asked(e.after, asked), rows, FIGURES[name]))]
    levels = [(label, level) for label, level in levels if level.value is not None]
    if not levels:
        return None
    change, changed, missing = None, [], 0
    both = [e for e in exams if e.before is not None and e.before.rows and e.after.rows]
    shared = shared_questions([x for e in both for x in (e.before, e.after) if x is not None])
    for label, pair in ((e.label, change_pair(e.before, e.after, name, shared)) for e in both):
        if pair is None:
            missing += 1
        else:
            changed.append((label, pair))
    if changed:
        change = over_seeds([p for _, p in changed], shared)
    level = over_seeds([(_zero(one), one) for _, one in levels], asked)
    return SeedFigure(name, level, tuple(n for n, _ in levels), change, tuple(n for n, _ in changed), missing)


def over_seeds(pairs: Sequence[tuple[Ratios, Ratios]], asked: frozenset[str] | None) -> SeedChange:
    """`change_over_seeds` with the recorded resampling of a comparison.

    Args:
        asked: the shared questions; None where each run has cases of its own, whatever they are called.
    """
    if asked is None:
        pairs = [(_named(a, i), _named(b, i)) for i, (a, b) in enumerate(pairs)]
    return change_over_seeds(pairs, resamples=RESAMPLES, seed=SEED)


def _named(figure: Ratios, run: int) -> Ratios:
    return Ratios(tuple(f"{run}/{c}" for c in figure.clusters), figure.over, figure.under)


def change_pair(
    before: ExamRun | None, after: ExamRun, name: str, asked: frozenset[str] | None
) -> tuple[Ratios, Ratios] | None:
    """A figure before and after, on the asked questions; None where either side has none of it."""
    if before is None:
        return None
    pair = paired(_asked(before, asked), _asked(after, asked), FIGURES[name])
    return None if pair is None or any(side.value is None for side in pair) else pair


def shared_questions(exams: Sequence[ExamRun]) -> frozenset[str] | None:
    """The questions that all of these exams hold; None where they share none, each run having cases of its own.

    Runs that share most of their questions would pass for independent ones if their cases were drawn apart.
    """
    held = [frozenset(str(r.get("id")) for r in e.rows) for e in exams if e.rows]
    return (frozenset.intersection(*held) or None) if held else None


def _asked(exam: ExamRun, asked: frozenset[str] | None) -> list[Row]:
    return [r for r in exam.rows if "id" in r and (asked is None or str(r["id"]) in asked)]


def _zero(figure: Ratios) -> Ratios:
    return Ratios(figure.clusters, np.zeros_like(figure.over), figure.under)


def lost_over_seeds(exams: Sequence[Exams]) -> dict[str, list[str]]:
    """The runs that lost a class, by class: recall 0 after the stage, from above 0.2 before it."""
    found: dict[str, list[str]] = {}
    for one in exams:
        labels = one.after.summary.get("labels")
        if one.before is None or not isinstance(labels, list):
            continue
        for label in lost_classes(one.before.rows, one.after.rows, [str(v) for v in labels]):
            found.setdefault(label, []).append(one.label)
    return found


def difference(one: Sequence[Exams], other: Sequence[Exams], name: str) -> SeedChange | None:
    """A figure of one stage minus that of another, in the runs that have both; None where none has."""
    others = {e.label: e.after for e in other}
    both = [(others[e.label], e.after) for e in one if e.label in others]
    asked = shared_questions([e for pair in both for e in pair])
    pairs = [p for a, b in both if (p := change_pair(a, b, name, asked)) is not None]
    try:
        return over_seeds(pairs, asked) if pairs else None
    except EosinError:
        return None


def figure_json(found: SeedFigure) -> dict[str, Any]:
    """A figure over seeds as plain data."""
    worst = found.worst
    return {
        "level": seed_json(found.level),
        "runs": list(found.labels),
        "change": None if found.change is None else seed_json(found.change),
        "changed_runs": list(found.changed),
        "worst": None if worst is None else {"run": worst[0], "change": worst[1]},
        "left_out": found.num_left_out,
        "read_as": found.read_as,
    }


def seed_json(change: SeedChange) -> dict[str, Any]:
    """A change over seeds as plain data: `ci95` is the interval to read."""
    return {
        "difference": change.mean,
        "ci95": change.interval,
        "hierarchical_bootstrap": change.bootstrap,
        "two_way": change.two_way,
        "by_seed": list(change.by_seed),
        "cases": "crossed" if change.is_crossed else "nested",
        "num_clusters": change.num_clusters,
        "resamples": change.resamples,
        "bootstrap_seed": change.seed,
    }
