"""The plan of a recipe: what every stage needs on given GPUs, and what would fit where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eosin.chain.plan.gpus import Machine
from eosin.chain.plan.memory import Memory, clip_memory, memory_of
from eosin.chain.plan.shapes import Shape, shape_of
from eosin.chain.plan.speed import Rates, StepTime, clip_step, drawing_time, step_time
from eosin.chain.plan.workload import PER, Assumed, Work, work_of
from eosin.core.settings.clip import ClipStage, NamedClip, TinyClip
from eosin.core.settings.launch import Launch
from eosin.core.settings.recipe import Recipe
from eosin.core.settings.stage import Stage
from eosin.core.settings.stages import Lora, RejectionStage, RlStage, WarmupStage

CLIPS = {"ViT-B-32": (88, 63), "ViT-B-16": (86, 63), "ViT-L-14": (304, 124)}
"""Millions of parameters of open_clip's towers, (image, text), from its model configs."""


@dataclass(frozen=True)
class StagePlan:
    """What one stage needs.

    Attributes:
        ranks: processes that train it.
        seconds: of all its steps, or for 1,000 samples where nobody says how many there are (`work.samples` is None).
    """

    name: str
    kind: str
    ranks: int
    work: Work
    memory: Memory
    step: StepTime
    seconds: float
    fits: bool
    remedies: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether its number of samples, and so its time, is not known."""
        return self.work.samples is None and self.work.steps > 0

    @property
    def tokens_per_second(self) -> float:
        """Of all processes."""
        return self.ranks * self.step.tokens / self.step.seconds if self.step.seconds else 0.0

    def as_dict(self, machine: Machine, usd: float | None) -> dict[str, Any]:
        """For --json."""
        hours = self.seconds * machine.num / 3600
        return {
            "stage": self.name, "kind": self.kind, "processes": self.ranks, "samples": self.work.samples,
            "steps": self.work.steps, "memory_gib": {k: round(v, 3) for k, v in self.memory.gib().items()},
            "peak_gib": round(self.memory.peak_gib, 3), "fits": self.fits, "remedies": list(self.remedies),
            "seconds_a_step": round(self.step.seconds, 4), "tokens_per_second": round(self.tokens_per_second, 1),
            "seconds": round(self.seconds, 1), "gpu_hours": round(hours, 2),
            "usd": None if usd is None else round(hours * usd, 2),
        }  # fmt: skip


def plan_recipe(
    recipe: Recipe, machine: Machine, assumed: Assumed | None = None, rates: Rates | None = None,
) -> list[StagePlan]:  # fmt: skip
    """The plan of every stage, in order.

    Raises:
        EosinError: a model whose shape is not known.
    """
    assumed, rates = assumed or Assumed(), rates or Rates()
    shape = shape_of(recipe.model) if recipe.has_language else None
    return [_stage_plan(recipe, name, shape, machine, assumed, rates) for name in recipe.stages]


def launch_for(recipe: Recipe, machine: Machine) -> Launch:
    """The recipe's launch; where it says local and the machine has several GPUs, one process a GPU."""
    launch = recipe.launch
    if launch.how == "local" and machine.num > 1:
        return Launch(how="processes", processes=machine.per_node)
    return launch


def ranks_of(launch: Launch, stage: Stage, machine: Machine) -> int:
    """Processes that train a stage: one for a warm-up."""
    if isinstance(stage, WarmupStage) or launch.how == "local":
        return 1
    per_node = min(launch.processes or machine.per_node, machine.per_node)
    return per_node * machine.nodes


def _stage_plan(
    recipe: Recipe, name: str, shape: Shape | None, machine: Machine, assumed: Assumed, rates: Rates
) -> StagePlan:
    stage = recipe.stages[name]
    launch = launch_for(recipe, machine)
    ranks = ranks_of(launch, stage, machine)
    if isinstance(stage, ClipStage):
        return _clip_plan(recipe, name, stage, machine, assumed, rates, ranks)
    assert shape is not None
    work = work_of(recipe, name, shape, assumed, ranks)
    memory = memory_of(stage, shape, work, launch, ranks, card=machine.gpu.memory_gb * 1e9)
    step = step_time(stage, shape, work, machine.gpu, rates)
    seconds = work.steps * step.seconds
    if isinstance(stage, RejectionStage):
        seconds += drawing_time(stage, shape, work, machine.gpu, rates, work.samples or PER) / ranks
    fits = memory.peak_gib <= machine.gpu.usable_gib
    remedies = () if fits else tuple(_remedies(recipe, name, shape, machine, assumed))
    return StagePlan(name, stage.kind, ranks, work, memory, step, seconds, fits, remedies)  # type: ignore[attr-defined]


