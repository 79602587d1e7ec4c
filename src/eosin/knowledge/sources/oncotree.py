"""OncoTree: its JSON tree, or its tab-separated table of levels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eosin.knowledge.graph.concepts import Scope
from eosin.knowledge.sources.base import (
    ConceptRow,
    Header,
    MappingRow,
    Refused,
    RelationRow,
    Row,
    lines_of,
    shorten,
)
from eosin.knowledge.sources.json_forms import Form, Text, checked, read_document

_LEVEL = re.compile(r"^(.*\S)\s*\(([A-Z0-9_.]+)\)$")
MAX_DEPTH = 30
_VERSION = re.compile(r"(\d{4}_\d{2}_\d{2})")


class _References(Form):
    NCI: list[Text] | None = None
    UMLS: list[Text] | None = None


class _Node(Form):
    code: Text
    name: Text
    level: int | None = None
    children: dict[Text, Any] | list[Any] | None = None
    externalReferences: _References | None = None  # noqa: N815, the name in the file
    history: list[Text] | None = None
    precursors: list[Text] | None = None
    revocations: list[Text] | None = None


def read(path: Path) -> Iterator[Row]:
    """Rows of OncoTree. Nodes of the first level are organs, all below are diagnoses located in them."""
    version = _VERSION.search(path.name)
    yield Header(version=version.group(1) if version else "")
    if ".json" in path.suffixes:
        yield from _read_json(path)
    else:
        yield from _read_levels(path)


def _read_json(path: Path) -> Iterator[Row]:
    tree = read_document(path)
    if isinstance(tree, Refused):
        yield tree
        return
    roots = tree if isinstance(tree, dict) else {}
    for name, root in roots.items():
        yield from _node(root, name, None, None, 0)
    if not roots:
        yield Refused("no OncoTree node in the file", "expected an object of nodes with code, name and children", 1)


def _node(raw: Any, where: str, parent: str | None, tissue: str | None, depth: int) -> Iterator[Row]:
    """One node and all below it."""
    node = checked(_Node, raw, "node", shorten(where))
    if isinstance(node, Refused):
        yield node
        return
    if not node.code or not node.name or depth > MAX_DEPTH:
        reason = "node without code and name" if depth <= MAX_DEPTH else "tree too deep"
        yield Refused(reason, f"below {parent}: {node.code} {node.name}")
        return
    curie = f"ONCOTREE:{node.code}"
    level = depth if node.level is None else node.level
    if level:
        yield from _concept(node, curie, level)
        if level > 1 and parent:
            yield RelationRow(curie, "is_a" if level > 2 else "located_in", parent)
        if level > 2 and tissue:
            yield RelationRow(curie, "located_in", tissue)
    else:
        yield Refused("root of the tree", curie, fault=False)
    children = node.children or {}
    below = children.items() if isinstance(children, Mapping) else ((str(k), c) for k, c in enumerate(children))
    for name, child in below:
        yield from _node(child, f"{where}.{name}", curie if level else None, curie if level == 1 else tissue, depth + 1)


def _concept(node: _Node, curie: str, level: int) -> Iterator[Row]:
    references = node.externalReferences or _References()
    xrefs = [f"NCIT:{c}" for c in references.NCI or ()]
    xrefs += [f"UMLS:{c}" for c in references.UMLS or () if c.startswith("C") and not c.startswith("CL")]
    names: list[tuple[str, Scope]] = [(node.code, "related")] if level > 1 else []
    kind = "organ" if level == 1 else "diagnosis"
    # A tissue node such as "Ovary/Fallopian Tube" is wider than the organ that it refers to.
    yield ConceptRow(curie, node.name, names, kind, None, xrefs, identifies=level > 1)
    for old in (*(node.history or ()), *(node.precursors or ()), *(node.revocations or ())):
        yield MappingRow(curie, f"ONCOTREE:{old}", "former OncoTree code", secondary=True)


def _read_levels(path: Path) -> Iterator[Row]:
    """The table: level_1 ... level_7 as "Name (CODE)", then metamaintype and references."""
    header: list[str] | None = None
    for number, line in lines_of(path):
        if isinstance(line, Refused):
            yield line
            continue
        cells = line.split("\t")
        if header is None:
            header = [c.strip().casefold() for c in cells]
            if "level_1" not in header:
                yield Refused("header of no OncoTree table", line, number)
                return
            continue
        if not line.strip():
            continue
        if len(cells) != len(header):
            yield Refused("shifted columns", f"{len(cells)} cells, the header has {len(header)}: {line}", number)
            continue
        yield from _level_row(dict(zip(header, (c.strip() for c in cells), strict=True)), number)
    if header is None:
        yield Refused("empty file", path.name, 1)


def _level_row(cells: Mapping[str, str], number: int) -> Iterator[Row]:
    levels = [cells[k] for k in sorted(cells) if k.startswith("level_") and cells[k]]
    parsed = [_LEVEL.match(level) for level in levels]
    if not parsed or any(m is None for m in parsed):
        yield Refused("level without a code in brackets", " > ".join(levels), number)
        return
    chain = [(m.group(1), f"ONCOTREE:{m.group(2)}") for m in parsed if m]
    xrefs = [f"NCIT:{c.strip()}" for c in cells.get("metanci", "").split(",") if c.strip()]
    xrefs += [f"UMLS:{c.strip()}" for c in cells.get("metaumls", "").split(",") if c.strip().startswith("C")]
    for depth, (name, curie) in enumerate(chain):
        last = depth == len(chain) - 1
        kind = "diagnosis" if depth else "organ"
        yield ConceptRow(curie, name, (), kind, None, xrefs if last else (), number, whole=False, identifies=depth > 0)
    if len(chain) > 1:
        parent = chain[-2][1]
        yield RelationRow(chain[-1][1], "is_a" if len(chain) > 2 else "located_in", parent, line=number)
    if len(chain) > 2:
        yield RelationRow(chain[-1][1], "located_in", chain[0][1], line=number)
