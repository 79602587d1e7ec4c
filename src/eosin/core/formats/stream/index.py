"""The index over shards: where every row lies and who may see it, some bytes a row, memory-mapped when it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.formats.rows import STEP
from eosin.core.formats.stream.scan import TEST, TRAIN, VALID, Scan, mark_of
from eosin.core.nouns.outcome import Dropped
from eosin.core.store.artifacts import read_object, write_json

FILE = "stream.json"
SHARD, GROUP, FIRST, BYTES = range(4)
"""Columns of `Index.blocks`."""


@dataclass(frozen=True)
class Index:
    """Rows of all shards, numbered through in the order of the shards.

    Attributes:
        shards: path, size and mark of each.
        blocks: int64 (B, 4): number of the shard, of the row group in it, of the first row, and bytes. What is read
            at one time.
        flags: uint8 (N,), the bits of `stream.scan`; 0 for a row that cannot be used.
        sources: uint16 (N,), numbers in `source_names`.
        spans: int64 (N, 2), first byte and bytes of a row in its tar; None where no shard is a tar.
    """

    shards: tuple[dict[str, Any], ...]
    source_names: tuple[str, ...]
    blocks: np.ndarray
    flags: np.ndarray
    sources: np.ndarray
    spans: np.ndarray | None
    facts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def ends(self) -> np.ndarray:
        """Number of the row behind each block, int64 (B,)."""
        return np.append(self.blocks[1:, FIRST], len(self.flags)).astype(np.int64)

    @cached_property
    def firsts(self) -> np.ndarray:
        """Number of the first row of each block, int64 (B,)."""
        return np.ascontiguousarray(self.blocks[:, FIRST])

    def block_of(self, row: int) -> int:
        """The block that a row lies in."""
        return int(np.searchsorted(self.firsts, row, side="right")) - 1

    def rows_with(self, bits: int) -> np.ndarray:
        """Numbers of the rows that have one of these bits, int64, in order."""
        return np.flatnonzero(np.asarray(self.flags) & bits)

    def check(self) -> None:
        """See that the shards are those of the index: also on another node.

        Raises:
            EosinError: one is missing or was changed.
        """
        for shard in self.shards:
            path = Path(shard["path"])
            try:
                is_same = path.stat().st_size == shard["size"] and mark_of(path) == shard["mark"]
            except OSError:
                is_same = False
            if not is_same:
                raise EosinError(
                    "A shard is not the one that this run's index was made of.",
                    expected=f"{shard['size']:,} bytes, as when the run began",
                    found="another file" if path.exists() else "nothing", where=path,
                    next_step="put the shard back (on every node), or start a new run with another --out",
                )  # fmt: skip


def open_index(folder: Path) -> Index:
    """The index that `write_index` left in a folder."""
    told = read_object(folder / FILE)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("flags", "sources")}
    spans = np.load(folder / "spans.npy", mmap_mode="r") if (folder / "spans.npy").is_file() else None
    return Index(tuple(told["shards"]), tuple(told["sources"]), np.load(folder / "blocks.npy"), arrays["flags"],
                 arrays["sources"], spans, told)  # fmt: skip


def write_index(folder: Path, scans: Iterable[Scan], dropped: Callable[[Sequence[Dropped]], None]) -> Index:
    """Join what was found in the shards. Of several rows with one id the first is kept.

    Args:
        dropped: told what was set aside, a shard at a time.

    Raises:
        EosinError: training samples of a group (patient, case, slide, article) that is held out too.
    """
    made = _Joined()
    for scan in scans:
        made.add(scan)
        dropped(scan.dropped)
    dropped(made.drop_repeated())
    made.refuse_shared_groups()
    for name in ("flags", "sources"):
        np.save(folder / f"{name}.npy", made.joined(name))
    np.save(folder / "blocks.npy", np.array(made.blocks, np.int64).reshape(-1, 4))
    if any(scan is not None for scan in made.spans):
        whole = [s if s is not None else np.zeros((n, 2), np.int64) for s, n in zip(made.spans, made.rows, strict=True)]
        np.save(folder / "spans.npy", np.concatenate(whole))
    write_json(folder / FILE, made.facts())
    return open_index(folder)


class _Joined:
    def __init__(self) -> None:
        self.shards: list[dict[str, Any]] = []
        self.blocks: list[tuple[int, int, int, int]] = []
        self.rows: list[int] = []
        self.spans: list[np.ndarray | None] = []
        self.parts: dict[str, list[np.ndarray]] = {name: [] for name in ("flags", "sources", "ids", "groups")}
        self.names: dict[str, int] = {}
        self.labels: Counter[str] = Counter()
        self.licences: set[str] = set()

    def add(self, scan: Scan) -> None:
        first = sum(self.rows)
        for group, rows, num_bytes in scan.blocks:
            if rows:
                self.blocks.append((len(self.shards), group, first, num_bytes))
            first += rows
        self.shards.append({"path": scan.path, "size": scan.size, "mark": scan.mark, "rows": len(scan.flags)})
        self.rows.append(len(scan.flags))
        self.spans.append(scan.spans)
        numbers = np.array([self.names.setdefault(n, len(self.names)) for n in scan.source_names] or [0], np.uint16)
        for name in ("flags", "ids", "groups"):
            self.parts[name].append(getattr(scan, name))
        self.parts["sources"].append(numbers[scan.sources])
        self.labels += scan.labels
        self.licences |= scan.licences

    def joined(self, name: str) -> np.ndarray:
        """One array of all shards; put together once."""
        parts = self.parts[name]
        if len(parts) != 1:
            self.parts[name] = [np.concatenate(parts) if parts else np.zeros(0, np.uint8)]
        return self.parts[name][0]

    def drop_repeated(self) -> list[Dropped]:
        """Take the bits of rows whose id stood earlier, and say so."""
        flags, ids = self.joined("flags"), self.joined("ids")
        used = np.flatnonzero(flags)
        order = used[np.argsort(ids[used], kind="stable")]
        again = np.sort(order[1:][ids[order[1:]] == ids[order[:-1]]])
        flags[again] = 0
        starts = np.cumsum([0, *self.rows])
        shard_of = np.searchsorted(starts, again, side="right") - 1
        return [
            Dropped(f"{Path(self.shards[s]['path']).name}:{row - starts[s] + 1}", "duplicate id",
                    "another sample with this id stands earlier", STEP)
            for row, s in zip(again.tolist(), shard_of.tolist(), strict=True)
        ]  # fmt: skip

    def refuse_shared_groups(self) -> None:
        flags, groups = self.joined("flags"), self.joined("groups")
        held_out = np.unique(groups[(flags & (VALID | TEST)) != 0])
        shared = np.isin(groups, held_out[held_out != 0]) & ((flags & TRAIN) != 0)
        if not shared.any():
            return
        row = int(np.flatnonzero(shared)[0])
        starts = np.cumsum([0, *self.rows])
        shard = int(np.searchsorted(starts, row, side="right")) - 1
        raise EosinError(
            "Training samples are of patients, cases, slides or articles that are held out too.",
            expected="every group in one split",
            found=f"{int(shared.sum()):,} training samples, the first is row {row - int(starts[shard]) + 1}",
            where=self.shards[shard]["path"], next_step="eosin curate with the step split",
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        flags = self.joined("flags")
        counts = {
            name: int(((flags & bit) != 0).sum()) for name, bit in (("train", TRAIN), ("valid", VALID), ("test", TEST))
        }
        return {
            "schema_version": 1, "counts": counts, "sources": list(self.names),
            "labels": dict(sorted(self.labels.items())), "licences": sorted(self.licences), "shards": self.shards,
        }  # fmt: skip
