"""One training stage inside a run: loaded from its start, trained, recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from eosin.chain.clip_stage import train_clip
from eosin.chain.parts import of_sources, training_part
from eosin.chain.recipe.streaming import stage_samples, streams
from eosin.chain.recipe.tools import tools_of_stage, try_stage
from eosin.chain.recipe.tracking import place_tracking, tracked
from eosin.core.settings.clip import ClipStage
from eosin.core.settings.stages import DpoStage, PretrainStage, RejectionStage, RlStage, SftStage, WarmupStage
from eosin.core.store import artifacts as store
from eosin.scoring.terms.base import Resources
from eosin.train.stages.base import PeakMemory, StageContext, StageResult
from eosin.train.stages.saves import seed_everything

if TYPE_CHECKING:
    from eosin.chain.recipe.state import RunState

console = Console(stderr=True, highlight=False, soft_wrap=True)


def run_stage(run: RunState, name: str) -> None:
    """Train stage `name` of a run and write stage.json as its completion mark."""
    settings = run.recipe.stages[name]
    start = run.recipe.start_of(name)
    folder = run.at.stage(name)
    folder.mkdir(parents=True, exist_ok=True)
    _say(name, settings, start)
    place_tracking(run.at, name)
    seed_everything(run.recipe.seed)  # whatever ran before in this process
    begun = time.perf_counter()
    before = _seconds_before(folder)
    with PeakMemory() as memory:
        if isinstance(settings, ClipStage):
            result = train_clip(run, name)
        else:
            ctx = context_of(run, name)
            try_stage(run, name, ctx.tools)
            result = _train(settings, ctx)
    store.write_json(
        run.at.stage_record(name),
        {
            "name": name,
            "kind": settings.kind,
            "start": start,
            "seconds": round(before + time.perf_counter() - begun, 2),
            "peak_rss_gib": round(memory.peak_gib, 3),
            "num_steps": result.num_steps,
            "num_trainable": result.num_trainable,
            "num_parameters": result.num_parameters,
            "step_time": result.step_time,
            "settings": settings.model_dump(mode="json"),
            "inherited": {k: v for k, v in run.recipe.train.items() if k in type(settings).model_fields},
            **result.extra,
        },
    )
    store.discard(run.at.stage_work(name))  # after the record, which says that the stage is done


def join_stage(run: RunState, name: str) -> None:
    """Train stage `name` together with the first process, which alone writes what comes of it."""
    seed_everything(run.recipe.seed)
    if isinstance(run.recipe.stages[name], ClipStage):
        train_clip(run, name)
    else:
        _train(run.recipe.stages[name], context_of(run, name))


def context_of(run: RunState, name: str) -> StageContext:
    """What stage `name` of a run is given."""
    start = run.recipe.start_of(name)
    settings = run.recipe.stages[name]
    streamed = stage_samples(run.recipe, run.index, name) if streams(run.recipe) else None
    train = streamed[0] if streamed else training_part(run.recipe, name, run.splits["train"])
    return StageContext(
        name=name,
        folder=run.at.stage(name),
        loaded=run.load(start),
        train=train,
        valid=of_sources(run.recipe, name, run.splits["valid"]),
        grammar=run.recipe.reply_grammar,
        prompt=run.recipe.prompt,
        seed=run.recipe.seed,
        parents=run.parents(start),
        cache_folder=run.at.cache,
        read_region=run.read_region,
        tools=tools_of_stage(settings, run.at) if isinstance(settings, RlStage | RejectionStage) else Resources(),
        picture_cache=run.picture_cache,
        launch=run.recipe.launch,
        track=tracked(run.recipe),
        stream=streamed[1] if streamed else None,
    )


def _train(settings: Any, ctx: StageContext) -> StageResult:
    if isinstance(settings, WarmupStage):
        from eosin.train.warmup import stage as warmup

        return warmup.run(settings, ctx)
    if isinstance(settings, PretrainStage):
        from eosin.train.stages import pretrain

        return pretrain.run(settings, ctx)
    if isinstance(settings, SftStage):
        from eosin.train.stages import sft

        return sft.run(settings, ctx)
    if isinstance(settings, RejectionStage):
        from eosin.train.stages import rejection

        return rejection.run(settings, ctx)
    if isinstance(settings, DpoStage):
        from eosin.train.stages import dpo

        return dpo.run(settings, ctx)
    if isinstance(settings, RlStage):
        from eosin.train.stages import rl

        return rl.run(settings, ctx)
    raise TypeError(type(settings))


def _seconds_before(folder: Any) -> float:
    """Seconds that a killed earlier try of this stage had logged."""
    rows = store.read_jsonl(folder / "metrics.jsonl")
    return float(max((r["seconds"] for r in rows), default=0.0))


def _say(name: str, settings: Any, start: str) -> None:
    what = settings.algorithm.true_name if isinstance(settings, RlStage) else settings.kind
    console.print(f"[bold]{name}[/bold]: {what}, from {start}")
