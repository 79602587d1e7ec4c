"""OBO Graphs JSON, as `robot convert` and `pronto` write it."""

from __future__ import annotations

from collections.abc import Iterator
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
)
from eosin.knowledge.sources.json_forms import Form, Text, checked, read_document

_SCOPES: dict[str, Scope] = {
    "hasExactSynonym": "exact", "hasRelatedSynonym": "related", "hasBroadSynonym": "broad",
    "hasNarrowSynonym": "narrow",
}  # fmt: skip
_EXACT = {"skos:exactMatch"}
_REPLACED_BY = "http://purl.obolibrary.org/obo/IAO_0100001"


class _Value(Form):
    pred: Text | None = None
    val: Text | None = None


class _Meta(Form):
    version: Text | None = None
    deprecated: bool | None = None
    definition: _Value | None = None
    synonyms: list[_Value] | None = None
    xrefs: list[_Value] | None = None
    basicPropertyValues: list[_Value] | None = None  # noqa: N815, the name in the file


class _Node(Form):
    id: Text
    lbl: Text | None = None
    type: Text | None = None
    meta: _Meta | None = None


class _Edge(Form):
    sub: Text
    pred: Text
    obj: Text


class _SameNodes(Form):
    nodeIds: list[Text] | None = None  # noqa: N815


class _Graph(Form):
    meta: _Meta | None = None
    nodes: list[Any] | None = None
    edges: list[Any] | None = None
    equivalentNodesSets: list[Any] | None = None  # noqa: N815


def read(path: Path) -> Iterator[Row]:
    """Rows of all graphs of the file. JSON has no lines to name: places are given as graphs[i].nodes[k]."""
    document = read_document(path)
    if isinstance(document, Refused):
        yield document
        return
    graphs = document.get("graphs") if isinstance(document, dict) else None
    if not isinstance(graphs, list) or not graphs:
        yield Refused("no graph in the file", 'expected an object with a list "graphs"', 1)
        return
    for i, raw in enumerate(graphs):
        graph = checked(_Graph, raw, "graph", f"graphs[{i}]")
        if isinstance(graph, Refused):
            yield graph
        else:
            yield from _graph(graph, f"graphs[{i}]")


def _graph(graph: _Graph, where: str) -> Iterator[Row]:
    nodes = [checked(_Node, raw, "node", f"{where}.nodes[{k}]") for k, raw in enumerate(graph.nodes or [])]
    own = [
        OwnPredicate(curie(n.id) or n.id, n.lbl or "")
        for n in nodes if not isinstance(n, Refused) and n.type == "PROPERTY" and n.id
    ]  # fmt: skip
    yield Header(version=(graph.meta and graph.meta.version) or "", predicates=own)
    for k, node in enumerate(nodes):
        if isinstance(node, Refused):
            yield node
        elif node.type not in ("PROPERTY", "INDIVIDUAL"):
            yield from _node(node, f"{where}.nodes[{k}]")
    for k, raw in enumerate(graph.edges or []):
        yield _edge(raw, f"{where}.edges[{k}]")
    for k, raw in enumerate(graph.equivalentNodesSets or []):
        same = checked(_SameNodes, raw, "set of equal nodes", f"{where}.equivalentNodesSets[{k}]")
        if isinstance(same, Refused):
            yield same
            continue
        ids = [i for i in map(curie, same.nodeIds or []) if i]
        for other in ids[1:]:
            yield MappingRow(ids[0], other, "owl:equivalentClass")


def _node(node: _Node, where: str) -> Iterator[Row]:
    identifier = curie(node.id)
    if identifier is None:
        yield Refused("node without an id", f"{where}: {node.lbl}")
        return
    meta = node.meta or _Meta()
    properties = [(curie(v.pred or ""), v.pred, curie(v.val or "")) for v in meta.basicPropertyValues or []]
    if meta.deprecated:
        yield Refused("obsolete term", f"{identifier} {node.lbl}", fault=False)
        for _, raw, target in properties:
            if raw == _REPLACED_BY and target:
                yield MappingRow(target, identifier, "replaced_by", secondary=True)
        return
    names = [(s.val, _SCOPES.get(s.pred or "", "related")) for s in meta.synonyms or [] if s.val]
    xrefs = [x for x in (curie(x.val or "") for x in meta.xrefs or []) if x]
    definition = meta.definition.val if meta.definition else None
    yield ConceptRow(identifier, node.lbl or None, names, None, definition, xrefs)
    if not node.lbl:
        yield Refused("term without a name", identifier, fault=False)
    for predicate, _, target in properties:
        if predicate in _EXACT and target:
            yield MappingRow(identifier, target, str(predicate))


def _edge(raw: Any, where: str) -> Row:
    edge = checked(_Edge, raw, "relation", where)
    if isinstance(edge, Refused):
        return edge
    subject, target = curie(edge.sub), curie(edge.obj)
    if subject is None or target is None or not edge.pred:
        return Refused("relation without two ids and a predicate", f"{where}: {edge.sub} {edge.pred} {edge.obj}")
    return RelationRow(subject, curie(edge.pred) or edge.pred, target)
