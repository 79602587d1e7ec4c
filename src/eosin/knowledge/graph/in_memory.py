"""Small graphs that are made in memory: from concepts and relations in Python, and from Eosin's own tables."""

from __future__ import annotations

from collections.abc import Iterable

from eosin.knowledge.graph.assemble import assemble
from eosin.knowledge.graph.columns import Columns
from eosin.knowledge.graph.concepts import Concept, Relation
from eosin.knowledge.graph.drafts import Drafts
from eosin.knowledge.graph.faults import fault_error, sources_of
from eosin.knowledge.graph.vocabulary import builtin_vocabulary
from eosin.knowledge.sources import SourceSpec, reader_of
from eosin.knowledge.sources.base import ConceptRow, RelationRow, Row


def columns_of(concepts: Iterable[Concept], relations: Iterable[Relation] = ()) -> Columns:
    """The columns of a graph in memory, from concepts and relations made in Python.

    Raises:
        EosinError: a relation of unknown concepts, a duplicate id, or a cycle of is_a.
    """
    rows: list[Row] = [*map(_row, concepts), *map(_relation_row, relations)]
    return _assembled(SourceSpec("memory", None, "memory"), rows)


def builtin_columns() -> Columns:
    """The columns of the graph of Eosin's own tables."""
    spec = SourceSpec("tables", None, "eosin tables")
    return _assembled(spec, reader_of(spec))


def _assembled(spec: SourceSpec, rows: Iterable[Row]) -> Columns:
    drafts = Drafts(builtin_vocabulary())
    drafts.take(spec.name, rows)
    assembled = assemble(drafts, lambda: sources_of([spec], drafts))
    faults = [r for r in drafts.refusals.all() if r.fault]
    if faults:
        raise fault_error(faults, [spec])
    return assembled.columns


def _row(concept: Concept) -> ConceptRow:
    names = [(s.text, s.scope) for s in concept.synonyms]
    kind = concept.type if concept.type != "other" else None
    return ConceptRow(concept.id, concept.label, names, kind, concept.definition, concept.xrefs)


def _relation_row(relation: Relation) -> RelationRow:
    return RelationRow(relation.subject, relation.predicate, relation.object, relation.weight, relation.evidence)
