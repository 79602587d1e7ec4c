"""OBO Graphs JSON, as `robot convert` and `pronto` write it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
    open_bytes,
)

_SCOPES: dict[str, Scope] = {
    "hasExactSynonym": "exact", "hasRelatedSynonym": "related", "hasBroadSynonym": "broad",
    "hasNarrowSynonym": "narrow",
}  # fmt: skip
_EXACT = {"skos:exactMatch"}
_REPLACED_BY = "http://purl.obolibrary.org/obo/IAO_0100001"


def read(path: Path) -> Iterator[Row]:
    """Rows of all graphs of the file. JSON has no lines to name: places are given as graphs[i].nodes[k]."""
    with open_bytes(path) as handle:
        try:
            document = json.loads(handle.read().decode("utf-8-sig"))
        except UnicodeDecodeError as exc:
            yield Refused("not UTF-8", f"byte {exc.start + 1}")
            return
        except (ValueError, RecursionError, EOFError, OSError) as exc:
            yield Refused("not valid JSON", str(exc), getattr(exc, "lineno", 0))
            return
    graphs = document.get("graphs") if isinstance(document, dict) else None
    if not isinstance(graphs, list) or not graphs:
        yield Refused("no graph in the file", 'expected an object with a list "graphs"', 1)
        return
    for i, graph in enumerate(graphs):
        if isinstance(graph, Mapping):
            yield from _graph(graph, f"graphs[{i}]")
        else:
            yield Refused("graph is no object", f"graphs[{i}]")


def _graph(graph: Mapping[str, Any], where: str) -> Iterator[Row]:
    meta = graph.get("meta") or {}
    nodes = [n if isinstance(n, Mapping) else {} for n in graph.get("nodes") or []]
    own = [
        OwnPredicate(curie(str(n["id"])) or str(n["id"]), str(n.get("lbl") or ""))
        for n in nodes if n.get("type") == "PROPERTY" and n.get("id")
    ]  # fmt: skip
    yield Header(version=str(meta.get("version") or ""), predicates=own)
    for k, node in enumerate(nodes):
        if node.get("type") not in ("PROPERTY", "INDIVIDUAL"):
            yield from _node(node, f"{where}.nodes[{k}]")
    for k, edge in enumerate(graph.get("edges") or []):
        yield from _edge(edge, f"{where}.edges[{k}]")
    for group in graph.get("equivalentNodesSets") or []:
        ids = [i for i in map(curie, group.get("nodeIds") or []) if i]
        for other in ids[1:]:
            yield MappingRow(ids[0], other, "owl:equivalentClass")


def _node(node: Mapping[str, Any], where: str) -> Iterator[Row]:
    identifier = curie(str(node.get("id") or ""))
    if identifier is None:
        yield Refused("node without an id", f"{where}: {node.get('lbl')}")
        return
    meta = node.get("meta") or {}
    label = node.get("lbl")
    if meta.get("deprecated"):
        yield Refused("obsolete term", f"{identifier} {label}", fault=False)
        for value in meta.get("basicPropertyValues") or []:
            if value.get("pred") == _REPLACED_BY and curie(str(value.get("val"))):
                yield MappingRow(curie(str(value["val"])) or "", identifier, "replaced_by", secondary=True)
        return
    synonyms = meta.get("synonyms") or []
    names = [(str(s["val"]), _SCOPES.get(str(s.get("pred")), "related")) for s in synonyms if s.get("val")]
    xrefs = [x for x in (curie(str(x.get("val") or "")) for x in meta.get("xrefs") or []) if x]
    definition = (meta.get("definition") or {}).get("val")
    yield ConceptRow(identifier, label or None, names, None, definition, xrefs)
    if not label:
        yield Refused("term without a name", identifier, fault=False)
    for value in meta.get("basicPropertyValues") or []:
        predicate, target = curie(str(value.get("pred"))), curie(str(value.get("val")))
        if predicate in _EXACT and target:
            yield MappingRow(identifier, target, str(predicate))


def _edge(edge: Any, where: str) -> Iterator[Row]:
    parts = edge if isinstance(edge, Mapping) else {}
    subject, object_ = curie(str(parts.get("sub") or "")), curie(str(parts.get("obj") or ""))
    raw = str(parts.get("pred") or "")
    if subject is None or object_ is None or not raw:
        yield Refused("relation without two ids and a predicate", f"{where}: {dict(parts)}")
        return
    yield RelationRow(subject, curie(raw) or raw, object_)
