"""PathoML.owl, the schema of PathoGraph: a vocabulary of relations, and no list of terms.

Its object properties are looked up in relations.tsv; its classes describe how a case is annotated, and are set aside.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eosin.knowledge.sources.base import Header, OwnPredicate, Refused, Row
from eosin.knowledge.sources.owl import OWL, RDF, RDFS, top_elements


def read(path: Path) -> Iterator[Row]:
    """The header with all relations of the schema; classes and data properties as set aside."""
    predicates = []
    for element in top_elements(path):
        if isinstance(element, Refused):
            yield element
            continue
        raw = element.attributes.get(RDF + "about", "")
        name = raw.rsplit("#", 1)[-1]
        comment = next((c.value for c in element.children if c.name == RDFS + "comment"), "")
        if element.name == OWL + "Ontology":
            yield Header(version=_version(comment))
        elif element.name == OWL + "ObjectProperty" and name:
            predicates.append(OwnPredicate(f"pathoml:{name}", name.replace("_", " ")))
        elif element.name == OWL + "Class" and name:
            yield Refused("class of the schema, no term", name, element.line, fault=False)
        elif element.name == OWL + "DatatypeProperty" and name:
            yield Refused("data property of the schema", name, element.line, fault=False)
    if not predicates:
        yield Refused("no relation in the schema", path.name, 1)
    yield Header(predicates=predicates)


def _version(comment: str) -> str:
    words = comment.split()
    return words[words.index("version") + 1] if "version" in words[:-1] else ""
