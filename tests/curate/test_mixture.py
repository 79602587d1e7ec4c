"""A mixture keeps its weights, uses lists up before repeating, and goes on at any index."""

from __future__ import annotations

import collections
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eosin.core.errors import EosinError
from eosin.curate import Mixture
from eosin.curate.mixture import BLOCK


def _mixture(seed: int = 0) -> Mixture[str]:
    lists = {"a": [f"a{i}" for i in range(70)], "b": [f"b{i}" for i in range(13)], "c": ["c0"]}
    return Mixture(lists, {"a": 6, "b": 3, "c": 1}, seed)


def test_weights_hold_exactly_in_every_block() -> None:
    mixture = _mixture()
    for block in range(3):
        items = [mixture[block * BLOCK + i][0] for i in range(BLOCK)]
        assert collections.Counter(items) == {"a": 600, "b": 300, "c": 100}
    assert mixture.shares == {"a": 0.6, "b": 0.3, "c": 0.1}


def test_a_list_is_used_up_before_it_begins_again() -> None:
    items = [x for x in islice(_mixture().iterate(), 3000) if x.startswith("b")]
    for start in range(0, len(items) - 13, 13):
        assert len(set(items[start : start + 13])) == 13
    assert items[:13] != items[13:26]


@given(st.integers(0, 10_000), st.integers(0, 5))
def test_it_goes_on_at_any_index(start: int, seed: int) -> None:
    whole, later = _mixture(seed), _mixture(seed)
    assert list(islice(later.iterate(start), 30)) == [whole[start + i] for i in range(30)]


def test_a_seed_fixes_the_order_whatever_the_order_of_the_lists() -> None:
    first = list(islice(_mixture(1).iterate(), 500))
    assert first == list(islice(_mixture(1).iterate(), 500))
    assert first != list(islice(_mixture(2).iterate(), 500))
    turned = Mixture({"y": [2], "x": [1]}, {"x": 1, "y": 3})
    straight = Mixture({"x": [1], "y": [2]}, {"y": 3, "x": 1})
    assert list(islice(turned.iterate(), 100)) == list(islice(straight.iterate(), 100))


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_quotas_sum_to_a_block_and_none_is_empty(weights: list[float]) -> None:
    names = [str(i) for i in range(len(weights))]
    mixture = Mixture({n: [n] for n in names}, dict(zip(names, weights, strict=True)))
    counts = collections.Counter(mixture[i] for i in range(BLOCK))
    assert sum(counts.values()) == BLOCK
    assert set(counts) == set(names)
    for name, weight in zip(names, weights, strict=True):
        exact = weight / sum(weights) * BLOCK
        assert counts[name] == pytest.approx(exact, abs=len(weights) + 1)


@pytest.mark.parametrize(
    ("lists", "weights", "words"),
    [
        ({}, {}, "one weight for each list"),
        ({"a": [1]}, {"b": 1}, "one weight for each list"),
        ({"a": []}, {"a": 1}, "empty"),
        ({"a": [1]}, {"a": 0}, "positive"),
        ({"a": [1]}, {"a": float("nan")}, "positive"),
        ({"a": [1]}, {"a": float("inf")}, "positive"),
    ],
)
def test_refused(lists: dict[str, list[int]], weights: dict[str, float], words: str) -> None:
    with pytest.raises(EosinError, match=words):
        Mixture(lists, weights)


def test_there_is_no_negative_index() -> None:
    with pytest.raises(IndexError):
        _mixture()[-1]
