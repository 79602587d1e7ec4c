"""The differential: what speaks for one diagnosis and against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eosin.core.errors import EosinError
from eosin.knowledge.graph.concepts import Relation
from eosin.knowledge.graph.graph import Graph

DECAY = 0.7
"""Strength that evidence keeps per step up the hierarchy: what speaks for carcinoma speaks less for one kind of it."""
MAX_DEPTH = 6


@dataclass(frozen=True)
class Evidence:
    """What one concept says about one diagnosis.

    Attributes:
        concept: the finding or marker.
        sign: 1 speaks for the diagnosis, -1 against it.
        strength: weight of the predicate times that of the relation times DECAY per step of inheritance; 0 to 1.
        relation: the statement in the graph.
        via: the diagnosis that the statement is about: the diagnosis itself or one above it.
    """

    concept: str
    sign: int
    strength: float
    relation: Relation
    via: str

    @property
    def signed(self) -> float:
        return self.sign * self.strength


@dataclass(frozen=True)
class Difference:
    """One concept that tells two diagnoses apart, or that both share.

    Attributes:
        a, b: what it says about each of them; None where the graph says nothing.
        score: signed strength for a minus that for b: above 0 its presence favours a, below 0 it favours b.
    """

    concept: str
    a: Evidence | None
    b: Evidence | None

    @property
    def score(self) -> float:
        return round((self.a.signed if self.a else 0.0) - (self.b.signed if self.b else 0.0), 4)


@dataclass(frozen=True)
class Contrast:
    """The differential of two diagnoses.

    Attributes:
        for_a: concepts whose presence favours a, strongest first.
        for_b: the same for b.
        shared: concepts that say the same about both.
        common: nearest diagnosis above both, or None.
        sites: predicate -> objects that only a has, and that only b has (located_in, derives_from), also inherited.
    """

    a: str
    b: str
    for_a: tuple[Difference, ...]
    for_b: tuple[Difference, ...]
    shared: tuple[Difference, ...]
    common: str | None
    sites: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]

    def lines(self, graph: Graph) -> list[str]:
        """The differential in plain words, one statement a line."""
        return _lines(self, graph)


def evidence_for(graph: Graph, diagnosis: str, max_depth: int = MAX_DEPTH) -> list[Evidence]:
    """All signed statements about a diagnosis and what stands above it (is_a), one for each concept, strongest first.

    A statement about the diagnosis itself goes before an inherited one, so that a kind may differ from its class.
    """
    diagnosis = graph.canonical(diagnosis)
    above = {diagnosis: 0, **graph.ancestors(diagnosis, max_depth=max_depth)}
    found: dict[str, Evidence] = {}
    for via, depth in sorted(above.items(), key=lambda item: item[1]):
        for relation in graph.relations(via, "both"):
            predicate = graph.vocabulary[relation.predicate]
            concept = relation.subject if relation.object == via else relation.object
            if not predicate.sign or concept in above:
                continue
            weight = predicate.weight if relation.object == via else predicate.inverse_weight
            strength = round(weight * relation.weight * DECAY**depth, 4)
            new = Evidence(concept, predicate.sign, strength, relation, via)
            old = found.get(concept)
            if old is None or (above[old.via] == depth and new.strength > old.strength):
                found[concept] = new
    return sorted(found.values(), key=lambda e: (-e.strength, e.concept))


def contrast(graph: Graph, a: str, b: str, max_depth: int = MAX_DEPTH) -> Contrast:
    """What speaks for a and against b, and the other way round.

    Raises:
        EosinError: an unknown concept, or a and b are the same.
    """
    a, b = graph.canonical(a), graph.canonical(b)
    if a == b:
        raise EosinError("A differential needs two different diagnoses.", found=a)
    of_a = {e.concept: e for e in evidence_for(graph, a, max_depth)}
    of_b = {e.concept: e for e in evidence_for(graph, b, max_depth)}
    rows = [Difference(c, of_a.get(c), of_b.get(c)) for c in {**of_a, **of_b}]
    shared = [r for r in rows if r.a and r.b and r.a.sign == r.b.sign]
    telling = [r for r in rows if r not in shared]

    def ordered(rows: Sequence[Difference]) -> tuple[Difference, ...]:
        return tuple(sorted(rows, key=lambda r: (-abs(r.score), r.concept)))

    return Contrast(
        a, b, ordered([r for r in telling if r.score > 0]), ordered([r for r in telling if r.score < 0]),
        ordered(shared), _common(graph, a, b), _sites(graph, a, b),
    )  # fmt: skip


def _common(graph: Graph, a: str, b: str) -> str | None:
    """The nearest concept above both, by the sum of steps."""
    of_a = {a: 0, **graph.ancestors(a)}
    of_b = {b: 0, **graph.ancestors(b)}
    both = of_a.keys() & of_b.keys()
    return min(both, key=lambda c: (of_a[c] + of_b[c], c)) if both else None


def _sites(graph: Graph, a: str, b: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    found = {}
    for predicate in ("located_in", "derives_from"):
        of_a, of_b = (_objects(graph, c, predicate) for c in (a, b))
        only_a, only_b = tuple(x for x in of_a if x not in of_b), tuple(x for x in of_b if x not in of_a)
        if only_a or only_b:
            found[predicate] = (only_a, only_b)
    return found


def _objects(graph: Graph, concept: str, predicate: str) -> list[str]:
    above = [concept, *graph.ancestors(concept)]
    return list(dict.fromkeys(r.object for c in above for r in graph.relations(c, "out", [predicate])))


def _lines(contrast: Contrast, graph: Graph) -> list[str]:
    name = {c: graph.label_of(c) for c in (contrast.a, contrast.b)}
    lines = []
    for row in (*contrast.for_a, *contrast.for_b):
        parts = [_says(e, name[d], graph) for e, d in ((row.a, contrast.a), (row.b, contrast.b)) if e]
        lines.append(f"{graph.label_of(row.concept)} {' and '.join(parts)}.")
    for row in contrast.shared:
        verb = "speaks for both" if row.a and row.a.sign > 0 else "speaks against both"
        lines.append(f"{graph.label_of(row.concept)} {verb} and does not tell them apart.")
    for predicate, pair in contrast.sites.items():
        for diagnosis, other, sites in (
            (contrast.a, contrast.b, pair[0]),
            (contrast.b, contrast.a, pair[1]),
        ):
            if sites:
                labels = ", ".join(dict.fromkeys(graph.label_of(s) for s in sites))
                sentence = graph.vocabulary[predicate].sentence.format(s=name[diagnosis], o=labels)
                lines.append(f"{sentence}, which is not said of {name[other]}.")
    if contrast.common:
        lines.append(f"Both are kinds of {graph.label_of(contrast.common)}.")
    return lines


def _says(evidence: Evidence, diagnosis: str, graph: Graph) -> str:
    verb = "speaks for" if evidence.sign > 0 else "speaks against"
    above = graph.label_of(evidence.via)
    inherited = f" (said of {above})" if above != diagnosis else ""
    return f"{verb} {diagnosis}{inherited}"
