"""From drafts to columns: types, merged rows, cycles, dangling and repeated relations, names."""

from __future__ import annotations

import functools
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eosin.knowledge.graph.columns import (
    VERSION,
    Columns,
    as_numpy,
    fold,
    incidence_of,
    name_index_of,
    one_chunk,
    pointers_of,
)
from eosin.knowledge.graph.concepts import TYPES, Source
from eosin.knowledge.graph.curies import prefix_of
from eosin.knowledge.graph.cycles import closing_edges
from eosin.knowledge.graph.drafts import Draft, Drafts
from eosin.knowledge.graph.merge import Groups, Merge, merge
from eosin.knowledge.sources.base import RelationRow

Edges = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Assembled:
    """Columns ready to be written, and what was merged."""

    columns: Columns
    merges: Sequence[Merge]


@functools.cache
def type_rules() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """types.tsv: prefix -> type, and root id -> type."""
    prefixes: dict[str, str] = {}
    roots: dict[str, str] = {}
    lines = files("eosin.knowledge").joinpath("types.tsv").read_text("utf-8").splitlines()
    for line in [x for x in lines if x and not x.startswith("#")][1:]:
        key, kind = line.split("\t")[:2]
        assert kind in TYPES, line
        (prefixes if key.endswith(":") else roots)[key] = kind
    return prefixes, roots


def _typing(drafts: Drafts) -> Callable[[Draft], str]:
    """Type of a draft: its own, else that of the nearest root above it, else that of its prefix."""
    prefixes, roots = type_rules()
    is_a = drafts.predicate("is_a")[0]
    children: dict[int, list[int]] = defaultdict(list)
    present = {drafts.position[r]: t for r, t in roots.items() if r in drafts.position}
    if present:
        edges = drafts.relation_columns()
        rows = np.flatnonzero(edges["predicate"] == is_a)
        for s, o in zip(edges["subject"][rows].tolist(), edges["object"][rows].tolist(), strict=True):
            children[o].append(s)
    found = dict(present)
    queue = deque(present)
    while queue:
        above = queue.popleft()
        for below in children[above]:
            if below not in found:
                found[below] = found[above]
                queue.append(below)

    def type_of(draft: Draft) -> str:
        if draft.type in TYPES:
            return str(draft.type)
        return found.get(drafts.position[draft.id]) or prefixes.get(draft.id.split(":", 1)[0] + ":", "other")

    return type_of


def assemble(drafts: Drafts, sources: Callable[[], Sequence[Source]], *, by_reference: bool = True) -> Assembled:
    """Merge, check and order everything. What is set aside is noted in `drafts`.

    Args:
        sources: called at the end, when all counts are final.
        by_reference: see `merge`.
    """
    _resolve_labels(drafts)
    drafts.count_concepts()
    type_of = _typing(drafts)
    groups = merge(drafts, type_of, by_reference=by_reference)
    rows, members = _rows(drafts, groups)
    edges = _edges(drafts, rows, [drafts.drafts[m[0]].id for m in members])
    tables = {**_concept_tables(drafts, members, type_of), **_edge_tables(drafts, edges, len(members))}
    tables["ids"] = _ids_table(drafts, rows, members)
    names = pointers_of(as_numpy(one_chunk(tables["names"], "concept")), len(members))
    tables["pointers"] = pa.table({"names": names, "incidence": tables.pop("_pointers")})
    tables["name_index"] = name_index_of(t.as_py() for t in tables["names"]["text"])
    _count_names(drafts, tables["names"])
    facts = {
        "version": VERSION,
        "predicates": [p.record() for p in drafts.predicates], "sources": [s.record() for s in sources()],
        "counts": {
            "concepts": len(members), "names": tables["names"].num_rows, "relations": tables["edges"].num_rows,
            "merged": len(groups.merges), "refused": drafts.refusals.num(fault=True),
            "set aside": drafts.refusals.num(fault=False),
        },
    }  # fmt: skip
    return Assembled(Columns({k: v.combine_chunks() for k, v in tables.items()}, facts), groups.merges)


def _resolve_labels(drafts: Drafts) -> None:
    """Relations whose object a source names by its label."""
    if not drafts.by_label:
        return
    owners: dict[str, list[str]] = defaultdict(list)
    for d in drafts.drafts:
        if d.label is not None:
            owners[fold(d.label)].append(d.id)
    for source, row in drafts.by_label:
        found = [i for i in owners.get(fold(row.label), []) if not row.prefixes or prefix_of(i) in row.prefixes]
        if len(found) == 1:
            relation = RelationRow(row.subject, row.predicate, found[0], line=row.line)
            drafts.add_relation(relation, source)
        else:
            drafts.counts[source]["label relations unresolved"] += 1
            reason = "label names several concepts" if found else "label names no concept of this graph"
            drafts.refuse(reason, f"{row.subject} {row.predicate} '{row.label}'", source, row.line, fault=False)


