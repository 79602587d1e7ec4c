"""Stages train, write whole checkpoints, resume, and have none of the faults of the papers' released code."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tests.support.toys import toy_samples
from tests.train.conftest import GRAMMAR, PROMPT, new_model

from eosin.core.errors import EosinError
from eosin.core.nouns.prompt import gold_reply
from eosin.core.settings.stages import Algorithm, Lora, PretrainStage, RewardSpec, RlStage, SftStage
from eosin.core.store import artifacts as store
from eosin.models.load import load
from eosin.train.data.rows import Augmentation, ImageCache, rl_row, rows_dataset, sft_row
from eosin.train.rl.rollouts import with_advantage
from eosin.train.stages import pretrain, rl, sft
from eosin.train.stages.base import StageContext, warmup_steps
from eosin.train.stages.saves import WHOLE, last_whole_save

Make = Callable[..., StageContext]


def test_sft_lowers_the_loss_and_leaves_a_whole_checkpoint(context: Make) -> None:
    ctx = context("sft", num_valid=6)
    result = sft.run(SftStage(steps=12, batch_size=8, learning_rate=5e-3, log_every=3, save_every=6), ctx)
    rows = store.read_jsonl(ctx.metrics_file)
    losses = [r["loss"] for r in rows if "loss" in r]
    assert losses[-1] < 0.8 * losses[0]
    assert [r["step"] for r in rows if "loss" in r] == [3, 6, 9, 12]
    assert any("eval_loss" in r for r in rows)
    artifact = store.open_artifact(ctx.folder / "checkpoint", "checkpoint", verify=True)
    assert artifact.manifest["grammar"] == {"tags": "think/answer", "numbered_steps": False}
    assert artifact.manifest["step"] == result.num_steps == 12
    assert store.exists(ctx.folder / "best")
    assert last_whole_save(ctx.work) == ctx.work / "checkpoint-12"  # until the record of the stage is written
    assert result.step_time["compute"] > 0 and result.step_time["data"] >= 0
    assert load(artifact.path).processor.tokenizer.chat_template


def test_loss_is_on_the_reply_only(context: Make) -> None:
    """Fault of the released code: the mask included the prompt's last token."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    ctx = context("mask")
    processor = ctx.loaded.processor
    rows = rows_dataset(ctx.train, sft_row(GRAMMAR, PROMPT), ctx.pictures(0.0))
    batch = DataCollatorForVisionLanguageModeling(processor=processor, completion_only_loss=True)([rows[0], rows[1]])
    for i in range(2):
        in_loss = batch["labels"][i] != -100
        trained = processor.tokenizer.decode(batch["input_ids"][i][in_loss])
        assert trained.removesuffix("\n").removesuffix("<|im_end|>") == gold_reply(ctx.train[i], GRAMMAR, "text")
        assert "<|im_end|>" in trained  # the model learns to stop


def test_captions_are_trained_without_the_question(context: Make) -> None:
    ctx = context("pre")
    result = pretrain.run(PretrainStage(steps=2, batch_size=4), ctx)
    assert result.num_steps == 2
    bare = [s.model_copy(update={"caption": None}) for s in ctx.train]
    empty = StageContext(**{**ctx.__dict__, "name": "pre2", "train": bare})
    with pytest.raises(EosinError, match="No training sample has a caption"):
        pretrain.run(PretrainStage(steps=1), empty)


def test_frozen_tower_does_not_move(context: Make) -> None:
    ctx = context("frozen")
    before = {n: p.clone() for n, p in ctx.loaded.model.named_parameters()}
    sft.run(SftStage(steps=2, batch_size=4, learning_rate=1e-2, freeze=["vision"]), ctx)
    after = dict(load(ctx.folder / "checkpoint").model.named_parameters())
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved and not any("visual.blocks" in n or "visual.patch_embed" in n for n in moved)
    assert any("visual.merger" in n for n in moved)


