"""What is known of a shard before it is read: its blocks, and of every row who may see it. Pictures are not kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from eosin.core.errors import EosinError
from eosin.core.formats.parquet import iter_parquet, open_parquet
from eosin.core.formats.rows import STEP, Outcome
from eosin.core.formats.stream.tars import iter_tar
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample

TRAIN, VALID, TEST, ANSWER, CAPTION = 1, 2, 4, 8, 16
"""Bits of a row: the split that it stands in; whether it has an answer; whether it has a caption and an image."""
SPLIT_BITS = {"train": TRAIN, "valid": VALID, "test": TEST}
BLOCK_ROWS = 1000
BLOCK_BYTES = 32 * 2**20
MAX_BLOCK_BYTES = 2**28
"""A row group that unpacks to more cannot be read as a block: a reader holds several."""
MARK_BYTES = 2**16
MAX_LABELS = 10_000

Keep = Callable[[Sample, Path], Outcome]
"""What may still be wrong with a sample of a shard, such as a picture outside of the data's folder."""


@dataclass
class Scan:
    """One shard. Arrays have an element a row, in the order of the file; a row that cannot be used has the flags 0.

    Attributes:
        blocks: (number of the row group, rows, bytes) of what is read at one time.
        spans: (first byte, bytes) of each row in a tar (N, 2); None for parquet.
        sources: numbers in `source_names`.
        ids, groups: 64-bit digests of the sample's id, and of its group (0: none).
        labels, licences: of the training samples.
    """

    path: str
    size: int
    mark: str
    blocks: list[tuple[int, int, int]] = field(default_factory=list)
    flags: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    sources: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    groups: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    spans: np.ndarray | None = None
    source_names: list[str] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    licences: set[str] = field(default_factory=set)
    dropped: list[Dropped] = field(default_factory=list)


def mark_of(path: Path) -> str:
    """Digest of a file's size, its first and its last 64 KiB: what tells that a shard was changed or is another one."""
    size = path.stat().st_size
    total = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        total.update(handle.read(MARK_BYTES))
        handle.seek(max(0, size - MARK_BYTES))
        total.update(handle.read(MARK_BYTES))
    return total.hexdigest()


def scan(path: str, keep: Keep) -> Scan:
    """Look at every row of a shard once. A shard that cannot be read as a whole is one Dropped, and has no rows."""
    file = Path(path)
    found = Scan(path, 0, "")
    try:
        found.size, found.mark = file.stat().st_size, mark_of(file)
        rows = _Rows(found)
        if file.suffix == ".tar":
            _scan_tar(file, found, rows, keep)
        else:
            _scan_parquet(file, found, rows, keep)
        rows.close()
    except (EosinError, OSError) as exc:
        detail = str(exc).replace("\n", " ")[:200]
        found = Scan(path, found.size, found.mark, dropped=[Dropped(file.name, "shard cannot be read", detail, STEP)])
    return found


def _scan_parquet(file: Path, found: Scan, rows: _Rows, keep: Keep) -> None:
    with open_parquet(file) as opened:
        sizes = [_group_size(opened.metadata.row_group(g)) for g in range(opened.num_row_groups)]
        counts = [max(0, opened.metadata.row_group(g).num_rows) for g in range(opened.num_row_groups)]
    if sizes and max(sizes) > MAX_BLOCK_BYTES:
        raise EosinError(
            "A row group of this parquet file is too large to be streamed.", where=file,
            expected=f"at most {MAX_BLOCK_BYTES:,} bytes", found=f"{max(sizes):,} bytes",
            next_step="write it again with smaller row groups (eosin samples convert does)",
        )  # fmt: skip
    found.blocks = [(g, counts[g], sizes[g]) for g in range(len(sizes))]
    for outcome in iter_parquet(file):
        rows.add(checked(outcome, file, keep))
    if rows.num != sum(counts):
        raise EosinError("This parquet file does not hold the rows that it declares.", where=file,
                         expected=f"{sum(counts):,}", found=f"{rows.num:,}")  # fmt: skip


def _group_size(facts: pq.RowGroupMetaData) -> int:
    return sum(facts.column(i).total_uncompressed_size for i in range(facts.num_columns))


