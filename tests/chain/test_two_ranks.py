"""One recipe on two real processes (gloo): all stages end, nothing is written twice, both read what the first wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.support import forked
from tests.support.judge_stub import running_stub
from tests.support.judged_runs import fails_between, judge_at, judged_recipe, names_the_colour, trained_policy
from tests.support.toys import toy_table

from eosin.core.store import artifacts as store

ROOT = Path(__file__).resolve().parents[2]
RECIPE = {
    "prompt": {"instruction": False, "answer": "text"},
    "model": {
        "kind": "tiny", "image_px": 56, "vocab_size": 400,
        "vision": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
        "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1},
    },
    "train": {"log_every": 1},
    "stages": {
        "warmup": {"epochs": 1, "batch_size": 16, "augment": False},
        "sft": {"steps": 3, "batch_size": 4, "learning_rate": 6e-3, "save_every": 2, "exam": False},
        "rl": {"steps": 2, "batch_size": 4, "num_generations": 4, "max_new_tokens": 8, "algorithm": {"beta": 0.04}},
    },
    "base_exam": False,
    "report": {"curves": False},
    "exams": {"heldout": {"max_new_tokens": 8, "probes": [], "bootstrap": 100}},
}  # fmt: skip


def by_torchrun(recipe: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """By torchrun itself, in new interpreters: each of them has its own order of sets."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        *forked.EOSIN, "run", str(recipe), "--out", str(out),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, check=False)


def on_two(recipe: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return forked.ranks(2, [*forked.EOSIN, "run", recipe, "--out", out])


@pytest.mark.long  # what it asks of the losses is in test_equal_ranks.py
def test_a_run_on_two_processes_ends_and_goes_on(tmp_path: Path) -> None:
    toy_table(tmp_path / "tiles", num=36)
    data = {"source": "table", "name": "toy", "root": str(tmp_path / "tiles"), "label_column": "label",
            "group_column": "slide", "hold_out": {"slide": ["s2"]}, "hold_out_valid": {"slide": ["s4"]}}  # fmt: skip
    recipe, out = tmp_path / "two.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump({"data": data, **RECIPE}, sort_keys=False), "utf-8")
    done = by_torchrun(recipe, out)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((out / "summary.json").read_text("utf-8"))["state"] == "complete"
    for stage, steps in (("sft", 3), ("rl", 2)):
        rows = [r for r in store.read_jsonl(out / "stages" / stage / "metrics.jsonl") if "loss" in r]
        assert [r["step"] for r in rows] == list(range(1, steps + 1))  # once, by the first process
        assert store.open_artifact(out / "stages" / stage / "checkpoint", "checkpoint", verify=True)
        assert not (out / "stages" / stage / "work").exists()
    seen = [r["prompts_seen"] for r in store.read_jsonl(out / "stages" / "rl" / "metrics.jsonl") if "loss" in r]
    assert seen == [2.0, 4.0]  # one group a process and step
    assert done.stderr.count("samples:") == 1
    again = on_two(recipe, out)
    assert again.returncode == 0 and again.stderr.count("Nothing to do") == 1


def test_two_processes_share_a_judge_and_stop_together(tmp_path: Path) -> None:
    """The limit of calls is divided, counts are of both, and an outage that one of them meets ends both."""
    policy = trained_policy(tmp_path)
    with running_stub() as stub:
        stub.always = names_the_colour()
        recipe = judged_recipe(tmp_path, judge_at(stub.url, max_calls=20), policy, outage=None)
        path, out = tmp_path / "judged.yaml", tmp_path / "run"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
        done = on_two(path, out)
        assert done.returncode == 0, done.stderr[-3000:]
        record = json.loads((out / "stages" / "rl" / "stage.json").read_text("utf-8"))
        asked = record["judge"]
        assert record["unscored"]["num_replies"] == 3 * 2 * 8
        assert asked["answered_by"] == {"stub": asked["calls"]} and asked["calls"] <= 20
        assert len(stub.requests) == asked["calls"] + 1  # the first one tries the server
        spent = record["unscored"]["reasons"].get("judge: budget spent (max_calls)", 0)
        assert asked["failures"] == spent
        stub.always = fails_between(1, 10_000, names_the_colour())
        stub.requests.clear()
        recipe = judged_recipe(
            tmp_path, judge_at(stub.url, ask_first=False), policy, steps=6, outage={"max_unscored": 0.3, "steps": 2}
        )
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
        stopped = on_two(path, tmp_path / "stopped")
    assert stopped.returncode != 0 and "Too many replies have no reward" in stopped.stderr
    assert not (tmp_path / "stopped" / "stages" / "rl" / "stage.json").exists()
