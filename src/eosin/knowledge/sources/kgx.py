"""KGX tables: a nodes file and an edges file, tab-separated, as two sources or as one of `NAME_nodes.tsv`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from eosin.knowledge.graph.concepts import Scope
from eosin.knowledge.graph.curies import curie
from eosin.knowledge.sources.base import ConceptRow, MappingRow, Refused, RelationRow, Row
from eosin.knowledge.sources.tsv import read_table

_TYPES = {
    "Disease": "diagnosis", "PhenotypicFeature": "finding", "DiseaseOrPhenotypicFeature": "finding",
    "AnatomicalEntity": "organ", "GrossAnatomicalStructure": "organ", "Cell": "cell", "CellularComponent": "other",
    "Gene": "gene", "Protein": "gene", "Drug": "drug", "ChemicalEntity": "drug", "SmallMolecule": "drug",
    "BiologicalProcess": "process", "MolecularActivity": "process", "Pathway": "process",
    "EnvironmentalExposure": "exposure", "OrganismTaxon": "organism", "Procedure": "method",
}  # fmt: skip


def read(path: Path) -> Iterator[Row]:
    """Rows of a nodes table or of an edges table, by its header."""
    yield from read_table(path, _choose)


def _choose(roles: Sequence[str]) -> Callable[[Mapping[str, str], int], Iterator[Row]] | None:
    if {"subject", "predicate", "object"} <= set(roles):
        return _edge
    return _node if "id" in roles and "label" in roles else None


def _node(cells: Mapping[str, str], number: int) -> Iterator[Row]:
    identifier = curie(cells["id"])
    if identifier is None or not cells["label"]:
        yield Refused("node without an id and a name", "  ".join(cells.values()), number)
        return
    categories = [c.rsplit(":", 1)[-1] for c in cells.get("type", "").split("|")]
    kind = next((_TYPES[c] for c in categories if c in _TYPES), None)
    exact = [*cells.get("synonyms", "").split("|"), *cells.get("exact_synonym", "").split("|")]
    names: list[tuple[str, Scope]] = [(s, "exact") for s in exact if s]
    names += [(s, "related") for s in cells.get("related_synonym", "").split("|") if s]
    xrefs = [x for x in map(curie, cells.get("xrefs", "").split("|")) if x]
    definition = cells.get("definition") or cells.get("description") or None
    yield ConceptRow(identifier, cells["label"], names, kind, definition, xrefs, number)
    for same in filter(None, map(curie, cells.get("same_as", "").split("|"))):
        yield MappingRow(identifier, same, "biolink:same_as", number)


def _edge(cells: Mapping[str, str], number: int) -> Iterator[Row]:
    subject, object_ = curie(cells["subject"]), curie(cells["object"])
    predicate = cells["predicate"]
    if subject is None or object_ is None or not predicate:
        yield Refused("relation without two ids and a predicate", "  ".join(cells.values()), number)
        return
    evidence = cells.get("primary_knowledge_source") or cells.get("publications") or cells.get("evidence") or ""
    yield RelationRow(subject, predicate, object_, evidence=evidence, line=number)