def _scan_tar(file: Path, found: Scan, rows: _Rows, keep: Keep) -> None:
    spans: list[tuple[int, int]] = []
    size, first = 0, 0
    for start, num_bytes, outcome in iter_tar(file):
        if num_bytes:
            spans.append((start, num_bytes))
            rows.add(checked(outcome, file, keep))
            size += num_bytes
            if len(spans) - first >= BLOCK_ROWS or size >= BLOCK_BYTES:
                found.blocks.append((len(found.blocks), len(spans) - first, size))
                size, first = 0, len(spans)
        elif isinstance(outcome, Dropped):  # no row, such as the end of a tar that is cut off
            found.dropped.append(outcome)
    if len(spans) > first:
        found.blocks.append((len(found.blocks), len(spans) - first, size))
    found.spans = np.array(spans, np.int64).reshape(-1, 2)


def checked(outcome: Outcome, file: Path, keep: Keep) -> Outcome:
    """The outcome of reading a row, after what `keep` says of a sample."""
    return keep(outcome.value, file) if isinstance(outcome, Kept) else outcome


class _Rows:
    """Gathers what is noted of the rows of a shard, in pieces that take little memory."""

    def __init__(self, found: Scan) -> None:
        self.found, self.num = found, 0
        self.numbers: dict[str, int] = {}
        self.kept: dict[str, list[int]] = {"flags": [], "sources": [], "ids": [], "groups": []}
        self.parts: dict[str, list[np.ndarray]] = {name: [] for name in self.kept}

    def add(self, outcome: Outcome) -> None:
        self.num += 1
        told = (0, 0, 0, 0)
        if isinstance(outcome, Dropped):
            self.found.dropped.append(outcome)
        else:
            sample = outcome.value
            source = self.numbers.setdefault(sample.origin.source, len(self.numbers))
            group = sample.origin.group
            told = (flags_of(sample), source, number_of(sample.id), number_of(group) if group else 0)
            if told[0] & TRAIN:
                if sample.label is not None and (
                    sample.label in self.found.labels or len(self.found.labels) < MAX_LABELS
                ):
                    self.found.labels[sample.label] += 1
                self.found.licences.add(sample.origin.licence)
        for name, value in zip(self.kept, told, strict=True):
            self.kept[name].append(value)
        if self.num % BLOCK_ROWS == 0:
            self._pack()

    def _pack(self) -> None:
        types = {"flags": np.uint8, "sources": np.uint16, "ids": np.uint64, "groups": np.uint64}
        for name, values in self.kept.items():
            self.parts[name].append(np.array(values, types[name]))
            values.clear()

    def close(self) -> None:
        self._pack()
        if len(self.numbers) > np.iinfo(np.uint16).max:
            raise EosinError("A shard may hold samples of at most 65,535 data sets.", where=self.found.path)
        for name, parts in self.parts.items():
            setattr(self.found, name, np.concatenate(parts))
        self.found.source_names = list(self.numbers)


def flags_of(sample: Sample) -> int:
    """The bits of a sample. Without a split it is a training sample."""
    told = SPLIT_BITS[sample.split or "train"]
    if sample.answer is not None:
        told |= ANSWER
    if sample.caption and sample.images:
        told |= CAPTION
    return told


def number_of(text: str) -> int:
    """A 64-bit digest of a text, never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1


def shards_of(path: Path) -> Iterator[Path]:
    """The shards at a place, sorted by name: a .parquet or .tar file, or all of those that lie in a folder.

    Raises:
        EosinError: nothing is there, or it cannot be streamed.
    """
    if path.is_file() and path.suffix in (".parquet", ".tar"):
        yield path
        return
    files = (
        sorted(p for p in path.iterdir() if p.suffix in (".parquet", ".tar") and p.is_file()) if path.is_dir() else []
    )
    if not files:
        there = path.exists()
        raise EosinError(
            "This cannot be streamed." if there else "There is no such file or folder.",
            expected="a .parquet or .tar file of samples, or a folder of such shards",
            found=None if not there else "a folder without shards" if path.is_dir() else f"the suffix {path.suffix!r}",
            where=path, next_step="eosin curate and eosin samples convert write such; or data.stream=false",
        )  # fmt: skip
    yield from files
