"""How a run is started: in this process, in several, on a cluster. What is trained does not depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from eosin.core.settings.base import PositiveInt, Settings

How = Literal["local", "processes", "fsdp", "deepspeed", "slurm", "ray"]
Inside = Literal["processes", "fsdp", "deepspeed"]
Sharding = Literal["none", "gradients", "all"]

PRESETS: dict[str, dict[str, Any]] = {
    "fsdp-3b": {"how": "fsdp", "shard": "gradients"},
    "fsdp-7b": {"how": "fsdp", "shard": "all"},
    "fsdp-32b": {"how": "fsdp", "shard": "all", "offload": True},
    "zero2-3b": {"how": "deepspeed", "shard": "gradients"},
    "zero2-7b": {"how": "deepspeed", "shard": "gradients"},
    "zero3-7b": {"how": "deepspeed", "shard": "all"},
    "zero3-32b": {"how": "deepspeed", "shard": "all", "offload": True},
}
"""Named settings for models of about that size on 8 GPUs of 80 GB, trained whole."""


class Slurm(Settings):
    """What the script for sbatch says.

    Attributes:
        partition, account: as sbatch takes them; None: the cluster's own.
        cpus_per_task: of each process; None: the cluster's own.
        time: longest time of one job, as Slurm writes it; the run goes on in the next.
        before: lines of shell before the run, such as `module load cuda` or `source .venv/bin/activate`.
        options: further options of sbatch, such as "--exclusive".
        warn_s: seconds before the end of the job at which Slurm sends SIGTERM, so that the run saves.
        port: of the first node, at which the processes meet.
    """

    partition: str | None = None
    account: str | None = None
    time: str = Field(default="24:00:00", pattern=r"^[0-9:-]+$")
    cpus_per_task: PositiveInt | None = None
    before: list[str] = Field(default_factory=list)
    options: list[str] = Field(default_factory=list)
    warn_s: PositiveInt = 300
    port: int = Field(default=29500, ge=1024, le=65535)


class Launch(Settings):
    """How the processes of a run are started. It does not belong to what a run is: the same run may go on otherwise.

    In a recipe also one word: `local`, `fsdp`, a preset such as `zero3-7b`, or with a number of processes `fsdp:8`.

    Attributes:
        how: "local" is this process alone; "processes" copies the model to each (DDP); "fsdp" and "deepspeed" share its
            weights out; "slurm" writes a script and gives it to sbatch; "ray" gives the run to a Ray cluster as a job.
        processes: on each node; by default one a GPU.
        nodes: machines; all must see the run's folder and the data.
        inside: what "slurm" and "ray" start on the nodes.
        shard: of "fsdp" and "deepspeed": "gradients" shares out gradients and optimiser (ZeRO-2), "all" weights too
            (ZeRO-3).
        offload: optimiser (and weights) wait in the host's memory.
        slurm: what the script for sbatch says.
        address: of Ray's job server.
    """

    how: How = "local"
    processes: PositiveInt | None = None
    nodes: PositiveInt = 1
    inside: Inside = "processes"
    shard: Literal["gradients", "all"] = "all"
    offload: bool = False
    slurm: Slurm = Slurm()
    address: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, values: Any) -> Any:
        if isinstance(values, str):
            return _by_word(values)
        if isinstance(values, Mapping) and "preset" in values:
            rest = {k: v for k, v in values.items() if k != "preset"}
            preset = _by_word(str(values["preset"]))
            if rest.get("how") in ("slurm", "ray"):
                preset["inside"] = preset.pop("how")
            return {**preset, **rest}
        if isinstance(values, Mapping) and "processes" in values and "how" not in values:
            return {"how": "processes", **values}
        return values

    @model_validator(mode="after")
    def _nodes_need_a_cluster(self) -> Launch:
        if self.nodes > 1 and self.how not in ("slurm", "ray"):
            raise ValueError(f"{self.nodes} nodes are started by how: slurm or how: ray")
        if self.how == "ray" and self.nodes > 1:
            raise ValueError("a job of Ray trains on one node; for several say how: slurm")
        if self.how == "local" and (self.processes or 1) > 1:
            raise ValueError("how: local is one process; for several say how: processes")
        return self

    @property
    def kind(self) -> Literal["local", "processes", "fsdp", "deepspeed"]:
        """What runs on the nodes."""
        if self.how in ("slurm", "ray"):
            return self.inside
        return self.how  # type: ignore[return-value]

    @property
    def sharding(self) -> Sharding:
        """What of the model each process holds only a part of."""
        return self.shard if self.kind in ("fsdp", "deepspeed") else "none"


def _by_word(word: str) -> dict[str, Any]:
    """`NAME` or `NAME:PROCESSES`."""
    name, sign, number = word.partition(":")
    values = dict(PRESETS.get(name, {"how": name}))
    if name not in PRESETS and name not in ("local", "processes", "fsdp", "deepspeed", "slurm", "ray"):
        known = ["local", "processes", "fsdp", "deepspeed", "slurm", "ray", *PRESETS]
        raise ValueError(f"there is no launch called {name!r}; expected one of {', '.join(known)}")
    if sign:
        if not number.isdigit() or not int(number):
            raise ValueError(f"{word!r}: behind the colon stands the number of processes, such as {name}:8")
        values["processes"] = int(number)
    return values
