"""Scripts and commands for clusters: written here, given to Slurm and Ray by their own commands."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.settings.launch import Launch
from eosin.core.store import artifacts as store


def run_command(recipe: Path, overrides: Sequence[str], out: Path, python: str = sys.executable) -> list[str]:
    """`eosin run` with absolute places, as it stands in a script."""
    return [python, "-m", "eosin.cli.main", "run", str(recipe.resolve()), *overrides, "--out", str(out.resolve())]


def slurm_script(name: str, launch: Launch, recipe: Path, overrides: Sequence[str], out: Path) -> str:
    """The script for sbatch: one task a process; a job that ran out of time is queued again and goes on.

    SIGTERM comes `warn_s` before the end, the run saves and ends with 0; where it is not complete the job asks for
    another turn.
    """
    slurm, processes = launch.slurm, launch.processes or 8
    head = {
        "job-name": name, "partition": slurm.partition, "account": slurm.account, "nodes": launch.nodes,
        "ntasks-per-node": processes, "gpus-per-node": processes, "cpus-per-task": slurm.cpus_per_task,
        "time": slurm.time, "signal": f"TERM@{slurm.warn_s}", "open-mode": "append",
        "output": f"{out.resolve()}.slurm-%j.log",
    }  # fmt: skip
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{key}={shlex.quote(str(value))}" for key, value in head.items() if value is not None]
    lines += ["#SBATCH --requeue", *(f"#SBATCH {option}" for option in slurm.options), "", *slurm.before]
    # The inner launch is the recipe's own: its processes are there already when `eosin run` starts.
    own = [o for o in overrides if not o.startswith("launch")]
    inside = [f"launch={{how: {launch.inside}, shard: {launch.shard}, offload: {str(launch.offload).lower()}}}"]
    command = shlex.join(run_command(recipe, [*own, *inside], out))
    environment = (
        "export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS "
        f"LOCAL_WORLD_SIZE={processes}; exec {command}"
    )
    done = 'import json,sys; sys.exit(json.load(open(sys.argv[1]))["state"] != "complete")'
    summary = shlex.quote(str((out / "summary.json").resolve()))
    lines += [
        'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        f"export MASTER_PORT={slurm.port}",
        f"srun --kill-on-bad-exit=1 bash -c {shlex.quote(environment)}",
        "code=$?",
        f"if [ $code -eq 0 ] && ! {shlex.quote(sys.executable)} -c {shlex.quote(done)} {summary} 2>/dev/null; then",
        '  scontrol requeue "$SLURM_JOB_ID"   # asked to end before its time: the next turn goes on from the last save',
        "fi",
        "exit $code",
    ]
    return "\n".join(lines) + "\n"


def ray_command(launch: Launch, recipe: Path, overrides: Sequence[str], out: Path) -> list[str]:
    """`ray job submit` with the run as its entry point."""
    own = [o for o in overrides if not o.startswith("launch")]
    processes = launch.processes or 1
    inside = f"launch={{how: {launch.inside}, processes: {processes}, shard: {launch.shard}}}"
    address = ["--address", launch.address] if launch.address else []
    gpus = ["--entrypoint-num-gpus", str(processes)]
    return ["ray", "job", "submit", *address, *gpus, "--", *run_command(recipe, [*own, inside], out, "python")]


def submit(script: str, out: Path) -> str:
    """Write the script beside the run's folder and give it to sbatch; what sbatch says.

    Raises:
        EosinError: sbatch refuses it.
    """
    place = out.with_name(out.name + ".sbatch")
    place.parent.mkdir(parents=True, exist_ok=True)
    store.write_text_atomic(place, script)
    return _told(["sbatch", str(place)], place)


def submit_job(command: Sequence[str]) -> str:
    """Give a job to Ray; what it says."""
    return _told(command, None)


def _told(command: Sequence[str], place: Path | None) -> str:
    done = subprocess.run(
        list(command), capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        raise EosinError(
            f"{command[0]} did not take the job.", found=(done.stderr or done.stdout).strip()[-500:] or "no message",
            where=place, next_step=f"give the command yourself: {shlex.join(command)}",
        )  # fmt: skip
    return done.stdout.strip()
