"""Continued pretraining on image-caption pairs: the loss is on the caption (Patho-R1, arXiv 2505.11404)."""

from __future__ import annotations

from dataclasses import replace

from eosin.core.errors import EosinError
from eosin.core.settings.stages import PretrainStage
from eosin.train.data.rows import caption_row
from eosin.train.stages.base import StageContext, StageResult
from eosin.train.stages.sft import train_on_pairs


def run(settings: PretrainStage, ctx: StageContext) -> StageResult:
    """Train on every sample that has a caption and an image."""
    return train_on_pairs(settings, captioned(ctx), caption_row)


def captioned(ctx: StageContext) -> StageContext:
    """The context with its usable samples: those with a caption and an image."""
    usable = [s for s in ctx.train if s.caption and s.images]
    if not usable:
        raise EosinError(
            "No training sample has a caption.",
            expected="samples with `caption` and at least one image",
            where=f"stages.{ctx.name}",
            next_step="take the pretrain stage out of the recipe, or give the samples captions",
        )
    valid = [s for s in ctx.valid if s.caption and s.images]
    return replace(ctx, train=usable, valid=valid)