def _rows(drafts: Drafts, groups: Groups) -> tuple[NDArray[np.int32], list[list[int]]]:
    """Row of every position (-1 where nothing names it), and the members of every row, canonical one first."""
    by_root: dict[int, list[int]] = defaultdict(list)
    for i in range(len(drafts.drafts)):
        by_root[groups.root(i)].append(i)
    roots = [r for r in by_root if drafts.drafts[r].label is not None]
    roots.sort(key=lambda r: drafts.drafts[r].id)
    rows = np.full(len(drafts.drafts), -1, dtype=np.int32)
    members = []
    for row, root in enumerate(roots):
        others = sorted((i for i in by_root[root] if i != root), key=lambda i: (drafts.drafts[i].source, i))
        members.append([root, *others])
        rows[members[-1]] = row
    return rows, members


def _concept_tables(drafts: Drafts, members: list[list[int]], type_of: Callable[[Draft], str]) -> dict[str, pa.Table]:
    columns: dict[str, list[Any]] = {c: [] for c in ("id", "label", "type", "definition", "xrefs", "source")}
    texts: list[str] = []
    scopes: list[int] = []
    owners: list[int] = []
    sources: list[int] = []
    for row, group in enumerate(members):
        merged = [drafts.drafts[i] for i in group]
        first = merged[0]
        ids = {d.id for d in merged}
        columns["id"].append(first.id)
        columns["label"].append(first.label)
        columns["type"].append(_group_type(merged, type_of))
        columns["definition"].append(next((d.definition for d in merged if d.definition), None))
        columns["xrefs"].append(list(dict.fromkeys(x for d in merged for x in d.xrefs if x not in ids)))
        columns["source"].append(first.source)
        for text, scope, source in _group_names(merged, drafts):
            texts.append(text)
            scopes.append(scope)
            owners.append(row)
            sources.append(source)
    concepts = pa.table({
        "id": pa.array(columns["id"], pa.string()), "label": pa.array(columns["label"], pa.string()),
        "type": pa.array(columns["type"], pa.string()).dictionary_encode(),
        "definition": pa.array(columns["definition"], pa.large_string()),
        "xrefs": pa.array(columns["xrefs"], pa.list_(pa.string())), "source": pa.array(columns["source"], pa.int16()),
    })  # fmt: skip
    names = pa.table({
        "text": pa.array(texts, pa.string()), "scope": pa.array(scopes, pa.int8()),
        "concept": pa.array(owners, pa.int32()), "source": pa.array(sources, pa.int16()),
    })  # fmt: skip
    return {"concepts": concepts, "names": names}


def _group_type(merged: Sequence[Draft], type_of: Callable[[Draft], str]) -> str:
    """Type of the first member that has one."""
    return next((t for t in (type_of(d) for d in merged if d.label is not None) if t != "other"), "other")


def _group_names(merged: Sequence[Draft], drafts: Drafts) -> list[tuple[str, int, int]]:
    """Names of a merged concept: its label first; the labels of the others become exact synonyms."""
    names: dict[str, tuple[str, int, int]] = {}
    for k, draft in enumerate(merged):
        for key, (text, scope, source) in draft.names.items():
            code = 1 if k and scope == 0 else scope
            old = names.get(key)
            if old is None:
                names[key] = (text, code, source)
                continue
            drafts.counts[source]["names known"] += 1
            if code < old[1]:
                names[key] = (old[0], code, old[2])
    return sorted(names.values(), key=lambda n: n[1])


def _count_names(drafts: Drafts, names: pa.Table) -> None:
    kept = np.bincount(as_numpy(one_chunk(names, "source")), minlength=len(drafts.source_names))
    for counts, num in zip(drafts.counts, kept, strict=True):
        counts["names"] = int(num)


def _ids_table(drafts: Drafts, rows: NDArray[np.int32], members: list[list[int]]) -> pa.Table:
    pairs = sorted((drafts.drafts[i].id, row) for row, group in enumerate(members) for i in group)
    return pa.table({
        "id": pa.array([i for i, _ in pairs], pa.string()), "concept": pa.array([r for _, r in pairs], pa.int32()),
    })  # fmt: skip


