"""What is wrong with a start, named before the first step: too few GPUs, a node that does not see the data."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from pathlib import Path
from typing import Any

from eosin.chain.recipe.layout import Layout
from eosin.core.errors import EosinError, MissingExtraError
from eosin.core.settings.launch import Launch
from eosin.core.settings.recipe import Recipe
from eosin.core.settings.stages import RlStage, WatchedStage

PLACES = ("root", "path")


def num_gpus() -> int:
    """GPUs that this process may use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def processes_here(launch: Launch, gpus: int) -> int:
    """Processes of a launch on this machine.

    Raises:
        EosinError: more than there are GPUs; or no number, and no GPU to count.
    """
    if launch.kind == "local":
        return 1
    if launch.processes is None:
        if gpus:
            return gpus
        raise EosinError(
            "How many processes?", expected="a number, as there is no GPU to count", where="launch.processes",
            next_step=f"--launch {launch.kind}:2",
        )  # fmt: skip
    if gpus and launch.processes > gpus:
        raise EosinError(
            "The recipe asks for more GPUs than there are.", expected=f"at most {gpus} processes on this machine",
            found=f"{launch.processes} processes", where="launch.processes", next_step=f"--launch {launch.kind}:{gpus}",
        )  # fmt: skip
    return launch.processes


def check_vllm(recipe: Recipe) -> None:
    """Raises EosinError where a stage draws with a colocated vLLM that is not installed, or without a GPU."""
    asked = [n for n, s in recipe.stages.items() if isinstance(s, RlStage) and s.vllm is not None]
    if not asked:
        return
    where = f"stages.{asked[0]}.vllm"
    if importlib.util.find_spec("vllm") is None:
        raise EosinError("vLLM is not installed.", where=where, next_step="pip install vllm   or leave vllm out")
    colocated = [n for n in asked if recipe.stages[n].vllm.mode == "colocate"]  # type: ignore[union-attr]
    if colocated and not num_gpus():
        raise EosinError("A colocated vLLM needs a GPU.", where=where, next_step=f"leave {where} out on this machine")


def check_launch(recipe: Recipe) -> None:
    """What can be seen before anything is started.

    Raises:
        EosinError: a package or command that is missing, or a stage that cannot be trained so.
    """
    launch = recipe.launch
    if launch.kind == "deepspeed" and importlib.util.find_spec("deepspeed") is None and launch.how == "deepspeed":
        raise EosinError(
            "DeepSpeed is not installed.", where="launch.how", next_step="pip install deepspeed   or --launch fsdp"
        )
    if launch.how == "ray" and importlib.util.find_spec("ray") is None:
        raise MissingExtraError("ray", "cluster")
    if launch.sharding == "none":
        return
    watched = [n for n, s in recipe.stages.items()
               if isinstance(s, WatchedStage) and (s.keep == "best" or s.valid_every is not None)]  # fmt: skip
    if watched:
        raise EosinError(
            "Where the weights are shared out, no process alone can ask the valid split while a stage trains.",
            expected="keep: last, and no valid_every", found=f"stages {', '.join(watched)}", where="launch",
            next_step="train.keep=last   (exams after a stage run as ever)",
        )  # fmt: skip


def check_sbatch() -> None:
    """Raises EosinError where Slurm is not on this machine."""
    if shutil.which("sbatch") is None:
        raise EosinError(
            "There is no sbatch on this machine.", where="launch.how",
            next_step="--print shows the script; run the command on a login node of the cluster",
        )  # fmt: skip


def places_of(recipe: Recipe) -> list[Path]:
    """Files and folders that the recipe's data names."""
    values: dict[str, Any] = recipe.data.model_dump()
    named = [values[name] for name in PLACES if values.get(name)]
    flat = [one for value in named for one in (value if isinstance(value, list) else [value])]
    return [Path(one) for one in flat if isinstance(one, str)]


def check_node(recipe: Recipe, at: Layout, wait_s: float = 60.0) -> None:
    """On a process that is not the first: see the run's folder and the data, as the first one does.

    Raises:
        EosinError: one of them is not there; the node is named.
    """
    node = os.uname().nodename if hasattr(os, "uname") else "this machine"
    end = time.monotonic() + wait_s
    while not at.recipe.exists():
        if time.monotonic() > end:
            raise EosinError(
                f"The node {node} does not see the folder of the run.", expected="the first process's recipe.yaml",
                where=at.out, next_step="give an --out that lies on a disk of all nodes",
            )  # fmt: skip
        time.sleep(0.2)
    missing = [p for p in places_of(recipe) if not _stands(p, recipe)]
    if missing:
        raise EosinError(
            f"The node {node} does not see the data.", expected="the same files on every node",
            found=f"missing: {', '.join(map(str, missing[:3]))}", where="data",
            next_step="put the data on a disk of all nodes, or copy it to the same place on each",
        )  # fmt: skip


def _stands(place: Path, recipe: Recipe) -> bool:
    """Whether it is there; a relative name may lie beside the data's root."""
    root = getattr(recipe.data, "root", None)
    return place.exists() or (root is not None and (Path(root) / place).exists())
