from __future__ import annotations

import io
from collections import Counter

from PIL import Image

from eosin.core.settings.data import PhantomData
from eosin.sources.phantom import read_phantom

SETTINGS = PhantomData(train_cases=24, valid_cases=6, test_cases=6, tiles_per_case=2, tile_px=64)


def test_samples_know_their_case_and_truth() -> None:
    collection = read_phantom(SETTINGS, seed=3, workers=1)
    assert Counter(s.split for s in collection.kept) == {"train": 48, "valid": 12, "test": 12}
    for sample in collection.kept:
        assert sample.answer_text == sample.label
        assert sample.origin.group == f"case:{sample.origin.case}"
        assert sample.origin.mpp == 1.0 and sample.extra["phantom"] is True
        assert sample.reasoning and sample.caption and sample.entities
        comment = Image.open(io.BytesIO(sample.images[0].data)).info["comment"]
        assert b"PHANTOM" in comment
    groups = {split: {s.origin.group for s in collection.kept if s.split == split} for split in ("train", "test")}
    assert not groups["train"] & groups["test"]


def test_letters_carry_no_class_information() -> None:
    samples = read_phantom(SETTINGS, seed=3, workers=1).kept
    letters = Counter(s.answer for s in samples)
    assert len(letters) == 6 and max(letters.values()) < 0.35 * len(samples)


def test_a_larger_split_does_not_move_the_others() -> None:
    small = {s.id: s for s in read_phantom(SETTINGS, seed=3, workers=1).kept if s.split == "test"}
    more = SETTINGS.model_copy(update={"train_cases": 30})
    large = {s.id: s for s in read_phantom(more, seed=3, workers=1).kept if s.split == "test"}
    assert small == large
