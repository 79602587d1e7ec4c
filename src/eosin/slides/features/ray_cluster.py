"""Spread slides over a Ray cluster: one slide at a time to each worker, the same files out.

Slides and the output folder must be reachable from every worker under the same paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.core.nouns.outcome import Dropped
from eosin.slides.batch.progress import Progress
from eosin.slides.encoders.encoder import MakeEncoder
from eosin.slides.features.extract import encode_slides
from eosin.slides.features.pipeline import STEP, Job
from eosin.slides.features.plan import Done, Plan


def encode_on_ray(
    jobs: Sequence[Job], plan: Plan, make_encoder: MakeEncoder, progress: Progress | None = None
) -> Iterator[Done | Dropped]:
    """Like `encode_slides`, on the workers of a cluster; yields each slide as it ends.

    Raises:
        EosinError: the cluster cannot be reached; a worker cannot load the encoder; the disk is full.
    """
    if not jobs:
        return
    ray = need("ray", "cluster")
    began_here = not ray.is_initialized()
    if began_here:
        _connect(ray, plan.settings.cluster_address)
    try:
        yield from _spread(ray, list(jobs), plan, make_encoder)
    finally:
        if began_here:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except Exception as exc:  # a node that does not come up in time raises a bare Exception
        raise EosinError(
            "The Ray cluster could not be reached.",
            found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}",
            where=address,
            next_step="start one with `ray start --head`, or leave the address out to start one here",
        ) from exc


class _Worker:
    """Lives in a process of the cluster; loads the encoder once."""

    def __init__(self, plan: Plan, make_encoder: MakeEncoder) -> None:
        self._plan = plan
        self._encoder = make_encoder()

    def encode(self, job: Job) -> Done | Dropped | EosinErrorText:
        """Do one slide. What must end the run comes back as a value: Ray would wrap it."""
        try:
            [outcome] = encode_slides([job], self._plan, lambda: self._encoder)
        except EosinError as exc:
            return EosinErrorText(str(exc))
        return outcome


class EosinErrorText(str):
    """The text of an error that ends the run."""


def _spread(ray: Any, jobs: list[Job], plan: Plan, make_encoder: MakeEncoder) -> Iterator[Done | Dropped]:
    chosen = plan.settings
    remote = ray.remote(num_cpus=chosen.cluster_cpus, num_gpus=chosen.cluster_gpus)(_Worker)
    free = ray.cluster_resources().get("CPU", 1.0) / max(chosen.cluster_cpus, 0.01)
    num = min(len(jobs), chosen.cluster_workers or max(1, int(free)))
    handed = ray.put(plan)
    busy: dict[Any, tuple[Any, Job]] = {}

    def hand_out(worker: Any) -> None:
        if jobs:
            job = jobs.pop(0)
            busy[worker.encode.remote(job)] = (worker, job)

    for _ in range(num):
        hand_out(remote.remote(handed, make_encoder))
    while busy:
        [ready], _ = ray.wait(list(busy), num_returns=1)
        worker, job = busy.pop(ready)
        outcome, alive = _result(ray, ready, job)
        hand_out(worker if alive else remote.remote(handed, make_encoder))
        yield outcome


def _result(ray: Any, ready: Any, job: Job) -> tuple[Done | Dropped, bool]:
    """What a worker gave back, and whether the worker still lives.

    Raises:
        EosinError: what must end the run.
    """
    try:
        outcome = ray.get(ready)
    except ray.exceptions.ActorDiedError as exc:
        cause = str(exc)
        if "__init__" in cause or "creation task" in cause:
            raise EosinError("A worker of the cluster could not load the encoder.", found=cause[-400:]) from exc
        return Dropped(job.name, "worker died", (cause.splitlines() or [""])[0][:200], STEP), False
    except ray.exceptions.RayError as exc:
        return Dropped(job.name, "worker failed", f"{type(exc).__name__}: {str(exc)[-200:]}", STEP), True
    if isinstance(outcome, EosinErrorText):
        raise EosinError(str(outcome))
    return outcome, True
