"""Folders that other trainers take. They are written, never run, and their packages are never imported."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from eosin.chain.export.prepared import Prepared, model_name, prepared
from eosin.chain.export.rows import pair_rows, swift_rows, verl_file
from eosin.core.errors import EosinError
from eosin.core.formats.parquet import write_parquet
from eosin.core.formats.rows import whole_file
from eosin.core.nouns.sample import ImageBytes, ImageFile, Sample
from eosin.core.settings.stages import PretrainStage, RlStage, SftStage
from eosin.core.store import artifacts as store

TRAINERS = ("verl", "ms-swift", "llama-factory")
_HEAD = '"""The rewards of the stage {stage!r} for {trainer}, by `eosin export`. Needs eosin, no torch."""'
VERL_REWARDS = (
    _HEAD
    + """

from pathlib import Path

from eosin.scoring.adapters.exported import ExportedRewards

REWARDS = ExportedRewards(Path(__file__).parent, {stage!r})
UNSCORED = None  # verl cannot mask a reply; a number here is the reward of one that cannot be scored


async def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    return await REWARDS.verl(solution_str, extra_info, UNSCORED)
"""
)
SWIFT_REWARDS = (
    _HEAD
    + """

from pathlib import Path

from swift.rewards import AsyncORM, orms

from eosin.scoring.adapters.exported import ExportedRewards

REWARDS = ExportedRewards(Path(__file__).parent, {stage!r})


class Eosin(AsyncORM):
    async def __call__(self, completions, **columns):
        return await REWARDS.swift(completions, columns, {max_tokens})


