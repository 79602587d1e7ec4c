"""PrimeKG's kg.csv (Chandak et al., Scientific Data 2023): one row a directed edge, both of its nodes written out.

Read in blocks, because the file has 8.1 M rows. PrimeKG lists every edge in both directions; here each becomes one
relation, from the type that its name puts first, and the second row is counted as mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from eosin.knowledge.graph.refusals import MAX_FAULTS
from eosin.knowledge.sources.base import (
    ConceptRow,
    Header,
    Refused,
    RelationColumns,
    Row,
    lines_of,
    open_bytes,
    shorten,
    split_csv,
)

COLUMNS = (
    "relation", "display_relation", "x_index", "x_id", "x_type", "x_name", "x_source", "y_index", "y_id", "y_type",
    "y_name", "y_source",
)  # fmt: skip
_TYPES = {
    "gene/protein": "gene", "drug": "drug", "effect/phenotype": "finding", "disease": "diagnosis",
    "biological_process": "process", "molecular_function": "process", "pathway": "process",
    "cellular_component": "other", "anatomy": "organ", "exposure": "exposure",
}  # fmt: skip
_PREFIXES = {
    "NCBI": "NCBIGENE:{}", "DrugBank": "DRUGBANK:{}", "HPO": "HP:{:0>7}", "GO": "GO:{:0>7}", "UBERON": "UBERON:{:0>7}",
    "REACTOME": "REACTOME:{}", "MONDO": "MONDO:{:0>7}", "MONDO_grouped": "MONDOGROUP:{}", "CTD": "CTD:{}",
}  # fmt: skip
_FIRST = {
    "protein": "gene/protein", "drug": "drug", "phenotype": "effect/phenotype", "disease": "disease",
    "bioprocess": "biological_process", "molfunc": "molecular_function", "cellcomp": "cellular_component",
    "pathway": "pathway", "anatomy": "anatomy", "exposure": "exposure", "contraindication": "drug",
    "indication": "drug", "off-label use": "drug",
}  # fmt: skip
MAX_INDEX = 50_000_000
_BLOCK_BYTES = 1 << 24


@dataclass
class _Nodes:
    """Nodes by their index in the file. `key` is a hash of what the node was first called."""

    rows: list[ConceptRow] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    position: NDArray[np.int32] = field(default_factory=lambda: np.full(1 << 16, -1, np.int32))
    key: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1 << 16, np.int64))
    by_curie: dict[str, int] = field(default_factory=dict)

    def grow(self, top: int) -> None:
        """Make room for indices up to `top`."""
        if top >= len(self.position):
            more = max(top + 1, 2 * len(self.position)) - len(self.position)
            self.position = np.concatenate([self.position, np.full(more, -1, np.int32)])
            self.key = np.concatenate([self.key, np.zeros(more, np.int64)])


@dataclass
class _Edges:
    subject: list[NDArray[np.int32]] = field(default_factory=list)
    object: list[NDArray[np.int32]] = field(default_factory=list)
    relation: list[NDArray[np.int16]] = field(default_factory=list)
    line: list[NDArray[np.int64]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)


def read(path: Path) -> Iterator[Row]:
    """Rows of kg.csv: all nodes, then all relations at once."""
    header = _header(path)
    if isinstance(header, Refused):
        yield header
        return
    yield Header()
    nodes, edges = _Nodes(), _Edges()
    refused: list[Refused] = []
    for batch, lines in _batches(path, refused):
        _take(batch, lines, nodes, edges, refused)
        if len(refused) > MAX_FAULTS:
            break
    yield from sorted(refused, key=lambda r: r.line)
    yield from nodes.rows
    if edges.subject:
        yield _bulk(nodes, edges)
    else:
        yield Refused("no edge in the file", path.name, 1)


def _header(path: Path) -> Refused | None:
    for number, line in lines_of(path):
        if isinstance(line, Refused):
            return line
        found = [c.strip() for c in split_csv(line)]
        if found != list(COLUMNS):
            expected = ",".join(COLUMNS)
            return Refused(
                "header is not that of PrimeKG's kg.csv", shorten(f"{line}; expected {expected}", 400), number
            )
        return None
    return Refused("empty file", path.name, 1)


def _batches(path: Path, refused: list[Refused]) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """Blocks of rows with their line numbers. From the first block that cannot be split into rows on, lines are read
    one by one: that is slower, and finds every faulty line."""
    done = 1
    try:
        with open_bytes(path) as handle:
            reader = pacsv.open_csv(
                handle,
                read_options=pacsv.ReadOptions(
                    use_threads=False, block_size=_BLOCK_BYTES, skip_rows=1, column_names=list(COLUMNS)
                ),
                parse_options=pacsv.ParseOptions(ignore_empty_lines=False),
                convert_options=pacsv.ConvertOptions(
                    column_types={c: pa.binary() for c in COLUMNS}, strings_can_be_null=False
                ),
            )
            for batch in reader:
                yield batch, np.arange(done + 1, done + 1 + batch.num_rows, dtype=np.int64)
                done += batch.num_rows
    except (pa.ArrowInvalid, OSError, EOFError):
        yield from _slow_batches(path, done, refused)


def _slow_batches(path: Path, after: int, refused: list[Refused]) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """The lines after `after` one by one: for files that hold a line which no block can hold, or that are cut off."""
    rows: list[list[bytes]] = []
    lines: list[int] = []
    for number, line in lines_of(path):
        if number <= after:
            continue
        if isinstance(line, Refused):
            refused.append(line)
            continue
        cells = split_csv(line)
        if len(cells) != len(COLUMNS):
            refused.append(Refused("shifted columns", shorten(f"{len(cells)} cells, expected 12: {line}"), number))
            continue
        rows.append([c.encode() for c in cells])
        lines.append(number)
        if len(rows) == 100_000:
            yield _batch_of(rows), np.array(lines)
            rows, lines = [], []
    if rows:
        yield _batch_of(rows), np.array(lines)


def _batch_of(rows: list[list[bytes]]) -> pa.RecordBatch:
    columns = [pa.array(c, pa.binary()) for c in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=list(COLUMNS))


def _take(
    batch: pa.RecordBatch, lines: NDArray[np.int64], nodes: _Nodes, edges: _Edges, refused: list[Refused]
) -> None:
    """One block: check its cells, note new nodes, append its edges."""
    keep = np.ones(batch.num_rows, dtype=bool)
    index = {}
    for side in "xy":
        index[side] = _indices(batch, side, lines, keep, refused)
    for side in "xy":
        _note_nodes(batch, side, index[side], lines, keep, nodes, refused)
    relation = batch.column("relation").dictionary_encode()
    names = [v.decode("utf-8", "replace") for v in relation.dictionary.to_pylist()]
    codes = np.array([edges.names.setdefault(n, len(edges.names)) for n in names], dtype=np.int16)
    edges.relation.append(codes[relation.indices.to_numpy(zero_copy_only=False)][keep])
    edges.subject.append(nodes.position[index["x"]][keep])
    edges.object.append(nodes.position[index["y"]][keep])
    edges.line.append(lines[keep])


def _indices(
    batch: pa.RecordBatch, side: str, lines: NDArray[np.int64], keep: NDArray[np.bool_], refused: list[Refused]
) -> NDArray[np.int64]:
    """The node indices of a side; a cell that is no index refuses its row, and stands as 0."""
    column = batch.column(f"{side}_index")
    good = pc.match_substring_regex(column, r"^\d{1,8}$").to_numpy(zero_copy_only=False)
    for k in np.flatnonzero(~good & keep):
        shown = shorten(column[int(k)].as_py().decode("utf-8", "replace"), 80)
        refused.append(Refused("shifted columns", f"{side}_index is no number: {shown}", int(lines[k])))
    keep &= good
    texts = column if good.all() else pc.if_else(pa.array(good), column, pa.scalar(b"0", pa.binary()))
    values: NDArray[np.int64] = texts.cast(pa.string()).cast(pa.int64()).to_numpy()
    return values


def _note_nodes(
    batch: pa.RecordBatch, side: str, index: NDArray[np.int64], lines: NDArray[np.int64], keep: NDArray[np.bool_],
    nodes: _Nodes, refused: list[Refused],
) -> None:  # fmt: skip
    """Add nodes seen for the first time; refuse a row that calls a known index by another id."""
    nodes.grow(int(index.max(initial=0)))
    ids = batch.column(f"{side}_id").dictionary_encode()
    hashes = np.array([hash(v) for v in ids.dictionary.to_pylist()], dtype=np.int64)
    key = hashes[ids.indices.to_numpy(zero_copy_only=False)] if len(hashes) else np.zeros(len(index), np.int64)
    rows = np.flatnonzero(keep)
    fresh = rows[nodes.position[index[rows]] < 0]
    _, first = np.unique(index[fresh], return_index=True)
    for k in np.sort(fresh[first]):
        cells = {c: batch.column(f"{side}_{c}")[int(k)].as_py() for c in ("id", "type", "name", "source")}
        problem = _add_node(nodes, int(index[k]), int(key[k]), cells, int(lines[k]))
        if problem is not None:
            refused.append(problem)
            keep[k] = False
    unknown = keep & (nodes.position[index] < 0)
    other = keep & ~unknown & (nodes.key[index] != key)
    for k in np.flatnonzero(other):
        was = nodes.ids[nodes.position[index[k]]]
        shown = batch.column(f"{side}_id")[int(k)].as_py().decode("utf-8", "replace")
        refused.append(Refused("one index for two nodes", f"{side}_index {index[k]}: {was} and {shown}", int(lines[k])))
    for k in np.flatnonzero(unknown):
        refused.append(Refused("edge of a refused node", f"{side}_index {index[k]}", int(lines[k])))
    keep &= ~(other | unknown)


def _add_node(nodes: _Nodes, index: int, key: int, cells: dict[str, bytes], line: int) -> Refused | None:
    try:
        text = {c: v.decode("utf-8").strip() for c, v in cells.items()}
    except UnicodeDecodeError as exc:
        shown = exc.object.decode("utf-8", "backslashreplace")
        return Refused("not UTF-8", shorten(f"node {index}: {shown}"), line)
    pattern = _PREFIXES.get(text["source"])
    if pattern is None or text["type"] not in _TYPES or not text["name"]:
        return Refused("shifted columns", f"node {index} has type {text['type']!r}, source {text['source']!r}", line)
    curie = pattern.format(text["id"])
    xrefs = []
    if text["source"] == "MONDO_grouped":
        xrefs = [f"MONDO:{part:0>7}" for part in text["id"].split("_")]
    nodes.key[index] = key
    if curie in nodes.by_curie:
        nodes.position[index] = nodes.by_curie[curie]
        return None
    nodes.position[index] = nodes.by_curie[curie] = len(nodes.ids)
    nodes.ids.append(curie)
    nodes.types.append(text["type"])
    nodes.rows.append(ConceptRow(curie, text["name"], (), _TYPES[text["type"]], None, xrefs, line, identifies=False))
    return None


def _bulk(nodes: _Nodes, edges: _Edges) -> RelationColumns:
    """All edges, each once, in the direction that the name of its relation gives."""
    subject, object_ = np.concatenate(edges.subject), np.concatenate(edges.object)
    relation, line = np.concatenate(edges.relation), np.concatenate(edges.line)
    kinds = list(dict.fromkeys(nodes.types))
    kind = np.array([kinds.index(t) for t in nodes.types], dtype=np.int16)
    names = list(edges.names)
    firsts = [_FIRST.get(n) or _FIRST.get(n.split("_", 1)[0], "") for n in names]
    wanted = np.array([kinds.index(f) if f in kinds else -1 for f in firsts], dtype=np.int16)[relation]
    same = kind[subject] == kind[object_]
    turn = np.where(same, subject > object_, (kind[subject] != wanted) & (kind[object_] == wanted))
    low, high = np.where(turn, object_, subject), np.where(turn, subject, object_)
    key = (low.astype(np.int64) * len(nodes.ids) + high) * len(names) + relation
    _, first = np.unique(key, return_index=True)
    first.sort()
    return RelationColumns(
        nodes.ids, low[first], high[first], [f"primekg:{n}" for n in names], relation[first], line[first],
        mirrored=len(subject) - len(first),
    )  # fmt: skip
