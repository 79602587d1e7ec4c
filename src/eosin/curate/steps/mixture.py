"""Mixture: training samples in a mixed order by weight. Every stretch of it holds each part in proportion."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.parting import MixtureStep
from eosin.core.store.artifacts import read_object, write_json
from eosin.curate.steps.base import Again, Inputs, Step, StepOutcome

BLOCK = 1000
_PLAN = "plan.json"
_NONE = "none"


class MixSamples(Step[MixtureStep]):
    """The first output shards hold the mixture; then valid, test, and what was left over follow in order.

    Item k of the m_p items of part p stands at (k + u) / m_p of the whole, with u drawn from 0 to 1: so every stretch
    of the mixture holds each part in its proportion. Shards of a part come in an order drawn with the seed, and so do
    the samples of a shard: what is held is a number an item, and the samples of a few shards.
    """

    def measure(self, samples: Sequence[Sample]) -> pa.Table:
        """The part of each training sample; null for valid and test."""
        parts = [part_of(s, self.settings.by) if s.split in (None, "train") else None for s in samples]
        return pa.table({"part": pa.array(parts, pa.string())})

    def decide(self, inputs: Inputs) -> None:
        """How much of each part is drawn.

        Raises:
            EosinError: no training sample; a weight for a part that is not there; a size that the parts do not allow.
        """
        counts = [Counter(p for p in t["part"].to_pylist() if p is not None) for t in inputs.measured()]
        totals = sum(counts, Counter())
        weights = self._weights(totals)
        whole = sum(weights.values())
        most = self.settings.max_repeats
        largest = max(1, int(min(most * n * whole / weights[p] for p, n in totals.items()) + 1e-9))
        size = self.settings.size or min(largest, sum(totals.values()))
        if size > largest:
            raise EosinError(
                "The parts of this mixture do not suffice for its size.", found=f"size {size:,}", where="mixture",
                expected=f"at most {largest:,} with max_repeats {most}",
                next_step="set a smaller size, other weights, or a larger max_repeats",
            )  # fmt: skip
        drawn = {p: min(n, most * totals[p]) for p, n in _rounded(weights, size).items()}
        write_json(self.state / _PLAN, {"drawn": drawn, "totals": dict(totals), "counts": [dict(c) for c in counts]})

    def _weights(self, totals: Mapping[str, int]) -> dict[str, float]:
        if not totals:
            raise EosinError("There is no training sample to mix.", where="mixture")
        unknown = sorted(set(self.settings.weights) - set(totals))
        if unknown:
            raise EosinError(
                "A weight names a part that is not there.", found=", ".join(unknown), where="mixture.weights",
                expected=", ".join(sorted(totals)),
            )  # fmt: skip
        powers = {p: n ** (1 / self.settings.temperature) for p, n in totals.items()}
        scale = sum(totals.values()) / sum(powers.values())
        return {p: float(self.settings.weights.get(p, powers[p] * scale)) for p in sorted(totals)}

    @cached_property
    def _plan(self) -> dict[str, Any]:
        return read_object(self.state / _PLAN)

    @cached_property
    def _order(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Part and number in the part of every item of the mixture."""
        rng = np.random.default_rng([self.context.seed, 19])
        drawn = list(self._plan["drawn"].values())
        part = np.repeat(np.arange(len(drawn), dtype=np.int32), drawn)
        number = np.concatenate([np.arange(n, dtype=np.int64) for n in drawn])
        place = (number + rng.random(len(number))) / np.repeat(np.maximum(drawn, 1), drawn)
        order = np.argsort(place, kind="stable")
        return part[order], number[order]

    @cached_property
    def _shards_of(self) -> dict[str, tuple[list[int], NDArray[np.int64]]]:
        """For each part: its shards in their drawn order, and where each begins in the order of the part."""
        made = {}
        for part in self._plan["drawn"]:
            shards = [i for i, c in enumerate(self._plan["counts"]) if c.get(part)]
            random.Random(f"mixture:{self.context.seed}:{part}").shuffle(shards)
            made[part] = (shards, np.cumsum([0, *(self._plan["counts"][i][part] for i in shards)]))
        return made

    def _num_mixed(self) -> int:
        return -(-sum(self._plan["drawn"].values()) // BLOCK)

    def num_outputs(self, inputs: Inputs) -> int:
        """Shards of the mixture, and one a shard of the input for what is not in it."""
        return self._num_mixed() + len(inputs)

    def make(self, shard: int, inputs: Inputs) -> Iterable[StepOutcome]:
        """The samples of a part of the mixture, or what of an input shard is not in it."""
        mixed = self._num_mixed()
        return self._rest(shard - mixed, inputs) if shard >= mixed else self._mixed(shard, inputs)

    def _mixed(self, shard: int, inputs: Inputs) -> Iterator[StepOutcome]:
        read, names = _Recent(inputs, self.settings.by), list(self._plan["drawn"])
        parts, numbers = self._order
        for p, number in zip(parts[shard * BLOCK :][:BLOCK], numbers[shard * BLOCK :][:BLOCK], strict=True):
            part = names[p]
            turn, position = divmod(int(number), self._plan["totals"][part])
            shards, begins = self._shards_of[part]
            at = int(np.searchsorted(begins, position, side="right")) - 1
            row = self._rows(part, shards[at], int(begins[at + 1] - begins[at]))[position - int(begins[at])]
            sample = read.part(shards[at], part)[row]
            if turn == 0:
                yield Kept(sample)
            else:
                yield Again(sample.model_copy(update={"id": f"{sample.id}~{turn + 1}", "origin": _child(sample)}))

    def _rows(self, part: str, shard: int, count: int) -> list[int]:
        rows = list(range(count))
        random.Random(f"mixture:{self.context.seed}:{part}:{shard}").shuffle(rows)
        return rows

    def _rest(self, shard: int, inputs: Inputs) -> Iterator[StepOutcome]:
        """Valid and test samples, kept; training samples that the mixture had no room for, dropped."""
        used = {p: self._used(p, shard) for p in self._plan["counts"][shard]}
        seen: Counter[str] = Counter()
        for sample in inputs.read(shard):
            if sample.split not in (None, "train"):
                yield Kept(sample)
                continue
            part = part_of(sample, self.settings.by)
            if seen[part] not in used[part]:
                yield Dropped(sample.id, "more than its share", f"{part} has enough others", "mixture")
            seen[part] += 1

    def _used(self, part: str, shard: int) -> set[int]:
        """Which samples of a part in a shard stand in the mixture, by their number in the part and shard."""
        shards, begins = self._shards_of[part]
        at = shards.index(shard)
        count = min(int(begins[at + 1]), self._plan["drawn"][part]) - int(begins[at])
        return set(self._rows(part, shard, int(begins[at + 1] - begins[at]))[: max(0, count)])

    def run(self, shard: int, samples: Sequence[Sample]) -> Iterable[StepOutcome]:
        """A mixture is made from several shards; see `make`."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """How many training samples come out, and of which parts."""
        drawn = self._plan["drawn"]
        return {"size": sum(drawn.values()), "parts": drawn}


def _rounded(weights: Mapping[str, float], size: int) -> dict[str, int]:
    """Whole numbers in proportion to the weights that sum to `size`, by largest remainder."""
    whole = sum(weights.values())
    exact = {p: w / whole * size for p, w in weights.items()}
    counts = {p: int(x + 1e-9) for p, x in exact.items()}
    rest = sorted(exact, key=lambda p: (counts[p] - exact[p], p))
    for p in rest[: size - sum(counts.values())]:
        counts[p] += 1
    return counts


def part_of(sample: Sample, by: str) -> str:
    """The part of the mixture that a sample belongs to; "none" where nothing is said."""
    if by.startswith("extra."):
        value = sample.extra.get(by.removeprefix("extra."))
    elif by == "label":
        value = sample.label
    else:
        value = getattr(sample.origin, by)
    return _NONE if value in (None, "") else str(value)


def _child(sample: Sample) -> Any:
    return sample.origin.model_copy(update={"parents": (*sample.origin.parents, sample.id)})


class _Recent:
    """Training samples of recent shards by part: a block of the mixture touches few shards of each part."""

    def __init__(self, inputs: Inputs, by: str, most: int = 8) -> None:
        self._inputs, self._by, self._most = inputs, by, most
        self._held: OrderedDict[int, dict[str, list[Sample]]] = OrderedDict()

    def part(self, shard: int, part: str) -> list[Sample]:
        if shard not in self._held:
            parts: dict[str, list[Sample]] = {}
            for sample in self._inputs.read(shard):
                if sample.split in (None, "train"):
                    parts.setdefault(part_of(sample, self._by), []).append(sample)
            self._held[shard] = parts
            if len(self._held) > self._most:
                self._held.popitem(last=False)
        self._held.move_to_end(shard)
        return self._held[shard][part]
