"""The warm-up sees pixels as the processor makes them, learns, resumes, and refuses what it cannot use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.toys import NAMES, toy_samples
from tests.train.conftest import new_model

from eosin.core.errors import EosinError
from eosin.core.settings.stages import WarmupStage
from eosin.core.store import artifacts as store
from eosin.models.load import load, vision_tower
from eosin.train.stages.base import StageContext
from eosin.train.warmup import stage as warmup
from eosin.train.warmup.encoders import Patchify
from eosin.train.warmup.stage import balanced_order, one_cycle, targets_of, vocabulary

Make = Callable[..., StageContext]


def test_patches_are_those_of_the_processor() -> None:
    loaded = new_model()
    patcher = Patchify.of(vision_tower(loaded.model), loaded.processor)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, patcher.side_px, patcher.side_px, 3), dtype=np.uint8)
    ours, grid = patcher(torch.from_numpy(images))
    theirs = loaded.processor.image_processor([Image.fromarray(i) for i in images], return_tensors="pt")
    assert torch.equal(grid, theirs["image_grid_thw"])
    assert torch.allclose(ours, theirs["pixel_values"], atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_tower_learns_and_only_the_tower_moves(context: Make, optimizer: Any) -> None:
    ctx = context("warmup", num_train=60, num_valid=12)
    before = {n: p.clone() for n, p in ctx.loaded.model.named_parameters()}
    settings = WarmupStage(epochs=6, batch_size=12, learning_rate=3e-3, augment=False, optimizer=optimizer)
    result = warmup.run(settings, ctx)
    rows = store.read_jsonl(ctx.metrics_file)
    assert rows[-1]["accuracy"] > 0.9 > rows[0]["loss"] / 3
    assert [r["step"] for r in rows] == [5, 10, 15, 20, 25, 30]
    after = dict(load(ctx.folder / "checkpoint").model.named_parameters())
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved and all("visual" in n for n in moved)
    assert any("merger" in n for n in moved)  # the tokens that the language model reads
    assert (ctx.folder / "warmup_head.safetensors").exists() and (ctx.work / "warmup.safetensors").exists()
    assert result.num_steps == 30 and result.extra["classes"] == sorted(NAMES)


def test_tokens_become_words_of_their_class(context: Make) -> None:
    """With `words` the mean token of a picture lies nearest to its own class in words, and tokens are as long."""
    ctx = context("words", num_train=60, num_valid=12)
    table = ctx.loaded.model.get_input_embeddings().weight
    with torch.no_grad():  # words of a pretrained model lie apart from each other; those of a random one nearly do not
        table.mul_(20)
    settings = WarmupStage(epochs=12, batch_size=12, learning_rate=3e-3, augment=False, words=True)
    warmup.run(settings, ctx)
    assert store.read_jsonl(ctx.metrics_file)[-1]["accuracy"] > 0.9
    encoder = warmup.encoder_of(settings, ctx, ctx.train)
    words = warmup.class_words(ctx, sorted(NAMES), encoder)
    tokenizer = ctx.loaded.processor.tokenizer
    by_hand = table[torch.tensor(tokenizer(" red tissue", add_special_tokens=False)["input_ids"])].mean(0)
    assert torch.allclose(words[sorted(NAMES).index("red tissue")], by_hand)
    with torch.no_grad():
        tokens, _ = encoder.tokens(encoder.load(ctx.valid, ctx.pictures(0.1)))
    labels = torch.tensor([sorted(NAMES).index(str(s.label)) for s in ctx.valid])
    near = torch.cdist(tokens.mean(1), words).argmin(1)
    assert (near == labels).float().mean() > 0.9
    ratio = tokens.norm(dim=-1).mean() / words.norm(dim=-1).mean()
    assert 0.5 < ratio < 2


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_stopped_warmup_goes_on_to_the_same_weights(context: Make, optimizer: Any) -> None:
    settings = WarmupStage(epochs=4, batch_size=16, learning_rate=1e-3, optimizer=optimizer)
    whole = context("whole")
    warmup.run(settings, whole)
    cut = context("cut")

    class KilledError(Exception):
        pass

    original = warmup.Job._save

    def stop_after_two(self: warmup.Job) -> None:
        original(self)
        if self.step >= 6:
            raise KilledError

    warmup.Job._save = stop_after_two  # type: ignore[method-assign]
    try:
        with pytest.raises(KilledError):
            warmup.run(settings, cut)
    finally:
        warmup.Job._save = original  # type: ignore[method-assign]
    warmup.run(settings, StageContext(**{**cut.__dict__, "loaded": new_model(seed=5)}))
    assert [r["step"] for r in store.read_jsonl(cut.metrics_file)] == [3, 6, 9, 12]
    a, b = (vision_tower(load(c.folder / "checkpoint").model).state_dict() for c in (whole, cut))  # type: ignore[union-attr]
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_one_class_is_refused(context: Make) -> None:
    ctx = context("one")
    same = [s.model_copy(update={"label": "x"}) for s in ctx.train]
    with pytest.raises(EosinError, match="at least two classes"):
        warmup.run(WarmupStage(), StageContext(**{**ctx.__dict__, "train": same}))


def test_findings_that_all_or_none_show_are_left_out() -> None:
    samples = toy_samples(30, "train")
    classes, findings = vocabulary(samples)
    assert classes == sorted(NAMES) and findings == sorted(NAMES)
    assert vocabulary([s.model_copy(update={"entities": samples[0].entities}) for s in samples])[1] == []
    targets = targets_of(samples[:3], classes, findings)
    assert targets.findings.sum(1).tolist() == [1.0, 1.0, 1.0]
    assert [classes[i] for i in targets.labels] == [s.label for s in samples[:3]]


def test_rare_classes_are_drawn_as_often() -> None:
    labels = torch.tensor([0] * 900 + [1] * 100)
    order = balanced_order(labels, torch.Generator().manual_seed(0))
    assert 0.4 < labels[order].float().mean() < 0.6


def test_learning_rate_by_hand() -> None:
    assert one_cycle(0.05, 0.1) == pytest.approx(0.5)
    assert one_cycle(0.1, 0.1) == pytest.approx(1.0)
    assert one_cycle(0.55, 0.1) == pytest.approx(0.5)
    assert one_cycle(1.0, 0.1) == pytest.approx(0.0)
