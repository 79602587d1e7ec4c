"""Samples in shards on disk: what a step wrote, what it set aside, and its counts, a file each a shard.

The counts of a shard are written last: a shard without them does not exist.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eosin.core.errors import EosinError
from eosin.core.formats.artifact import dropped_line
from eosin.core.formats.parquet import copy_rows, iter_parquet, write_parquet
from eosin.core.formats.rows import whole_file
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.store.artifacts import read_object, write_json, write_text_atomic
from eosin.curate.steps.base import Again, StepOutcome

DONE = "done.json"


@dataclass
class Counts:
    """Counts of a shard, or of a step: num_in = num_kept + sum(dropped); num_out = num_kept - parents + made + again.

    Attributes:
        parents: kept samples that became others; made: those others; again: samples that come once more.
        rejected: what was made and not taken, by reason. It is no input and stands in no sum.
        splits, sources, licences: of what came out.
    """

    num_in: int = 0
    num_kept: int = 0
    num_out: int = 0
    parents: int = 0
    made: int = 0
    again: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Add the counts of another shard."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def out(self, sample: Sample) -> None:
        """Count a sample that comes out."""
        self.num_out += 1
        self.splits[sample.split or "none"] += 1
        self.sources[sample.origin.source] += 1
        self.licences[sample.origin.licence] += 1

    @property
    def adds_up(self) -> bool:
        return (
            self.num_in == self.num_kept + self.dropped.total()
            and self.num_out == self.num_kept - self.parents + self.made + self.again
        )

    def as_json(self) -> dict[str, Any]:
        return {k: dict(v.most_common()) if isinstance(v, Counter) else v for k, v in vars(self).items()}

    @classmethod
    def of(cls, told: dict[str, Any]) -> Counts:
        fields: dict[str, Any] = {k: Counter(v) if isinstance(v, dict) else v for k, v in told.items()}
        return cls(**fields)


@dataclass(frozen=True)
class Place:
    """The folder of one step in the work of a curation."""

    folder: Path
    step: str

    def kept(self, shard: int) -> Path:
        return self.folder / "kept" / f"{shard:05d}.parquet"

    def dropped(self, shard: int) -> Path:
        return self.folder / "dropped" / f"{shard:05d}.jsonl"

    def counts(self, shard: int) -> Path:
        return self.folder / "counts" / f"{shard:05d}.json"

    def measured(self, shard: int) -> Path:
        return self.folder / "measured" / f"{shard:05d}.parquet"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def has(self, shard: int) -> bool:
        """Whether a shard is whole."""
        return self.counts(shard).is_file()

    @property
    def is_done(self) -> bool:
        return (self.folder / DONE).is_file()

    def done(self) -> dict[str, Any]:
        return read_object(self.folder / DONE)

    def prepare(self) -> None:
        for name in ("kept", "dropped", "counts", "measured", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def forget(self, *names: str) -> None:
        """Remove what is needed no more."""
        for name in names:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def write(self, shard: int, outcomes: Iterable[StepOutcome], unchanged: Path | None = None) -> Counts:
        """Write what became of a shard. Its counts come last.

        Args:
            unchanged: the file of the shard, where every sample is kept as it stands there or dropped, in order. Then
                `outcomes` can be gone through twice.
        """
        counts = Counts()
        lines: list[str] = []

        def kept() -> Iterator[Sample]:
            for outcome in outcomes:
                for sample in self._count(outcome, counts, lines):
                    counts.out(sample)
                    yield sample

        if unchanged is None:
            write_parquet(kept(), self.kept(shard))
        else:
            keep = [isinstance(o, Kept) for o in outcomes]
            for _ in kept():
                pass
            copy_rows(unchanged, self.kept(shard), keep)
        if lines:
            write_text_atomic(self.dropped(shard), "".join(lines))
        write_json(self.counts(shard), counts.as_json())
        return counts

    def _count(self, outcome: StepOutcome, counts: Counts, lines: list[str]) -> tuple[Sample, ...]:
        if isinstance(outcome, Again):
            counts.again += 1
            return (outcome.sample,)
        counts.num_in += 1
        if isinstance(outcome, Dropped):
            counts.dropped[outcome.reason] += 1
            lines.append(dropped_line(outcome if outcome.step else replace(outcome, step=self.step)))
            return ()
        counts.num_kept += 1
        if isinstance(outcome, Kept):
            return (outcome.value,)
        counts.parents += 1
        counts.made += len(outcome.samples)
        for rejected in outcome.rejected:
            counts.rejected[rejected.reason] += 1
            lines.append(dropped_line(rejected if rejected.step else replace(rejected, step=self.step)))
        return outcome.samples

    def write_measured(self, shard: int, table: pa.Table) -> None:
        with whole_file(self.measured(shard)) as handle:
            pq.write_table(table, handle, compression="zstd")


@dataclass(frozen=True)
class Shards:
    """What a finished step wrote, as the next one reads it. `sizes`: samples of each shard."""

    place: Place
    sizes: tuple[int, ...]
    measured_at: Place | None = None

    @classmethod
    def of(cls, place: Place) -> Shards:
        return cls(place, tuple(place.done()["sizes"]))

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def num_samples(self) -> int:
        return sum(self.sizes)

    @cached_property
    def splits(self) -> dict[str, int]:
        """How many samples stand in each split; "none" for those without one."""
        found: dict[str, int] = self.place.done()["counts"]["splits"]
        return found

    def read(self, shard: int) -> list[Sample]:
        """The samples of a shard.

        Raises:
            EosinError: the shard was damaged after it was written.
        """
        if not self.sizes[shard]:
            return []
        found = list(iter_parquet(self.place.kept(shard)))
        samples = [o.value for o in found if isinstance(o, Kept)]
        if len(samples) != self.sizes[shard] or len(samples) != len(found):
            raise EosinError(
                "A shard of this curation was changed after it was written.", where=self.place.kept(shard),
                expected=f"{self.sizes[shard]} samples", found=f"{len(samples)}",
                next_step="remove this folder's parent and give the command again",
            )  # fmt: skip
        return samples

    def samples(self) -> Iterator[Sample]:
        """All samples, a shard in memory at a time."""
        for shard in range(len(self)):
            yield from self.read(shard)

    def measured(self) -> Iterator[pa.Table]:
        """What was measured, a table a shard."""
        assert self.measured_at is not None
        for shard in range(len(self)):
            yield pq.read_table(self.measured_at.measured(shard))


def total(place: Place, shards: int) -> tuple[Counts, list[int]]:
    """Counts of all shards of a step together, and how many samples came out of each."""
    sums, sizes = Counts(), []
    for shard in range(shards):
        told = Counts.of(json.loads(place.counts(shard).read_text("utf-8")))
        sums.add(told)
        sizes.append(told.num_out)
    return sums, sizes