@pytest.mark.parametrize("lora", [None, Lora(r=2)], ids=["full", "lora"])
def test_a_killed_stage_goes_on_from_its_last_whole_save(context: Make, lora: Lora | None) -> None:
    """The resumed run ends with the same weights as one that was never stopped."""
    settings = SftStage(steps=8, batch_size=4, learning_rate=1e-3, save_every=4, log_every=2, lora=lora)
    whole = context("whole")
    sft.run(settings, whole)

    class KilledError(Exception):
        pass

    ctx = context("cut")
    saves = []
    original = StageContext.save

    def stop_instead(*_: object, **__: object) -> None:
        saves.extend(p.name for p in ctx.work.glob("checkpoint-*"))
        raise KilledError

    StageContext.save = stop_instead  # type: ignore[method-assign]
    try:
        with pytest.raises(KilledError):
            sft.run(settings, ctx)
    finally:
        StageContext.save = original  # type: ignore[method-assign]
    assert sorted(saves) == ["checkpoint-4", "checkpoint-8"]
    (ctx.work / "checkpoint-8" / WHOLE).unlink()  # as if killed while writing it
    assert last_whole_save(ctx.work) == ctx.work / "checkpoint-4"
    sft.run(settings, StageContext(**{**ctx.__dict__, "loaded": new_model()}))
    assert [r["step"] for r in store.read_jsonl(ctx.metrics_file) if "loss" in r] == [2, 4, 6, 8]
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    a, b = (load_file(c.folder / "checkpoint" / name) for c in (whole, ctx))
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_rl_trains_on_every_rollout_from_the_given_weights(context: Make) -> None:
    """Faults of the released code: the start weights were never loaded; only the first of G rollouts was used."""
    start = context("sft")
    sft.run(SftStage(steps=20, batch_size=16, learning_rate=6e-3, log_every=40), start)
    loaded = load(start.folder / "checkpoint")
    before = {n: p.clone() for n, p in loaded.model.named_parameters()}
    ctx = context("rl", loaded)
    own = f"{Path(__file__).parents[1] / 'support' / 'rewards.py'}:share_of_e"
    settings = RlStage(
        steps=2, batch_size=8, num_generations=4, max_new_tokens=24, log_every=1, learning_rate=1e-3,
        rewards=[RewardSpec(name="format"), RewardSpec(name="accuracy"), RewardSpec(name=own)],
    )  # fmt: skip
    result = rl.run(settings, ctx)
    assert result.extra["algorithm"] == "GRPO"
    rollouts = store.read_jsonl(ctx.folder / "rollouts.jsonl")
    assert len(rollouts) == 2 * 8
    assert {r["step"] for r in rollouts} == {1, 2}
    for step, number in ((1, 0), (1, 1), (2, 0), (2, 1)):
        group = [r for r in rollouts if (r["step"], r["group"]) == (step, number)]
        assert len(group) == 4 and len({r["sample_id"] for r in group}) == 1
        assert abs(sum(r["advantage"] for r in group)) < 1e-3
        assert all({"accuracy", "format"} < set(r["terms"]) for r in group)
        assert not any("Which colour" in r["reply"] for r in group)  # the completion alone is scored
    rows = store.read_jsonl(ctx.metrics_file)
    assert {"reward", "reward/accuracy", "reward/format", "kl", "truncated_rate", "entropy"} <= set(rows[0])
    assert abs(rows[0]["clip_fraction"]) == 0  # ratio is 1 before the first update
    after = dict(load(ctx.folder / "checkpoint").model.named_parameters())
    change = max((before[n] - after[n]).abs().max().item() for n in before)
    assert 0 < change < 0.05  # small steps from the SFT weights, not from random ones
    assert set(result.step_time) >= {"data", "compute", "generate", "rewards"}


def test_policy_sees_the_image(context: Make) -> None:
    """Fault of the released code: the policy never saw the image."""
    ctx = context("sees")
    row = rows_dataset(ctx.train, rl_row(GRAMMAR, PROMPT), ctx.pictures(0.1))[0]
    assert row["images"] and row["prompt"][-1]["content"][0]["type"] == "image"
    assert row["id"] == ctx.train[0].id


