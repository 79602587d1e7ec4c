"""What every baseline is given, and how what it says becomes figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.core.nouns.classes import Classes, normalised
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.exam.items import group_of
from eosin.evaluate.exam.scores import score_parts

F64 = NDArray[np.float64]
Floats = NDArray[np.float64] | NDArray[np.float32]
Order = list[str]
"""Class names, the likeliest first."""
MIN_KIND = 20
MAX_KINDS = 24
YES_NO = {"yes", "no", "true", "false", "present", "absent", "unknown", "maybe"}


class NotPossibleError(Exception):
    """A baseline that cannot be fitted or asked here, with the reason in words."""


@dataclass(frozen=True)
class Problem:
    """An exam as a baseline sees it.

    Attributes:
        train, valid: samples with an answer, to fit on and to stop early on; never items of the exam.
        asked: the exam's items.
        usable: those of `asked` whose images can be used.
        classes: the classes that the exam's answers form.
    """

    train: Sequence[Sample]
    valid: Sequence[Sample]
    asked: Sequence[Sample]
    usable: Sequence[Sample]
    classes: Classes
    settings: ExamSettings

    @property
    def known(self) -> set[str]:
        """Normalised names of all classes that an item of the exam has or offers."""
        return {normalised(name) for name in self.classes.names.values()}

    def name(self, sample: Sample) -> str:
        """Normalised class name of a sample's answer."""
        return normalised(self.classes.gold(sample))

    def first_offered(self, order: Order, sample: Sample) -> str | None:
        """The first class that the sample offers; an open question offers every class."""
        if not sample.choices:
            return order[0] if order else None
        offered = {normalised(self.classes.name(c.text)) for c in sample.choices}
        return next((name for name in order if name in offered), None)


@dataclass
class Said:
    """What a baseline says: class name (or None) by item id, samples it was fitted on, facts of the fit."""

    names: dict[str, str | None]
    num_train: int
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Figures of one baseline, and whether it was right on each item that it answered."""

    figures: Mapping[str, Any]
    rows: Mapping[str, bool] = field(default_factory=dict)


def result_of(said: Said, problem: Problem) -> Result:
    """Figures as in an exam's summary, with "num_train" and "num_set_aside" (items without a usable image)."""
    items = [s for s in problem.usable if s.id in said.names]
    if not items:
        raise NotPossibleError("no exam item has a usable image")
    right = [said.names[s.id] == problem.name(s) for s in items]
    gold = [problem.classes.gold(s) for s in items]
    figures = score_parts(
        right, [group_of(s) for s in items], gold, problem.settings, has_classes=bool(problem.classes.labels)
    )
    aside = len(problem.asked) - len(items)
    rows = {s.id: bool(r) for s, r in zip(items, right, strict=True)}
    return Result({**figures, "num_train": said.num_train, "num_set_aside": aside, **said.facts}, rows)


def kind_of(sample: Sample) -> str:
    """Samples of one kind ask the same: they offer the same options, and where these are yes and no, in the same words.

    Questions that are worded in several ways over one set of options are one kind.
    """
    options = sorted(normalised(c.text) for c in sample.choices)
    text = normalised(sample.question) if set(options) <= YES_NO else ""
    return "\n".join([text, *options])


@dataclass(frozen=True)
class Rows:
    """Features of samples: (..., D) each, with their classes and groups."""

    X: list[Floats]
    y: list[str]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.X)


Fit = Callable[[Rows, Rows, "list[Floats]"], "tuple[list[Order], dict[str, Any]]"]
"""(train, valid, seen) -> an order of classes for each of `seen`, and facts of the fit."""


def answer_by_kind(problem: Problem, features: Callable[[Sample], Floats | None], fit: Fit) -> Said:
    """Fit a classifier of features and answer the exam with it.

    A kind of question with at least MIN_KIND training samples of two classes has a classifier of its own, so that
    "are there mitoses?" is not answered by what tells about goblet cells; all other items share one, fitted on every
    training sample whose class the exam knows.
    """
    pictured = [(s, x) for s in problem.usable if (x := features(s)) is not None]
    known = problem.known
    fitting = [s for s in problem.train if problem.name(s) in known]
    train = [(s, x) for s in fitting if (x := features(s)) is not None]
    valid = [(s, x) for s in problem.valid if problem.name(s) in known and (x := features(s)) is not None]
    if not pictured or len({problem.name(s) for s, _ in train}) < 2:
        raise NotPossibleError("needs images, and two classes in the training samples")
    if len({x.shape[-1] for _, x in (*train, *valid, *pictured)}) > 1:
        raise NotPossibleError("the features of these slides have different dimensions")
    own = _own_kinds(problem, [s for s, _ in train], [s for s, _ in pictured])
    said: dict[str, str | None] = {}
    facts: dict[str, Any] = {}
    for kind in (*own, None):
        asked = [(s, x) for s, x in pictured if (kind_of(s) if kind_of(s) in own else None) == kind]
        if not asked:
            continue
        parts = [[(s, x) for s, x in rows if kind is None or kind_of(s) == kind] for rows in (train, valid)]
        orders, found = fit(_rows(parts[0], problem), _rows(parts[1], problem), [x for _, x in asked])
        facts = found
        for (s, _), order in zip(asked, orders, strict=True):
            said[s.id] = problem.first_offered(order, s)
    if len(own) > 1:
        facts = {"num_classifiers": len(own)}
    return Said(said, len(train), facts)


def _own_kinds(problem: Problem, train: Sequence[Sample], asked: Sequence[Sample]) -> list[str]:
    by_kind: dict[str, list[str]] = defaultdict(list)
    for sample in train:
        by_kind[kind_of(sample)].append(problem.name(sample))
    wanted = dict.fromkeys(kind_of(s) for s in asked)
    able = [k for k in wanted if len(by_kind[k]) >= MIN_KIND and len(set(by_kind[k])) > 1]
    return sorted(able, key=lambda k: -len(by_kind[k]))[:MAX_KINDS]


def _rows(pairs: Sequence[tuple[Sample, Floats]], problem: Problem) -> Rows:
    return Rows([x for _, x in pairs], [problem.name(s) for s, _ in pairs], [group_of(s) for s, _ in pairs])
