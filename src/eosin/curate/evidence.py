"""What findings say of diagnoses, as paths of the knowledge graph: the evidence that reasoning stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eosin.core.nouns.sample import Entity
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker, Mention
from eosin.knowledge.reasoning.check import HIERARCHY, Facts
from eosin.knowledge.reasoning.paths import Path, paths


@dataclass(frozen=True)
class FindingEvidence:
    """What one finding, as it was seen, says of one diagnosis.

    Attributes:
        sign: 1 speaks for it, -1 against it, 0 nothing is known.
        strength: 0 to 1, see `knowledge.check`.
        sentences: the path from finding to diagnosis, one sentence a step; empty where sign is 0.
        sources: reference or source of each step.
    """

    finding: Entity
    diagnosis: str
    sign: int = 0
    strength: float = 0.0
    sentences: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def signed(self) -> float:
        return self.sign * self.strength

    def as_json(self) -> dict[str, Any]:
        """For `Sample.extra`."""
        return {
            "finding": self.finding.name, "concept": self.finding.concept, "polarity": self.finding.polarity,
            "diagnosis": self.diagnosis, "sign": self.sign, "strength": self.strength,
            "path": list(self.sentences), "sources": list(self.sources),
        }  # fmt: skip


class GraphEvidence:
    """Evidence of findings, found once and remembered.

    Args:
        graph: by default Eosin's own tables. linker: names of that graph.
        max_hops: the longest path from finding to diagnosis.
    """

    def __init__(self, graph: Graph | None = None, linker: Linker | None = None, *, max_hops: int = 3) -> None:
        self.graph = graph or Graph.builtin()
        self.linker = linker or (Linker.of(graph) if graph is not None else Linker.builtin())
        self._facts = Facts(self.graph, max_hops=1)
        self._max_hops = max_hops
        self._known: dict[tuple[str, str, str], FindingEvidence] = {}

    def of(self, finding: Entity, diagnosis: str) -> FindingEvidence:
        """What a finding with its polarity says of a diagnosis."""
        key = (finding.concept or finding.name, finding.polarity, diagnosis)
        if key not in self._known:
            self._known[key] = self._find(finding, diagnosis)
        return replace(self._known[key], finding=finding)

    def score(self, findings: Sequence[Entity], diagnosis: str) -> float:
        """Sum of the signed strengths of all findings for a diagnosis."""
        return round(sum(self.of(f, diagnosis).signed for f in findings), 6)

    def ranked(self, findings: Sequence[Entity], diagnoses: Sequence[str]) -> list[tuple[str, float]]:
        """Diagnoses with their scores, the best first; equal scores in the given order."""
        scored = [(d, self.score(findings, d)) for d in diagnoses]
        return sorted(scored, key=lambda pair: -pair[1])

    def _find(self, finding: Entity, diagnosis: str) -> FindingEvidence:
        concept = finding.concept
        if concept is None or concept not in self.graph or diagnosis not in self.graph:
            return FindingEvidence(finding, diagnosis)
        told = self._facts.assess(self._mention(concept, finding.polarity), self._mention(diagnosis, "present"))
        path = self._path(concept, diagnosis) if finding.polarity == "present" else None
        if path is not None and (not told.sign or path.sign == told.sign):
            sources = tuple(s.relation.evidence or s.relation.source for s in path.steps)
            strength = told.strength or round(0.7 ** (len(path.steps) - 1) * 0.5, 4)
            return FindingEvidence(finding, diagnosis, path.sign, strength, (path.sentence(self.graph),), sources)
        return FindingEvidence(finding, diagnosis, told.sign, told.strength, told.evidence, told.sources)

    def _path(self, concept: str, diagnosis: str) -> Path | None:
        """The cheapest path with exactly one step of evidence, the others of the hierarchy."""
        if self.graph.canonical(concept) == self.graph.canonical(diagnosis):
            return None
        for path in paths(self.graph, concept, diagnosis, 3, max_hops=self._max_hops):
            signed = [s for s in path.steps if self.graph.vocabulary[s.relation.predicate].sign]
            if len(signed) == 1 and all(s in signed or s.relation.predicate in HIERARCHY for s in path.steps):
                return path
        return None

    def _mention(self, concept: str, polarity: Any) -> Mention:
        label = self.graph.label_of(concept)
        return Mention(0, len(label), label, concept, label, self.graph.type_of(concept), polarity)


def concept_named(name: str, linker: Linker, aliases: Mapping[str, str]) -> str | None:
    """The concept of a diagnosis by its name, or by the name that `aliases` gives it in the graph."""
    concept = linker.concept_of(aliases.get(name, name))
    return concept if concept is not None and linker.type_of(concept) == "diagnosis" else None