def _edges(drafts: Drafts, rows: NDArray[np.int32], ids: Sequence[str]) -> Edges:
    """Relations between rows: without dangling ones, loops, repetitions and those that close a cycle of is_a."""
    edges = drafts.relation_columns()
    before = (edges["subject"], edges["object"])
    dangling = (rows[before[0]] < 0) | (rows[before[1]] < 0)
    holds = _vocabularies(drafts)
    for k in np.flatnonzero(dangling):
        drafts.counts[int(edges["source"][k])]["relations dropped"] += 1
        names = [drafts.drafts[int(c[k])].id for c in before]
        missing = [drafts.drafts[int(c[k])] for c in before if rows[int(c[k])] < 0]
        predicate = drafts.predicates[int(edges["predicate"][k])].name
        source, line = int(edges["source"][k]), int(edges["line"][k])
        statement = f"{names[0]} {predicate} {names[1]}"
        if all(d.declared for d in missing):
            drafts.refuse("relation of a term without a name", statement, source, line, fault=False)
            continue
        if predicate != "is_a" and not any(prefix_of(d.id) in holds[source] for d in missing):
            drafts.refuse(
                "relation to a vocabulary that this source does not hold", statement, source, line, fault=False
            )
            continue
        unknown = " and ".join(d.id for d in missing)
        drafts.refuse("dangling relation", f"{statement}: no source defines {unknown}", source, line)
    edges = {c: v[~dangling] for c, v in edges.items()}
    own_loop = edges["subject"] == edges["object"]
    subject = edges["subject"]
    edges = {**edges, "subject": rows[edges["subject"]], "object": rows[edges["object"]]}
    edges = _without_loops(drafts, edges, own_loop, subject)
    edges = _once(drafts, edges)
    return _without_cycles(drafts, edges, ids)


def _vocabularies(drafts: Drafts) -> list[set[str]]:
    """The prefixes that each source defines; of a source that defines none, those of the whole graph."""
    own: list[set[str]] = [set() for _ in drafts.source_names]
    for d in drafts.drafts:
        if d.label is not None:
            own[d.source].add(prefix_of(d.id))
            for _, _, source in d.names.values():
                own[source].add(prefix_of(d.id))
    everything = set().union(*own) if own else set()
    return [prefixes or everything for prefixes in own]


def _without_loops(drafts: Drafts, edges: Edges, own_loop: NDArray[Any], subject: NDArray[Any]) -> Edges:
    """A relation of a concept with itself. Only is_a is a fault: other axioms may say it."""
    loop = edges["subject"] == edges["object"]
    is_a = drafts.predicate("is_a")[0]
    for k in np.flatnonzero(loop):
        name = drafts.drafts[int(subject[k])].id
        predicate = int(edges["predicate"][k])
        reason = "relation of a concept with itself" if own_loop[k] else "loop by merging"
        fault = bool(own_loop[k]) and predicate == is_a
        detail = f"{name} {drafts.predicates[predicate].name} itself"
        drafts.refuse(reason, detail, int(edges["source"][k]), int(edges["line"][k]), fault)
        drafts.counts[int(edges["source"][k])]["relations dropped"] += 1
    return {c: v[~loop] for c, v in edges.items()}


def _once(drafts: Drafts, edges: Edges) -> Edges:
    """Each statement once: of equal ones the first is kept. Symmetric ones are equal either way round."""
    symmetric = np.array([p.symmetric for p in drafts.predicates], dtype=bool)[edges["predicate"]]
    s, o = edges["subject"].astype(np.int64), edges["object"].astype(np.int64)
    low, high = np.where(symmetric, np.minimum(s, o), s), np.where(symmetric, np.maximum(s, o), o)
    num = int(max(s.max(initial=0), o.max(initial=0))) + 1
    key = (low * num + high) * len(drafts.predicates) + edges["predicate"]
    _, first = np.unique(key, return_index=True)
    keep = np.zeros(len(key), dtype=bool)
    keep[first] = True
    for source, count in enumerate(np.bincount(edges["source"][~keep], minlength=len(drafts.source_names))):
        if count:
            drafts.counts[source]["relations known"] += int(count)
    return {c: v[keep] for c, v in edges.items()}


def _without_cycles(drafts: Drafts, edges: Edges, ids: Sequence[str]) -> Edges:
    is_a = drafts.predicate("is_a")[0]
    rows = np.flatnonzero(edges["predicate"] == is_a)
    closing = closing_edges(edges["subject"][rows], edges["object"][rows])
    keep = np.ones(len(edges["subject"]), dtype=bool)
    for k, chain in closing:
        row = int(rows[k])
        keep[row] = False
        detail = " is_a ".join(ids[i] for i in chain)
        drafts.refuse("cycle of is_a", detail, int(edges["source"][row]), int(edges["line"][row]))
        drafts.counts[int(edges["source"][row])]["relations dropped"] += 1
    for source, count in enumerate(np.bincount(edges["source"][keep], minlength=len(drafts.source_names))):
        drafts.counts[source]["relations"] = int(count)
    return {c: v[keep] for c, v in edges.items()}


def _edge_tables(drafts: Drafts, edges: Edges, num: int) -> dict[str, Any]:
    """The tables of relations, ordered by subject; `_pointers` are those of the incidence."""
    order = np.lexsort((edges["object"], edges["predicate"], edges["subject"]))
    columns = ("subject", "object", "predicate", "source", "weight", "evidence")
    edges = {c: edges[c][order] for c in columns}
    pointers, incidence = incidence_of(edges["subject"], edges["object"], num)
    evidence = pa.table({"text": pa.array(list(drafts.evidence), pa.large_string())})
    return {"edges": pa.table(edges), "incidence": incidence, "evidence": evidence, "_pointers": pointers}
