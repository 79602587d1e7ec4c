"""UMLS MRCONSO.RRF, with MRSTY.RRF beside it where it is there. Optional: a licence of the NLM is needed for the files.

Only English, unsuppressed names are taken. Concepts are UMLS:C...; every source code becomes a cross-reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eosin.knowledge.graph.concepts import Scope
from eosin.knowledge.graph.curies import canonical_prefix
from eosin.knowledge.sources.base import ConceptRow, Header, Refused, Row, lines_of

_NUM_CELLS = 18
_VOCABULARIES = {"NCI", "SNOMEDCT_US", "MSH", "HPO", "MONDO"}
_TYPES = {
    "T191": "diagnosis", "T047": "diagnosis", "T046": "finding", "T033": "finding", "T184": "finding",
    "T049": "finding",
    "T023": "organ", "T024": "organ", "T029": "organ", "T030": "organ", "T025": "cell", "T026": "cell", "T028": "gene",
    "T116": "marker", "T129": "marker", "T121": "drug", "T200": "drug", "T059": "method", "T060": "method",
}  # fmt: skip


def read(path: Path) -> Iterator[Row]:
    """Rows of MRCONSO.RRF. The preferred English name (TS=P, STT=PF, ISPREF=Y) of a concept is its label."""
    types = _types(path.with_name("MRSTY.RRF"))
    yield Header(licence="UMLS Metathesaurus License")
    labelled: set[str] = set()
    unwanted = 0
    for number, line in lines_of(path):
        if isinstance(line, Refused):
            yield line
            continue
        cells = line.split("|")
        if len(cells) != _NUM_CELLS + 1:
            yield Refused("shifted columns", f"{len(cells) - 1} cells, expected {_NUM_CELLS}: {line}", number)
            continue
        if cells[1] != "ENG" or cells[16] != "N":
            unwanted += 1
            continue
        yield _row(cells, number, types, labelled)
    if unwanted:
        yield Refused("name not English or suppressed", path.name, 0, fault=False, num=unwanted)


def _row(cells: list[str], number: int, types: dict[str, str], labelled: set[str]) -> ConceptRow:
    cui, name, vocabulary, code = cells[0], cells[14], cells[11], cells[13]
    curie = f"UMLS:{cui}"
    preferred = cells[2] == "P" and cells[4] == "PF" and cells[6] == "Y" and cui not in labelled
    local = code.split(":", 1)[-1]
    xrefs = [f"{canonical_prefix(vocabulary)}:{local}"] if vocabulary in _VOCABULARIES else []
    if preferred:
        labelled.add(cui)
        return ConceptRow(curie, name, (), types.get(cui), None, xrefs, number, whole=False)
    names: list[tuple[str, Scope]] = [(name, "exact")]
    return ConceptRow(curie, None, names, types.get(cui), None, xrefs, number, whole=False)


def _types(path: Path) -> dict[str, str]:
    """CUI -> semantic type, of the types that this project knows."""
    found: dict[str, str] = {}
    if path.is_file():
        for _, line in lines_of(path):
            if isinstance(line, str):
                cells = line.split("|")
                if len(cells) > 1 and cells[1] in _TYPES:
                    found.setdefault(cells[0], _TYPES[cells[1]])
    return found
