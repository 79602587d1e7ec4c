"""Reinforcement learning with verifiable rewards: GRPO, DAPO and their kin on TRL's trainer. docs/rl.md has the
equations; `core.rl_settings` has every algorithm as data; `train.trl_overrides` is what differs from TRL.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from datasets import Dataset
from rich.console import Console
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOConfig

from eosin.core.draw import subset
from eosin.core.errors import EosinError
from eosin.core.nouns.classes import Classes
from eosin.core.nouns.prompt import gold_reply
from eosin.core.nouns.sample import Sample
from eosin.core.ranks import num_ranks, rank
from eosin.core.settings.rl import Vllm
from eosin.core.settings.stages import RlStage
from eosin.core.store import artifacts as store
from eosin.engines import shared_trial
from eosin.engines.reply_automaton import ReplyAutomaton, automaton_of
from eosin.models.load import end_tokens, freeze, is_adapter, placeholder_tokens
from eosin.models.shared_prefix import Backend
from eosin.models.vision_cache import share_cache
from eosin.scoring.adapters.trl import TrlReward
from eosin.scoring.sets.by_source import stage_rewards
from eosin.train.data.lengths import check_lengths, of_replies
from eosin.train.data.order import classes_of
from eosin.train.data.rows import rl_row, rows_dataset, sft_row
from eosin.train.keep_best import kept_record, watch_valid
from eosin.train.monitor import StepClock
from eosin.train.rl import preflight
from eosin.train.rl.anchor import Anchor, anchor_samples
from eosin.train.rl.collapse import CollapseCallback
from eosin.train.rl.diagnostics import BY_CLASS, ClassDiary, each_of
from eosin.train.rl.difficulty import prompts_in_band
from eosin.train.rl.groups import Group
from eosin.train.rl.outage import OutageCallback
from eosin.train.rl.preflight import Checks
from eosin.train.rl.rewards import keep_counts, rewards_in_record, say_rewards
from eosin.train.rl.rollouts import RolloutWriter, verdicts
from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer
from eosin.train.stages.base import StageContext, StageResult, callbacks, lora_config, run_trainer, trainer_arguments
from eosin.train.stages.saves import StageState

console = Console(stderr=True, highlight=False, soft_wrap=True)
GOLD_CHECKED = 100  # gold replies that a grammar which drawing is held to must allow


def run(settings: RlStage, ctx: StageContext) -> StageResult:
    """Train the policy that `ctx.loaded` holds, which is the checkpoint of the stage before."""
    train, band = prompts_of(settings, ctx)
    lengths = of_replies(train, ctx.loaded, ctx.grammar, ctx.prompt, settings.max_new_tokens, ctx.seed)
    lengths_record = check_lengths(lengths, settings, f"stages.{ctx.name}")
    freeze(ctx.loaded.model, set(settings.freeze))
    clock, state = StepClock(), StageState()
    rewards = stage_rewards(settings, ctx.grammar, {s.origin.source for s in train}, **ctx.tools.as_injected())
    store.as_json(rewards.described(), f"stages.{ctx.name}.rewards")  # what cannot be recorded is found before a step
    say_rewards(rewards)
    writer = RolloutWriter(
        ctx.folder / "rollouts.jsonl",
        stage=ctx.name,
        num_generations=settings.num_generations,
        keep_every=keep_every(settings, len(train)),
        step=lambda: trainer.state.global_step,
        pictures=_pictures_by_id(train, ctx, settings),
        waits=True,
    )
    diary = ClassDiary(
        ctx.folder / BY_CLASS, ctx.name, settings.num_generations, Classes.of(train), ctx.grammar, writer.step
    )
    reward = TrlReward(
        rewards,
        {s.id: s for s in train},
        max_tokens=settings.max_new_tokens,
        eos_token_ids=sorted(end_tokens(ctx.loaded)),
        on_batch=each_of(writer, diary),
        read_region=ctx.read_region,
    )
    rows = rows_dataset(train, rl_row(ctx.grammar, ctx.prompt), ctx.pictures(settings.image_cache_gib))
    keep_counts(state, reward)
    watchers = _watchers(settings, ctx, clock, state, reward)
    decided = tell(writer, diary, settings)
    anchor, classes = _anchor(settings, ctx, train), _classes(settings, ctx, train)
    trainer, checks = ready_trainer(settings, ctx, rows, reward, watchers, clock, decided, diary.seen, anchor)
    trainer.classes = classes
    writer.writes = diary.writes = trainer.is_world_process_zero()
    diary.more = lambda: trainer.parts_to_come > 0
    steps = num_steps(settings, len(train))
    keeper = watch_valid(settings, ctx, trainer, clock, steps, lambda: trainer.counts.prompts_seen)
    with ExitStack() as stack:
        kept = stack.enter_context(ctx.cache_vision(settings.vision_cache_gib))
        stack.enter_context(share_cache(kept, trainer.ref_model))
        result = run_trainer(trainer, ctx, clock, keeper)
    diary.close()
    result.extra |= {
        "algorithm": settings.algorithm.true_name,
        **rewards_in_record(reward, f"stages.{ctx.name}.rewards"),
        "checks": preflight.as_record(checks),
        "path": path_of(trainer),
        "rollouts": trainer.counts.__dict__,
        "difficulty": band,
        "lengths": lengths_record,
        **kept_record(keeper),
    }
    return result


def _watchers(
    settings: RlStage, ctx: StageContext, clock: StepClock, state: StageState, reward: TrlReward
) -> list[TrainerCallback]:
    """Callbacks of the trainer; those that stop it stand before the clock: their saves are not data time."""
    cycle = settings.updates_per_batch * settings.algorithm.num_iterations
    found = callbacks(settings, ctx, clock, state, cycle)
    if settings.outage is not None:
        found.insert(-1, OutageCallback(reward, settings.outage, cycle, ctx.name))
    if settings.collapse is not None:
        found.insert(-1, CollapseCallback(settings, ctx))
    return found


def prompts_of(settings: RlStage, ctx: StageContext) -> tuple[list[Sample], dict[str, Any] | None]:
    """Training samples with an answer, those of the asked difficulty; and what the band kept and dropped."""
    train = [s for s in ctx.train if s.answer is not None]
    band: dict[str, Any] | None = None
    if settings.difficulty is not None:
        train, band = prompts_in_band(train, settings.difficulty, ctx.folder)
    train = subset(train, settings.max_samples, ctx.seed)
    num_groups = settings.batch_size * num_ranks() // settings.num_generations * settings.updates_per_batch
    if len(train) < num_groups:
        raise EosinError(
            "There are fewer prompts than groups in one generation.",
            expected=f"at least {num_groups} training samples with an answer",
            found=str(len(train)),
            where=f"stages.{ctx.name}",
        )
    return train, band


def _pictures_by_id(train: list[Sample], ctx: StageContext, settings: RlStage) -> Any:
    samples = {s.id: s for s in train}
    pictures = ctx.pictures(settings.image_cache_gib)
    return lambda sample_id: pictures.get(samples[sample_id])


def tell(writer: RolloutWriter, diary: ClassDiary, settings: RlStage) -> Any:
    """Tells the rollouts on disk, and the diary by class, what became of every group."""

    def decided(scored: list[Group], chosen: list[Group], varied: list[bool], gains: Tensor, in_loss: Tensor) -> None:
        num = settings.num_generations
        fates, advantages = verdicts(scored, chosen, varied, gains.tolist(), num)
        places = {id(g): i for i, g in enumerate(chosen)}
        masks = in_loss.tolist()
        rows: list[int | None] = []
        for group in scored:
            place = places.get(id(group))
            rows += [None] * num if place is None else range(place * num, (place + 1) * num)
        shown = [row is not None and masks[row] for row in rows]
        writer.decided(fates, advantages, shown)
        diary.decided(advantages, shown, rows)

    return decided


def ready_trainer(
    settings: RlStage, ctx: StageContext, rows: Dataset, reward: TrlReward, watchers: list[TrainerCallback],
    clock: StepClock, decided: Any, seen: Any = None, anchor: Anchor | None = None,
) -> tuple[GroupTrainer, Checks]:  # fmt: skip
    """The trainer that the settings ask for, checked on real prompts before its first step.

    Raises:
        EosinError: a check failed, or `fast_path: on` or greedy replies where the model does not allow it.
    """
    probe = [rows[i] for i in range(min(preflight.NUM_PROMPTS, len(rows)))]
    why_not = "fast_path is off" if settings.fast_path == "off" else _cannot_share(ctx, probe)
    if why_not is not None and (settings.fast_path == "on" or settings.greedy_replies):
        way = "fast_path=auto" if settings.fast_path == "on" else "greedy_replies=0"
        raise EosinError(
            "The prompt of a group cannot be shared with this model.", expected="a model whose trial agrees",
            found=why_not, where=f"stages.{ctx.name}.{way.partition('=')[0]}", next_step=f"stages.{ctx.name}.{way}",
        )  # fmt: skip
    _write_reference(settings, ctx)
    options: dict[str, Any] = {
        "model": ctx.loaded.model,
        "reward_funcs": [reward],
        "args": GRPOConfig(**grpo_arguments(settings, ctx, len(rows))),
        "train_dataset": rows,
        "processing_class": ctx.loaded.processor,
        "peft_config": lora_config(settings.lora, settings.freeze),
        "callbacks": watchers,
        "clock": clock,
        "algorithm": settings.algorithm,
        "warn": lambda text: console.print(f"  [yellow]warning:[/yellow] {text}"),
        "decided": decided,
        "asks": reward if reward.rewards.uses_server else None,
        "generation_parts": settings.generation_parts,
        "seen": seen,
        "noise_every": settings.diagnose_every,
        "held": _held(settings, ctx),
        "anchor": anchor,
    }
    if why_not is None:
        backend: Backend = "flex" if ctx.loaded.model.device.type == "cuda" else "split"
        trainer: GroupTrainer = SharedPrefixTrainer(**options, backend=backend)
        trainer.greedy = settings.greedy_replies
    else:
        trainer = GroupTrainer(**options)
        trainer.why_plain = why_not
    shared = isinstance(trainer, SharedPrefixTrainer)
    checks = _checked(trainer, probe, settings, shared)
    if checks.shared is not None and not checks.shared <= checks.tolerance:
        raise EosinError(
            "The shared path gives other log-probabilities than the plain one with this model.",
            expected=f"at most {checks.tolerance:.0e} nats a token",
            found=f"{checks.shared:.1e}",
            where=f"stages.{ctx.name}",
            next_step=f"stages.{ctx.name}.fast_path=off",
        )
    preflight.refuse(checks, f"stages.{ctx.name}")
    console.print(f"  path: {path_of(trainer)}")
    console.print(f"  {checks.line()}")
    return trainer, checks


def _held(settings: RlStage, ctx: StageContext) -> ReplyAutomaton | None:
    """What drawing is held to, checked on gold replies: a grammar that forbids them would teach nothing."""
    if settings.constrain == "nothing":
        return None
    gold = [gold_reply(s, ctx.grammar, ctx.prompt.answer) for s in ctx.train[:GOLD_CHECKED] if s.answer is not None]
    return automaton_of(ctx.loaded, ctx.grammar, gold, f"stages.{ctx.name}.constrain")


def _anchor(settings: RlStage, ctx: StageContext, train: Sequence[Sample]) -> Anchor | None:
    """The gold replies that the stage is held by: those of its own prompts, with their pictures as they are."""
    if settings.anchor is None:
        return None
    gold = anchor_samples(train, ctx.grammar, f"stages.{ctx.name}.anchor")
    rows = rows_dataset(gold, sft_row(ctx.grammar, ctx.prompt), ctx.pictures(settings.image_cache_gib))
    return Anchor(settings.anchor, rows, ctx.loaded.processor, ctx.seed)


def _classes(settings: RlStage, ctx: StageContext, train: Sequence[Sample]) -> list[int] | None:
    """The class of every prompt, where a step is balanced by class."""
    if not settings.balance_classes:
        return None
    found = classes_of(train)
    if found is None:
        raise EosinError(
            "The prompts of a step cannot be balanced by class.", expected="answers that form classes",
            found="options written for each question", where=f"stages.{ctx.name}.balance_classes",
            next_step=f"stages.{ctx.name}.balance_classes=false",
        )  # fmt: skip
    return found


def _cannot_share(ctx: StageContext, probe: list[Any]) -> str | None:
    """Why the prompt of a group cannot be shared with this model: tried on real prompts, before anything is drawn."""
    model, processor = ctx.loaded.model, ctx.loaded.processor
    return shared_trial.unsupported(model, [preflight.encode_row(model, processor, r, r["images"]) for r in probe])


def _checked(trainer: GroupTrainer, probe: list[Any], settings: RlStage, shared: bool) -> Checks:
    """The checks; where FlexAttention does not compile on this machine, with the attention that needs no compiler."""
    try:
        return preflight.check(trainer, probe, settings.roundtrip_tolerance, shared=shared)
    except Exception as exc:
        if not isinstance(trainer, SharedPrefixTrainer) or trainer.backend != "flex":
            raise
        console.print(f"  [yellow]warning:[/yellow] FlexAttention failed ({exc!s:.120}); going on with split attention")
        trainer.backend = "split"
        return preflight.check(trainer, probe, settings.roundtrip_tolerance, shared=shared)


def _write_reference(settings: RlStage, ctx: StageContext) -> None:
    """TRL reads the frozen reference of full training from where the policy was loaded. A policy that was merged from
    an adapter, or built in memory, is written down for that; with LoRA the reference is the policy without adapter."""
    model = ctx.loaded.model
    name = str(model.config._name_or_path)
    if settings.algorithm.beta == 0 or settings.lora is not None or (name and not is_adapter(name)):
        return
    folder = ctx.work / f"reference-{rank()}"  # each process its own: they are written at one time
    model.save_pretrained(folder)
    model.config._name_or_path = str(folder)


def path_of(trainer: GroupTrainer) -> str:
    """How prompts are computed, in words."""
    if isinstance(trainer, SharedPrefixTrainer):
        return f"prompt shared by its group, {trainer.backend} attention"
    return f"plain TRL, prompt repeated for every completion ({trainer.why_plain})"


def num_steps(settings: RlStage, num_prompts: int) -> int:
    """Optimiser steps of the stage."""
    groups_a_step = settings.batch_size * num_ranks() // settings.num_generations * settings.gradient_accumulation
    return settings.steps or max(1, int(settings.epochs * num_prompts / groups_a_step))


def keep_every(settings: RlStage, num_prompts: int) -> int:
    """Every how many groups one is kept on disk, so that about `keep_rollouts` replies stay."""
    groups_a_step = settings.batch_size // settings.num_generations * settings.gradient_accumulation
    total = num_steps(settings, num_prompts) * groups_a_step
    return max(1, total * settings.num_generations // settings.keep_rollouts)


def save_steps(settings: RlStage) -> int:
    """Steps between saves: `save_every`, rounded up to whole generations.

    With `updates_per_batch` or `num_iterations` above 1 a generation serves several steps. A save between them would
    lose its replies, and a resumed stage would draw others in the middle.
    """
    cycle = settings.updates_per_batch * settings.algorithm.num_iterations
    return -(-settings.save_every // cycle) * cycle


def grpo_arguments(settings: RlStage, ctx: StageContext, num_prompts: int) -> dict[str, Any]:
    """The recipe's algorithm in TRL's words. Every field that TRL defaults otherwise than the paper is stated."""
    algorithm = settings.algorithm
    steps = num_steps(settings, num_prompts)
    return {
        **trainer_arguments(settings, ctx, has_valid=False),
        "max_steps": steps,
        "save_steps": save_steps(settings),
        "warmup_steps": round(settings.warmup_fraction * steps),
        "num_generations": settings.num_generations,
        "max_completion_length": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "beta": algorithm.beta,
        "use_bias_correction_kl": algorithm.unbiased_kl,
        "epsilon": algorithm.epsilon,
        "epsilon_high": algorithm.epsilon_high,
        "loss_type": algorithm.loss_type,
        "scale_rewards": algorithm.scale_rewards,
        "importance_sampling_level": algorithm.importance_sampling_level,
        "num_iterations": algorithm.num_iterations,
        "mask_truncated_completions": algorithm.mask_truncated,
        "steps_per_generation": settings.gradient_accumulation * settings.updates_per_batch,
        "shuffle_dataset": True,
        "disable_dropout": True,
        # A completion that wrote an image token would ask for an image that is not there.
        "generation_kwargs": {"suppress_tokens": list(placeholder_tokens(ctx.loaded.model)) or None},
        "log_completions": False,
        **vllm_arguments(settings.vllm, placeholder_tokens(ctx.loaded.model)),
    }


def vllm_arguments(vllm: Vllm | None, banned: Sequence[int]) -> dict[str, Any]:
    """The recipe's vLLM in TRL's words; `banned` tokens are made unlikely beyond any draw."""
    if vllm is None:
        return {}
    return {
        "use_vllm": True, "vllm_mode": vllm.mode, "vllm_server_base_url": vllm.url,
        "vllm_server_timeout": vllm.timeout_s, "vllm_gpu_memory_utilization": vllm.memory_share,
        "vllm_tensor_parallel_size": vllm.tensor_parallel, "vllm_enable_sleep_mode": vllm.sleep,
        "vllm_max_model_length": vllm.max_length, "vllm_importance_sampling_correction": vllm.correction,
        "generation_kwargs": {"logit_bias": {int(t): -100.0 for t in banned}} if banned else None,
    }  # fmt: skip
