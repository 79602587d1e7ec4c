"""Supervised fine-tuning on reasoning chains: the loss is on the reply only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trl import SFTConfig, SFTTrainer

from eosin.core.draw import subset
from eosin.core.errors import EosinError
from eosin.core.images import Picture
from eosin.core.sample import Sample
from eosin.core.stages import PretrainStage, SftStage
from eosin.models.load import freeze
from eosin.train.data import Row, rows_dataset, sft_row
from eosin.train.monitor import StepClock
from eosin.train.stage import (
    BestCallback,
    StageContext,
    StageResult,
    callbacks,
    lora_config,
    run_trainer,
    trainer_arguments,
    warmup_steps,
)


def run(settings: SftStage, ctx: StageContext) -> StageResult:
    """Train on question and gold reply."""
    return train_on_pairs(settings, ctx, sft_row(ctx.grammar, ctx.prompt))


def train_on_pairs(
    settings: SftStage | PretrainStage,
    ctx: StageContext,
    make_row: Callable[[Sample, list[Picture]], Row],
) -> StageResult:
    """Next-token cross-entropy on the completion of every pair (mean over its tokens in a batch)."""
    train = subset(ctx.train, settings.max_samples, ctx.seed)
    if not train:
        raise EosinError("This stage has nothing to train on.", where=f"stages.{ctx.name}")
    freeze(ctx.loaded.model, set(settings.freeze))
    pictures = ctx.pictures(settings.image_cache_gib)
    seed = ctx.seed if settings.augment else None
    clock = StepClock()
    arguments: dict[str, Any] = {
        **trainer_arguments(settings, ctx, bool(ctx.valid)),
        "warmup_steps": warmup_steps(settings, len(train)),
        "max_length": settings.max_tokens,
        "completion_only_loss": True,
    }
    watchers = callbacks(ctx, clock)
    trainer = SFTTrainer(
        model=ctx.loaded.model,
        args=SFTConfig(**arguments),
        train_dataset=rows_dataset(train, make_row, pictures, augment_seed=seed),
        eval_dataset=rows_dataset(ctx.valid, make_row, pictures) if ctx.valid else None,
        processing_class=ctx.loaded.processor,
        peft_config=lora_config(settings.lora, settings.freeze),
        callbacks=[*([BestCallback(ctx)] if ctx.valid else []), *watchers],
    )
    # Augmented pictures are new every time: keeping their features would fill the file for nothing.
    with ctx.keep_vision(0.0 if settings.augment else settings.vision_cache_gib):
        return run_trainer(trainer, ctx, clock)
