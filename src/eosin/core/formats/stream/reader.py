"""Samples of an index by their row number, a few blocks in memory at a time."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from eosin.core.formats.parquet import SAMPLE_COLUMNS, sample_of_row
from eosin.core.formats.rows import STEP, Outcome
from eosin.core.formats.stream.index import BYTES, FIRST, GROUP, SHARD, Index
from eosin.core.formats.stream.order import Order
from eosin.core.formats.stream.tars import read_span
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample


class StreamReader:
    """Reads rows; a copy in another process (pickled or forked) begins with nothing in memory.

    Row groups of parquet are kept until others fill the bound, the least recently used goes first. Rows of a tar are
    read where they lie.

    Args:
        limit_bytes: of the row groups that are kept. A window of the order should fit in, or groups are read again.
    """

    def __init__(self, index: Index, limit_bytes: int) -> None:
        self.index, self.limit_bytes = index, limit_bytes
        self._pid = os.getpid()
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()
        self._bytes = 0

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_kept": OrderedDict(), "_bytes": 0}

    def get(self, row: int) -> Outcome:
        """The sample of a row, or why it is none (its shard was changed since the index was made)."""
        if self._pid != os.getpid():
            self._pid, self._bytes = os.getpid(), 0
            self._kept = OrderedDict()
        block = self.index.block_of(row)
        path = Path(self.index.shards[int(self.index.blocks[block, SHARD])]["path"])
        place = f"{path.name}:{row - int(self.index.blocks[block, FIRST]) + 1}"
        try:
            if path.suffix == ".tar":
                return read_span(path, self._span(path, row))
            cells = self._group(path, block).slice(row - int(self.index.blocks[block, FIRST]), 1).to_pylist()
            return sample_of_row(cells[0], place)
        except MemoryError:
            raise
        except Exception as exc:  # Arrow and tarfile throw errors of their own, of Python and of the operating system
            return Dropped(place, "row damaged", f"{type(exc).__name__}: {exc}"[:200], STEP)

    def samples(self, rows: Iterable[int]) -> Iterator[Sample]:
        """The samples of rows, in the order given; what cannot be read any more is passed over."""
        for row in rows:
            outcome = self.get(int(row))
            if isinstance(outcome, Kept):
                yield outcome.value

    def _span(self, path: Path, row: int) -> bytes:
        assert self.index.spans is not None
        start, size = (int(n) for n in self.index.spans[row])
        with path.open("rb") as handle:
            handle.seek(start)
            return handle.read(size)

    def _group(self, path: Path, block: int) -> pa.Table:
        if block in self._kept:
            self._kept.move_to_end(block)
            return self._kept[block]
        size = int(self.index.blocks[block, BYTES])
        while self._kept and self._bytes + size > self.limit_bytes:
            old, _ = self._kept.popitem(last=False)
            self._bytes -= int(self.index.blocks[old, BYTES])
        with pq.ParquetFile(path) as file:
            columns = [c for c in SAMPLE_COLUMNS if c in file.schema_arrow.names]
            # One thread: the reader is one of several processes, and may be a fork of one whose threads are gone.
            table = file.read_row_group(int(self.index.blocks[block, GROUP]), columns=columns, use_threads=False)
        self._kept[block] = table
        self._bytes += size
        return table


@dataclass(frozen=True)
class Streamed:
    """The training samples of a stage: their order, and who reads them."""

    order: Order
    reader: StreamReader

    def __len__(self) -> int:
        return len(self.order)
