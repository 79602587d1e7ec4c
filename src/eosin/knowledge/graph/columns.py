"""How a graph lies in memory and on disk: Arrow columns and a compressed adjacency, both memory-mapped.

A graph folder is an artifact of `core.store` with these parts. N concepts, M names, E relations.

    concepts.arrow    id, label, type, definition, xrefs, source           N rows, sorted by id
    ids.arrow         id, concept      canonical, merged and secondary ids, sorted
    names.arrow       text, scope, concept, source                         M rows, sorted by concept
    name_index.arrow  key, row         hash of the folded name, sorted
    edges.arrow       subject, object, predicate, source, weight, evidence E rows
    evidence.arrow    text             distinct evidence strings
    incidence.arrow   neighbour, edge  2E rows: every relation from both of its ends, grouped by concept
    pointers.arrow    names, incidence N + 1 rows: where the rows of concept i begin
    merges.jsonl, refused.jsonl        what was joined and what was not taken over, with reasons

Indices are int32; a graph holds at most 2^31 - 1 relations.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eosin.core.errors import EosinError

PARTS = ("concepts", "ids", "names", "name_index", "edges", "evidence", "incidence", "pointers")
KIND = "knowledge"
VERSION = 1
"""Of the form on disk. A later Eosin opens every earlier one."""


def fold(name: str) -> str:
    """A name without case and with single spaces: the key of exact look-up."""
    return " ".join(name.casefold().split())


def name_key(name: str) -> int:
    """64-bit hash of a folded name. Equal on every machine."""
    return int.from_bytes(hashlib.blake2b(fold(name).encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Columns:
    """All parts of a graph, in memory or mapped from disk.

    Attributes:
        tables: part name -> Arrow table of one chunk.
        facts: predicates, sources, counts; kept in the manifest.
    """

    tables: Mapping[str, pa.Table]
    facts: Mapping[str, Any]
    _arrays: dict[tuple[str, str], NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    def array(self, part: str, column: str) -> NDArray[Any]:
        """A numeric column as numpy, without a copy."""
        key = (part, column)
        if key not in self._arrays:
            self._arrays[key] = as_numpy(one_chunk(self.tables[part], column))
        return self._arrays[key]

    def write(self, folder: Path) -> None:
        """Write every part as an uncompressed Arrow file, so that it can be mapped."""
        for part in PARTS:
            table = self.tables[part].combine_chunks()
            batches = table.to_batches(max_chunksize=max(1, table.num_rows))
            with pa.OSFile(str(folder / f"{part}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)


def map_columns(folder: Path, facts: Mapping[str, Any]) -> Columns:
    """Map the parts of a graph folder. Reads no data but the footers.

    Raises:
        EosinError: a part is missing or damaged.
    """
    tables = {}
    for part in PARTS:
        path = folder / f"{part}.arrow"
        try:
            with pa.memory_map(str(path)) as handle:
                tables[part] = pa.ipc.open_file(handle).read_all()
        except (OSError, pa.ArrowInvalid) as exc:
            raise EosinError(
                "A part of this knowledge graph is missing or damaged.",
                found=str(exc)[:200],
                where=path,
                next_step="build it again with `eosin knowledge build`, or copy it again",
            ) from None
    return Columns(tables, facts)


def as_numpy(column: pa.Array) -> NDArray[Any]:
    """A column of numbers without nulls as numpy, on the same memory. (`to_numpy` would load pandas, if installed.)"""
    data = column.buffers()[1]
    kind = {"float": "float32", "double": "float64"}.get(str(column.type), str(column.type))
    if data is None or not len(column):
        return np.zeros(0, dtype=kind)
    return np.frombuffer(data, dtype=kind)[column.offset : column.offset + len(column)]


def as_rows(rows: NDArray[Any]) -> pa.Array:
    """Row numbers for Arrow's `take`. (`pa.array` would load pandas, if installed.)"""
    data = np.ascontiguousarray(rows, dtype=np.int32)
    return pa.Array.from_buffers(pa.int32(), len(data), [None, pa.py_buffer(data)])


def one_chunk(table: pa.Table, column: str) -> pa.Array:
    """A column as one array; an empty table has none, so one is made."""
    chunks = table.column(column)
    return chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks or [pa.array([], chunks.type)])


class SortedStrings:
    """Binary search in a sorted Arrow string column, on its bytes: no table of Python strings is made."""

    def __init__(self, column: pa.Array) -> None:
        buffers = column.buffers()
        wide = pa.types.is_large_string(column.type)
        self._offsets = memoryview(buffers[1] or b"").cast("q" if wide else "i") if buffers[1] else None
        self._data = memoryview(buffers[2]) if buffers[2] is not None else memoryview(b"")
        self._shift = column.offset
        self._length = len(column)

    def _at(self, i: int) -> bytes:
        assert self._offsets is not None
        i += self._shift
        return bytes(self._data[self._offsets[i] : self._offsets[i + 1]])

    def find(self, text: str) -> int:
        """Row of `text`, or -1."""
        wanted = text.encode("utf-8", "surrogatepass")
        row = bisect_left(range(self._length), wanted, key=self._at)
        return row if row < self._length and self._at(row) == wanted else -1


def pointers_of(owner: NDArray[Any], num: int) -> NDArray[np.int64]:
    """Where the rows of each owner begin, for rows sorted by owner. Length num + 1."""
    found = np.zeros(num + 1, dtype=np.int64)
    np.cumsum(np.bincount(owner, minlength=num), out=found[1:])
    return found


def incidence_of(subject: NDArray[Any], object_: NDArray[Any], num: int) -> tuple[NDArray[Any], pa.Table]:
    """Every relation seen from both of its ends, grouped by concept: pointers (num + 1) and the table."""
    edges = np.arange(len(subject), dtype=np.int32)
    owner = np.concatenate([subject, object_])
    order = np.argsort(owner, kind="stable")
    neighbour = np.concatenate([object_, subject])[order].astype(np.int32)
    table = pa.table({"neighbour": neighbour, "edge": np.concatenate([edges, edges])[order]})
    return pointers_of(owner, num), table


def name_index_of(texts: Iterable[str]) -> pa.Table:
    """Hashes of the folded names, sorted, with the row of each."""
    keys = np.fromiter((name_key(t) for t in texts), dtype=np.uint64)
    order = np.argsort(keys, kind="stable").astype(np.int32)
    return pa.table({"key": keys[order], "row": order})
