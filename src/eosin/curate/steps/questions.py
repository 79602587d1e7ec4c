"""Questions: each sample becomes closed questions, balanced in place, length, yes and no."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.writing import QuestionsStep
from eosin.core.store.artifacts import read_object, write_json
from eosin.curate.questions.balance import places, yes_no_limits
from eosin.curate.questions.distractors import Distractors
from eosin.curate.questions.making import (
    Known,
    askable,
    closed_question,
    draw_of,
    known_of,
    signed_concepts,
    yes_no_question,
)
from eosin.curate.steps.base import Inputs, Made, Step, StepOutcome
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker

STATE = "balance.json"


class AskQuestions(Step[QuestionsStep]):
    """Concepts are measured, yes and no are balanced over all of them, then questions are written shard by shard."""

    def measure(self, samples: Sequence[Sample]) -> pa.Table:
        """Of each sample: its label, and kind, name, presence and draw of what can be asked with yes or no."""
        rows = [self._signed(s) for s in samples]
        return pa.table({
            "label": pa.array([s.label for s in samples], pa.string()),
            "split": pa.array([s.split or "train" for s in samples], pa.string()),
            "diagnosis": pa.array([next((n for k, n, _, _ in r if k == "diagnosis"), None) for r in rows], pa.string()),
            "name": pa.array([[f"{k}|{n}" for k, n, _, _ in r] for r in rows], pa.list_(pa.string())),
            "there": pa.array([[t for _, _, t, _ in r] for r in rows], pa.list_(pa.bool_())),
            "draw": pa.array([[d for _, _, _, d in r] for r in rows], pa.list_(pa.float64())),
            "other": pa.array([draw_of(self.context.seed, s.id, "other") for s in samples], pa.float64()),
        })  # fmt: skip

    def decide(self, inputs: Inputs) -> None:
        """Limits of the draws of every concept; and the labels and diagnoses that may serve as distractors."""
        labels: Counter[str] = Counter()
        diagnoses: Counter[str] = Counter()
        findings: set[str] = set()
        tables = [t.to_pydict() for t in inputs.measured()]
        for t in tables:
            labels.update(x for x in t["label"] if x)
            diagnoses.update(x for x in t["diagnosis"] if x)
            for own, there in zip(t["name"], t["there"], strict=True):
                findings.update(
                    n.partition("|")[2] for n, y in zip(own, there, strict=True) if y and n.startswith("finding|")
                )
        names = sorted(diagnoses)
        rows = []
        for t in tables:
            for split, own, name, there, draw, other in zip(
                *(t[k] for k in ("split", "diagnosis", "name", "there", "draw", "other")), strict=True
            ):
                rows += [(f"{split}|{n}", y, d) for n, y, d in zip(name, there, draw, strict=True)]
                wrong = _other(own, names, other)
                if wrong is not None:
                    rows.append((f"{split}|diagnosis|{wrong}", False, other))
        limits = yes_no_limits(rows, self.settings.yes_no_most)
        write_json(
            self.state / STATE,
            {"limits": limits, "labels": sorted(labels), "diagnoses": names, "findings": sorted(findings)},
        )

    def run(self, shard: int, samples: Sequence[Sample]) -> Iterable[StepOutcome]:
        """Questions of each sample; a sample that allows none is dropped."""
        wanted = [(s, known_of(s, self._linker)) for s in samples]
        asked = [(s, k, askable(s, k, self.settings.kinds, self.context.seed)) for s, k in wanted]
        free: dict[str, Iterator[int]] = {}
        for kind in self.settings.kinds:
            num = sum(k == kind for _, _, a in asked for k, _ in a)
            draws = [draw_of(self.context.seed, kind, shard, i) for i in range(max(1, num))]
            free[kind] = iter(places(num, max(2, self._num_options(kind)), draws))
        return [self._outcome(s, k, a, [next(free[kind]) for kind, _ in a]) for s, k, a in asked]

    def _outcome(
        self, sample: Sample, known: Known, asked: Sequence[tuple[str, str]], free: Sequence[int]
    ) -> StepOutcome:
        made: list[Sample] = []
        rejected: list[Dropped] = []
        for (kind, answer), place in zip(asked, free, strict=True):
            pool = self._pools[{"label": "labels", "diagnosis": "diagnoses"}.get(kind, "findings")]
            one = closed_question(
                sample, kind, answer, known, pool, num=self._num_options(kind), place=place, seed=self.context.seed,
                only_pool=kind == "label",
            )  # fmt: skip
            (rejected if isinstance(one, Dropped) else made).append(one)  # type: ignore[arg-type]
        if "yes-no" in self.settings.kinds:
            made += self._yes_no(sample, known)
        if not made:
            return Dropped(sample.id, rejected[0].reason if rejected else "nothing to ask about", "")
        if self.settings.keep:
            made.insert(0, sample)
        return Made(tuple(made), tuple(rejected))

    def _yes_no(self, sample: Sample, known: Known) -> list[Sample]:
        seed, split = self.context.seed, sample.split or "train"
        made = []
        for kind, name, there, draw in self._signed(sample, known):
            limit = self._state["limits"].get(f"{split}|{kind}|{name}")
            if limit is not None and draw < limit[0 if there else 1]:
                made.append(yes_no_question(sample, kind, name, there, known, seed=seed))
        own = next((n for k, n, _, _ in self._signed(sample, known) if k == "diagnosis"), None)
        draw = draw_of(seed, sample.id, "other")
        wrong = _other(own, self._state["diagnoses"], draw)
        limit = self._state["limits"].get(f"{split}|diagnosis|{wrong}") if wrong else None
        if wrong and limit is not None and draw < limit[1]:
            made.append(yes_no_question(sample, "diagnosis", wrong, False, known, seed=seed))
        return made

    def _signed(self, sample: Sample, known: Known | None = None) -> list[tuple[str, str, bool, float]]:
        told = known or known_of(sample, self._linker)
        return [(k, n, t, draw_of(self.context.seed, sample.id, k, n)) for k, n, t in signed_concepts(sample, told)]

    def _num_options(self, kind: str) -> int:
        return min(self.settings.options, len(self._state["labels"])) if kind == "label" else self.settings.options

    @cached_property
    def _linker(self) -> Linker:
        return Linker.of(self._graph) if self.settings.knowledge else Linker.builtin()

    @cached_property
    def _graph(self) -> Graph:
        if not self.settings.knowledge:
            return Graph.builtin()
        folder = Path(self.settings.knowledge).expanduser()
        if not folder.is_dir():
            raise EosinError("There is no knowledge graph at this place.", where=folder,
                             next_step="eosin knowledge build --help")  # fmt: skip
        return Graph.open(folder)

    @cached_property
    def _state(self) -> dict[str, Any]:
        return read_object(self.state / STATE)

    @cached_property
    def _pools(self) -> dict[str, Distractors]:
        """Distractors of each kind of answer; the names that are right answers in this data come first."""
        names = ("labels", "diagnoses", "findings")
        return {name: Distractors(self._graph, self._linker, self._state[name]) for name in names}

    def facts(self) -> dict[str, Any]:
        """How many concepts have both a yes and a no."""
        return {"concepts_in_pairs": len(self._state["limits"])} if (self.state / STATE).is_file() else {}


def _other(own: str | None, names: Sequence[str], draw: float) -> str | None:
    """Another diagnosis than a sample's own, drawn evenly; none of its words may stand inside the other."""
    able = [n for n in names if own and n.casefold() not in own.casefold() and own.casefold() not in n.casefold()]
    return able[int(draw * 1e9) % len(able)] if able else None