orms["eosin"] = Eosin
"""
)


def export(trainer: str, place: Path, overrides: Sequence[str], out: Path, stage: str | None = None) -> dict[str, Any]:
    """Write the folder; what was written, notes on what this trainer does otherwise, and the command.

    Raises:
        EosinError: another trainer, a stage that it cannot take, or a folder that is not empty.
    """
    if trainer not in TRAINERS:
        raise EosinError("There is no such export.", expected=", ".join(TRAINERS), found=trainer)
    if out.exists() and any(out.iterdir()):
        raise EosinError("This folder is not empty.", where=out, next_step="choose another --out")
    kinds: dict[str, tuple[type, ...]] = {
        "verl": (RlStage,), "ms-swift": (RlStage, SftStage, PretrainStage), "llama-factory": (SftStage, PretrainStage),
    }  # fmt: skip
    with prepared(place, overrides, stage, kinds[trainer]) as ready:
        out.mkdir(parents=True, exist_ok=True)
        store.write_text_atomic(out / "recipe.yaml", ready.resolved.to_yaml())
        train, valid = _usable(ready, ready.train), _usable(ready, ready.valid)
        if not train:
            raise EosinError("This stage has nothing to train on.", where=f"stages.{ready.name}")
        writer = {"verl": _verl, "ms-swift": _swift, "llama-factory": _llama}[trainer]
        command, notes = writer(ready, train, valid, out)
        text = '#!/bin/bash\nset -e\ncd "$(dirname "$0")"\n' + command + "\n"
        store.write_text_atomic(out / "run.sh", text)
        return {"stage": ready.name, "train": len(train), "valid": len(valid), "notes": notes,
                "command": f"bash {shlex.quote(str(out / 'run.sh'))}"}  # fmt: skip


def _usable(ready: Prepared, samples: Sequence[Sample]) -> list[Sample]:
    if isinstance(ready.stage, PretrainStage):
        return [s for s in samples if s.caption and s.images]
    return [s for s in samples if s.answer is not None]


def _keep_samples(ready: Prepared, samples: Sequence[Sample], out: Path) -> None:
    """The samples for the rewards, with the bytes of their pictures: the folder can be moved."""
    whole = [
        s.model_copy(update={"images": tuple(
            ImageBytes(data=ready.picture(s, i)) if isinstance(ref, ImageBytes | ImageFile) else ref
            for i, ref in enumerate(s.images))})
        for s in samples
    ]  # fmt: skip
    write_parquet(whole, out / "samples.parquet")


def _notes(stage: RlStage, trainer: str) -> list[str]:
    """What of the stage this trainer does not do, or does otherwise."""
    algorithm, notes = stage.algorithm, []
    if algorithm.dynamic_sampling and trainer == "verl":
        notes.append("dynamic sampling is not in verl's main trainer: its DAPO recipe has it (algorithm.filter_groups)")
    if trainer == "verl":
        notes.append(
            "verl hands over no number of tokens: terms on length, and DAPO's overlong punishment, stay unscored"
        )
        notes.append("verl cannot mask a reply without a reward: UNSCORED in rewards.py says what becomes of it")
        if algorithm.mask_truncated:
            notes.append("replies that are cut off stay in verl's loss")
    if stage.difficulty is not None:
        notes.append("the band of difficulty is not applied to the exported rows")
    return notes


def _verl(ready: Prepared, train: list[Sample], valid: list[Sample], out: Path) -> tuple[str, list[str]]:
    stage = ready.stage
    assert isinstance(stage, RlStage)
    verl_file(ready, train, "train", out / "train.parquet")
    verl_file(ready, valid or train[:1], "valid", out / "valid.parquet")
    _keep_samples(ready, [*train, *valid], out)
    store.write_text_atomic(out / "rewards.py", VERL_REWARDS.format(trainer="verl", stage=ready.name))
    settings = verl_settings(ready, stage, out)
    shown = " \\\n    ".join(f"{k}={_in_shell(v)}" for k, v in settings.items())
    return f"python -m verl.trainer.main_ppo \\\n    {shown}", _notes(stage, "verl")


def _in_shell(value: object) -> str:
    """A value on a command line; a file of the folder by its whole place, as workers may stand elsewhere."""
    text = str(value)
    return f'"$PWD"/{shlex.quote(text[2:])}' if text.startswith("./") else shlex.quote(text)


def verl_settings(ready: Prepared, stage: RlStage, out: Path) -> dict[str, Any]:
    """verl's options for a stage (names as of verl 0.9.1)."""
    a = stage.algorithm
    groups = stage.batch_size * stage.gradient_accumulation // stage.num_generations
    modes = {"grpo": "seq-mean-token-mean", "dapo": "token-mean", "bnpo": "token-mean",
             "dr_grpo": "seq-mean-token-sum-norm"}  # fmt: skip
    launch, actor = ready.recipe.launch, "actor_rollout_ref.actor"
    length = {"trainer.total_training_steps": stage.steps} if stage.steps else {}
    lora = {} if stage.lora is None else {
        "actor_rollout_ref.model.lora_rank": stage.lora.r, "actor_rollout_ref.model.lora_alpha": stage.lora.alpha,
    }  # fmt: skip
    return {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": a.scale_rewards != "none",
        "data.train_files": "./train.parquet", "data.val_files": "./valid.parquet", "data.image_key": "images",
        "data.train_batch_size": groups * stage.updates_per_batch,
        "data.max_prompt_length": 4096, "data.max_response_length": stage.max_new_tokens,
        "data.filter_overlong_prompts": True, "data.truncation": "error", "data.seed": ready.recipe.seed,
        "actor_rollout_ref.model.path": model_name(ready.recipe, out), **lora,
        f"{actor}.optim.lr": stage.learning_rate, f"{actor}.optim.lr_warmup_steps_ratio": stage.warmup_fraction,
        f"{actor}.optim.weight_decay": stage.weight_decay, f"{actor}.grad_clip": stage.max_grad_norm,
        f"{actor}.ppo_mini_batch_size": groups, f"{actor}.ppo_micro_batch_size_per_gpu": 1,
        f"{actor}.ppo_epochs": a.num_iterations,
        f"{actor}.clip_ratio_low": a.epsilon, f"{actor}.clip_ratio_high": a.epsilon_high,
        f"{actor}.loss_agg_mode": modes[a.loss_type],
        f"{actor}.policy_loss.loss_mode": "gspo" if a.importance_sampling_level == "sequence" else "vanilla",
        f"{actor}.use_kl_loss": a.beta > 0, f"{actor}.kl_loss_coef": a.beta, f"{actor}.kl_loss_type": "low_var_kl",
        f"{actor}.freeze_vision_tower": "vision" in stage.freeze,
        "actor_rollout_ref.rollout.name": "vllm", "actor_rollout_ref.rollout.n": stage.num_generations,
        "actor_rollout_ref.rollout.temperature": stage.temperature,
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": 1,
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": 1,
        "reward.custom_reward_function.path": "./rewards.py", "reward.custom_reward_function.name": "compute_score",
        "trainer.logger": '["console"]', "trainer.project_name": "eosin", "trainer.experiment_name": ready.name,
        "trainer.n_gpus_per_node": launch.processes or 8, "trainer.nnodes": launch.nodes,
        "trainer.save_freq": stage.save_every, "trainer.total_epochs": max(1, round(stage.epochs)), **length,
    }  # fmt: skip


