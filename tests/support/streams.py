"""A toy data set in shards, and streams over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from eosin.core.formats import parquet
from eosin.core.formats.rows import Outcome
from eosin.core.formats.stream.index import write_index
from eosin.core.formats.stream.order import Order, Part
from eosin.core.formats.stream.reader import Streamed, StreamReader
from eosin.core.formats.stream.scan import ANSWER, TRAIN, scan, shards_of
from eosin.core.nouns.outcome import Kept
from eosin.core.nouns.sample import Sample


def write_shards(samples: Sequence[Sample], folder: Path, a_shard: int = 20, a_block: int = 5) -> None:
    """Parquet shards of row groups of a few samples."""
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROWS_PER_GROUP", a_block)
        for number, start in enumerate(range(0, len(samples), a_shard)):
            parquet.write_parquet(samples[start : start + a_shard], folder / f"part-{number:05d}.parquet")


def stream_of(folder: Path, seed: int = 0, need: int = TRAIN | ANSWER) -> Streamed:
    """A stream over the shards of a folder, in windows of about three blocks."""
    place = folder / "index"
    place.mkdir(exist_ok=True)
    index = write_index(place, (scan(str(p), _every) for p in shards_of(folder)), lambda dropped: None)
    window = 3 * int(index.blocks[:, 3].max())
    return Streamed(Order(Part(index, need), seed, window), StreamReader(index, 2 * window))


def _every(sample: Sample, file: Path) -> Outcome:
    return Kept(sample)
