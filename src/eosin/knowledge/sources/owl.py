"""OWL in RDF/XML, as a stream: named classes, labels, synonyms, definitions, subclass axioms, simple restrictions.

Needs no reasoner and no further package. Other serialisations of OWL go through OBO Graphs JSON (`robot convert`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from eosin.knowledge.graph.concepts import Scope
from eosin.knowledge.graph.curies import curie
from eosin.knowledge.sources.base import (
    UNPACKING_ERRORS,
    ConceptRow,
    Header,
    MappingRow,
    OwnPredicate,
    Refused,
    RelationRow,
    Row,
    open_bytes,
)

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
RDFS = "http://www.w3.org/2000/01/rdf-schema#"
OWL = "http://www.w3.org/2002/07/owl#"
OBO = "http://purl.obolibrary.org/obo/"
IN_OWL = "http://www.geneontology.org/formats/oboInOwl#"
SKOS = "http://www.w3.org/2004/02/skos/core#"
_CHUNK_BYTES = 1 << 16
MAX_ELEMENT_CHARS = 16 << 20  # of one class with all that stands in it; the largest of the OBO foundry has 1 MB
_CHARS_OF_A_TAG = 100  # what an element costs beside its text
_SYNONYMS: dict[str, Scope] = {
    IN_OWL + "hasExactSynonym": "exact", IN_OWL + "hasRelatedSynonym": "related", SKOS + "altLabel": "exact",
    IN_OWL + "hasBroadSynonym": "broad", IN_OWL + "hasNarrowSynonym": "narrow", OBO + "IAO_0000118": "exact",
}  # fmt: skip
_EXACT = {SKOS + "exactMatch": "skos:exactMatch", OWL + "equivalentClass": "owl:equivalentClass"}
_LICENCES = {"http://purl.org/dc/terms/license", "http://purl.org/dc/elements/1.1/license"}
_PROPERTIES = {OWL + "ObjectProperty", OWL + "AnnotationProperty", OWL + "DatatypeProperty"}


@dataclass
class Element:
    """One XML element, whole: name, attributes, text, children."""

    name: str
    attributes: dict[str, str]
    line: int
    text: list[str] = field(default_factory=list)
    children: list[Element] = field(default_factory=list)

    @property
    def value(self) -> str:
        return " ".join("".join(self.text).split())

    @property
    def resource(self) -> str | None:
        """The id that the element points to."""
        raw = self.attributes.get(RDF + "resource") or self.attributes.get(RDF + "about")
        return curie(raw) if raw else None


def top_elements(path: Path) -> Iterator[Element | Refused]:
    """The children of the document's root, one after the other; no more than one is in memory.

    Document types and entities of other files are not followed, and an element beyond MAX_ELEMENT_CHARS ends the file.
    """
    parser = expat.ParserCreate(namespace_separator="")
    stack: list[Element] = []
    ready: list[Element] = []
    size = 0

    def grow(num: int) -> None:
        nonlocal size
        size += num
        if size > MAX_ELEMENT_CHARS:
            raise _TooLargeError

    def start(name: str, attributes: dict[str, str]) -> None:
        grow(_CHARS_OF_A_TAG + sum(map(len, attributes.values())))
        stack.append(Element(name, attributes, parser.CurrentLineNumber))

    def end(name: str) -> None:
        nonlocal size
        element = stack.pop()
        if len(stack) == 1:
            ready.append(element)
            size = 0
        elif stack:
            stack[-1].children.append(element)

    def text(data: str) -> None:
        if len(stack) > 1:
            grow(len(data))
            stack[-1].text.append(data)

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    with open_bytes(path) as handle:
        yield from _feed(parser, handle, ready)


class _TooLargeError(Exception):
    """An element is larger than any of an ontology."""


def _feed(parser: Any, handle: IO[bytes], ready: list[Element]) -> Iterator[Element | Refused]:
    fed = 0
    try:
        while chunk := handle.read(_CHUNK_BYTES):
            parser.Parse(chunk, False)
            yield from ready
            ready.clear()
            fed += len(chunk)
            if fed - parser.CurrentByteIndex > MAX_ELEMENT_CHARS:  # a tag or comment without end
                raise _TooLargeError
        parser.Parse(b"", True)
    except _TooLargeError:
        yield from ready
        yield Refused("element too large", f"more than {MAX_ELEMENT_CHARS} characters", parser.CurrentLineNumber)
    except expat.ExpatError as exc:
        yield from ready
        yield Refused("not well-formed XML", str(exc), exc.lineno)
    except UNPACKING_ERRORS as exc:
        yield Refused("file is cut off or damaged", str(exc), parser.CurrentLineNumber)


def read(path: Path) -> Iterator[Row]:
    """Rows of an OWL file: concepts as they come, relations at the end."""
    relations: list[RelationRow] = []
    predicates: list[OwnPredicate] = []
    num = 0
    for element in top_elements(path):
        if isinstance(element, Refused):
            yield element
        elif element.name == OWL + "Ontology":
            yield _header(element)
        elif element.name in _PROPERTIES:
            predicates += _property(element)
        elif element.name == OWL + "Class":
            num += 1
            yield from class_rows(element, relations)
    if not num:
        yield Refused("no OWL class in the file", path.name, 1)
    yield Header(predicates=predicates)
    yield from relations


def _header(element: Element) -> Header:
    version = licence = ""
    for child in element.children:
        if child.name == OWL + "versionIRI":
            version = child.attributes.get(RDF + "resource", "")
        elif child.name == OWL + "versionInfo" and not version:
            version = child.value
        elif child.name in _LICENCES:
            licence = child.attributes.get(RDF + "resource", "") or child.value
    return Header(version, licence)


def _property(element: Element) -> Iterator[OwnPredicate]:
    if element.resource:
        label = next((c.value for c in element.children if c.name == RDFS + "label"), "")
        yield OwnPredicate(element.resource, label)


def class_rows(element: Element, relations: list[RelationRow]) -> Iterator[Row]:
    """Rows of one class; its relations are appended to `relations`."""
    identifier = element.resource
    if identifier is None:
        yield Refused("anonymous class", "", element.line, fault=False)
        return
    row = ConceptRow(identifier, line=element.line, names=[], xrefs=[])
    mappings: list[MappingRow] = []
    for child in element.children:
        if child.name == OWL + "deprecated" and child.value == "true":
            label = next((c.value for c in element.children if c.name == RDFS + "label"), "")
            yield Refused("obsolete term", f"{identifier} {label}", element.line, fault=False)
            return
        _child(row, child, mappings, relations)
    yield row
    if row.label is None:
        yield Refused("term without a name", identifier, element.line, fault=False)
    yield from mappings


def _child(row: ConceptRow, child: Element, mappings: list[MappingRow], relations: list[RelationRow]) -> None:
    name = child.name
    assert isinstance(row.names, list) and isinstance(row.xrefs, list)
    if name == RDFS + "label" and row.label is None and _english(child):
        row.label = child.value
    elif name in _SYNONYMS and _english(child) and child.value:
        row.names.append((child.value, _SYNONYMS[name]))
    elif name in (OBO + "IAO_0000115", SKOS + "definition") and row.definition is None:
        row.definition = child.value
    elif name == IN_OWL + "hasDbXref":
        xref = curie(child.value)
        if xref:
            row.xrefs.append(xref)
    elif name == IN_OWL + "hasAlternativeId":
        old = curie(child.value)
        if old:
            mappings.append(MappingRow(row.id, old, "hasAlternativeId", child.line, secondary=True))
    elif name in _EXACT and child.resource:
        mappings.append(MappingRow(row.id, child.resource, _EXACT[name], child.line))
    elif name == RDFS + "subClassOf":
        _subclass(row.id, child, relations)


def _english(child: Element) -> bool:
    language = child.attributes.get("http://www.w3.org/XML/1998/namespacelang", "en")
    return language.casefold().startswith("en")


def _subclass(identifier: str, child: Element, relations: list[RelationRow]) -> None:
    if child.resource:
        if child.resource != "owl:Thing":
            relations.append(RelationRow(identifier, "is_a", child.resource, line=child.line))
        return
    for inner in child.children:
        if inner.name == OWL + "Class" and inner.resource:
            relations.append(RelationRow(identifier, "is_a", inner.resource, line=inner.line))
        elif inner.name == OWL + "Restriction":
            parts = {c.name: c.resource for c in inner.children}
            predicate, target = parts.get(OWL + "onProperty"), parts.get(OWL + "someValuesFrom")
            if predicate and target:
                relations.append(RelationRow(identifier, predicate, target, line=inner.line))