def _clip_plan(
    recipe: Recipe, name: str, stage: ClipStage, machine: Machine, assumed: Assumed, rates: Rates, ranks: int
) -> StagePlan:
    first = stage_of_model(recipe, name)
    sizes = clip_sizes(first)
    whole = recipe.model_copy(
        update={"stages": {**recipe.stages, name: stage.model_copy(update={"model": first.model})}}
    )
    work = work_of(whole, name, Shape("clip", _NO_TEXT), assumed, ranks)
    memory = clip_memory(stage, work, sizes)
    step = clip_step(stage, work, sizes, machine.gpu, rates)
    fits = memory.peak_gib <= machine.gpu.usable_gib
    remedies = () if fits else (f"stages.{name}.chunk_size={max(1, (stage.chunk_size or stage.batch_size) // 4)}",)
    return StagePlan(name, stage.kind, ranks, work, memory, step, work.steps * step.seconds, fits, remedies)


def stage_of_model(recipe: Recipe, name: str) -> ClipStage:
    """The clip stage whose `model` a clip stage goes on with: the first of its line."""
    while (start := recipe.start_of(name)) != "base":
        name = start
    stage = recipe.stages[name]
    assert isinstance(stage, ClipStage)
    return stage


def clip_sizes(stage: ClipStage) -> tuple[int, int]:
    """Parameters of the (image, text) tower; of a model that is not in the table those of ViT-B/16."""
    model = stage.model
    if isinstance(model, TinyClip):
        v, t = model.vision, model.text
        return int(12 * v.layers * v.width**2), int(12 * t.layers * t.width**2 + 49_408 * t.width)
    assert isinstance(model, NamedClip)
    found = next((size for known, size in CLIPS.items() if known in model.name), CLIPS["ViT-B-16"])
    return found[0] * 10**6, found[1] * 10**6


def _remedies(recipe: Recipe, name: str, shape: Shape, machine: Machine, assumed: Assumed) -> Iterator[str]:
    """Changes after which the stage fits, the mildest first; each was computed."""
    stage, launch = recipe.stages[name], launch_for(recipe, machine)

    def fits(changed: Stage, how: Launch) -> bool:
        stages = {**recipe.stages, name: changed}
        work = work_of(recipe.model_copy(update={"stages": stages}), name, shape, assumed,
                       ranks := ranks_of(how, changed, machine))  # fmt: skip
        memory = memory_of(changed, shape, work, how, ranks, card=machine.gpu.memory_gb * 1e9)
        return memory.peak_gib <= machine.gpu.usable_gib

    found = 0
    for words, changed in _milder(stage, name):
        if fits(changed, launch):
            yield words
            found += 1
        elif machine.num > 1:
            for preset in ("zero2-7b", "fsdp-7b", "zero3-32b"):
                if fits(changed, Launch.model_validate(preset)):
                    yield f"--launch {preset}" + (f" with {words}" if words else "")
                    found += 1
                    break
        if found >= 3:
            return
    if not found:
        yield "more GPUs, or GPUs with more memory: no change of this stage alone fits"


def _milder(stage: Stage, name: str) -> Iterator[tuple[str, Stage]]:
    """(words, stage): the same training with less memory, then with adapters."""
    yield "", stage
    group = stage.num_generations if isinstance(stage, RlStage) else 1
    steps: list[tuple[str, dict[str, Any]]] = []
    if not getattr(stage, "gradient_checkpointing", True):
        steps.append((f"stages.{name}.gradient_checkpointing=true", {"gradient_checkpointing": True}))
    if stage.batch_size > group and hasattr(stage, "gradient_accumulation"):
        factor = stage.batch_size // group
        more = stage.gradient_accumulation * factor
        divided = f"stages.{name}.batch_size={group} stages.{name}.gradient_accumulation={more}"
        steps.append((divided, {"batch_size": group, "gradient_accumulation": more}))
    if getattr(stage, "lora", 0) is None:
        steps.append((f"stages.{name}.lora={{}}", {"lora": Lora()}))
    words: list[str] = []
    update: dict[str, Any] = {}
    for told, change in steps:
        words.append(told)
        update |= change
        yield " ".join(words), stage.model_copy(update=dict(update))


def _no_text() -> Any:
    from eosin.chain.plan.shapes import Text

    return Text(1, 0, 1, 1, 1, 1, True)


_NO_TEXT = _no_text()
