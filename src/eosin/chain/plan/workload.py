"""What a stage does: how many samples, how long they are, how many steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eosin.chain.plan.shapes import Shape
from eosin.core.settings.clip import ClipStage, TinyClip
from eosin.core.settings.data import PhantomData, PhantomSlidesData
from eosin.core.settings.model import HubModel, SlideModel
from eosin.core.settings.recipe import Recipe
from eosin.core.settings.stage import Stage
from eosin.core.settings.stages import PretrainStage, RejectionStage, RlStage, SftStage, WarmupStage

PER = 1000
"""Samples for which time is told where nobody says how many there are."""


@dataclass(frozen=True)
class Assumed:
    """What a recipe does not say, and its data would.

    Attributes:
        image_px: side of a picture, where the model keeps pictures' sizes.
        prompt_tokens, reply_tokens: of the text of a question, and of a gold reply or caption.
        patches: of a slide.
        samples: training samples of a stage by its name; "" for all stages.
    """

    image_px: int = 448
    prompt_tokens: int = 128
    reply_tokens: int = 256
    patches: int = 10_000
    samples: tuple[tuple[str, int], ...] = ()

    def num_samples(self, stage: str) -> int | None:
        """What was said of a stage, else of all."""
        said = dict(self.samples)
        return said.get(stage, said.get(""))


@dataclass(frozen=True)
class Work:
    """One stage's work on one process.

    Attributes:
        samples: training samples; None where it is not known.
        batch: rows (completions in RL) that one process computes together.
        accumulation: such batches in an optimiser step.
        vision_tokens: tokens of the language model that the pictures of a row become.
        patches: what the vision tower sees of a row; slide_patches: what the slide tower sees.
        prompt, reply: tokens of a row, pictures included in the prompt.
        group: completions of one prompt; 1 outside RL.
    """

    samples: int | None
    steps: int
    batch: int
    accumulation: int
    vision_tokens: int
    patches: int
    slide_patches: int
    prompt: int
    reply: int
    group: int = 1

    @property
    def tokens(self) -> int:
        """Tokens of one batch on the path of the loss: a group's prompt is read once."""
        return self.batch // self.group * self.prompt + self.batch * self.reply


def drawn_together(stage: RlStage | RejectionStage) -> int:
    """Replies of one generation on one process: those of all batches that it serves."""
    if isinstance(stage, RejectionStage):
        return stage.sample_batch_size
    return stage.batch_size * stage.gradient_accumulation * stage.updates_per_batch


def work_of(recipe: Recipe, name: str, shape: Shape, assumed: Assumed, ranks: int) -> Work:
    """The work of a stage on one of `ranks` processes."""
    stage = recipe.stages[name]
    if isinstance(stage, ClipStage):
        return _clip(recipe, name, stage, assumed, ranks)
    patches, vision_tokens, slide_patches = _seen(recipe, shape, assumed)
    prompt = vision_tokens + assumed.prompt_tokens
    group, reply = 1, assumed.reply_tokens
    accumulation = getattr(stage, "gradient_accumulation", 1)
    if isinstance(stage, RlStage):
        group, reply = stage.num_generations, stage.max_new_tokens
    elif isinstance(stage, RejectionStage):
        reply = min(reply, stage.max_new_tokens)
    elif isinstance(stage, WarmupStage):
        prompt, reply = vision_tokens, 0
    if isinstance(stage, PretrainStage | SftStage | RejectionStage) and stage.max_tokens is not None:
        reply = max(1, min(reply, stage.max_tokens - prompt))
    samples = _samples(recipe, name, stage, assumed)
    rows = stage.batch_size * accumulation * (1 if isinstance(stage, WarmupStage) else ranks)
    return Work(samples, _steps(stage, samples or PER, rows // group), stage.batch_size, accumulation, vision_tokens,
                patches, slide_patches, prompt, reply, group)  # fmt: skip


def _steps(stage: Stage, samples: int, a_step: int) -> int:
    """Optimiser steps; `a_step` is the samples of one."""
    return stage.steps or max(1, math.ceil(stage.epochs * math.ceil(samples / max(1, a_step))))


def _seen(recipe: Recipe, shape: Shape, assumed: Assumed) -> tuple[int, int, int]:
    """(patches of the vision tower, tokens of the language model, patches of the slide tower) of a row."""
    model = recipe.model
    if isinstance(model, SlideModel):
        tower = model.tower
        patches = min(_slide_patches(recipe, assumed), tower.max_patches)
        return 0, patches if tower.pooling == "none" else min(patches, tower.num_tokens), patches
    if shape.vision is None:
        return 0, 0, 0
    area = float(assumed.image_px**2)
    if isinstance(model, HubModel) and model.max_pixels is not None:
        area = min(area, model.max_pixels)
    tokens = shape.vision.tokens(area)
    return tokens * shape.vision.merge**2, tokens, 0


def _slide_patches(recipe: Recipe, assumed: Assumed) -> int:
    data = recipe.data
    if not isinstance(data, PhantomSlidesData):
        return assumed.patches
    side = data.size_px // (data.tile_px or 224)
    return side * side


def _samples(recipe: Recipe, name: str, stage: Stage, assumed: Assumed) -> int | None:
    """Samples of a stage: as said, or as many as the recipe's own data makes."""
    found = assumed.num_samples(name)
    data = recipe.data
    if data.curate is not None:  # steps set samples aside and make others: only who has run them knows
        return found
    if found is None and isinstance(data, PhantomData):
        found = data.train_cases * data.tiles_per_case
    elif found is None and isinstance(data, PhantomSlidesData):
        found = data.train_cases * len(data.questions)
    if found is None:
        return None
    if stage.part is not None:
        found = max(1, round(found * (stage.part[1] - stage.part[0])))
    return min(found, stage.max_samples) if stage.max_samples is not None else found


def _clip(recipe: Recipe, name: str, stage: ClipStage, assumed: Assumed, ranks: int) -> Work:
    side, patch, context = 224, 16, 77
    model = stage.model
    if isinstance(model, TinyClip):
        side, patch, context = model.image_px, model.vision.patch_size, model.context_length
    elif model is not None and "L-14" in model.name:
        patch = 14
    samples = _samples(recipe, name, stage, assumed)
    steps = stage.steps or max(1, math.ceil(stage.epochs * ((samples or PER) // (stage.batch_size * ranks))))
    return Work(samples, steps, stage.batch_size, 1, 0, (side // patch) ** 2 + 1, 0, 0, context)
