"""What every stage file is given and gives back, and the settings that TRL's trainers share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback

from eosin.core import stopping
from eosin.core.errors import disk_errors
from eosin.core.formats.stream.reader import Streamed
from eosin.core.images import RegionReader
from eosin.core.nouns.prompt import PromptSettings
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.ranks import num_ranks
from eosin.core.settings.launch import Launch
from eosin.core.settings.stages import DpoStage, Lora, PretrainStage, RejectionStage, RlStage, SftStage
from eosin.core.store import artifacts as store
from eosin.core.store.artifacts import Artifact
from eosin.models import checkpoint
from eosin.models.load import Loaded
from eosin.models.pictures import max_pixels_of
from eosin.models.vision_cache import KeptTower, cache_vision
from eosin.scoring.terms.base import Resources
from eosin.train.data.rows import ImageCache
from eosin.train.monitor import (
    ClockCallback,
    MetricsCallback,
    PeakMemory,
    ProgressCallback,
    StepClock,
)
from eosin.train.stages.saves import (
    StageState,
    WholeSaveCallback,
    finished_state,
    last_whole_save,
    refuse_other_kind,
    restore_weights,
)
from eosin.train.stages.sharding import sharding_arguments, whole_weights
from eosin.train.stages.stop import StopCallback

DDP_TIMEOUT_S = 7 * 24 * 3600


@dataclass(frozen=True)
class StageContext:
    """All that a stage is given.

    Attributes:
        folder: the stage's own folder; `work/` in it holds what a resumed stage needs.
        loaded: the model to start from, with its processor.
        parents: artifacts that the stage is made from.
        grammar: of the reply; written into the checkpoint, so that exams and serving use the same.
        prompt: how questions are put and gold answers written.
        cache_folder: where a frozen tower's output is kept for all stages of a run; by default the stage's own folder.
        tools: judge, sentence encoder, CLIP and knowledge graph of an RL stage's rewards.
        picture_cache: decoded pictures by the area in pixels that the model keeps; a run hands it from stage to stage.
        stream: the training samples, where they are read from their shards as they are needed; `train` then holds some
            of them, for what is tried before the first step.
        launch: how the processes share the model out.
        track: names for the Trainer's `report_to`.
    """

    name: str
    folder: Path
    loaded: Loaded
    train: Sequence[Sample]
    valid: Sequence[Sample]
    grammar: Grammar
    prompt: PromptSettings
    seed: int
    parents: tuple[Artifact, ...] = ()
    read_region: RegionReader | None = None
    cache_folder: Path | None = None
    tools: Resources = Resources()
    picture_cache: dict[int | None, ImageCache] = field(default_factory=dict)
    launch: Launch = Launch()
    track: tuple[str, ...] = ()
    stream: Streamed | None = None

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    def pictures(self, limit_gib: float) -> ImageCache:
        """Decoded pictures for this model; stages of one run that see them in one size share them."""
        size = max_pixels_of(self.loaded.processor)
        if size not in self.picture_cache:
            self.picture_cache[size] = ImageCache(size, limit_gib, self.read_region)
        self.picture_cache[size].limit_gib = limit_gib
        return self.picture_cache[size]

    def cache_vision(self, limit_gib: float) -> AbstractContextManager[KeptTower | None]:
        """While entered, a frozen vision tower runs once an image (see `models.vision_cache`)."""
        return cache_vision(self.loaded.model, self.cache_folder or self.folder / "work", limit_gib)

    def save(
        self, name: str, model: Any, step: int, *, replace: bool = False, weights: Mapping[str, Any] | None = None
    ) -> Artifact:
        """Write a checkpoint artifact of this stage; `weights` stand in for those of a model that is shared out."""
        facts = {
            "stage": self.name,
            "step": step,
            "grammar": self.grammar.as_facts(),
            "instruction": self.prompt.instruction,
        }
        return checkpoint.save(
            model, self.loaded.processor, self.folder / name, parents=self.parents, facts=facts, replace=replace,
            weights=weights,
        )  # fmt: skip


@dataclass
class StageResult:
    """What a stage leaves: its checkpoint (None on all processes but the first) and the facts for stage.json."""

    checkpoint: Artifact | None
    num_steps: int
    step_time: dict[str, float]
    num_trainable: int
    num_parameters: int
    extra: dict[str, Any] = field(default_factory=dict)


def trainer_arguments(
    settings: PretrainStage | SftStage | RejectionStage | RlStage | DpoStage, ctx: StageContext, has_valid: bool
) -> dict[str, Any]:
    """Arguments that SFTConfig and GRPOConfig share. Everything that could move a number is stated here."""
    on_gpu = ctx.loaded.model.device.type == "cuda"
    return {
        "output_dir": str(ctx.work),
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.steps or -1,
        "logging_steps": settings.log_every,
        "save_strategy": "steps",
        "save_steps": settings.save_every,
        "save_total_limit": settings.keep_saves,
        "eval_strategy": "steps" if has_valid else "no",
        "eval_steps": settings.save_every if has_valid else None,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "bf16": on_gpu and torch.cuda.is_bf16_supported(),
        "use_cpu": not on_gpu,
        "ddp_backend": "gloo" if num_ranks() > 1 and not on_gpu else None,
        "ddp_timeout": DDP_TIMEOUT_S,  # the others wait while the first process holds an exam
        "seed": ctx.seed,
        "data_seed": ctx.seed,
        "dataloader_num_workers": settings.num_workers,
        "remove_unused_columns": False,
        "report_to": list(ctx.track),
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
        "dataloader_pin_memory": on_gpu,
        **sharding_arguments(ctx.launch, ctx.loaded.model),
    }


def rows_a_step(settings: PretrainStage | SftStage | RejectionStage | DpoStage) -> int:
    """Rows of one optimiser step, of all processes together."""
    return settings.batch_size * settings.gradient_accumulation * num_ranks()


def num_steps(settings: PretrainStage | SftStage | RejectionStage | DpoStage, num_rows: int) -> int:
    """Optimiser steps of a stage that trains on so many rows."""
    return settings.steps or math.ceil(settings.epochs * math.ceil(num_rows / rows_a_step(settings)))


def warmup_steps(settings: PretrainStage | SftStage | RejectionStage | DpoStage, num_rows: int) -> int:
    """Steps of the linear warm-up of the learning rate: a fraction of all optimiser steps."""
    return round(settings.warmup_fraction * num_steps(settings, num_rows))


def lora_config(lora: Lora | None, frozen: Sequence[str]) -> Any:
    """The PEFT config of a stage, or None for full training. Frozen parts get no adapter.

    A slide tower is small and often new: unless it is frozen, it trains whole, together with its projector, and is
    saved whole beside the adapter. Where the projector is frozen, the tower stays as it is too.
    """
    if lora is None:
        return None
    from peft import LoraConfig

    names = {
        "vision": r"visual\.(?!merger)|vision_tower|vision_model",
        "slide": r"slide_tower\.(?!projector)",
        "projector": r"merger|projector",
    }
    skip = "|".join(names[p] for p in frozen if p in names)
    whole = "slide_tower.projector" if "slide" in frozen else "slide_tower"
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        exclude_modules=rf".*(?:{skip}).*" if skip else None,
        modules_to_save=[*lora.whole, *([whole] if "projector" not in frozen else [])] or None,
        task_type="CAUSAL_LM",
    )


def callbacks(
    settings: PretrainStage | SftStage | RejectionStage | DpoStage | RlStage, ctx: StageContext, clock: StepClock,
    state: StageState, cycle: int = 1,
) -> list[TrainerCallback]:  # fmt: skip
    """The callbacks of every trainer: a save is marked whole after all have written into it, and the clock stands last,
    so that its marks come after the others' work.

    Args:
        cycle: steps of one generation of replies; a stage ends and saves between generations.
    """
    state.add("seconds", lambda: dict(clock.seconds), clock.seconds.update)
    return [
        MetricsCallback(ctx.metrics_file, ctx.name),
        ProgressCallback(ctx.name),
        StopCallback(cycle, settings.save_minutes),
        state,
        WholeSaveCallback(),
        ClockCallback(clock),
    ]


class BestCallback(TrainerCallback):  # type: ignore[misc]
    """Keeps the weights with the lowest loss on the valid split as the artifact `best`."""

    def __init__(self, ctx: StageContext) -> None:
        self._ctx = ctx
        self._note = ctx.folder / "best.json"

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, model: Any = None, **_: Any
    ) -> None:
        loss = (metrics or {}).get("eval_loss")
        best = store.read_object(self._note)["eval_loss"] if self._note.exists() else math.inf
        if loss is None or not loss < best or not state.is_world_process_zero:
            return
        self._ctx.save("best", model, state.global_step, replace=True)
        store.write_json(self._note, {"eval_loss": loss, "step": state.global_step})


class Settle(Protocol):
    """Decides at the end of a stage which weights stay (train.keep_best)."""

    def settle(self, model: Any, last_step: int) -> int: ...


def run_trainer(trainer: Trainer, ctx: StageContext, clock: StepClock, keeper: Settle | None = None) -> StageResult:
    """Train, from the last whole save if there is one, and write the checkpoint: the last one, or what `keeper` says.

    The folder of saves stays until the stage's record is written (`chain.recipe.stages`): what is killed in between
    finds its last save, and trains no step twice.
    """
    start = last_whole_save(ctx.work)
    first = int(start.name.split("-")[1]) if start else 0
    if trainer.is_world_process_zero():
        for log in (ctx.metrics_file, ctx.folder / "rollouts.jsonl", ctx.folder / "by_class.jsonl"):
            store.keep_rows(log, lambda row: row["step"] <= first and start is not None)
    trainer.remove_callback(PrinterCallback)
    if start is not None:
        refuse_other_kind(start, trainer.is_fsdp_enabled)
        restore_weights(trainer.accelerator.unwrap_model(trainer.model), start)
    done = finished_state(start) if start is not None else None
    if done is None:
        with disk_errors(ctx.folder), stopping.saves_first():
            trainer.train(resume_from_checkpoint=str(start) if start else None)
    else:  # killed after its last step: nothing is left to train, and the Trainer would take one step more
        trainer.state = done
        trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control)
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
    model = trainer.accelerator.unwrap_model(trainer.model)
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    weights = whole_weights(trainer, ctx.launch)
    final = None
    if trainer.is_world_process_zero():
        step = keeper.settle(model, trainer.state.global_step) if keeper else trainer.state.global_step
        final = ctx.save("checkpoint", model, step, replace=True, weights=weights)
    return StageResult(
        checkpoint=final,
        num_steps=trainer.state.global_step,
        step_time=clock.split(),
        num_trainable=sum(n for n, trains in counts if trains),
        num_parameters=sum(n for n, _ in counts),
        extra=slides_shown(ctx),
    )


def slides_shown(ctx: StageContext) -> dict[str, Any]:
    """How many slides this stage was shown, repeats counted, with their patches and the tokens they became."""
    counts = getattr(ctx.loaded.processor, "counts", None)
    return {"slides_shown": dict(vars(counts))} if counts is not None and counts.slides else {}


__all__ = ["PeakMemory", "StageContext", "StageResult", "StepClock"]
