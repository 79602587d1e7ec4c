"""The built-in tables of findings, markers, stains and grading systems as a source."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from eosin.knowledge.linking import tables
from eosin.knowledge.sources import sssom
from eosin.knowledge.sources.base import ConceptRow, Header, RelationRow, Row


def read() -> Iterator[Row]:
    """Rows of the tables in `eosin/knowledge/tables`.

    Raises:
        EosinError: with file and line, where a table that someone edited cannot be read.
    """
    yield Header(licence="Apache-2.0")
    for concept in tables.concepts():
        names = [(s.text, s.scope) for s in concept.synonyms]
        yield ConceptRow(concept.id, concept.label, names, concept.type, concept.definition or None, concept.xrefs)
    for row in sssom.read(Path(str(files("eosin.knowledge").joinpath("tables", "mappings.tsv")))):
        if not isinstance(row, Header):
            yield row
    for r in tables.relations():
        yield RelationRow(r.subject, r.predicate, r.object, r.weight, r.evidence)
