"""The order of an epoch, computed and not kept: it follows from (seed, epoch, place) over the blocks of an index.

Blocks stand in an order drawn for the epoch. As many of them as fill a window are shuffled together, row by row, so
that a reader holds one window and no more. Rows of one window lie in blocks from anywhere in the data. Nothing depends
on how many processes or workers read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.formats.stream.index import BYTES, FIRST, Index
from eosin.core.formats.stream.scan import TRAIN

FULL_WINDOW = 128
"""MiB of a window by default."""
SOME_BLOCKS = 32
_BLOCKS, _ROWS, _SOME = 1, 2, 3  # what a generator is drawn for


@dataclass(frozen=True)
class Part:
    """The training rows of an index that a stage sees.

    Attributes:
        need: bits that a row must have, all of them.
        sources: names of the data sets; None takes all.
    """

    index: Index
    need: int = TRAIN
    sources: tuple[str, ...] | None = None

    @cached_property
    def _numbers(self) -> np.ndarray | None:
        if self.sources is None:
            return None
        known = self.index.source_names
        if missing := [s for s in self.sources if s not in known]:
            raise EosinError("The training samples have no such source.", expected=", ".join(known),
                             found=", ".join(missing), where="sources")  # fmt: skip
        return np.array([known.index(s) for s in self.sources], np.uint16)

    def rows_of(self, block: int) -> np.ndarray:
        """Numbers of the rows of a block that belong to the part, int64, in order."""
        first, end = int(self.index.blocks[block, FIRST]), int(self.index.ends[block])
        belongs = (self.index.flags[first:end] & self.need) == self.need
        if self._numbers is not None:
            belongs &= np.isin(self.index.sources[first:end], self._numbers)
        return first + np.flatnonzero(belongs)

    @cached_property
    def counts(self) -> np.ndarray:
        """Rows of each block, int64 (B,)."""
        return np.array([len(self.rows_of(b)) for b in range(len(self.index.blocks))], np.int64)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def some(self, num: int, seed: int) -> list[int]:
        """At most `num` rows out of at most 32 blocks, drawn with the seed, in order: all of them where there are no
        more."""
        if len(self) <= num:
            return [int(r) for b in np.flatnonzero(self.counts) for r in self.rows_of(int(b))]
        rng = np.random.default_rng([seed, _SOME])
        blocks = rng.permutation(np.flatnonzero(self.counts))[:SOME_BLOCKS]
        share = -(-num // len(blocks))
        drawn = [rng.permutation(self.rows_of(int(b)))[:share] for b in blocks]
        return sorted(np.concatenate(drawn)[:num].tolist())


class Order:
    """The rows of a part in the order of each epoch.

    Args:
        window_bytes: what stands in blocks that are shuffled together; the last block of a window may exceed it.
    """

    def __init__(self, part: Part, seed: int, window_bytes: int = FULL_WINDOW * 2**20) -> None:
        self.part, self.seed, self.window_bytes = part, seed, window_bytes

    def __len__(self) -> int:
        return len(self.part)

    def windows(self, epoch: int) -> list[list[int]]:
        """Blocks of each window of an epoch."""
        blocks = np.random.default_rng([self.seed, epoch, _BLOCKS]).permutation(np.flatnonzero(self.part.counts))
        found: list[list[int]] = []
        size = self.window_bytes
        for block in blocks.tolist():
            if size >= self.window_bytes:
                found.append([])
                size = 0
            found[-1].append(block)
            size += int(self.part.index.blocks[block, BYTES])
        return found

    def iterate(self, epoch: int, start: int = 0) -> Iterator[int]:
        """Row numbers of an epoch from place `start` on."""
        place = 0
        for number, blocks in enumerate(self.windows(epoch)):
            size = int(self.part.counts[blocks].sum())
            if place + size > start:
                yield from self._shuffled(epoch, number, blocks)[max(0, start - place) :].tolist()
            place += size

    def at(self, epoch: int, place: int) -> int:
        """The row number at a place of an epoch.

        Raises:
            IndexError: the epoch is shorter.
        """
        for row in self.iterate(epoch, place):
            return row
        raise IndexError(place)

    def _shuffled(self, epoch: int, window: int, blocks: Sequence[int]) -> np.ndarray:
        rows = np.concatenate([self.part.rows_of(b) for b in blocks])
        return rows[np.random.default_rng([self.seed, epoch, _ROWS, window]).permutation(len(rows))]
