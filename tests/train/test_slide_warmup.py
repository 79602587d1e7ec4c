"""The warm-up of the slide tower finds the few patches that tell the class; bags change without losing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.slide_toys import DIMENSION, MPP, TILE_UM, new_reader, toy_bag
from tests.train.conftest import GRAMMAR, PROMPT, new_model

from eosin.core.errors import EosinError
from eosin.core.images import RegionReader
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import Origin, Sample, SlideBag, user_prompt
from eosin.core.settings.stages import WarmupStage
from eosin.core.store import artifacts as store
from eosin.models.load import Loaded, load
from eosin.train.data.bag_augment import BagAugment, augment_bag
from eosin.train.stages.base import StageContext
from eosin.train.warmup import stage as warmup
from eosin.train.warmup.stage import Heads


class Bags:
    """A reader of toy bags by name."""

    def __init__(self) -> None:
        self.held: dict[str, PatchBag] = {}

    def bag(self, ref: SlideBag) -> PatchBag:
        return self.held[ref.path]

    def __call__(self, ref: object) -> object:
        raise AssertionError("the warm-up of slides reads no regions")


def _needle(label: int, rng: np.random.Generator) -> PatchBag:
    """A bag of 24 patches of which two carry the label; the mean of the rest varies more than they add to it."""
    bag = toy_bag(label, rng, num=24)
    features = rng.normal(0, 1, bag.features.shape).astype(np.float32) + rng.normal(0, 0.6, DIMENSION)
    features[3:5, label] += 6.0
    return PatchBag(bag.name, features.astype(np.float32), bag.centres_um, TILE_UM, MPP, "toy-encoder")


def _samples(num: int, split: str, reader: Bags) -> list[Sample]:
    rng = np.random.default_rng(len(split))
    made = []
    for i in range(num):
        name = f"{split}-{i}"
        reader.held[name] = _needle(i % 3, rng)
        for question in ("What is it?", "Which class is it?"):
            made.append(
                Sample(
                    id=f"{name}-{question[:4]}", images=(SlideBag(path=name),), messages=user_prompt(question),
                    label="abc"[i % 3], origin=Origin(source="toy", case=name), split=split,  # type: ignore[arg-type]
                )
            )  # fmt: skip
    return made


def _context(folder: Path, loaded: Loaded, reader: Bags, num: int = 60) -> StageContext:
    found: RegionReader = reader  # type: ignore[assignment]
    folder.mkdir(exist_ok=True)
    return StageContext(
        "warmup", folder, loaded, _samples(num, "train", reader), _samples(24, "valid", reader), GRAMMAR, PROMPT, 0,
        read_region=found,
    )  # fmt: skip


def test_the_slide_tower_learns_and_only_it_moves(tmp_path: Path) -> None:
    loaded = new_reader()
    before = {n: p.clone() for n, p in loaded.model.named_parameters()}
    ctx = _context(tmp_path / "w", loaded, Bags())
    result = warmup.run(WarmupStage(epochs=30, batch_size=12, learning_rate=3e-3, augment=False), ctx)
    rows = store.read_jsonl(ctx.metrics_file)
    assert rows[-1]["accuracy"] > 0.8
    assert result.num_steps == 30 * 5  # one a slide: two questions about a slide are one slide
    after = dict(load(ctx.folder / "checkpoint").model.named_parameters())
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved and all("slide_tower" in n for n in moved) and any("projector" in n for n in moved)


def test_a_model_without_the_eye_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no tower for slides"):
        warmup.run(WarmupStage(epochs=1), _context(tmp_path / "w", new_model(), Bags(), 6))


def test_attention_weights_leave_padding_out() -> None:
    torch.manual_seed(0)
    heads = Heads(8, 3, 2, attends=True)
    tokens = torch.randn(1, 5, 8)
    alone = heads(tokens, torch.zeros(1, 5, dtype=torch.bool))
    padded = torch.cat((tokens, 50 * torch.randn(1, 4, 8)), 1)
    is_padding = torch.tensor([[False] * 5 + [True] * 4])
    for ours, theirs in zip(alone, heads(padded, is_padding), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_augmented_bags_keep_features_with_their_places() -> None:
    bag = toy_bag(0, np.random.default_rng(0), num=30)
    rng = np.random.default_rng(1)
    for _ in range(20):
        changed = augment_bag(bag, BagAugment(keep_from=0.5), rng)
        assert 15 <= len(changed) <= 30
        assert np.array_equal(changed.features, bag.features[changed.numbers])
        before, after = bag.centres_um[changed.numbers], changed.centres_um
        # A flip or a quarter turn keeps all distances between patches.
        a = np.linalg.norm(before[:, None] - before[None], axis=-1)
        b = np.linalg.norm(after[:, None] - after[None], axis=-1)
        assert np.allclose(a, b) and (after >= 0).all()
    same = augment_bag(bag, BagAugment.none(), rng)
    assert np.array_equal(same.centres_um, bag.centres_um) and np.array_equal(same.features, bag.features)
