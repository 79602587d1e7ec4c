"""OBO 1.2 and 1.4 files, line by line. A broken line is refused with its number; the rest of its term is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from eosin.knowledge.graph.concepts import Scope
from eosin.knowledge.graph.curies import curie
from eosin.knowledge.sources.base import (
    ConceptRow,
    Header,
    MappingRow,
    OwnPredicate,
    Refused,
    RelationRow,
    Row,
    lines_of,
    shorten,
)

_QUOTED = re.compile(r'^"((?:[^"\\]|\\.)*)"\s*(.*)$')
_TAG = re.compile(r"^([A-Za-z_][\w\-]*):\s?(.*)$")
_ESCAPE = re.compile(r"\\(.)")
_MODIFIERS = re.compile(r"\s*(?<!\\)\{(?:[^{}\\]|\\.)*\}\s*$")
_COMMENT = re.compile(r"(?<!\\)\s!\s.*$")
_SCOPES: dict[str, Scope] = {"EXACT": "exact", "NARROW": "narrow", "BROAD": "broad", "RELATED": "related"}
_OLD_SYNONYMS: dict[str, Scope] = {
    "exact_synonym": "exact", "narrow_synonym": "narrow", "broad_synonym": "broad", "related_synonym": "related",
}  # fmt: skip
_EXACT = {"skos:exactMatch", "owl:sameAs", "owl:equivalentClass"}


@dataclass
class _Stanza:
    """One stanza while its lines come in."""

    kind: str
    line: int
    id: str | None = None
    raw_id: str = ""
    label: str | None = None
    names: list[tuple[str, Scope]] = field(default_factory=list)
    definition: str | None = None
    xrefs: list[str] = field(default_factory=list)
    relations: list[RelationRow] = field(default_factory=list)
    mappings: list[MappingRow] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    obsolete: bool = False
    replaced_by: str | None = None


def read(path: Path) -> Iterator[Row]:
    """Rows of an OBO file: header, concepts and mappings as they come, relations at the end."""
    stanza = _Stanza("header", 1)
    relations: list[RelationRow] = []
    predicates: list[OwnPredicate] = []
    num_stanzas = 0
    for number, line in lines_of(path):
        if isinstance(line, Refused):
            yield line
            continue
        text = line.strip()
        if not text or text.startswith("!"):
            continue
        if text.startswith("["):
            yield from _finish(stanza, relations, predicates)
            num_stanzas += 1
            stanza = _Stanza(text.strip("[]"), number)
            if not text.endswith("]"):
                yield Refused("stanza header is cut off", text, number)
            continue
        problem = _line(stanza, text, number)
        if problem is not None:
            yield problem
    yield from _finish(stanza, relations, predicates)
    if not num_stanzas:
        yield Refused("no OBO stanza in the file", f"expected lines such as [Term] in {path.name}", 1)
    yield Header(predicates=predicates)
    yield from relations


def _finish(stanza: _Stanza, relations: list[RelationRow], predicates: list[OwnPredicate]) -> Iterator[Row]:
    if stanza.kind == "header":
        yield Header(version=stanza.label or "", licence=stanza.definition or "")
    elif stanza.kind == "Typedef" and stanza.raw_id:
        predicates.append(OwnPredicate(stanza.raw_id, (stanza.label or "").replace("_", " "), stanza.xrefs))
    elif stanza.kind == "Term":
        yield from _finish_term(stanza, relations)


def _finish_term(stanza: _Stanza, relations: list[RelationRow]) -> Iterator[Row]:
    if stanza.id is None:
        yield Refused("term without an id", stanza.label or "", stanza.line)
        return
    if stanza.obsolete:
        yield Refused("obsolete term", f"{stanza.id} {stanza.label}", stanza.line, fault=False)
        if stanza.replaced_by:
            yield MappingRow(stanza.replaced_by, stanza.id, "replaced_by", stanza.line, secondary=True)
        return
    yield ConceptRow(stanza.id, stanza.label, stanza.names, None, stanza.definition, stanza.xrefs, stanza.line)
    if stanza.label is None:
        yield Refused("term without a name", stanza.id, stanza.line, fault=False)
    yield from stanza.mappings
    relations.extend(stanza.relations)


def _line(stanza: _Stanza, text: str, number: int) -> Refused | None:
    """Put one tag into its stanza; gives what cannot be read."""
    tag_value = _TAG.match(text)
    if tag_value is None:
        return Refused("no tag in the line", text, number)
    tag, value = tag_value.groups()
    if stanza.kind == "header":
        _header_line(stanza, tag, value)
        return None
    handler = _HANDLERS.get(tag)
    if handler is None:
        return None
    if not value:
        return Refused("tag without a value", text, number)
    reason = handler(stanza, tag, value, number)
    return Refused(reason, shorten(text), number) if reason else None


def _header_line(stanza: _Stanza, tag: str, value: str) -> None:
    if tag == "data-version":
        stanza.label = value
    elif tag == "property_value":
        name, _, stated = value.partition(" ")
        if "licen" in name.casefold():
            stanza.definition = stated.split(" xsd:")[0].strip('" ')


def _plain(value: str) -> str:
    """A value without trailing modifiers and comment, unescaped."""
    return _ESCAPE.sub(r"\1", _MODIFIERS.sub("", _COMMENT.sub("", value))).strip()


def _id(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    if stanza.id is not None or stanza.raw_id:
        return "second id in one stanza"
    stanza.raw_id = _plain(value)
    stanza.id = curie(stanza.raw_id)
    return "id is no CURIE" if stanza.id is None and stanza.kind == "Term" else None


def _name(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    if stanza.label is not None:
        return "second name in one stanza"
    stanza.label = _ESCAPE.sub(r"\1", _MODIFIERS.sub("", value)).strip()
    return None


def _definition(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    quoted = _QUOTED.match(value)
    if quoted is None:
        return "definition without closing quote"
    stanza.definition = _ESCAPE.sub(r"\1", quoted.group(1).replace("\\n", " ")).strip()
    return None


def _synonym(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    quoted = _QUOTED.match(value)
    if quoted is None:
        return "synonym without closing quote"
    words = quoted.group(2).split()
    scope = _OLD_SYNONYMS.get(tag) or _SCOPES.get(words[0] if words else "", "related")
    stanza.names.append((_ESCAPE.sub(r"\1", quoted.group(1)), scope))
    return None


def _xref(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    raw = value.split(" ", 1)[0].replace("\\", "")
    identifier = curie(raw)
    if stanza.kind == "Typedef":
        stanza.xrefs.append(raw)
    elif identifier is not None:
        stanza.xrefs.append(identifier)
        if stanza.id and "MONDO:equivalentTo" in value:
            stanza.mappings.append(MappingRow(stanza.id, identifier, "MONDO:equivalentTo", number))
    return None


def _is_a(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    return _relate(stanza, "is_a", _plain(value), number)


def _relationship(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    words = _plain(value).split()
    if len(words) != 2:
        return "relationship without predicate and object"
    return _relate(stanza, words[0], words[1], number)


def _relate(stanza: _Stanza, predicate: str, target: str, number: int) -> str | None:
    if stanza.kind == "Typedef":
        return None
    identifier = curie(target)
    if identifier is None:
        return "object is no CURIE"
    if stanza.id is None:
        return "relation before the id of its term"
    stanza.relations.append(RelationRow(stanza.id, predicate, identifier, line=number))
    return None


def _alt_id(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    identifier = curie(_plain(value))
    if identifier is None:
        return "id is no CURIE"
    if stanza.id and stanza.kind == "Term":
        stanza.mappings.append(MappingRow(stanza.id, identifier, "alt_id", number, secondary=True))
    return None


def _property_value(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    words = _plain(value).split()
    target = curie(words[1].strip('"')) if len(words) > 1 and words[0] in _EXACT else None
    if target and stanza.id and stanza.kind == "Term":
        stanza.mappings.append(MappingRow(stanza.id, target, words[0], number))
    return None


def _equivalent_to(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    target = curie(_plain(value))
    if target and stanza.id and stanza.kind == "Term":
        stanza.mappings.append(MappingRow(stanza.id, target, "equivalent_to", number))
    return None


def _is_obsolete(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    stanza.obsolete = _plain(value) == "true"
    return None


def _replaced_by(stanza: _Stanza, tag: str, value: str, number: int) -> str | None:
    stanza.replaced_by = curie(_plain(value))
    return None


_HANDLERS = {
    "id": _id, "name": _name, "def": _definition, "synonym": _synonym, "exact_synonym": _synonym,
    "narrow_synonym": _synonym, "broad_synonym": _synonym, "related_synonym": _synonym, "xref": _xref,
    "is_a": _is_a, "relationship": _relationship, "alt_id": _alt_id, "property_value": _property_value,
    "equivalent_to": _equivalent_to, "is_obsolete": _is_obsolete, "replaced_by": _replaced_by,
}  # fmt: skip