def _swift(ready: Prepared, train: list[Sample], valid: list[Sample], out: Path) -> tuple[str, list[str]]:
    stage = ready.stage
    assert isinstance(stage, RlStage | SftStage | PretrainStage)
    captions = isinstance(stage, PretrainStage)
    for name, part, first in (("train", train, 0), ("valid", valid, len(train))):
        rows = (
            swift_rows(ready, part, out, first) if isinstance(stage, RlStage)
            else pair_rows(ready, part, out, first, captions=captions)
        )  # fmt: skip
        with whole_file(out / f"{name}.jsonl") as handle:
            for row in rows:
                handle.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
    values = swift_settings(ready, stage, out, bool(valid))
    if not isinstance(stage, RlStage):
        return _flags("swift sft", values), []
    _keep_samples(ready, [*train, *valid], out)
    source = SWIFT_REWARDS.format(trainer="ms-swift", stage=ready.name, max_tokens=stage.max_new_tokens)
    store.write_text_atomic(out / "rewards.py", source)
    return _flags("swift rlhf", values | swift_rl_settings(stage)), _notes(stage, "ms-swift")


def swift_settings(
    ready: Prepared, stage: RlStage | SftStage | PretrainStage, out: Path, has_valid: bool
) -> dict[str, Any]:
    """Options of ms-swift (names as of 4.6) that all its trainings share."""
    return {
        "model": model_name(ready.recipe, out), "dataset": "train.jsonl",
        **({"val_dataset": "valid.jsonl"} if has_valid else {}),
        "tuner_type": "full" if stage.lora is None else "lora", "torch_dtype": "bfloat16",
        "learning_rate": stage.learning_rate, "warmup_ratio": stage.warmup_fraction, "weight_decay": stage.weight_decay,
        "max_grad_norm": stage.max_grad_norm, "gradient_accumulation_steps": stage.gradient_accumulation,
        "num_train_epochs": stage.epochs, "save_steps": stage.save_every, "seed": ready.recipe.seed,
        "per_device_train_batch_size": stage.batch_size, "freeze_vit": str("vision" in stage.freeze).lower(),
        "freeze_aligner": str("projector" in stage.freeze).lower(), "output_dir": "output", "report_to": "none",
        **({"max_steps": stage.steps} if stage.steps else {}),
        **({} if stage.lora is None else {"lora_rank": stage.lora.r, "lora_alpha": stage.lora.alpha}),
    }  # fmt: skip


