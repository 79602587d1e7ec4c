"""summary.json: what a run did and what came of it, from what stands on disk."""

from __future__ import annotations

from typing import Any

from eosin.chain.recipe.layout import Layout
from eosin.core.settings.clip import ClipStage
from eosin.core.settings.recipe import Recipe
from eosin.core.store import artifacts as store
from eosin.core.store.record import make_record


def build_summary(recipe: Recipe, at: Layout, seconds: float) -> dict[str, Any]:
    """The summary of a run, whole or cut off.

    Args:
        seconds: wall time of this call of the run.
    """
    stages = []
    complete = True
    if recipe.base_exam and recipe.has_language:
        exams = _exams(recipe, at, "base")
        complete &= len(exams) == len(recipe.exams)
        if exams:
            stages.append({"name": "base", "kind": "base", "checkpoint": _base(at), "seconds": 0.0,
                           "peak_rss_gib": None, "exams": exams})  # fmt: skip
    for name, settings in recipe.stages.items():
        if not at.stage_record(name).exists():
            complete = False
            continue
        record = store.read_object(at.stage_record(name))
        if isinstance(settings, ClipStage):
            exams = {}
            complete &= not settings.exam or store.exists(at.clip_exam(name))
        else:
            exams = _exams(recipe, at, name)
            complete &= not settings.exam or len(exams) == len(recipe.exams)
        stages.append({
            "name": name, "kind": record["kind"], "checkpoint": str(at.checkpoint(name).relative_to(at.out)),
            "seconds": record["seconds"], "peak_rss_gib": record["peak_rss_gib"], "exams": exams,
        })  # fmt: skip
    return {
        "schema_version": 1,
        "recipe": recipe.name,
        "state": "complete" if complete else "partial",
        "seconds": round(seconds, 1),
        "record": make_record(recipe=recipe.name, seed=recipe.seed),
        "stages": stages,
        "baselines": store.read_object(at.baselines) if at.baselines.exists() else {},
    }


def _base(at: Layout) -> str | None:
    return at.base.name if store.exists(at.base) else None


def _exams(recipe: Recipe, at: Layout, stage: str) -> dict[str, Any]:
    return {
        name: store.read_object(at.exam(stage, name) / "summary.json")
        for name in recipe.exams
        if store.exists(at.exam(stage, name))
    }
