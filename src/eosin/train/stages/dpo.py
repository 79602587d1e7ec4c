"""Direct preference optimisation on corrected replies: the expert's is chosen, the model's own is rejected."""

from __future__ import annotations

import copy
from typing import Any

from rich.console import Console
from trl import DPOConfig, DPOTrainer

from eosin.core.draw import subset
from eosin.core.errors import EosinError
from eosin.core.nouns.prompt import REJECTED, gold_reply
from eosin.core.nouns.sample import Sample
from eosin.core.settings.stages import DpoStage
from eosin.models.load import freeze
from eosin.train.data.rows import Augmentation, preference_row, rows_dataset
from eosin.train.monitor import StepClock
from eosin.train.stages.base import (
    StageContext,
    StageResult,
    callbacks,
    lora_config,
    run_trainer,
    trainer_arguments,
    warmup_steps,
)
from eosin.train.stages.saves import StageState
from eosin.train.stages.sft import pad_as_tokenizer

console = Console(stderr=True, highlight=False, soft_wrap=True)


def pairs_of(settings: DpoStage, ctx: StageContext) -> list[Sample]:
    """Samples with an answer and a rejected reply that differs from the gold one.

    Raises:
        EosinError: there is none.
    """
    usable = [
        s for s in ctx.train
        if s.answer is not None and isinstance(s.extra.get(REJECTED), str)
        and s.extra[REJECTED].strip() != gold_reply(s, ctx.grammar, ctx.prompt.answer).strip()
    ]  # fmt: skip
    if not usable:
        raise EosinError(
            "This stage has no preference pair to learn from.", expected="samples with a reply that was put right",
            found=f"{len(ctx.train)} samples without one", where=f"stages.{ctx.name}",
            next_step="corrections: {path: runs/NAME/room/corrections.sqlite} in the recipe (docs/serve.md)",
        )  # fmt: skip
    return subset(usable, settings.max_samples, ctx.seed)


def run(settings: DpoStage, ctx: StageContext) -> StageResult:
    """-log sigmoid(beta (log p(chosen)/p_0(chosen) - log p(rejected)/p_0(rejected))), arXiv 2305.18290, eq. 7; p_0 is
    the model at the start of the stage."""
    pairs = pairs_of(settings, ctx)
    console.print(f"  {len(pairs)} pairs of {len(ctx.train)} samples")
    freeze(ctx.loaded.model, set(settings.freeze))
    pad_as_tokenizer(ctx.loaded)
    augment = Augmentation(ctx.seed) if settings.augment else None
    clock, state = StepClock(), StageState()
    losses = [settings.loss, *(["sft"] if settings.sft_weight else [])]
    arguments: dict[str, Any] = {
        **trainer_arguments(settings, ctx, False),
        "warmup_steps": warmup_steps(settings, len(pairs)),
        "max_length": settings.max_tokens,
        "beta": settings.beta,
        "loss_type": losses,
        "loss_weights": [1.0, *([settings.sft_weight] if settings.sft_weight else [])],
    }
    trainer = DPOTrainer(
        model=ctx.loaded.model,
        ref_model=None if settings.lora else _start_of(ctx.loaded.model),
        args=DPOConfig(**arguments),
        train_dataset=rows_dataset(
            pairs, preference_row(ctx.grammar, ctx.prompt), ctx.pictures(settings.image_cache_gib), augment=augment
        ),
        processing_class=ctx.loaded.processor,
        peft_config=lora_config(settings.lora, settings.freeze),
        callbacks=[*([augment] if augment else []), *callbacks(settings, ctx, clock, state)],
    )
    with ctx.cache_vision(0.0 if settings.augment else settings.vision_cache_gib):
        result = run_trainer(trainer, ctx, clock)
    result.extra["pairs"] = {"n": len(pairs), "samples": len(ctx.train), "rewards": _rewards(trainer)}
    return result


def _start_of(model: Any) -> Any:
    """The model as it is now, which stays."""
    kept = copy.deepcopy(model).eval()
    return kept.requires_grad_(False)


def _rewards(trainer: Any) -> dict[str, float]:
    """The last logged shares and means of TRL: how often, and by how much, the chosen reply gained on the rejected."""
    rows = [r for r in trainer.state.log_history if "rewards/accuracies" in r]
    names = ("rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected")
    return {n.removeprefix("rewards/"): float(rows[-1][n]) for n in names} if rows else {}
