"""Ontologies in; linked, signed entities and evidence paths out. Research use only, not for diagnosis."""

from __future__ import annotations

from eosin.knowledge.graph.concepts import Concept, Relation, Source, Synonym
from eosin.knowledge.graph.graph import Graph, Hit
from eosin.knowledge.reasoning.differential import Contrast, contrast, evidence_for
from eosin.knowledge.reasoning.paths import Path, Step, paths

__all__ = [
    "Concept", "Contrast", "Graph", "Hit", "Path", "Relation", "Source", "Step", "Synonym", "contrast", "evidence_for",
    "paths",
]  # fmt: skip
