"""Shards of a step on Ray: the same tasks, the same files, so the same digest.

The folder of the work must be reachable from every worker under the same path. A task writes its files whole or not at
all, so Ray may give it to another worker when one is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from eosin.core.errors import EosinError, MissingExtraError
from eosin.curate.engine.tasks import TRIES, ShardWorker, Task


def run_on_ray(task: Task, shards: Sequence[int], address: str | None) -> Iterator[int]:
    """Do shards on the workers of a cluster; gives each number as it is done.

    Raises:
        MissingExtraError: ray is not installed.
        EosinError: the cluster cannot be reached; a step fails.
    """
    if not shards:
        return
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "cluster") from None
    began_here = not ray.is_initialized()
    if began_here:
        _connect(ray, address)
    try:
        handed = ray.put(task)
        remote = ray.remote(max_retries=TRIES, num_cpus=1)(_do)
        waiting = [remote.remote(handed, shard) for shard in shards]
        while waiting:
            [ready], waiting = ray.wait(waiting, num_returns=1)
            yield _result(ray, ready)
    finally:
        if began_here:
            ray.shutdown()


def _do(task: Task, shard: int) -> int | str:
    """One shard on a worker. An error for the user comes back as its text: Ray would wrap it."""
    try:
        return ShardWorker(task)(shard)
    except EosinError as exc:
        return str(exc)


def _result(ray: Any, ready: Any) -> int:
    try:
        found = ray.get(ready)
    except ray.exceptions.RayError as exc:
        raise EosinError("A worker of the cluster failed.", found=f"{type(exc).__name__}: {str(exc)[-300:]}",
                         next_step="give the same command again; what is done is kept") from exc  # fmt: skip
    if isinstance(found, str):
        raise EosinError(found)
    return int(found)


def _connect(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except Exception as exc:  # a node that does not come up in time raises a bare Exception
        raise EosinError(
            "The Ray cluster could not be reached.", where=address,
            found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}",
            next_step="start one with `ray start --head`, or leave ray_address out to start one here",
        ) from exc  # fmt: skip
