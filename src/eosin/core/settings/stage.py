"""What all training stages of a recipe share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from eosin.core.settings.base import PositiveInt, Settings

Part = Literal["vision", "slide", "projector", "language"]


class Stage(Settings):
    """What all stages share.

    Attributes:
        start: the stage whose checkpoint this one starts from; by default the one before it ("base": the first model).
        exam: whether the exams run after this stage.
        part: which part of the training patients this stage sees, as [first, last) of a seeded order within each class:
            [0, 0.75] and [0.75, 1] are disjoint, as PathVLM-R1's 3,000 questions for SFT and 1,000 for RL are; by
            default all of them.
        sources: data sets that this stage sees (`Origin.source`), where the data has several; by default all.
        epochs: passes over the training samples.
        steps: optimiser steps; None means `epochs` passes over the training samples.
        batch_size: samples of one optimiser step in one process.
        learning_rate: at its highest, after the warm-up; of AdamW.
        warmup_fraction: share of the steps over which the learning rate rises.
        weight_decay: of the optimiser.
        max_grad_norm: a longer gradient is scaled down to this length.
        freeze: parts that do not train.
        augment: flips, quarter turns and stain jitter on training images.
        max_samples: train on a seeded random subset of this size; None: on all.
        log_every: steps between lines of the log.
        save_every: steps between saves that a stopped run goes on from.
        num_workers: processes that decode images; 0: the trainer's own.
        image_cache_gib: decoded, resized training images kept in memory; 0 decodes each time.
        keep_saves: the latest saves that a stage under way keeps.
        save_minutes: also save where so many minutes have passed since the last save, such as 60.
    """

    start: str | None = None
    exam: bool = True
    part: tuple[float, float] | None = None
    sources: list[str] | None = Field(default=None, min_length=1)
    epochs: float = Field(default=1.0, gt=0)
    steps: PositiveInt | None = None
    batch_size: PositiveInt = 16
    learning_rate: float = Field(default=1e-5, gt=0)
    warmup_fraction: float = Field(default=0.03, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    freeze: list[Part] = Field(default_factory=list)
    augment: bool = False
    max_samples: PositiveInt | None = None
    log_every: PositiveInt = 10
    save_every: PositiveInt = 200
    keep_saves: PositiveInt = 2
    save_minutes: float | None = Field(default=None, gt=0)
    num_workers: int = Field(default=0, ge=0)
    image_cache_gib: float = Field(default=1.0, ge=0)

    @field_validator("part")
    @classmethod
    def _some_part(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] < value[1] <= 1:
            raise ValueError("part is [first, last) as shares of the training patients, with 0 <= first < last <= 1")
        return value
