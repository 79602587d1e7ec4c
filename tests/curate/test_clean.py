"""The chain of steps: counts add up, everything set aside is on disk with its reason."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from make_samples import picture, sample

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.core.nouns.sample import ImageBytes, Sample
from eosin.curate import clean, count_step, read_dropped, write_dropped


def _messy() -> list[Sample]:
    samples = [sample(f"ok{i}", 100 + i, case=str(i % 7)) for i in range(30)]
    samples.append(sample("copy", 100, case="0"))
    samples.append(sample("ok1", 500, case="1"))
    samples.append(sample("cut", images=(ImageBytes(data=picture(1)[:200]),), case="2"))
    samples.append(sample("lookalike", 104, 3, case="lone", split="test"))
    samples.append(sample("unanswered", 700, answer=None, case="3"))
    random.Random(0).shuffle(samples)
    return samples


@pytest.mark.parametrize("workers", [1, 3])
def test_counts_add_up_over_all_steps(workers: int) -> None:
    samples = _messy()
    result = clean(samples, workers=workers, test_fraction=0.2, seed=1)
    assert len(result.samples) + len(result.dropped) == len(samples)
    assert [s.step for s in result.steps] == ["validate", "dedupe", "split", "decontaminate"]
    given = len(samples)
    for step in result.steps:
        assert step.num_in == given
        assert step.num_in == step.num_kept + sum(step.reasons.values())
        given = step.num_kept
    assert given == len(result.samples)
    reasons = {r: n for step in result.steps for r, n in step.reasons.items()}
    assert reasons["image truncated or damaged"] == 1
    assert reasons["no answer"] == 1
    assert reasons["duplicate id"] == 1
    assert reasons["same image and question"] == 1
    assert len(result.near) == 1
    assert {result.near[0].first, result.near[0].second} == {"lookalike", "ok4"}
    assert "look nearly the same" in result.warnings[-1]
    ok4 = [s for s in result.samples if s.id == "ok4"]
    assert not ok4 or ok4[0].split == "test"


def test_the_result_does_not_depend_on_workers() -> None:
    samples = _messy()
    assert clean(samples, workers=1, test_fraction=0.2) == clean(samples, workers=4, test_fraction=0.2)


def test_what_was_dropped_is_kept_on_disk(tmp_path: Path) -> None:
    result = clean(_messy(), test_fraction=0.2)
    path = tmp_path / "deep" / "dropped.jsonl"
    assert write_dropped(path, result.dropped) == len(result.dropped)
    assert read_dropped(path) == result.dropped
    odd = [Dropped("a\u2028b", 'r"', "d\nd\x85", "s")]
    write_dropped(path, odd)
    assert read_dropped(path) == tuple(odd)
    assert read_dropped(tmp_path / "none.jsonl") == ()


def test_a_step_that_loses_a_sample_is_found_out() -> None:
    with pytest.raises(EosinError, match="does not account"):
        count_step("odd", 2, Filtered((sample("a"),), ()))
