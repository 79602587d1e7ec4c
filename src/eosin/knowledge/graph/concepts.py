"""The nouns of the knowledge graph: concepts with names, typed relations with provenance, sources, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Scope = Literal["label", "exact", "narrow", "broad", "related"]
SynonymScope = Literal["exact", "narrow", "broad", "related"]
SCOPES: tuple[Scope, ...] = ("label", "exact", "narrow", "broad", "related")
Direction = Literal["out", "in", "both"]

TYPES = (
    "finding", "diagnosis", "organ", "tissue", "cell", "stain", "marker", "grade", "gene", "drug", "process", "method",
    "exposure", "organism", "context", "outdated", "other",
)  # fmt: skip
"""Semantic types. A source may bring no other: what fits nowhere is "other". "context" is what no slide can show
(stage, margins, history), "outdated" a name that is no longer used."""


@dataclass(frozen=True, slots=True)
class Synonym:
    """Another name of a concept. Only `exact` ones mean the same thing."""

    text: str
    scope: SynonymScope = "exact"


@dataclass(frozen=True)
class Concept:
    """One meaning.

    Attributes:
        id: a CURIE such as DOID:0001816.
        label: the preferred name.
        synonyms: all other names with their scope.
        type: one of `TYPES`.
        definition: a sentence, or None.
        xrefs: CURIEs of the same or a near meaning elsewhere, as the source gives them.
        source: name of the source that defines the concept; of merged concepts the first one.
    """

    id: str
    label: str
    synonyms: tuple[Synonym, ...] = ()
    type: str = "other"
    definition: str | None = None
    xrefs: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Relation:
    """A statement of a source: subject -predicate-> object.

    Attributes:
        subject, object: CURIEs.
        predicate: a name of relations.tsv, or the source's own CURIE where the table lacks it.
        source: name of the source.
        weight: strength within its predicate, above 0 and at most 1.
        evidence: a reference, a line or a quality that the source gives, or "".
    """

    subject: str
    predicate: str
    object: str
    source: str = ""
    weight: float = 1.0
    evidence: str = ""


@dataclass(frozen=True)
class Source:
    """One file, or the built-in tables, that a graph was built from.

    Attributes:
        name: short and unique within a graph.
        kind: the reader: obo, owl, obographs, oncotree, primekg, tsv, kgx, sssom, pathoml, umls, tables.
        path: file name as given.
        version, licence: as the file, its SOURCE.txt or the command line states; "" where nothing does.
        digest: SHA-256 of the file.
        counts: rows read, concepts, names, relations, mappings, set aside, refused.
    """

    name: str
    kind: str
    path: str = ""
    version: str = ""
    licence: str = ""
    digest: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The source as JSON."""
        return {
            "name": self.name, "kind": self.kind, "path": self.path, "version": self.version,
            "licence": self.licence, "digest": self.digest, "counts": dict(self.counts),
        }  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """Something in a source that was not taken over.

    Attributes:
        reason: a short fixed phrase, fit for counting.
        detail: what stood there, cut to 200 characters.
        source: name of the source.
        line: line in its file, from 1; 0 where there is none.
        fault: True for a mistake in the file, which stops a build without `--keep-going`; False for what is sound
            but not wanted, such as obsolete terms.
        num: how many rows this entry stands for.
    """

    reason: str
    detail: str
    source: str
    line: int = 0
    fault: bool = True
    num: int = 1
