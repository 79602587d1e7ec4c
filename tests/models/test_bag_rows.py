"""Bags as rows of pixel_values: exact places in any precision, one order whatever order patches come in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.slide_toys import DIMENSION, toy_bag

from eosin.core.errors import EosinError, ImageError
from eosin.core.nouns.bags import PatchBag
from eosin.models.slide_encoder.pool import pool
from eosin.models.slide_encoder.rows import (
    PatchPositions,
    SlideSpec,
    canonical_order,
    check_bag,
    decoder_positions,
    hilbert,
    positions_of,
    rows_of,
)

SPEC = SlideSpec(DIMENSION, encoder="toy-encoder", image_columns=48)


def bag_at(centres: Any, tile_um: float = 100.0) -> PatchBag:
    places = np.asarray(centres, np.float64)
    return PatchBag("s", np.ones((len(places), DIMENSION), np.float32), places, tile_um, 0.2528)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(2**20), 2**24), st.integers(-(2**20), 2**24)), min_size=1, max_size=8
    ),
    st.integers(1, 2**20), st.integers(1, 2**18),
)  # fmt: skip
def test_places_come_back_exactly_even_from_bf16(cells: list[tuple[int, int]], tile: int, mpp: int) -> None:
    centres = np.array(cells) / 16.0
    bag = PatchBag("s", np.ones((len(cells), DIMENSION), np.float32), centres, tile / 2**14, mpp / 2**14)
    rows = torch.from_numpy(rows_of(bag, SPEC))
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        found = positions_of(rows.to(kind).double().numpy())
        assert np.array_equal(found.centres_um, centres)
        assert (found.tile_um, found.mpp) == (tile / 2**14, mpp / 2**14)


def test_a_row_is_features_zeros_and_digits() -> None:
    bag = PatchBag("s", np.arange(DIMENSION, dtype=np.float32)[None], np.array([[10.0, 200.0]]), 112.0, 0.5)
    rows = rows_of(bag, SPEC)
    assert rows.shape == (1, 48 + 16)
    assert rows[0, :DIMENSION].tolist() == list(range(DIMENSION)) and not rows[0, DIMENSION:48].any()
    # x: 160 sixteenths = 32 + 1 x 128; y: 3200 = 0 + 25 x 128; 112 µm = 112 x 128^2; 0.5 = 64 x 128 / 2^14
    assert rows[0, 48:].tolist() == [32, 1, 0, 0, 0, 25, 0, 0, 0, 0, 112, 0, 0, 64, 0, 0]


def test_neighbours_on_the_curve_are_neighbours_on_the_slide() -> None:
    for side in (2, 4, 8, 16):
        cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
        steps = np.abs(np.diff(cells[np.argsort(hilbert(cells))], axis=0)).sum(1)
        assert sorted(hilbert(cells).tolist()) == list(range(side * side))
        assert (steps == 1).all()


def test_the_order_does_not_depend_on_the_order_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    bag = toy_bag(0, rng, 40)
    centres = bag.centres_um.copy()
    centres[5] = centres[7]  # two patches at one place: their features decide
    ties = bag.features.sum(1)
    first = canonical_order(PatchPositions(centres, 112.0, 0.5), ties)
    shuffle = rng.permutation(40)
    second = canonical_order(PatchPositions(centres[shuffle], 112.0, 0.5), ties[shuffle])
    assert np.array_equal(shuffle[second], first)


def test_positions_of_three_patches_by_hand() -> None:
    """A tile, its right neighbour, and one two rows below it; a token for the magnification comes first."""
    bag = bag_at([[550, 250], [650, 250], [550, 450]])
    places = PatchPositions(bag.centres_um, 100.0, 0.25)
    assert places.grid.tolist() == [[0, 0], [1, 0], [0, 2]]
    found = decoder_positions(places, SPEC).T.tolist()
    assert found[0] == [0, 0, 0] and sorted(found[1:]) == [[1, 1, 1], [1, 1, 2], [1, 3, 1]]
    bare = replace(SPEC, has_magnification=False)
    assert sorted(decoder_positions(places, bare).T.tolist()) == [[0, 0, 0], [0, 0, 1], [0, 2, 0]]
    for blind in (replace(SPEC, pooling="queries", num_tokens=2), replace(SPEC, order="as given")):
        count = blind.tokens_of(3)
        assert decoder_positions(places, blind).tolist() == [list(range(count))] * 3


@pytest.mark.parametrize(
    ("change", "wanted", "fix"),
    [
        ({"features": np.ones((4, 7), np.float32)}, "12 numbers a patch", "toy-encoder"),
        ({"encoder": "other"}, "another encoder", "--encoder toy-encoder"),
        ({"tile_um": float("nan")}, "without the scale", "tile_um and mpp"),
        ({"mpp": 0.0}, "without the scale", "tile_um and mpp"),
        ({"centres_um": np.full((4, 2), 1e9)}, "no usable numbers", "features again"),
    ],
)
def test_a_bag_that_does_not_fit_is_refused_with_its_name_and_the_fix(
    change: dict[str, Any], wanted: str, fix: str
) -> None:
    bag = replace(toy_bag(0, np.random.default_rng(0), 4), **change)
    with pytest.raises(ImageError) as caught:
        check_bag(bag, SPEC)
    assert wanted in str(caught.value) and "slide-0" in str(caught.value) and fix in str(caught.value.next_step)


def test_another_scale_than_the_models_is_refused() -> None:
    bag = toy_bag(0, np.random.default_rng(0), 4)
    check_bag(bag, replace(SPEC, tile_um=115.0, mpp=0.48))
    for change in ({"tile_um": 224.0}, {"mpp": 0.25}):
        with pytest.raises(ImageError, match="patches of another"):
            check_bag(bag, replace(SPEC, **change))


@pytest.mark.parametrize(
    "make",
    [
        lambda: PatchBag("s", np.ones((0, 4), np.float32), np.ones((0, 2)), 112.0, 0.5),
        lambda: PatchBag("s", np.full((2, 4), np.nan, np.float32), np.ones((2, 2)), 112.0, 0.5),
        lambda: PatchBag("s", np.ones((2, 4), np.float32), np.empty((0, 2)), 112.0, 0.5),
        lambda: PatchBag("s", np.ones((2, 4), np.float32), np.full((2, 2), np.nan), 112.0, 0.5),
    ],
    ids=["empty", "nan features", "no places", "nan places"],
)
def test_no_bag_can_be_made_without_patches_numbers_and_places(make: Any) -> None:
    with pytest.raises(ImageError) as caught:
        make()
    assert caught.value.where == "s"


def test_ten_times_too_many_patches_are_refused_or_pooled() -> None:
    bag = toy_bag(0, np.random.default_rng(0), 200)
    with pytest.raises(ImageError) as caught:
        check_bag(bag, replace(SPEC, max_patches=20))
    assert "at most 20" in str(caught.value) and "over_max: kmeans" in str(caught.value)
    bounded = replace(SPEC, max_patches=20, over_max="kmeans")
    check_bag(bag, bounded)
    assert len(pool(bag, bounded).bag) == 20


def test_clusters_are_means_and_the_same_in_any_order_of_patches() -> None:
    rng = np.random.default_rng(3)
    bag = toy_bag(1, rng, 60)
    spec = replace(SPEC, pooling="kmeans", num_tokens=6)
    first = pool(bag, spec)
    assert len(first.bag) == 6 and set(first.row_of) == set(range(6))
    for row in range(6):
        own = first.row_of == row
        assert np.allclose(first.bag.features[row], bag.features[own].mean(0), atol=1e-5)
        assert np.allclose(first.bag.centres_um[row], bag.centres_um[own].mean(0))
    shuffle = rng.permutation(60)
    second = pool(bag.take(shuffle), spec)
    assert np.array_equal(second.row_of, first.row_of[shuffle])
    assert np.array_equal(second.bag.features, first.bag.features)
    small = bag.take(np.arange(5))
    assert pool(small, spec).bag is small


def test_specs_are_checked_and_come_back_from_json() -> None:
    import json

    assert SlideSpec.of(json.loads(json.dumps(SPEC.as_dict()))) == SPEC
    for wrong in ({"width": 60}, {"pairs": ((8, 2),)}, {"pairs": ((8, 1), (9, 2))}):
        with pytest.raises(EosinError):
            replace(SPEC, **wrong)
    with pytest.raises(EosinError, match="later version"):
        SlideSpec.of({**SPEC.as_dict(), "colour": 1})
    counts = {"none": 30, "kmeans": 30, "topk": 8, "queries": 8}
    for pooling, want in counts.items():
        assert replace(SPEC, pooling=pooling, num_tokens=8).tokens_of(30) == want + 1
    assert replace(SPEC, pooling="topk", num_tokens=8, has_magnification=False).tokens_of(3) == 3
