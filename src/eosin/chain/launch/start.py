"""Start a run as its recipe's `launch` says: here, in several processes, or on a cluster."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from eosin.chain.launch.check import check_launch, check_sbatch, num_gpus, processes_here
from eosin.chain.launch.cluster import ray_command, slurm_script, submit, submit_job
from eosin.chain.launch.spawn import child_command, run_processes
from eosin.core.ranks import is_joined
from eosin.core.settings.recipe import Recipe

console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def is_elsewhere(recipe: Recipe) -> bool:
    """Whether this process is not the one that trains, and `start` must be called instead."""
    return not is_joined() and recipe.launch.how != "local"


def shown(recipe: Recipe, path: Path, overrides: Sequence[str], out: Path) -> str:
    """What `--print` shows: the script for Slurm, else the command."""
    launch = recipe.launch
    if launch.how == "slurm":
        return slurm_script(recipe.name, launch, path, overrides, out)
    if launch.how == "ray":
        return shlex.join(ray_command(launch, path, overrides, out)) + "\n"
    num = launch.processes or 1
    return f"# {num} processes of:\n{shlex.join(child_command(str(path), overrides, str(out)))}\n"


def start(recipe: Recipe, path: Path, overrides: Sequence[str], out: Path) -> None:
    """Start the run and, on this machine, wait for its end.

    Raises:
        EosinError: what stands against it, before anything is started; or a process failed.
    """
    check_launch(recipe)
    launch = recipe.launch
    if launch.how == "slurm":
        check_sbatch()
        console.print(submit(slurm_script(recipe.name, launch, path, overrides, out), out))
    elif launch.how == "ray":
        console.print(submit_job(ray_command(launch, path, overrides, out)))
    else:
        num = processes_here(launch, num_gpus())
        console.print(f"{num} processes on this machine ({launch.kind})")
        run_processes(child_command(str(path), overrides, str(out)), num)
