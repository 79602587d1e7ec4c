"""Contrastive training of an image tower and a text tower (Patho-CLIP: Patho-R1, arXiv 2505.11404, section 4)."""

from __future__ import annotations

import datetime
from typing import Any

import torch
from rich.console import Console

from eosin.core.draw import subset
from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Filtered
from eosin.core.ranks import num_ranks, rank
from eosin.core.settings.clip import ClipStage
from eosin.models.clip.load import save_clip
from eosin.train.clip.job import ClipContext, Job
from eosin.train.clip.pairs import Pairs, Pictures, pairs_of
from eosin.train.clip.weights import merge_adapters, prepare
from eosin.train.monitor import StepClock
from eosin.train.stages.base import DDP_TIMEOUT_S, StageResult

console = Console(stderr=True, highlight=False, soft_wrap=True)


def run(settings: ClipStage, ctx: ClipContext) -> StageResult:
    """Train on every sample that has a caption and a picture; write the model in open_clip's form."""
    join_processes(ctx)
    clock = StepClock()
    pictures = Pictures(ctx.clip, ctx.read_region, settings.image_cache_gib)
    with clock.timing("data"):
        train, facts = usable(subset(list(ctx.train), settings.max_samples, ctx.seed), ctx, pictures)
        valid, _ = usable(subset(list(ctx.valid), settings.valid_samples, ctx.seed), ctx, pictures)
    if not len(train):
        raise EosinError(
            "No training sample gives a pair of a picture and a caption.", found=str(facts["dropped"]),
            expected="samples with `caption` and an image", where=f"stages.{ctx.name}",
            next_step="take the clip stage out of the recipe, or give the samples captions",
        )  # fmt: skip
    say(facts)
    prepare(ctx.clip, settings, is_new=ctx.is_new)
    job = Job(settings, ctx, train, valid, pictures, clock)
    num_trainable = sum(p.numel() for p in job.trained)
    job.train()
    step = job.settle()
    if settings.lora is not None:
        merge_adapters(ctx.clip)
    ctx.clip.network.eval()
    artifact = None
    if rank() == 0:
        told = {"stage": ctx.name, "step": step, "loss": settings.loss}
        artifact = save_clip(ctx.clip, ctx.folder / "checkpoint", parents=ctx.parents, facts=told, replace=True)
    return StageResult(
        checkpoint=artifact, num_steps=job.step, step_time=clock.split(), num_trainable=num_trainable,
        num_parameters=sum(p.numel() for p in ctx.clip.network.parameters()), extra={"pairs": facts, "kept_step": step},
    )  # fmt: skip


def usable(samples: list[Any], ctx: ClipContext, pictures: Pictures) -> tuple[Pairs, dict[str, Any]]:
    """The pairs of a split, and what was set aside: kept and dropped add up to the samples."""
    worded = pairs_of(samples, ctx.clip)
    seen = pictures.readable(worded.kept)
    dropped = Filtered(seen.kept, (*worded.dropped, *seen.dropped))
    pairs = Pairs.of(seen.kept, ctx.clip)
    facts = {
        "num_samples": len(samples), "num_pairs": len(pairs), "dropped": dropped.reasons(),
        "cut_captions": pairs.num_cut, "context_length": ctx.clip.context_length,
        "different_captions": len(pairs.caption.unique()), "groups": len(pairs.group[pairs.group >= 0].unique()),
    }  # fmt: skip
    return pairs, facts


def say(facts: dict[str, Any]) -> None:
    """The pairs in one line, and what should be known of them."""
    console.print(f"  {facts['num_pairs']} pairs, {facts['different_captions']} different captions; "
                  f"set aside: {facts['dropped'] or 'none'}")  # fmt: skip
    if facts["cut_captions"]:
        console.print(f"  {facts['cut_captions']} captions are longer than the text tower reads "
                      f"({facts['context_length']} tokens); their ends are left out")  # fmt: skip


def join_processes(ctx: ClipContext) -> None:
    """Join the processes of a torchrun start, where there are several."""
    if num_ranks() > 1 and not torch.distributed.is_initialized():
        backend = "nccl" if ctx.clip.device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=datetime.timedelta(seconds=DDP_TIMEOUT_S))
