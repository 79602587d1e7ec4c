"""Starts on several processes and clusters: words, scripts, what is refused before a step, and a process that dies."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.support import forked
from tests.support.toys import toy_recipe, toy_table
from typer.testing import CliRunner

from eosin.chain.launch import spawn
from eosin.chain.launch.check import check_launch, check_node, processes_here
from eosin.chain.launch.cluster import ray_command, slurm_script
from eosin.chain.recipe.layout import Layout
from eosin.chain.recipe.run import shipped_recipes
from eosin.cli.main import app
from eosin.core.errors import EosinError, RecipeError
from eosin.core.settings.launch import Launch
from eosin.core.settings.recipe import Recipe, load_recipe
from eosin.core.store import artifacts as store
from eosin.models.load import load

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
               "PYTHONPATH": os.pathsep.join(["src", ".", os.environ.get("PYTHONPATH", "")])}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "how", "processes", "sharding"),
    [
        ("local", "local", None, "none"), ("processes:4", "processes", 4, "none"),
        ({"processes": 4}, "processes", 4, "none"), ("fsdp:2", "fsdp", 2, "all"),
        ("zero2-7b:8", "deepspeed", 8, "gradients"), ("fsdp-3b", "fsdp", None, "gradients"),
        ({"how": "slurm", "preset": "zero3-32b", "nodes": 4, "processes": 8}, "slurm", 8, "all"),
    ],
)  # fmt: skip
def test_a_launch_in_words(said: Any, how: str, processes: int | None, sharding: str) -> None:
    launch = Launch.model_validate(said)
    assert (launch.how, launch.processes, launch.sharding) == (how, processes, sharding)


@pytest.mark.parametrize(
    "said", ["zero9", "fsdp:x", "fsdp:0", {"how": "fsdp", "nodes": 2}, {"how": "local", "processes": 2}]
)
def test_a_launch_that_cannot_be_is_a_problem_of_the_recipe(said: Any, tmp_path: Path) -> None:
    recipe = {**toy_recipe(tmp_path, {"steps": 1}, "text"), "launch": said}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    with pytest.raises(RecipeError, match="launch"):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize("launch", ["local", "processes:8", "{how: slurm, nodes: 4, processes: 8, preset: zero3-7b}"])
@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_shown_for_every_start(name: str, launch: str) -> None:
    said = CliRunner().invoke(app, ["run", name, "--dry-run", "--launch", launch], catch_exceptions=False)
    assert said.exit_code == 0 and yaml.safe_load(said.output)["stages"]


def test_more_processes_than_gpus_are_refused_with_a_start_that_fits() -> None:
    assert processes_here(Launch.model_validate("processes:4"), 0) == 4  # on CPUs
    assert processes_here(Launch.model_validate("fsdp"), 8) == 8
    with pytest.raises(EosinError, match="more GPUs than there are") as told:
        processes_here(Launch.model_validate("zero3-7b:8"), 2)
    assert told.value.next_step == "--launch deepspeed:2"
    with pytest.raises(EosinError, match="How many processes"):
        processes_here(Launch.model_validate("processes"), 0)


def test_a_node_without_the_run_or_the_data_says_so(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(toy_recipe(tmp_path / "tiles", {"steps": 1}, "text"))
    at = Layout(tmp_path / "run")
    with pytest.raises(EosinError, match="does not see the folder of the run"):
        check_node(recipe, at, wait_s=0.1)
    at.out.mkdir()
    store.write_text_atomic(at.recipe, "x")
    with pytest.raises(EosinError, match="does not see the data"):
        check_node(recipe, at)
    (tmp_path / "tiles").mkdir()
    check_node(recipe, at)


def test_shared_out_weights_and_a_valid_exam_in_training_are_refused(tmp_path: Path) -> None:
    raw = toy_recipe(tmp_path, {"steps": 1, "keep": "best"}, "text")
    with pytest.raises(EosinError, match="valid split") as told:
        check_launch(Recipe.model_validate({**raw, "launch": "fsdp:2"}))
    assert "train.keep=last" in str(told.value)
    check_launch(Recipe.model_validate({**raw, "launch": "processes:2"}))


# ---- one that dies -------------------------------------------------------------------------------------------------

BODY = """
import os, signal, sys, time
rank = int(os.environ["RANK"])
assert os.environ["WORLD_SIZE"] == "2" and os.environ["MASTER_ADDR"] == "127.0.0.1"
signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1] + f"/told{rank}", "w").close(), sys.exit(0)))
open(sys.argv[1] + f"/up{rank}", "w").close()
"""


@pytest.mark.parametrize(
    ("end", "words"),
    [("sys.exit(3)", "ended with exit code 3"), ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL")],
)
def test_a_process_that_dies_takes_the_others_down(tmp_path: Path, end: str, words: str) -> None:
    wait = f"\nwhile not os.path.exists(sys.argv[1] + '/up0'): time.sleep(0.02)\n{end}\n"
    body = BODY + f"if rank == 1:{wait.replace(chr(10), chr(10) + '    ')}\ntime.sleep(300)"
    begun = time.monotonic()
    with pytest.raises(EosinError, match=f"Process 1 of 2 {words}"):
        spawn.run_processes([sys.executable, "-c", body, str(tmp_path)], 2)
    assert time.monotonic() - begun < 60
    assert (tmp_path / "told0").exists()


def test_asked_to_end_the_processes_save_and_the_start_ends_with_0(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(BODY + "time.sleep(300)", "utf-8")
    parent = (
        "import sys; from eosin.core import stopping; from eosin.chain.launch.spawn import run_processes\n"
        "stopping.listen()\n"
        "try:\n    run_processes([sys.executable, sys.argv[1], sys.argv[2]], 2)\n"
        "except stopping.StopRequested:\n    sys.exit(0)\nsys.exit(9)\n"
    )
    command = [sys.executable, "-c", parent, str(tmp_path / "child.py"), str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT) as running:
        while not all((tmp_path / f"up{n}").exists() for n in range(2)):
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    assert all((tmp_path / f"told{n}").exists() for n in range(2))


# ---- clusters ------------------------------------------------------------------------------------------------------


def script_of(tmp_path: Path, **more: Any) -> str:
    launch = Launch.model_validate({"how": "slurm", "preset": "zero3-7b", "nodes": 2, "processes": 4, **more})
    return slurm_script("my-run", launch, tmp_path / "r.yaml", ["seed=3", "launch=slurm"], tmp_path / "out")


def test_the_script_says_nodes_processes_and_who_each_one_is(tmp_path: Path) -> None:
    text = script_of(tmp_path, slurm={"partition": "gpu", "time": "02:00:00", "before": ["module load cuda"]})
    for line in (
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--partition=gpu",
        "--time=02:00:00",
        "--requeue",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "RANK=$SLURM_PROCID" in text and "WORLD_SIZE=$SLURM_NTASKS" in text and "module load cuda\n" in text
    assert "seed=3" in text and "launch=slurm" not in text and "how: deepspeed" in text


@pytest.mark.parametrize(
    ("state", "code", "queued"), [(None, 0, True), ("running", 0, True), ("complete", 0, False), (None, 2, False)]
)
def test_a_job_that_is_not_complete_asks_for_another_turn(
    tmp_path: Path, state: str | None, code: int, queued: bool
) -> None:
    """The script itself runs, with stand-ins for Slurm's commands."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, body in (
        ("srun", f"exit {code}"),
        ("scontrol", f'[ "$1" = requeue ] && touch {shlex.quote(str(tmp_path))}/queued; echo node1'),
    ):
        (tools / name).write_text(f"#!/bin/bash\n{body}\n", "utf-8")
        (tools / name).chmod(0o755)
    if state is not None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "summary.json").write_text(json.dumps({"state": state}), "utf-8")
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": "7"}
    done = subprocess.run(
        ["bash", "-c", script_of(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert (tmp_path / "queued").exists() == queued


def test_a_job_of_ray_is_the_run_as_its_entry_point(tmp_path: Path) -> None:
    launch = Launch.model_validate({"how": "ray", "processes": 8, "address": "http://head:8265"})
    command = ray_command(launch, tmp_path / "r.yaml", ["seed=1"], tmp_path / "out")
    assert command[:5] == ["ray", "job", "submit", "--address", "http://head:8265"]
    assert command[command.index("--entrypoint-num-gpus") + 1] == "8"
    own = command[command.index("--") + 1 :]
    assert own[1:4] == ["-m", "eosin.cli.main", "run"] and "seed=1" in own
    inside = next(o for o in own if o.startswith("launch="))
    assert Launch.model_validate(yaml.safe_load(inside.partition("=")[2])).processes == 8


def test_print_shows_and_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["run", "demo", "--launch", "slurm", "--print"], catch_exceptions=False)
    assert said.output.startswith("#!/bin/bash") and not list(tmp_path.iterdir())


# ---- FSDP ----------------------------------------------------------------------------------------------------------


def sft_on(folder: Path, processes: int, launch: str, batch_size: int) -> list[float]:
    """Losses of a stage that is started as so many processes, each told how it was launched."""
    raw = toy_recipe(folder / "tiles", {}, "text")
    raw["stages"] = {
        "sft": {"steps": 4, "batch_size": batch_size, "learning_rate": 1e-3, "log_every": 1, "exam": False}
    }
    out, path = folder / f"{launch.partition(':')[0]}-{processes}", folder / "fsdp.yaml"
    path.write_text(yaml.safe_dump(raw), "utf-8")
    command = [*forked.EOSIN, "run", path, "--out", out, "--launch", launch]
    done = forked.ranks(processes, command, env=ENVIRONMENT, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert store.open_artifact(out / "stages" / "sft" / "checkpoint", "checkpoint", verify=True)
    return [r["loss"] for r in store.read_jsonl(out / "stages" / "sft" / "metrics.jsonl") if "loss" in r]


@pytest.mark.parametrize("processes", [2, pytest.param(1, marks=pytest.mark.long, id="new interpreters of --launch")])
def test_fsdp_on_two_processes_trains_as_one(tmp_path: Path, processes: int) -> None:
    toy_table(tmp_path / "tiles", num=36)
    one, two = sft_on(tmp_path, 1, "local", 8), sft_on(tmp_path, processes, "fsdp:2", 4)
    assert len(one) == 4 and two == pytest.approx(one, abs=1e-4)


def test_fsdp_on_two_processes_goes_on_from_its_save(tmp_path: Path) -> None:
    """Weights and losses are those of a stage that was never stopped; so are those of one that had only to be saved."""
    done = forked.ranks(2, ["-m", "tests.support.fsdp_ranks", tmp_path], cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    save = tmp_path / "whole" / "work" / "checkpoint-8"
    assert (save / "pytorch_model_fsdp.bin").is_file() and (save / "optimizer.bin").is_file()  # it was shared out
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert len(losses["whole"]) == 9 and losses["cut"] == pytest.approx(losses["whole"], abs=1e-6)
    # as they are loaded: a model that was shared out writes its own names, one that was not those of the Hub
    whole, *others = (load(tmp_path / n / "checkpoint").model.state_dict() for n in ("whole", "cut", "done"))
    for found in others:
        assert found.keys() == whole.keys() and all(torch.allclose(found[n], whole[n], atol=1e-6) for n in whole)