def test_rl_with_lora_writes_an_adapter(context: Make) -> None:
    ctx = context("lora")
    settings = RlStage(steps=1, batch_size=4, num_generations=4, max_new_tokens=8, lora=Lora(r=2), freeze=["vision"])
    result = rl.run(settings, ctx)
    assert (ctx.folder / "checkpoint" / "adapter_model.safetensors").exists()
    assert 0 < result.num_trainable < result.num_parameters / 4


def test_rl_asks_about_every_class_in_every_step(context: Make) -> None:
    ctx = context("balanced")
    classes = {s.id: s.answer_text for s in ctx.train}
    num = len(set(classes.values()))
    rl.run(
        RlStage(steps=3, batch_size=2 * num, num_generations=2, max_new_tokens=4, balance_classes=True, collapse=None),
        ctx,
    )
    for step in (1, 2, 3):
        rows = [r for r in store.read_jsonl(ctx.folder / "rollouts.jsonl") if r["step"] == step]
        assert Counter(classes[r["sample_id"]] for r in rows) == dict.fromkeys(set(classes.values()), 2)


def test_rl_without_enough_prompts_is_refused(context: Make) -> None:
    with pytest.raises(EosinError, match="fewer prompts"):
        rl.run(RlStage(batch_size=32, num_generations=2), context("few", num_train=3))


def test_augmentation_gives_other_pictures_each_time_and_the_same_for_a_seed() -> None:
    samples = toy_samples(2, "train")

    def first_two(seed: int | None) -> list[bytes]:
        """The first picture in the first two epochs."""
        augment = None if seed is None else Augmentation(seed)
        rows = rows_dataset(samples, rl_row(GRAMMAR, PROMPT), ImageCache(None, 1.0), augment=augment)
        shown = []
        for epoch in range(2):
            if augment is not None:
                augment.on_epoch_begin(None, SimpleNamespace(epoch=float(epoch)), None)
            shown.append(rows[0]["images"][0].tobytes())
        return shown

    plain, a, b = first_two(None), first_two(5), first_two(5)
    assert plain[0] == plain[1]
    assert a[0] != a[1] and a[0] != plain[0]
    assert a == b


def test_picture_store_is_bounded() -> None:
    samples = toy_samples(6, "train")
    one = 56 * 56 * 3
    pictures = ImageCache(None, 2.5 * one / 2**30)
    for sample in samples:
        pictures.get(sample)
    assert pictures._bytes <= 2.5 * one
    assert len(pictures._kept) == 2


def test_advantage_by_hand() -> None:
    group = with_advantage([{"reward": r} for r in (1.0, 0.0, 0.0, 1.0)])
    std = math.sqrt(4 * 0.25 / 3)
    assert group[0]["advantage"] == pytest.approx(0.5 / (std + 1e-4))
    assert group[1]["advantage"] == pytest.approx(-0.5 / (std + 1e-4))
    with_none = with_advantage([{"reward": 1.0}, {"reward": None}])
    assert with_none[1]["advantage"] is None


def test_names_of_algorithms_tell_the_truth() -> None:
    assert Algorithm().true_name == "GRPO"
    assert Algorithm(beta=0.0).true_name == "GRPO+{beta=0.0}"
    assert Algorithm(epsilon_high=0.28, loss_type="dapo").true_name == "GRPO+{epsilon_high=0.28, loss_type=dapo}"


def test_warmup_steps_by_hand() -> None:
    assert warmup_steps(SftStage(warmup_fraction=0.1, batch_size=8, epochs=2), 100) == 3  # 10 % of 26
    assert warmup_steps(SftStage(warmup_fraction=0.5, steps=10), 100) == 5


def test_metrics_are_json(context: Make) -> None:
    ctx = context("json")
    sft.run(SftStage(steps=1, batch_size=2, log_every=1), ctx)
    for line in ctx.metrics_file.read_text().splitlines():
        json.loads(line, parse_constant=lambda c: pytest.fail(f"{c} in metrics"))
