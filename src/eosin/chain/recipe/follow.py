"""A run on several processes: the first does everything, the others train with it.

Stages meet on disk, and so do the processes: a follower waits until what a stage starts from stands there, joins the
stage, and waits for the next. It writes nothing of its own. `torchrun --nproc-per-node N -m eosin.cli.main run ...`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eosin.chain.launch.check import check_node
from eosin.chain.recipe import data as chain_data
from eosin.chain.recipe.layout import Layout
from eosin.chain.recipe.state import RunState
from eosin.core.settings.clip import ClipStage
from eosin.core.settings.model import HubModel
from eosin.core.settings.recipe import Resolved
from eosin.core.settings.stages import WarmupStage
from eosin.core.store import artifacts as store

POLL_S = 0.2


def follow(resolved: Resolved, layout: Layout, is_finished: Callable[[Layout], bool]) -> dict[str, Any]:
    """Train along with the first process of a run until it is finished; return its summary.json.

    If the first process ends with an error, whoever started the processes ends this one.
    """
    from eosin.chain.recipe.stages import join_stage

    run = RunState(resolved, layout)
    check_node(run.recipe, layout)
    for name, settings in run.recipe.stages.items():
        if isinstance(settings, WarmupStage):  # one process trains a tower
            continue
        record = layout.stage_record(name)
        start = run.recipe.start_of(name)
        is_clip = isinstance(settings, ClipStage)
        _wait(lambda record=record, start=start, is_clip=is_clip: record.exists() or _is_ready(run, start, is_clip))  # type: ignore[misc]
        if record.exists():
            continue
        if not run.splits:
            run.splits = chain_data.prepare(run.recipe, layout, run.read_region)
        join_stage(run, name)
    _wait(lambda: is_finished(layout))
    summary: dict[str, Any] = store.read_object(layout.summary)
    return summary


def _wait(until: Callable[[], bool]) -> None:
    while not until():
        time.sleep(POLL_S)


def _is_ready(run: RunState, start: str, is_clip: bool) -> bool:
    """Whether the stage that starts from `start` can begin: samples and weights stand, and their maker is done."""
    if not _stands(run.at.samples):
        return False
    if start == "base" and is_clip:
        return True  # every process makes the same model
    if start == "base":
        return isinstance(run.recipe.model, HubModel) or _stands(run.at.base)
    return _stands(run.at.checkpoint(start)) and run.at.stage_record(start).exists()


def _stands(artifact: Path) -> bool:
    """Whether an artifact stands. Unlike `store.exists` this mends nothing: only the first process does."""
    return (artifact / store.MANIFEST).is_file()
