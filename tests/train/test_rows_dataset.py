"""Rows are made when they are asked for; making the data set itself looks at no sample and no picture."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from PIL import Image

from eosin.core.nouns.sample import Origin, Sample, user_prompt
from eosin.train.data.rows import ImageCache, rows_dataset


class Unseen(list[Sample]):
    """Samples that may be looked at one by one, and never be copied as a whole."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AssertionError("all samples were pickled")


class Blank(ImageCache):
    def get(self, sample: Sample) -> list[Any]:
        return [Image.new("RGB", (2, 2))]


def test_neither_samples_nor_pictures_are_pickled_for_a_fingerprint(caplog: pytest.LogCaptureFixture) -> None:
    samples = Unseen(
        Sample(id=f"s{i}", images=(), messages=user_prompt("What?", 0), origin=Origin(source="toy"), split="train")
        for i in range(3)
    )
    made: list[str] = []

    def make(sample: Sample, pictures: list[Any]) -> dict[str, Any]:
        made.append(sample.id)
        return {"text": f"{sample.id} {pictures[0].size}"}

    one, other = (rows_dataset(samples, make, Blank(None, 0.0), cuts=[5, 6, 7]) for _ in range(2))
    assert made == [] and not caplog.records
    assert one._fingerprint != other._fingerprint
    assert one[1] == {"sample_number": 1, "text": "s1 (2, 2)", "cut": 6}
    assert one[[2, 0]]["text"] == ["s2 (2, 2)", "s0 (2, 2)"]
    assert made == ["s1", "s2", "s0"]


def test_rows_are_not_made_in_a_process_that_has_no_samples() -> None:
    maker = rows_dataset([], lambda s, p: {}, Blank(None, 0.0)).format["format_kwargs"]["transform"]
    with pytest.raises(TypeError, match="forked"):
        pickle.loads(pickle.dumps(maker))
