"""The order in which a stage sees its rows, where it is Eosin's own: a function of (seed, epoch, place).

It is the same on every process, with any number of workers, and after a kill: the Trainer passes over the batches that
a resumed epoch has seen, and nothing is drawn from a state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler
from transformers import TrainerCallback
from trl import SFTTrainer
from trl.trainer.utils import RepeatSampler

from eosin.core.nouns.classes import Classes
from eosin.core.nouns.sample import Sample

SORTED_STEPS = 50
"""Optimiser steps whose rows are sorted by length together."""
_BY_LENGTH, _BY_CLASS = 4, 5  # what a generator is drawn for; core/formats/stream/order.py has the others


class EpochNumber(TrainerCallback):  # type: ignore[misc]
    """Knows the number of the epoch under way, from 0. It is told before the readers of the epoch begin."""

    def __init__(self) -> None:
        self.epoch = 0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.epoch = int((state.epoch or 0.0) + 1e-6)


class RowOrder(Sampler[int]):
    """Row numbers of the epoch under way.

    Args:
        num: rows of an epoch.
        rows_of: the rows of an epoch by its number.
    """

    def __init__(self, num: int, rows_of: Callable[[int], Iterator[int]], epoch: EpochNumber) -> None:
        self._num, self._rows_of, self.epoch = num, rows_of, epoch

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Iterator[int]:
        return self._rows_of(self.epoch.epoch)


class OrderedTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's SFT trainer, whose training rows come in `row_order`, where one is set."""

    row_order: RowOrder | None = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return super()._get_train_sampler(train_dataset) if self.row_order is None else self.row_order


class LengthOrder:
    """Rows of about one length in every optimiser step, so that padding is short.

    An epoch's rows are drawn in a random order; those of 50 steps are sorted by length, longest first, and divided into
    steps, whose order is then drawn. The last step of the epoch holds what is left. A step's rows do not depend on how
    it is divided into processes and micro-batches.

    transformers' own `group_by_length` draws from torch's state, so that a resumed epoch would be another one, and its
    groups are those of one process.

    Args:
        lengths: of every row, in tokens.
        rows_a_step: rows of one optimiser step, of all processes together.
    """

    def __init__(self, lengths: Sequence[int], rows_a_step: int, seed: int) -> None:
        self.lengths, self.rows_a_step, self.seed = np.asarray(lengths), rows_a_step, seed

    def __len__(self) -> int:
        return len(self.lengths)

    def iterate(self, epoch: int) -> Iterator[int]:
        """Row numbers of an epoch."""
        rng = np.random.default_rng([self.seed, epoch, _BY_LENGTH])
        drawn = rng.permutation(len(self.lengths))
        whole = len(drawn) - len(drawn) % self.rows_a_step
        steps = []
        for start in range(0, whole, SORTED_STEPS * self.rows_a_step):
            part = drawn[start : min(start + SORTED_STEPS * self.rows_a_step, whole)]
            part = part[np.argsort(-self.lengths[part], kind="stable")]
            steps.append(part.reshape(-1, self.rows_a_step))
        if steps:
            yield from rng.permutation(np.concatenate(steps)).reshape(-1).tolist()
        yield from drawn[whole:].tolist()


def text_lengths(
    samples: Sequence[Sample], make_row: Callable[[Sample, list[Any]], dict[str, Any]], tokenizer: Any, a_picture: int
) -> list[int]:
    """Tokens of every row, nearly: of its texts, and `a_picture` for every picture. No picture is decoded."""
    found: list[int] = []
    for start in range(0, len(samples), 1000):
        rows = [make_row(sample, []) for sample in samples[start : start + 1000]]
        parts = [[p for m in (*row["prompt"], *row["completion"]) for p in m["content"]] for row in rows]
        texts = ["".join(p.get("text", "") for p in own) for own in parts]
        coded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        pictures = [sum(p["type"] == "image" for p in own) for own in parts]
        found += [len(ids) + a_picture * n for ids, n in zip(coded, pictures, strict=True)]
    return found


def classes_of(samples: Sequence[Sample]) -> list[int] | None:
    """The number of each sample's class; None where the answers form no classes."""
    classes = Classes.of(samples)
    numbers = {name: n for n, name in enumerate(classes.labels)}
    return [numbers[classes.gold(s)] for s in samples] if numbers else None


def balanced_steps(classes: Sequence[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Rows of an epoch in steps of `size`, in each of which every class stands equally often, but for one.

    Each class comes in an order of its own, again from the beginning where it is short; which classes have one more
    goes round. No row stands twice in a step: where a class has too few rows the others fill up.

    Args:
        classes: class number of every row.
        size: rows of a step, at most as many as there are rows.

    Returns: as many steps as the epoch has without balance, len(classes) // size.
    """
    rows = {c: np.flatnonzero(np.asarray(classes) == c) for c in sorted(set(classes))}
    waiting: dict[int, deque[int]] = {c: deque() for c in rows}
    turn, names = 0, list(rows)
    steps = []
    for _ in range(len(classes) // size):
        step: list[int] = []
        taken = dict.fromkeys(names, 0)
        while len(step) < size:
            name = names[turn % len(names)]
            turn += 1
            if taken[name] == len(rows[name]):
                continue
            if all(row in step for row in waiting[name]):
                waiting[name].extend(rng.permutation(rows[name]).tolist())
            row = next(row for row in waiting[name] if row not in step)
            waiting[name].remove(row)
            step.append(row)
            taken[name] += 1
        steps.append(step)
    return steps


class PromptOrder(RepeatSampler):  # type: ignore[misc]
    """TRL's order of prompts, each repeated for its group, as a function of seed and epoch: TRL draws epoch after epoch
    from one generator, which a resumed run begins anew. The first epoch is TRL's own.

    Attributes:
        classes: class number of every row, where the prompts of a step are balanced by class; None: as TRL draws them.
    """

    classes: Sequence[int] | None = None
    epoch = 0

    @classmethod
    def like(cls, parent: RepeatSampler, classes: Sequence[int] | None) -> PromptOrder:
        """With the parent's numbers."""
        order = cls(
            parent.data_source, parent.mini_repeat_count, parent.batch_size, parent.repeat_count, parent.shuffle,
            parent.seed,
        )  # fmt: skip
        order.classes = classes
        return order

    def set_epoch(self, epoch: int) -> None:
        """Told before an epoch is read."""
        self.epoch = epoch
        if self.shuffle and self.seed is not None:
            self.generator.manual_seed(self.seed + epoch)

    def __iter__(self) -> Iterator[int]:
        if self.classes is None:
            yield from super().__iter__()
            return
        rng = np.random.default_rng([self.seed or 0, self.epoch, _BY_CLASS])
        for step in balanced_steps(self.classes, self.batch_size, rng):
            for _ in range(self.repeat_count):
                yield from (row for row in step for _ in range(self.mini_repeat_count))
