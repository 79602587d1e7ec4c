"""SSSOM mapping tables: exact matches may merge, the others become relations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from eosin.knowledge.graph.curies import curie
from eosin.knowledge.sources.base import Header, MappingRow, Refused, Row, lines_of
from eosin.knowledge.sources.tsv import number_of, read_table

_EXACT = {"skos:exactMatch", "owl:equivalentClass", "owl:sameAs"}


def read(path: Path) -> Iterator[Row]:
    """Rows of a mapping set. Its commented YAML head gives version and licence."""
    yield _header(path)
    yield from read_table(path, lambda roles: _mapping if _is_mapping(roles) else None)


def _is_mapping(roles: Sequence[str]) -> bool:
    return {"subject_id", "predicate_id", "object_id"} <= set(roles)


def _header(path: Path) -> Header:
    facts = {}
    for _, line in lines_of(path):
        if isinstance(line, Refused) or not line.startswith("#"):
            break
        key, _, value = line.lstrip("# ").partition(":")
        facts[key.strip()] = value.strip().strip("\"'")
    return Header(facts.get("mapping_set_version", ""), facts.get("license", ""))


def _mapping(cells: Mapping[str, str], number: int) -> Iterator[Row]:
    a, b, predicate = (curie(cells[c]) for c in ("subject_id", "object_id", "predicate_id"))
    confidence = number_of(cells.get("confidence", ""))
    if a is None or b is None or predicate is None:
        yield Refused("mapping without two ids and a predicate", "  ".join(cells.values()), number)
    elif confidence is None or not 0 <= confidence <= 1:
        yield Refused("confidence is not between 0 and 1", cells["confidence"], number)
    elif cells.get("predicate_modifier", "").casefold() == "not":
        yield Refused("negated mapping", f"{a} not {predicate} {b}", number, fault=False)
    elif predicate in _EXACT:
        yield MappingRow(a, b, f"sssom {predicate}", number)
    else:
        how = cells.get("mapping_justification", "") or predicate
        yield MappingRow(a, b, how, number, predicate=predicate, weight=max(confidence, 0.01))
