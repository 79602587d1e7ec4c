"""Supervised fine-tuning on reasoning chains: the loss is on the reply only."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from rich.console import Console
from trl import SFTConfig

from eosin.core.draw import subset
from eosin.core.errors import EosinError
from eosin.core.settings.stages import PretrainStage, RejectionStage, SftStage
from eosin.models.load import Loaded, freeze
from eosin.models.ragged import reads_ragged
from eosin.train.data.collate import MaskedCollator
from eosin.train.data.feed import MISSED, Feed, MakeRow, feed_of, lengths_of
from eosin.train.data.lengths import check_lengths, of_rows
from eosin.train.data.order import OrderedTrainer
from eosin.train.data.ragged import collator_for
from eosin.train.data.rows import rows_dataset, sft_row
from eosin.train.keep_best import kept_record, watch_valid
from eosin.train.label_head import score_labels_alone
from eosin.train.masking.pseudo_bags import with_pseudo_bags
from eosin.train.masking.trajectory import TrainingRows, trajectory_rows, whole_rows
from eosin.train.monitor import StepClock
from eosin.train.muon import muon_of
from eosin.train.stages.base import (
    BestCallback,
    StageContext,
    StageResult,
    callbacks,
    lora_config,
    num_steps,
    rows_a_step,
    run_trainer,
    trainer_arguments,
    warmup_steps,
)
from eosin.train.stages.saves import StageState
from eosin.train.stages.sharding import share_out_on_cpu

PairStage = SftStage | PretrainStage | RejectionStage

console = Console(stderr=True, highlight=False, soft_wrap=True)


def run(settings: SftStage, ctx: StageContext) -> StageResult:
    """Train on question and gold reply."""
    return train_on_pairs(settings, ctx, sft_row(ctx.grammar, ctx.prompt))


def training_rows(settings: PairStage, ctx: StageContext, *, ask: bool = True) -> TrainingRows:
    """What a stage trains on: its samples, with the masked copies and variants that its settings ask for.

    Args:
        ask: measure pseudo-bags with the model; without it only those measured before give copies.

    Raises:
        EosinError: there is nothing to train on, or the settings do not fit the samples.
    """
    usable = ctx.train if isinstance(settings, PretrainStage) else [s for s in ctx.train if s.answer is not None]
    train = subset(usable, settings.max_samples, ctx.seed)
    if not train:
        raise EosinError("This stage has nothing to train on.", where=f"stages.{ctx.name}")
    if not isinstance(settings, SftStage):
        return whole_rows(train)
    facts: dict[str, Any] = {}
    if len(usable) < len(ctx.train):
        facts["num_without_answer"] = len(ctx.train) - len(usable)
        console.print(f"  {facts['num_without_answer']} samples have no answer to learn, and are left out")
    num = len(train)
    if settings.pseudo_bags is not None:
        train, facts["pseudo_bags"] = with_pseudo_bags(train, settings.pseudo_bags, ctx, ask=ask)
    if settings.trajectory is None:
        rows = whole_rows(train)
    else:
        bags = settings.pseudo_bags
        copies = {s.id for s in train[num:]} if bags is not None and bags.trajectories == "whole" else set()
        rows = trajectory_rows(train, settings.trajectory, ctx.grammar, ctx.prompt.answer, only_whole=copies)
        facts["trajectory"] = dict(rows.facts)
        console.print(f"  trajectory: {len(rows)} rows of {len(train)} samples")
    return replace(rows, facts=facts)


def train_on_pairs(
    settings: PairStage,
    ctx: StageContext,
    make_row: MakeRow,
) -> StageResult:
    """Next-token cross-entropy on the completion of every pair: the mean over all tokens in the loss of an optimiser
    step, of all its micro-batches and processes."""
    shown = training_rows(settings, ctx)
    freeze(ctx.loaded.model, set(settings.freeze))
    pad_as_tokenizer(ctx.loaded)
    pictures = ctx.pictures(settings.image_cache_gib)
    feed = feed_of(ctx, shown, make_row, pictures, settings.augment)
    clock, state = StepClock(), StageState()
    arguments: dict[str, Any] = {
        **trainer_arguments(settings, ctx, bool(ctx.valid)),
        "warmup_steps": warmup_steps(settings, len(feed)),
        "max_length": settings.max_tokens,
        "completion_only_loss": True,
    }
    collate, is_padded = _collator(settings, ctx, shown, feed, make_row)
    config = SFTConfig(**arguments)
    keeps_best = bool(ctx.valid) and ctx.launch.sharding == "none"  # parts of a model are no checkpoint
    share_out_on_cpu(ctx.launch)
    trainer = OrderedTrainer(
        model=ctx.loaded.model,
        args=config,
        data_collator=collate,
        train_dataset=feed.some,
        eval_dataset=rows_dataset(ctx.valid, make_row, pictures) if ctx.valid else None,
        processing_class=ctx.loaded.processor,
        peft_config=lora_config(settings.lora, settings.freeze),
        callbacks=[
            *([BestCallback(ctx)] if keeps_best else []), *feed.watchers, *callbacks(settings, ctx, clock, state)
        ],
        optimizer_cls_and_kwargs=_optimizer(settings, ctx),
    )  # fmt: skip
    feed.into(trainer)
    # Some models say that they take no count of tokens, and the Trainer then averages the means of micro-batches and
    # of processes. TRL's loss does take it: every token of a step weighs the same, however the step is divided.
    trainer.model_accepts_loss_kwargs = True
    if trainer.accelerator.device.type == "cpu":
        plain = trainer.accelerator.unwrap_model(trainer.model)
        score_labels_alone(plain.get_base_model() if hasattr(plain, "get_base_model") else plain)
    state.add("num_tokens", lambda: trainer._total_train_tokens, lambda n: setattr(trainer, "_total_train_tokens", n))
    keeper = None
    if not isinstance(settings, PretrainStage):
        a_step = rows_a_step(settings)
        keeper = watch_valid(
            settings, ctx, trainer, clock, num_steps(settings, len(feed)), lambda: trainer.state.global_step * a_step
        )
    # Augmented pictures are new every time: keeping their features would fill the file for nothing.
    with ctx.cache_vision(0.0 if settings.augment else settings.vision_cache_gib), ExitStack() as stack:
        if not is_padded:
            stack.enter_context(reads_ragged(ctx.loaded.model))
        result = run_trainer(trainer, ctx, clock, keeper)
    result.extra.update(shown.facts | feed.facts() | kept_record(keeper))
    return result


def _optimizer(settings: PairStage, ctx: StageContext) -> Any:
    """What the Trainer makes its optimiser with: a factory, called once for itself and once with the model."""
    if settings.optimizer == "adamw":
        return None
    if ctx.launch.sharding != "none":
        raise EosinError(
            "Muon needs whole matrices, and this launch shares them out.", expected="launch local or processes",
            found=ctx.launch.kind, where=f"stages.{ctx.name}.optimizer", next_step=f"stages.{ctx.name}.optimizer=adamw",
        )  # fmt: skip
    return (lambda: muon_of), {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}


def _collator(
    settings: PairStage, ctx: StageContext, shown: TrainingRows, feed: Feed, make_row: MakeRow
) -> tuple[Any, bool]:
    """What makes batches, and whether it pads; the feed is put in order by length where that is asked for and helps."""
    where = f"stages.{ctx.name}"
    if settings.max_tokens is not None:
        lengths = of_rows(feed.some, ctx.loaded, settings.max_tokens, ctx.seed)
        shown.facts["lengths"] = check_lengths(lengths, settings, where)
    masked = MaskedCollator(ctx.loaded.processor, settings.max_tokens)
    collate, told = collator_for(settings.packing, ctx.loaded.model, masked, feed.some, where)
    is_padded = collate is masked
    if settings.batches == "by_length" and is_padded:
        feed.group(lengths_of(ctx, shown, make_row, masked, feed.some), rows_a_step(settings), ctx.seed)
        told += ", by length"
    elif settings.batches == "by_length":
        told += f"; {MISSED}"
    shown.facts["batches"] = told
    return collate, is_padded


def pad_as_tokenizer(loaded: Loaded) -> None:
    """Give model and tokenizer one padding token, as TRL does where it makes the collator itself."""
    tokenizer = loaded.processor.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    loaded.model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    loaded.model.generation_config.pad_token_id = tokenizer.pad_token_id
