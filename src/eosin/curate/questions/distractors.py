"""Wrong options that are near the right one: relatives of the answer in the graph, checked one by one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from eosin.core.nouns.classes import normalised
from eosin.core.nouns.sample import Entity
from eosin.curate.evidence import GraphEvidence
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker

_PARENTS = ("is_a",)
_PLACES = frozenset({"located_in", "part_of", "has_location", "disease_has_location", "in_organ", "derives_from"})
_SAME = frozenset({"same_as", "close_match", "exact_match"})
MAX_PER_RELATIVE = 400


class Distractors:
    """Candidates for wrong options.

    Args:
        pool: names that may be offered beside those of the graph, such as the classes of the data set.
    """

    def __init__(self, graph: Graph, linker: Linker, pool: Iterable[str] = ()) -> None:
        self._graph, self._linker = graph, linker
        self._evidence = GraphEvidence(graph, linker)
        self._pool = tuple(dict.fromkeys(p for p in pool if p.strip()))
        self._near = lru_cache(maxsize=4096)(self._relatives)

    def of(
        self,
        answer: str,
        num: int,
        rng: random.Random,
        *,
        known: Sequence[Entity] = (),
        text: str = "",
        only_pool: bool = False,
    ) -> list[str] | None:
        """`num` wrong options in no order, the nearest relatives first drawn; None where there are too few.

        No option is a name, a parent or a child of the answer, stands in `text` or among `known` as present, or is
        spoken for by the known findings as much as the answer is.

        Args:
            known: what is known of the picture, with polarity.
            only_pool: offer nothing but names of the pool (the classes of a data set).
        """
        concept = self._linker.concept_of(answer)
        taken = self._taken(answer, concept, known, text)
        found: list[str] = []
        for tier in (self._pool,) if only_pool else self._in_order(concept):
            names = [n for n in tier if normalised(n) not in taken]
            rng.shuffle(names)
            names.sort(key=lambda n: _length_class(n, answer, rng))
            for name in names:
                if len(found) == num:
                    return found
                if normalised(name) not in taken and not self._is_right_too(name, answer, concept, known):
                    found.append(name)
                    taken.add(normalised(name))
        return found if len(found) == num else None

    def _taken(self, answer: str, concept: str | None, known: Sequence[Entity], text: str) -> set[str]:
        """Names that may not be offered: the answer's own, and what is said to be there."""
        taken = {normalised(answer)} | {normalised(e.name) for e in known if e.polarity == "present"}
        if concept is not None:
            taken.add(normalised(self._linker.label_of(concept)))
        taken |= {normalised(m.label) for m in self._linker.link(text) if m.present}
        return taken | {normalised(m.text) for m in self._linker.link(text) if m.present}

    def _in_order(self, concept: str | None) -> Iterator[Sequence[str]]:
        """Relatives that are answers elsewhere, the nearest first; other answers; relatives that never are one.

        A name that is never the right answer of any question would be known as wrong from the texts alone.
        """
        tiers = self._tiers(concept)
        pool = {normalised(n) for n in self._pool}
        for tier in tiers:
            yield [n for n in tier if normalised(n) in pool]
        yield self._pool
        yield from tiers

    def _tiers(self, concept: str | None) -> tuple[Sequence[str], ...]:
        if concept is None or concept not in self._graph:
            return ()
        return self._near(concept)

    def _relatives(self, concept: str) -> tuple[Sequence[str], ...]:
        """Names of siblings, then of concepts of the same organ, then of those that share a finding, then of any."""
        graph, kind = self._graph, self._graph.type_of(concept)
        tiers: list[dict[str, None]] = [{}, {}, {}, {}]
        for own in graph.relations(concept):
            place = 0 if own.predicate in _PARENTS else 1 if own.predicate in _PLACES else 2
            for other in graph.relations(own.object, "in", (own.predicate,)):
                if len(tiers[place]) < MAX_PER_RELATIVE and graph.type_of(other.subject) == kind:
                    tiers[place][other.subject] = None
        rows = np.flatnonzero(graph.of_type(kind))
        step = max(1, len(rows) // MAX_PER_RELATIVE)
        tiers[3] = dict.fromkeys(graph.id_at(int(r)) for r in rows[::step])
        told: set[str] = set()
        names: list[list[str]] = []
        for tier in tiers:
            able = [c for c in tier if c not in told and not self._is_kin(concept, c)]
            told.update(able)
            names.append([graph.label_of(c) for c in able])
        return tuple(names)

    def _is_kin(self, a: str, b: str) -> bool:
        """Whether one is the other, a kind of it, or said to be the same."""
        graph = self._graph
        if graph.canonical(a) == graph.canonical(b):
            return True
        if b in graph.ancestors(a, _PARENTS) or a in graph.ancestors(b, _PARENTS):
            return True
        return any(r.predicate in _SAME and {r.subject, r.object} == {a, b} for r in graph.relations(a, "both"))

    def _is_right_too(self, name: str, answer: str, concept: str | None, known: Sequence[Entity]) -> bool:
        """Whether an option may be right: kin of the answer, its words inside it, or as well spoken for."""
        a, b = normalised(name), normalised(answer)
        if a in b or b in a:
            return True
        other = self._linker.concept_of(name)
        if other is None or concept is None:
            return False
        if other in self._graph and concept in self._graph:
            if self._is_kin(concept, other):
                return True
            findings = [e for e in known if e.kind == "finding" and e.concept]
            theirs = self._evidence.score(findings, other)
            return theirs > 0 and theirs >= self._evidence.score(findings, concept)
        return other == concept


def _length_class(name: str, answer: str, rng: random.Random) -> int:
    """0 for the side of the answer's length that was drawn, 1 for the other: so that length tells nothing."""
    longer = rng.random() < 0.5
    return 0 if (len(name) >= len(answer)) == longer else 1
