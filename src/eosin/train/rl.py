"""Reinforcement learning with verifiable rewards: GRPO on TRL's trainer.

GRPO (DeepSeekMath, arXiv 2402.03300, eq. 3): for G replies to one prompt with rewards r_1..r_G the advantage is
A_i = (r_i - mean(r)) / std(r); the loss is the clipped ratio times A_i, averaged over the tokens of a reply, then
over replies, plus beta times the k3 estimate of the KL divergence to the starting policy.
"""

from __future__ import annotations

from typing import Any

from trl import GRPOConfig

from eosin.core.errors import EosinError
from eosin.core.stages import RlStage
from eosin.models.load import end_tokens, freeze
from eosin.scoring import load_rewards
from eosin.scoring.trl import TrlReward
from eosin.train.data import rl_row, rows_dataset, subset
from eosin.train.monitor import StepClock
from eosin.train.rollouts import RolloutWriter
from eosin.train.stage import StageContext, StageResult, callbacks, lora_config, run_trainer, trainer_arguments
from eosin.train.trl_overrides import TimedGRPOTrainer


def run(settings: RlStage, ctx: StageContext) -> StageResult:
    """Train the policy that `ctx.loaded` holds, which is the checkpoint of the stage before."""
    train = subset([s for s in ctx.train if s.answer is not None], settings.max_samples, ctx.seed)
    num_groups = settings.batch_size // settings.num_generations
    if len(train) < num_groups:
        raise EosinError(
            "There are fewer prompts than groups in one step.",
            expected=f"at least {num_groups} training samples with an answer",
            found=str(len(train)),
            where=f"stages.{ctx.name}",
        )
    freeze(ctx.loaded.model, set(settings.freeze))
    clock = StepClock()
    spec = settings.rewards if isinstance(settings.rewards, str) else [r.model_dump() for r in settings.rewards]
    rewards = load_rewards(spec, ctx.grammar, max_tokens=settings.max_new_tokens)
    writer = RolloutWriter(
        ctx.folder / "rollouts.jsonl",
        stage=ctx.name,
        num_generations=settings.num_generations,
        keep_every=keep_every(settings, len(train)),
        step=lambda: trainer.state.global_step,
    )
    reward = TrlReward(
        rewards,
        {s.id: s for s in train},
        max_tokens=settings.max_new_tokens,
        eos_token_ids=sorted(end_tokens(ctx.loaded)),
        on_batch=writer,
    )
    pictures = ctx.pictures(settings.image_cache_gib)
    trainer = TimedGRPOTrainer(
        model=ctx.loaded.model,
        reward_funcs=[reward],
        args=GRPOConfig(**grpo_arguments(settings, ctx, len(train))),
        train_dataset=rows_dataset(train, rl_row(ctx.grammar, ctx.prompt), pictures),
        processing_class=ctx.loaded.processor,
        peft_config=lora_config(settings.lora, settings.freeze),
        callbacks=callbacks(ctx, clock),
        clock=clock,
    )
    result = run_trainer(trainer, ctx, clock)
    result.extra = {
        "algorithm": settings.algorithm.true_name,
        "rewards": rewards.described(),
        "base_rates": reward.summary(),
    }
    return result


def num_steps(settings: RlStage, num_prompts: int) -> int:
    """Optimiser steps of the stage."""
    groups_a_step = settings.batch_size // settings.num_generations * settings.gradient_accumulation
    return settings.steps or max(1, int(settings.epochs * num_prompts / groups_a_step))


def keep_every(settings: RlStage, num_prompts: int) -> int:
    """Every how many groups one is kept on disk, so that about `keep_rollouts` replies stay."""
    groups_a_step = settings.batch_size // settings.num_generations * settings.gradient_accumulation
    total = num_steps(settings, num_prompts) * groups_a_step
    return max(1, total * settings.num_generations // settings.keep_rollouts)


def grpo_arguments(settings: RlStage, ctx: StageContext, num_prompts: int) -> dict[str, Any]:
    """The recipe's algorithm in TRL's words. Every field that TRL defaults otherwise than the paper is stated."""
    algorithm = settings.algorithm
    steps = num_steps(settings, num_prompts)
    return {
        **trainer_arguments(settings, ctx, has_valid=False),
        "max_steps": steps,
        "warmup_steps": round(settings.warmup_fraction * steps),
        "num_generations": settings.num_generations,
        "max_completion_length": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "beta": algorithm.beta,
        "epsilon": algorithm.epsilon,
        "epsilon_high": algorithm.epsilon_high,
        "loss_type": algorithm.loss_type,
        "scale_rewards": algorithm.scale_rewards,
        "num_iterations": algorithm.num_iterations,
        "mask_truncated_completions": algorithm.mask_truncated,
        "steps_per_generation": settings.gradient_accumulation,
        "shuffle_dataset": True,
        "disable_dropout": True,
        "log_completions": False,
    }
