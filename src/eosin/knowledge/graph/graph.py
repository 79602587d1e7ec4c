"""The knowledge graph: concepts, their names, typed relations. Opened from a folder, or made in memory.

A graph is immutable and holds no global state. Opening maps the files; look-ups read only the pages they need.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eosin.core.errors import EosinError
from eosin.core.store.artifacts import open_artifact
from eosin.knowledge.graph.columns import (
    KIND,
    VERSION,
    Columns,
    SortedStrings,
    as_numpy,
    as_rows,
    fold,
    map_columns,
    name_key,
    one_chunk,
)
from eosin.knowledge.graph.concepts import SCOPES, Concept, Direction, Relation, Source, Synonym, SynonymScope
from eosin.knowledge.graph.vocabulary import Vocabulary

_EDGE_COLUMNS = ("subject", "object", "predicate", "source", "weight", "evidence")


@dataclass(frozen=True)
class Hit:
    """A concept found by a name.

    Attributes:
        name: the name that was found.
        how: "id", "exact", "prefix" or "words".
    """

    concept: Concept
    name: str
    how: str


class Graph:
    """Concepts and relations over columns. Use `Graph.open`, or `Graph.of` for a small one in memory."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.vocabulary = Vocabulary.of_record(columns.facts["predicates"])
        self.predicates: tuple[str, ...] = tuple(p["name"] for p in columns.facts["predicates"])
        self.sources: tuple[Source, ...] = tuple(Source(**s) for s in columns.facts["sources"])
        tables = columns.tables
        self._ids = SortedStrings(one_chunk(tables["ids"], "id"))
        self._concepts = {c: one_chunk(tables["concepts"], c) for c in tables["concepts"].column_names}
        self._names = one_chunk(tables["names"], "text")
        self._evidence = one_chunk(tables["evidence"], "text")

    @classmethod
    def open(cls, path: Path) -> Graph:
        """Open a graph folder by mapping its files.

        Raises:
            EosinError: there is no whole graph, or it was written by a later Eosin.
        """
        artifact = open_artifact(Path(path), KIND)
        facts = artifact.manifest["graph"]
        if facts.get("version", 1) > VERSION:
            raise EosinError(
                "This knowledge graph was written by a later Eosin.",
                expected=f"version up to {VERSION}",
                found=str(facts.get("version")),
                where=path,
                next_step="pip install --upgrade eosin, or build the graph again",
            )
        return cls(map_columns(artifact.path, facts))

    @classmethod
    def of(cls, concepts: Iterable[Concept], relations: Iterable[Relation] = ()) -> Graph:
        """A small graph in memory. Dangling relations raise an EosinError."""
        from eosin.knowledge.graph.in_memory import columns_of

        return cls(columns_of(concepts, relations))

    @classmethod
    def builtin(cls) -> Graph:
        """The graph of Eosin's own tables alone: findings, markers, stains, grading systems. Made in memory."""
        return _builtin()

    @property
    def record(self) -> dict[str, Any]:
        """Sources with version, licence and counts; merged and refused rows; totals."""
        return {k: v for k, v in self.columns.facts.items() if k not in ("predicates", "version")}

    def __len__(self) -> int:
        return int(self.columns.tables["concepts"].num_rows)

    @property
    def num_names(self) -> int:
        return int(self.columns.tables["names"].num_rows)

    @property
    def num_relations(self) -> int:
        return int(self.columns.tables["edges"].num_rows)

    def __contains__(self, curie: object) -> bool:
        return isinstance(curie, str) and self._ids.find(curie) >= 0

    def ids(self) -> Iterator[str]:
        """Canonical ids, sorted."""
        return (v.as_py() for v in self._concepts["id"])

    def index(self, curie: str) -> int:
        """Row of a concept; merged and secondary ids give their canonical concept.

        Raises:
            EosinError: no such id.
        """
        row = self._ids.find(curie)
        if row < 0:
            raise EosinError(
                "The knowledge graph has no such concept.",
                expected="the id of a concept, such as DOID:684",
                found=curie,
                next_step="eosin knowledge show TERM searches by name",
            )
        return int(self.columns.array("ids", "concept")[row])

    def id_at(self, index: int) -> str:
        return str(self._concepts["id"][index].as_py())

    def label_at(self, index: int) -> str:
        return str(self._concepts["label"][index].as_py())

    def canonical(self, curie: str) -> str:
        """The id under which a merged or secondary id now stands."""
        return self.id_at(self.index(curie))

    def aliases(self, curie: str) -> list[str]:
        """Other ids that lead to the concept: merged and secondary ones."""
        rows = np.flatnonzero(self.columns.array("ids", "concept") == self.index(curie))
        ids = one_chunk(self.columns.tables["ids"], "id").take(as_rows(rows)).to_pylist()
        return [i for i in ids if i != self.canonical(curie)]

    def type_of(self, curie: str) -> str:
        """Semantic type of a concept."""
        return str(self._concepts["type"][self.index(curie)].as_py())

    def label_of(self, curie: str) -> str:
        return self.label_at(self.index(curie))

    def concept(self, curie: str) -> Concept:
        """The concept of an id."""
        return self.concept_at(self.index(curie))

    def concept_at(self, index: int) -> Concept:
        """The concept in a row, as in the `concept` column of `names_table`."""
        row = {k: v[index].as_py() for k, v in self._concepts.items()}
        return Concept(
            row["id"], row["label"], self._synonyms(index), row["type"], row["definition"],
            tuple(row["xrefs"] or ()), self.sources[row["source"]].name,
        )  # fmt: skip

    def _synonyms(self, index: int) -> tuple[Synonym, ...]:
        start, end = self.columns.array("pointers", "names")[index : index + 2]
        scopes = self.columns.array("names", "scope")[start:end]
        texts = self._names[int(start) : int(end)].to_pylist()
        return tuple(Synonym(t, _scope(int(s))) for t, s in zip(texts, scopes, strict=True) if s)

    def names(self) -> Iterator[tuple[str, str, int]]:
        """Every label and synonym: text, scope ("label", "exact", ...), row of its concept."""
        scopes = self.columns.array("names", "scope")
        owners = self.columns.array("names", "concept")
        for text, scope, owner in zip(self._names, scopes, owners, strict=True):
            yield text.as_py(), SCOPES[scope], int(owner)

    def names_table(self) -> pa.Table:
        """Columns text, scope (position in `SCOPES`), concept (row), source (position in `sources`)."""
        return self.columns.tables["names"]

    def types_column(self) -> pa.Array:
        """Semantic type of every concept, by row; dictionary-encoded."""
        return self._concepts["type"]

    def find(self, name: str) -> list[str]:
        """Ids of all concepts that bear exactly this name, case and spaces apart; labels first."""
        keys = self.columns.array("name_index", "key")
        key = np.uint64(name_key(name))
        low, high = np.searchsorted(keys, key, "left"), np.searchsorted(keys, key, "right")
        rows = self.columns.array("name_index", "row")[low:high]
        scopes = self.columns.array("names", "scope")
        found = [int(r) for r in rows if fold(self._names[int(r)].as_py()) == fold(name)]
        found.sort(key=lambda r: (scopes[r], r))
        owners = self.columns.array("names", "concept")
        return list(dict.fromkeys(self.id_at(int(owners[r])) for r in found))

    def search(self, text: str, limit: int = 20) -> list[Hit]:
        """Concepts by id, by exact name, by the beginning of a name, and by all words of the text in a name."""
        hits: dict[int, Hit] = {}
        if text in self:
            row = self.index(text)
            hits[row] = Hit(self.concept_at(row), text, "id")
        for curie in self.find(text):
            row = self.index(curie)
            hits.setdefault(row, Hit(self.concept_at(row), text, "exact"))
        if len(hits) < limit and text.strip():
            self._search_parts(text, limit, hits)
        return list(hits.values())[:limit]

    def _search_parts(self, text: str, limit: int, hits: dict[int, Hit]) -> None:
        keep = None
        for word in text.split():
            has = pc.match_substring(self._names, word, ignore_case=True)
            keep = has if keep is None else pc.and_(keep, has)
        chosen = pc.indices_nonzero(keep)
        rows = chosen.to_pylist()
        texts = self._names.take(chosen).to_pylist()
        begin = fold(text)
        ranked = sorted(
            zip(texts, rows, strict=True), key=lambda t: (not fold(t[0]).startswith(begin), len(t[0]), t[0])
        )
        owners = self.columns.array("names", "concept")
        for name, row in ranked:
            owner = int(owners[row])
            if owner not in hits:
                how = "prefix" if fold(name).startswith(begin) else "words"
                hits[owner] = Hit(self.concept_at(owner), name, how)
            if len(hits) >= limit:
                return

    def relations(
        self, curie: str, direction: Direction = "out", predicates: Sequence[str] | None = None
    ) -> list[Relation]:
        """Relations of a concept: as subject ("out"), as object ("in"), or both."""
        index = self.index(curie)
        start, end = self.columns.array("pointers", "incidence")[index : index + 2]
        edges = self.columns.array("incidence", "edge")[start:end]
        out = self.columns.array("edges", "subject")[edges] == index
        if direction != "both":
            edges = edges[out if direction == "out" else ~out]
        found = self.relations_at(edges)
        return [r for r in found if predicates is None or r.predicate in predicates]

    def relation_at(self, edge: int) -> Relation:
        """The relation in a row of `edges`."""
        return self.relations_at(np.array([edge]))[0]

    def relations_at(self, rows: NDArray[Any]) -> list[Relation]:
        """The relations in rows of `edges`."""
        part = {c: self.columns.array("edges", c)[rows] for c in _EDGE_COLUMNS}
        ids = self._concepts["id"]
        subjects, objects = (ids.take(as_rows(part[c])).to_pylist() for c in ("subject", "object"))
        kinds = [self.predicates[p] for p in part["predicate"].tolist()]
        names = [self.sources[s].name for s in part["source"].tolist()]
        texts = [self._evidence[e].as_py() if e >= 0 else "" for e in part["evidence"].tolist()]
        columns = (subjects, kinds, objects, names, part["weight"].tolist(), texts)
        return [Relation(*row) for row in zip(*columns, strict=True)]

    def degree(self, curie: str) -> int:
        """Number of relations that a concept takes part in."""
        index = self.index(curie)
        start, end = self.columns.array("pointers", "incidence")[index : index + 2]
        return int(end - start)

    def degrees(self) -> NDArray[np.int64]:
        """Number of relations of every concept, by row."""
        return self._degrees

    @functools.cached_property
    def _degrees(self) -> NDArray[np.int64]:
        return np.diff(self.columns.array("pointers", "incidence"))

    @functools.cached_property
    def log_degrees(self) -> NDArray[np.float32]:
        """Natural logarithm of the degree of every concept, by row; 0 where it has no relation."""
        return np.log(np.maximum(self._degrees, 1)).astype(np.float32)

    def of_type(self, kind: str) -> NDArray[np.bool_]:
        """Whether each concept is of a semantic type, by row."""
        types = self._concepts["type"]
        kinds = types.dictionary.to_pylist()
        code = kinds.index(kind) if kind in kinds else -1
        return np.asarray(as_numpy(types.indices) == code)

    def ancestors(self, curie: str, predicates: Sequence[str] = ("is_a",), max_depth: int = 64) -> Mapping[str, int]:
        """All concepts above by `predicates`, with the number of steps; without the concept itself."""
        wanted = np.array([self.predicates.index(p) for p in predicates if p in self.predicates], dtype=np.int32)
        start = self.index(curie)
        seen: dict[int, int] = {start: 0}
        layer = [start]
        for depth in range(1, max_depth + 1):
            above = dict.fromkeys(v for u in layer for v in self._objects(u, wanted))
            layer = [v for v in above if v not in seen]
            seen.update((v, depth) for v in layer)
            if not layer:
                break
        return {self.id_at(i): d for i, d in seen.items() if i != start}

    def _objects(self, index: int, predicates: NDArray[Any]) -> list[int]:
        start, end = self.columns.array("pointers", "incidence")[index : index + 2]
        edges = self.columns.array("incidence", "edge")[start:end]
        keep = self.columns.array("edges", "subject")[edges] == index
        keep &= np.isin(self.columns.array("edges", "predicate")[edges], predicates)
        return [int(v) for v in np.unique(self.columns.array("edges", "object")[edges[keep]])]


def _scope(code: int) -> SynonymScope:
    scope = SCOPES[code]
    assert scope != "label"
    return scope


@functools.cache
def _builtin() -> Graph:
    from eosin.knowledge.graph.in_memory import builtin_columns

    return Graph(builtin_columns())
