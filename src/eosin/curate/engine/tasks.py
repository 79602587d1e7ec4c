"""One shard of one step: the unit that is done here, in another process, or on another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Literal

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.processes import worker_processes
from eosin.core.settings.curation.step import StepSettings
from eosin.curate.engine.shards import Place, Shards
from eosin.curate.steps.base import Context, Step, StepOutcome
from eosin.curate.steps.registry import make_step, step_class

TRIES = 3
Kind = Literal["measure", "make"]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Task:
    """What of a step is to be done. It can be sent to other processes: settings and places, no samples."""

    kind: Kind
    settings: StepSettings
    seed: int
    inputs: Shards
    place: Place

    def done(self, shard: int) -> bool:
        return self.place.has(shard) if self.kind == "make" else self.place.measured(shard).is_file()


def measures(settings: StepSettings) -> bool:
    """Whether a step looks at all samples before it decides."""
    return step_class(settings.step).measure is not Step.measure


def do_shard(task: Task, shard: int, step: Step[Any]) -> int:
    """Do one shard, whole or not at all; gives its number back."""
    if task.done(shard):
        return shard
    if task.kind == "make" and type(step).make is not Step.make:
        task.place.write(shard, step.make(shard, task.inputs))
        return shard
    samples = task.inputs.read(shard)
    if task.kind == "make":
        outcomes = list(step.run(shard, samples))
        same = len(outcomes) == len(samples) and all(_stays(o, s) for o, s in zip(outcomes, samples, strict=True))
        task.place.write(shard, outcomes, task.inputs.place.kept(shard) if same and samples else None)
        return shard
    table = step.measure(samples)
    if table is None or table.num_rows != len(samples):
        raise EosinError(
            f"The step {task.settings.step} did not measure every sample; this is a fault in Eosin.",
            expected=f"{len(samples)} rows", found="none" if table is None else str(table.num_rows),
        )  # fmt: skip
    task.place.write_measured(shard, table)
    return shard


def _stays(outcome: StepOutcome, sample: Sample) -> bool:
    """Whether a sample is dropped, or kept as it is."""
    return isinstance(outcome, Dropped) or (isinstance(outcome, Kept) and outcome.value is sample)


class ShardWorker:
    """A process that does shards of one task. The step is made once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._step = make_step(task.settings, Context(seed=task.seed), task.place.state)

    def __call__(self, shard: int) -> int:
        return do_shard(self._task, shard, self._step)


_WORKER: list[ShardWorker] = []


def _begin(task: Task) -> None:
    _WORKER[:] = [ShardWorker(task)]


def _do(shard: int) -> int:
    return _WORKER[0](shard)


def run_local(task: Task, shards: Sequence[int], step: Step[Any], workers: int) -> Iterator[int]:
    """Do shards in this process, or in others; gives each number as it is done.

    Raises:
        EosinError: processes died again and again.
    """
    if workers <= 1 or step.in_main or len(shards) <= 1:
        for shard in shards:
            yield do_shard(task, shard, step)
        return
    todo = list(shards)
    for _ in range(TRIES):
        try:
            yield from _in_pool(task, todo, min(workers, len(todo)))
            return
        except BrokenProcessPool:
            todo = [s for s in todo if not task.done(s)]
            if not todo:
                return
    raise EosinError(
        f"Processes of the step {task.settings.step} were killed again and again.", found=f"{len(todo)} shards left",
        expected="memory for each of the workers", next_step="give the same command again with a smaller `workers`",
    )  # fmt: skip


def _in_pool(task: Task, shards: Sequence[int], workers: int) -> Iterator[int]:
    context = get_context("forkserver")  # one clean process imports once; the others are copies of it
    context.set_forkserver_preload([__name__, "eosin.curate"])
    with worker_processes(workers, _begin, (task,), context=context) as pool:
        for future in as_completed([pool.submit(_do, shard) for shard in shards]):
            yield future.result()
