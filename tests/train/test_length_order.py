"""Rows of about one length in every step: each once an epoch, the same however a step is divided, little padding."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tests.support.toys import toy_samples
from tests.train.conftest import GRAMMAR, PROMPT, new_model

from eosin.core.settings.stages import SftStage
from eosin.train.data.collate import MaskedCollator, trim_padding
from eosin.train.data.feed import lengths_of
from eosin.train.data.order import EpochNumber, LengthOrder, RowOrder
from eosin.train.data.rows import ImageCache, rows_dataset, sft_row
from eosin.train.masking.trajectory import whole_rows


def padding(rows: list[int], lengths: np.ndarray, size: int) -> int:
    """Tokens of padding where rows are padded in batches of a size."""
    batches = [lengths[rows[i : i + size]] for i in range(0, len(rows), size)]
    return int(sum(b.max() * len(b) - b.sum() for b in batches))


def test_an_epoch_by_hand() -> None:
    """Four rows a step, and one left over: the steps hold the longest, the middle and the shortest, in some order."""
    lengths = [5, 90, 50, 6, 91, 51, 7, 92, 52, 8, 93, 53, 1]
    rows = list(LengthOrder(lengths, 4, seed=0).iterate(0))
    assert sorted(rows) == list(range(13))
    left = rows[12]
    steps = [sorted(lengths[r] for r in rows[i : i + 4]) for i in range(0, 12, 4)]
    rest = sorted((n for i, n in enumerate(lengths) if i != left), reverse=True)
    assert sorted(steps, reverse=True) == [sorted(rest[i : i + 4]) for i in range(0, 12, 4)]


def test_it_follows_from_seed_and_epoch_and_saves_padding() -> None:
    lengths = np.random.default_rng(0).lognormal(4, 0.9, 1600).astype(int) + 1
    order = LengthOrder(lengths, 16, seed=1)
    first = list(order.iterate(0))
    assert first == list(LengthOrder(lengths, 16, seed=1).iterate(0))
    assert first != list(order.iterate(1)) and first != list(LengthOrder(lengths, 16, seed=2).iterate(0))
    assert sorted(first) == sorted(order.iterate(1)) == list(range(1600))
    drawn = np.random.default_rng(3).permutation(1600).tolist()
    assert padding(first, lengths, 16) < 0.2 * padding(drawn, lengths, 16)
    assert padding(first, lengths, 4) < padding(first, lengths, 16)  # sorted within a step: micro-batches are even
    firsts = [lengths[first[i : i + 16]].mean() for i in range(0, 800, 16)]
    assert np.abs(np.diff(firsts)).mean() > 10  # the steps themselves are in a random order


def test_fewer_rows_than_a_step_and_an_empty_rest() -> None:
    assert sorted(LengthOrder([3, 1, 2], 8, 0).iterate(0)) == [0, 1, 2]
    assert sorted(LengthOrder([3, 1, 2, 4], 2, 0).iterate(5)) == [0, 1, 2, 3]
    assert list(LengthOrder([], 2, 0).iterate(0)) == []


def test_the_epoch_is_told_before_it_is_read() -> None:
    epoch = EpochNumber()
    order = RowOrder(3, lambda number: iter([number] * 3), epoch)
    for told, number in ((None, 0), (0.0, 0), (0.99999999, 1), (1.0, 1), (2.5, 2)):
        epoch.on_epoch_begin(None, SimpleNamespace(epoch=told), None)
        assert list(order) == [number] * 3 and len(order) == 3


def test_lengths_are_nearly_those_of_the_rows() -> None:
    loaded, samples = new_model(), toy_samples(6, "train")
    samples[1] = samples[1].model_copy(update={"reasoning": (" ".join(["The field is red."] * 9),)})
    make, collate = sft_row(GRAMMAR, PROMPT), MaskedCollator(loaded.processor)
    rows = rows_dataset(samples, make, ImageCache(None, 1.0))
    ctx = SimpleNamespace(loaded=loaded)
    told = lengths_of(ctx, whole_rows(samples), make, collate, rows)  # type: ignore[arg-type]
    real = [len(trim_padding(collate([rows[i]]), 0)[0]) for i in range(6)]
    assert told == pytest.approx(real, abs=3) and real[1] > real[0] + 20


def test_the_setting_is_of_stages_that_learn_pairs() -> None:
    assert SftStage(batches="by_length").batches == "by_length"
    with pytest.raises(ValueError, match="batches"):
        SftStage(batches="longest_first")  # type: ignore[arg-type]
