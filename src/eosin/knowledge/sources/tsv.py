"""Tables: tab- or comma-separated, whose header says what they hold.

    concepts      id, label, [synonyms] [type] [definition] [xrefs] [parents]      lists divided by |
    relations     subject, predicate, object, [weight] [evidence]
    annotations   cls, pred, val      the triples of ROBOT reports: labels and synonyms
    facets        id, facet, import_id, import_keyword      Disease Ontology: names of imported concepts

Parents may be ids, or labels of concepts of the same prefix. A column "SubClass Of [ANON]" holds simple restrictions
such as 'derives from' some 'epithelial cell'. A leading ? of a column name is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from eosin.knowledge.graph.concepts import TYPES, Scope
from eosin.knowledge.graph.curies import curie, prefix_of
from eosin.knowledge.sources.base import (
    ConceptRow,
    LabelRelationRow,
    Refused,
    RelationRow,
    Row,
    lines_of,
    shorten,
    split_csv,
)

_ROLES = {
    "id": "id", "cls": "id", "curie": "id", "concept": "id", "label": "label", "name": "label", "val": "value",
    "synonyms": "synonyms", "synonym": "synonyms", "exact_synonyms": "synonyms", "related_synonyms": "related",
    "broad_synonyms": "broad", "narrow_synonyms": "narrow", "type": "type", "category": "type", "kind": "type",
    "definition": "definition", "def": "definition", "xref": "xrefs", "xrefs": "xrefs", "parent": "parents",
    "parents": "parents", "subclassof": "parents", "is_a": "parents", "subclass_of_[anon]": "restrictions",
    "subject": "subject", "x": "subject", "head": "subject", "predicate": "predicate", "p": "predicate",
    "pred": "predicate", "relation": "predicate", "object": "object", "y": "object", "tail": "object",
    "weight": "weight", "evidence": "evidence", "reference": "evidence", "facet": "facet",
    "import_id": "import_id", "import_keyword": "import_keyword", "syntype": "syntype",
}  # fmt: skip
_ANNOTATIONS: Mapping[str, Scope] = {
    "rdfs:label": "label", "oboInOwl:hasExactSynonym": "exact", "oboInOwl:hasRelatedSynonym": "related",
    "oboInOwl:hasBroadSynonym": "broad", "oboInOwl:hasNarrowSynonym": "narrow", "skos:prefLabel": "label",
    "skos:altLabel": "exact",
}  # fmt: skip
_FACETS = {"anatomy": "organ", "cell_type": "cell", "symptom": "finding", "phenotype": "finding"}
_RESTRICTION = re.compile(r"^'?([\w ]+?)'? some '?([^'()]+?)'?$")
_RANGES = {
    "disease has location": ("UBERON", "CL"), "derives from": ("CL", "UBERON"), "has symptom": ("SYMP", "HP"),
    "has phenotype": ("HP",), "existence starts during": ("HP", "UBERON"),
}  # fmt: skip
_LIST = re.compile(r"\s*\|\s*")
_XREFS = re.compile(r"[|,;\s]+")
Cells = Mapping[str, str]


def read(path: Path) -> Iterator[Row]:
    """Rows of a table. A row with more or fewer cells than the header, or without an id, is refused."""
    yield from read_table(path, _reader_for)


def read_table(
    path: Path, choose: Callable[[Sequence[str]], Callable[[Cells, int], Iterator[Row]] | None]
) -> Iterator[Row]:
    """Rows of any table: `choose` picks the reader of a row from the header's roles."""
    header: list[str] | None = None
    delimiter = "\t"
    reader: Callable[[Cells, int], Iterator[Row]] | None = None
    for number, line in lines_of(path):
        if isinstance(line, Refused):
            yield line
            continue
        if not line.strip() or (header is None and line.startswith("#")):
            continue
        if header is None:
            delimiter = "\t" if "\t" in line else ","
            header = roles_of(cells_of(line, delimiter))
            reader = choose(header)
            if reader is None:
                yield Refused("header of no known table", shorten(line), number)
                return
            continue
        cells = cells_of(line, delimiter)
        if len(cells) != len(header):
            yield Refused("shifted columns", f"{len(cells)} cells, the header has {len(header)}: {line}", number)
            continue
        assert reader is not None
        yield from reader(dict(zip(header, cells, strict=True)), number)
    if header is None:
        yield Refused("empty file", path.name, 1)


def cells_of(line: str, delimiter: str) -> list[str]:
    """Cells of one line; quotes are taken off where they enclose a whole cell."""
    if delimiter == "\t" and '"' not in line:
        return [c.strip() for c in line.split("\t")]
    return [c.strip() for c in split_csv(line, delimiter)]


def roles_of(header: Sequence[str]) -> list[str]:
    """What each column holds, by its name; an unknown column keeps its name."""
    plain = [h.strip().lstrip("?").casefold().replace(" ", "_") for h in header]
    return [_ROLES.get(h, h) for h in plain]