def swift_rl_settings(stage: RlStage) -> dict[str, Any]:
    """Options of its GRPO."""
    a = stage.algorithm
    return {
        "rlhf_type": "grpo", "external_plugins": "rewards.py", "reward_funcs": "eosin", "beta": a.beta,
        "num_generations": stage.num_generations, "max_completion_length": stage.max_new_tokens,
        "temperature": stage.temperature, "epsilon": a.epsilon, "epsilon_high": a.epsilon_high,
        "loss_type": a.loss_type,
        "scale_rewards": a.scale_rewards, "importance_sampling_level": a.importance_sampling_level,
        "num_iterations": a.num_iterations, "dynamic_sample": str(a.dynamic_sampling).lower(),
        "max_resample_times": a.max_generation_batches, "overlong_filter": str(a.mask_truncated).lower(),
        "use_vllm": "true", "vllm_mode": "colocate", "remove_unused_columns": "false",
    }  # fmt: skip


def _flags(verb: str, values: dict[str, Any]) -> str:
    return f"{verb} \\\n    " + " \\\n    ".join(f"--{k} {shlex.quote(str(v))}" for k, v in values.items())


def _llama(ready: Prepared, train: list[Sample], valid: list[Sample], out: Path) -> tuple[str, list[str]]:
    stage = ready.stage
    assert isinstance(stage, SftStage | PretrainStage)
    captions = isinstance(stage, PretrainStage)
    names = {"eosin_train": train, **({"eosin_valid": valid} if valid else {})}
    first, info = 0, {}
    for name, part in names.items():
        store.write_json(out / f"{name}.json", list(pair_rows(ready, part, out, first, captions=captions)))
        first += len(part)
        info[name] = {
            "file_name": f"{name}.json", "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                     "system_tag": "system"},
        }  # fmt: skip
    store.write_json(out / "dataset_info.json", info)
    store.write_text_atomic(
        out / "train.yaml", yaml.safe_dump(_llama_settings(ready, stage, bool(valid)), sort_keys=False)
    )
    notes = ["the masks of trajectories and pseudo-bags are Eosin's own: every token of a reply is in this loss"]
    has_masks = isinstance(stage, SftStage) and (stage.trajectory is not None or stage.pseudo_bags is not None)
    return "llamafactory-cli train train.yaml", notes if has_masks else []


def _llama_settings(ready: Prepared, stage: SftStage | PretrainStage, has_valid: bool) -> dict[str, Any]:
    name = model_name(ready.recipe, Path())
    family = "qwen3_vl" if "Qwen3-VL" in name else "qwen2_vl"
    tuner = {"finetuning_type": "full"} if stage.lora is None else {
        "finetuning_type": "lora", "lora_rank": stage.lora.r, "lora_alpha": stage.lora.alpha,
        "lora_dropout": stage.lora.dropout, "lora_target": ",".join(stage.lora.targets),
    }  # fmt: skip
    return {
        "model_name_or_path": name, "stage": "sft", "do_train": True, **tuner,
        "freeze_vision_tower": "vision" in stage.freeze, "freeze_multi_modal_projector": "projector" in stage.freeze,
        "freeze_language_model": "language" in stage.freeze,
        "dataset_dir": ".", "media_dir": ".", "dataset": "eosin_train", "template": family,
        **({"eval_dataset": "eosin_valid"} if has_valid else {}),
        "cutoff_len": stage.max_tokens or 8192, "output_dir": "output", "save_steps": stage.save_every,
        "logging_steps": stage.log_every, "per_device_train_batch_size": stage.batch_size,
        "gradient_accumulation_steps": stage.gradient_accumulation, "learning_rate": stage.learning_rate,
        "num_train_epochs": stage.epochs, **({"max_steps": stage.steps} if stage.steps else {}),
        "lr_scheduler_type": stage.schedule, "warmup_ratio": stage.warmup_fraction, "weight_decay": stage.weight_decay,
        "max_grad_norm": stage.max_grad_norm, "bf16": True, "seed": ready.recipe.seed, "report_to": "none",
    }  # fmt: skip
