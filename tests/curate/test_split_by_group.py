"""No group stands in two splits, no question decides a split, and nothing gets lost on the way."""

from __future__ import annotations

import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_samples import picture, sample

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import ImageBytes, Sample, user_prompt
from eosin.curate import decontaminate, split

PIXELS = (ImageBytes(data=picture(1)),)


def _group(case: str | None, number: int, **changes: object) -> list[Sample]:
    units = {} if case is None else {"case": case}
    return [sample(f"{case}-{i}", images=PIXELS, **units, **changes) for i in range(number)]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=3, max_size=12),
    st.floats(0.1, 0.4),
    st.floats(0.1, 0.4),
    st.integers(0, 99),
)
def test_whole_groups_and_the_sum(sizes: list[int], valid: float, test: float, seed: int) -> None:
    samples = [s for i, n in enumerate(sizes) for s in _group(str(i), n)]
    result = split(samples, valid_fraction=valid, test_fraction=test, seed=seed)
    assert result.samples.num_in == len(samples)
    assert sum(result.counts.values()) == len(result.samples.kept) == len(samples)
    assert set(result.counts) == {"train", "valid", "test"}
    placed = collections.defaultdict(set)
    for s in result.samples.kept:
        placed[s.origin.group].add(s.split)
    assert all(len(splits) == 1 for splits in placed.values())
    assert split(samples, valid_fraction=valid, test_fraction=test, seed=seed) == result


def test_sizes_are_near_the_fractions() -> None:
    samples = [s for i in range(50) for s in _group(str(i), 4)]
    assert split(samples, valid_fraction=0.1, test_fraction=0.2).counts == {"train": 140, "valid": 20, "test": 40}


def test_every_class_is_in_every_split_where_that_is_possible() -> None:
    samples = []
    for i in range(12):
        label = "rare" if i < 3 else "common"
        samples += _group(f"{label}{i}", 3, label=label)
    for seed in range(20):
        result = split(samples, valid_fraction=0.25, test_fraction=0.25, seed=seed)
        assert not [w for w in result.warnings if "no sample of" in w]


def test_a_class_missing_from_a_split_is_told() -> None:
    samples = _group("1", 2, split="train") + _group("2", 2, split="test", label="gland")
    assert split(samples).warnings == (
        "The test split has no sample of: fat.",
        "The train split has no sample of: gland.",
    )


@pytest.mark.parametrize("by", ["question", "id", "sample"])
def test_a_split_by_question_is_refused(by: str) -> None:
    with pytest.raises(EosinError, match=f"split by {by} is refused"):
        split(_group("1", 3), by=by)


def test_two_cases_with_one_id_in_two_splits_are_an_error_that_names_them() -> None:
    samples = _group("17", 2, split="train") + [sample("x", case="17", split="test")]
    with pytest.raises(EosinError, match="more than one split") as caught:
        split(samples)
    assert "t/case:17 (2 in train, 1 in test)" in str(caught.value)


def test_or_they_are_dropped_from_the_less_protected_split() -> None:
    samples = (
        _group("17", 2, split="train")
        + [sample("x", case="17", split="test"), sample("y", case="17", split="valid")]
        + _group("18", 1, split="train")
    )
    result = split(samples, on_conflict="drop")
    assert [s.id for s in result.samples.kept] == ["x", "18-0"]
    assert result.samples.reasons() == {"group in two splits": 3}
    assert result.samples.num_in == 5


def test_the_same_case_number_in_two_sources_is_two_cases() -> None:
    samples = [sample("a", case="1", split="train"), sample("b", case="1", source="u", split="test")]
    assert split(samples).counts == {"train": 1, "test": 1}


def test_a_new_sample_joins_its_group() -> None:
    samples = [sample("a", case="1", split="test"), sample("b", case="1"), sample("c", case="2")]
    assert [s.split for s in split(samples).samples.kept] == ["test", "test", "train"]


@pytest.mark.parametrize("seed", range(8))
def test_a_known_group_is_never_drawn_again(seed: int) -> None:
    samples = [sample("old", images=PIXELS, case="1", split="train"), *_group("1", 3)]
    samples += [s for i in range(2, 6) for s in _group(str(i), 3)]
    result = split(samples, test_fraction=0.5, seed=seed)
    assert {s.split for s in result.samples.kept if s.origin.case == "1"} == {"train"}
    assert result.counts == {"train": 10, "test": 6}


def test_without_a_known_group_the_image_is_the_group() -> None:
    samples = [sample(f"q{i}-{k}", i) for i in range(12) for k in range(3)]
    result = split(samples, test_fraction=0.25)
    assert result.counts == {"train": 27, "test": 9}
    placed = collections.defaultdict(set)
    for s in result.samples.kept:
        placed[s.id.split("-")[0]].add(s.split)
    assert all(len(p) == 1 for p in placed.values())
    assert "36 samples know no patient, case, slide or article; grouped by image." in result.warnings


def test_without_group_and_image_a_sample_is_dropped() -> None:
    lone = sample("t", images=(), messages=user_prompt("?", 0))
    result = split([lone, sample("a", case="1")])
    assert [(d.id, d.reason) for d in result.samples.dropped] == [("t", "no group")]


def test_too_few_groups() -> None:
    with pytest.raises(EosinError, match="too few groups for 3 splits"):
        split(_group("1", 5) + _group("2", 5), valid_fraction=0.2, test_fraction=0.2)


def test_test_images_are_taken_out_of_training_only() -> None:
    samples = [
        sample("test", 1, split="test"),
        sample("copy", 1, split="train"),
        sample("near", 1, 3, split="train"),
        sample("clean", 2, split="train"),
        sample("valid", 3, split="valid"),
        sample("copy of valid", 3),
        sample("also test", 1, split="test"),
    ]
    result = decontaminate(samples)
    assert [s.id for s in result.kept] == ["test", "clean", "valid", "also test"]
    assert [(d.id, d.reason) for d in result.dropped] == [
        ("copy", "image stands in test"),
        ("near", "image nearly stands in test"),
        ("copy of valid", "image stands in valid"),
    ]
    assert "0 of 64 bits" in result.dropped[1].detail
    assert result.num_in == 7
    assert [d.id for d in decontaminate(samples, perceptual=False).dropped] == ["copy", "copy of valid"]


def test_one_shared_image_among_several_is_enough() -> None:
    pair = sample("pair", images=(ImageBytes(data=picture(5)), ImageBytes(data=picture(6))))
    result = decontaminate([sample("test", 6, split="test"), pair])
    assert [d.id for d in result.dropped] == ["pair"]


def test_images_of_an_exam_are_protected_too() -> None:
    result = decontaminate([sample("a", 1), sample("b", 2)], exams=[sample("exam", 2)])
    assert [(d.id, d.reason, d.detail) for d in result.dropped] == [("b", "image stands in an exam", "as exam")]