def _reader_for(roles: Sequence[str]) -> Callable[[Cells, int], Iterator[Row]] | None:
    has = set(roles)
    if {"subject", "predicate", "object"} <= has:
        return _relation
    if {"id", "predicate", "value"} <= has:
        return _annotation
    if {"id", "facet", "import_id", "import_keyword"} <= has:
        return _Facets()
    if "id" in has and has & {"label", "definition", "xrefs", "synonyms", "restrictions"}:
        return _concept
    return None


def _relation(cells: Cells, number: int) -> Iterator[Row]:
    subject, object_ = curie(cells["subject"]), curie(cells["object"])
    predicate = curie(cells["predicate"]) or cells["predicate"]
    if cells["subject"].startswith("_:") or cells["object"].startswith("_:"):
        yield Refused("anonymous class", _shown(cells), number, fault=False)
        return
    if subject is None or object_ is None or not predicate:
        yield Refused("relation without two ids and a predicate", _shown(cells), number)
        return
    weight = number_of(cells.get("weight", ""))
    if weight is None or not 0 < weight <= 1:
        yield Refused("weight is not above 0 and at most 1", _shown(cells), number)
        return
    yield RelationRow(subject, predicate, object_, weight, cells.get("evidence", ""), number)


def number_of(text: str) -> float | None:
    """A number; 1 where the cell is empty; None where it is no number."""
    try:
        return float(text) if text else 1.0
    except ValueError:
        return None


def _annotation(cells: Cells, number: int) -> Iterator[Row]:
    identifier, predicate = curie(cells["id"]), curie(cells["predicate"])
    if identifier is None or predicate is None:
        yield Refused("id is no CURIE", _shown(cells), number)
        return
    scope = _ANNOTATIONS.get(predicate)
    if scope is None:
        yield Refused("annotation that is no name", predicate, number, fault=False)
    elif scope == "label" and cells["value"].startswith("obsolete "):
        yield Refused("obsolete term", f"{identifier} {cells['value']}", number, fault=False)
    elif scope == "label":
        yield ConceptRow(identifier, cells["value"], line=number, whole=False)
    else:
        yield ConceptRow(identifier, names=[(cells["value"], scope)], line=number, whole=False)


def _concept(cells: Cells, number: int) -> Iterator[Row]:
    identifier = curie(cells["id"])
    if identifier is None:
        yield Refused("id is no CURIE", _shown(cells), number)
        return
    kind = cells.get("type", "").casefold() or None
    if kind is not None and kind not in TYPES:
        yield Refused("unknown semantic type", f"{kind}; known are {', '.join(TYPES)}", number)
        return
    names: list[tuple[str, Scope]] = [(s, "exact") for s in _LIST.split(cells.get("synonyms", "")) if s]
    for scope in ("related", "broad", "narrow"):
        names += [(s, scope) for s in _LIST.split(cells.get(scope, "")) if s]  # type: ignore[misc]
    xrefs = [x for x in map(curie, filter(None, _XREFS.split(cells.get("xrefs", "")))) if x]
    label, definition = cells.get("label") or None, cells.get("definition") or None
    yield ConceptRow(identifier, label, names, kind, definition, xrefs, number, whole=False)
    yield from _parents(identifier, cells.get("parents", ""), number)
    yield from _restrictions(identifier, cells.get("restrictions", ""), number)


def _parents(identifier: str, text: str, number: int) -> Iterator[Row]:
    for parent in filter(None, _LIST.split(text)):
        known = curie(parent)
        if known is not None:
            yield RelationRow(identifier, "is_a", known, line=number)
        else:
            yield LabelRelationRow(identifier, "is_a", parent, (prefix_of(identifier),), number)


def _restrictions(identifier: str, text: str, number: int) -> Iterator[Row]:
    """Manchester syntax: 'property' some 'class', divided by |. Compound expressions are set aside."""
    for part in filter(None, _LIST.split(text)):
        simple = _RESTRICTION.match(part)
        if simple is None:
            yield Refused("compound class expression", f"{identifier}: {part}", number, fault=False)
            continue
        predicate, label = simple.groups()
        yield LabelRelationRow(identifier, predicate, label, _RANGES.get(predicate, ()), number)


class _Facets:
    """Disease Ontology facets: names of imported concepts and definitions. The facets themselves are inferred, so
    that they follow from the stated relations; they are set aside."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, cells: Cells, number: int) -> Iterator[Row]:
        imported, identifier = curie(cells["import_id"]), curie(cells["id"])
        kind = _FACETS.get(cells["facet"])
        if imported is None or identifier is None:
            yield Refused("id is no CURIE", _shown(cells), number)
            return
        if kind is not None and imported not in self._seen:
            self._seen.add(imported)
            yield ConceptRow(imported, cells["import_keyword"], type=kind, line=number, whole=False)
        if identifier not in self._seen:
            self._seen.add(identifier)
            label, definition = cells.get("label") or None, cells.get("definition") or None
            yield ConceptRow(identifier, label, definition=definition, line=number, whole=False)


def _shown(cells: Cells) -> str:
    return shorten("  ".join(cells.values()))
