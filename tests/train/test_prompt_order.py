"""The order of an RL stage's prompts, balanced by class or as TRL draws it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from trl.trainer.utils import RepeatSampler

from eosin.core.nouns.sample import Choice, ImageBytes, Origin, Sample, user_prompt
from eosin.train.data.order import PromptOrder, balanced_steps, classes_of

CLASSES = [0] * 70 + [1] * 20 + [2] * 9 + [3]


@pytest.mark.parametrize("size", [4, 8, 6, 10])
def test_every_class_stands_in_a_step_equally_often(size: int) -> None:
    steps = balanced_steps(CLASSES, size, np.random.default_rng(0))
    assert [len(s) for s in steps] == [size] * (len(CLASSES) // size)
    for step in steps:
        assert len(set(step)) == size, "no prompt twice in a step"
        counts = Counter(CLASSES[row] for row in step)
        assert counts[3] <= 1  # of one row
        others = [counts[c] for c in range(3)]
        assert max(others) - min(others) <= 1
    shown = Counter(row for step in steps for row in step)
    for number in range(4):
        times = [shown[row] for row, c in enumerate(CLASSES) if c == number]
        assert max(times) - min(times) <= 1, "no row of a class comes again before the others have come"


def test_a_step_as_large_as_the_epoch_holds_every_row() -> None:
    (step,) = balanced_steps([0, 0, 0, 1], 4, np.random.default_rng(0))
    assert sorted(step) == [0, 1, 2, 3]


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    parent = RepeatSampler(CLASSES, mini_repeat_count=3, batch_size=8, repeat_count=2, seed=5)
    for classes in (CLASSES, None):
        order, later = PromptOrder.like(parent, classes), PromptOrder.like(parent, classes)
        epochs = []
        for epoch in range(3):
            order.set_epoch(epoch)
            epochs.append(list(order))
        later.set_epoch(2)
        assert list(later) == epochs[2] != epochs[1] and epochs[0] != epochs[1]
        assert all(len(rows) == len(order) for rows in epochs)
        first = epochs[0][: 8 * 3 * 2]
        assert first[:24] == first[24:] and first[0] == first[1] == first[2]
    assert list(PromptOrder.like(parent, None)) == list(
        RepeatSampler(CLASSES, mini_repeat_count=3, batch_size=8, repeat_count=2, seed=5)
    )


def test_classes_of_samples() -> None:
    def sample(number: int, answer: str, options: tuple[str, ...]) -> Sample:
        return Sample(
            id=str(number), messages=user_prompt("Which?"), origin=Origin(source="made"), answer=answer,
            images=(ImageBytes(data=b"unread"),),
            choices=tuple(Choice(letter=letter, text=text) for letter, text in zip("AB", options, strict=True)),
        )  # fmt: skip

    shared = [sample(n, "AB"[n % 2], ("stroma", "gland")) for n in range(4)]
    assert classes_of(shared) == [1, 0, 1, 0]
    own = [sample(n, "A", (f"finding {n}", f"other {n}")) for n in range(4)]
    assert classes_of(own) is None
