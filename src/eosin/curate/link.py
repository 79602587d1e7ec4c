"""Gold entities get concept ids: their names are looked up in Eosin's tables, or in a knowledge graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eosin.core.nouns.sample import Entity, Sample
from eosin.knowledge.linking.linker import Linker

KINDS = frozenset({"finding", "cell", "tissue", "marker", "diagnosis"})
"""Types of mentions that become entities where a sample has a gold text and no entities."""


@dataclass(frozen=True)
class Linked:
    """Samples with concept ids, in their order, and counts of entities.

    Attributes:
        num_entities: all entities afterwards, of which `num_linked` have a concept and `num_made` were read from texts.
    """

    samples: tuple[Sample, ...]
    num_entities: int
    num_linked: int
    num_made: int


def link_entities(samples: Sequence[Sample], linker: Linker | None = None, *, from_text: bool = False) -> Linked:
    """Give every entity the concept that its name leads to. What has one keeps it; unknown names stay as they are.

    Args:
        linker: by default that of Eosin's own tables.
        from_text: also make entities, with polarity and certainty, from the gold findings of samples that have none.
    """
    names = linker or Linker.builtin()
    made = 0
    linked = []
    for sample in samples:
        entities = sample.entities
        if from_text and not entities and sample.findings:
            entities = tuple(entities_of(sample.findings, names))
            made += len(entities)
        linked.append(sample.model_copy(update={"entities": tuple(_with_concept(e, names) for e in entities)}))
    found = [e for s in linked for e in s.entities]
    return Linked(tuple(linked), len(found), sum(e.concept is not None for e in found), made)


def _with_concept(entity: Entity, linker: Linker) -> Entity:
    if entity.concept is not None:
        return entity
    concept = linker.concept_of(entity.name)
    return entity if concept is None else entity.model_copy(update={"concept": concept})


def entities_of(text: str, linker: Linker) -> Iterable[Entity]:
    """What a text says of the patient now, each concept and polarity once; nothing ambiguous."""
    seen = set()
    for m in linker.link(text):
        wanted = m.type in KINDS and m.scope == "patient" and not m.alternatives
        if wanted and m.signed not in seen:
            seen.add(m.signed)
            yield Entity(name=m.label, concept=m.concept, kind=m.type, polarity=m.polarity, certainty=m.certainty)
