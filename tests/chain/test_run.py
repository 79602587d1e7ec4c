"""A recipe through the real command line: finished, repeated, killed, resumed, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.support import forked
from tests.support.forked import eosin
from tests.support.toys import toy_table

from eosin.core.formats import read_samples
from eosin.core.store import artifacts as store

TINY = {
    "data": {
        "source": "table", "name": "toy", "label_column": "label", "group_column": "slide",
        "hold_out": {"slide": ["s2", "s3"]}, "hold_out_valid": {"slide": ["s4"]},
        "descriptions": {c: [f"The field is {c}."] for c in ("red", "green", "blue")},
    },
    "prompt": {"instruction": False, "answer": "text"},
    "model": {
        "kind": "tiny", "image_px": 56, "vocab_size": 400,
        "vision": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
        "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1},
    },
    "train": {"batch_size": 8, "log_every": 2},
    "stages": {
        "warmup": {"epochs": 3, "learning_rate": 3e-3, "augment": False},
        "pretrain": {"steps": 3, "exam": False},
        "sft": {"steps": 40, "learning_rate": 6e-3},
        "rl": {"steps": 2, "num_generations": 4, "max_new_tokens": 24},
    },
    "base_exam": False,
    "exams": {"heldout": {"max_new_tokens": 40, "probe_samples": 6, "bootstrap": 200}},
}  # fmt: skip
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    toy_table(folder / "tiles")
    settings = {**TINY, "data": {**TINY["data"], "root": str(folder / "tiles")}}  # type: ignore[dict-item]
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    """By a new interpreter, so that the others, which are forked, are compared with one that is not."""
    out = recipe.parent / "run"
    command = [sys.executable, "-m", "eosin.cli.main", "run", str(recipe), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_summary_keeps_its_contract(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert {"recipe", "record", "stages", "baselines"} <= set(summary)
    assert summary["recipe"] == "toy" and summary["state"] == "complete"
    assert [s["name"] for s in summary["stages"]] == ["warmup", "pretrain", "sft", "rl"]
    for stage in summary["stages"]:
        assert {"name", "checkpoint", "seconds", "peak_rss_gib", "exams"} <= set(stage)
        assert store.exists(finished / stage["checkpoint"])
        assert 0 < stage["peak_rss_gib"] < 20 and stage["seconds"] > 0
    exam = summary["stages"][-1]["exams"]["heldout"]
    assert {"accuracy", "balanced_accuracy", "n", "ci95", "cluster", "unparsed_rate", "truncated_rate"} <= set(exam)
    assert set(exam["probes"]) == {"blank", "swapped", "question_only"}
    assert exam["n"] == 36 and exam["cluster"] == "slide"
    assert summary["record"]["packages"]["torch"] and "commit" in summary["record"]["code"]
    assert list(summary["baselines"]["heldout"]) == [
        "majority", "text_only", "colour_histogram", "colour_forest", "colour_texture", "nearest_image",
        "nearest_caption",
    ]  # fmt: skip
    verdict = exam["against_baselines"]
    assert verdict["best"] in summary["baselines"]["heldout"] and verdict["n"] == 36
    assert len(list((finished / "baselines").iterdir())) == 7
    page = (finished / "report/index.html").read_text()
    assert "best baseline" in page and page.index("best baseline") < page.index("stages of training ran")


def test_everything_a_run_leaves(finished: Path) -> None:
    for name in ("recipe.yaml", "provenance.json", "metrics.jsonl", "rollouts.jsonl", "report/index.html"):
        assert (finished / name).stat().st_size > 0, name
    assert "<script" not in (finished / "report/index.html").read_text()
    assert {r["stage"] for r in store.read_jsonl(finished / "metrics.jsonl")} == {"warmup", "pretrain", "sft", "rl"}
    rollouts = store.read_jsonl(finished / "rollouts.jsonl")
    assert len(rollouts) == 16 and all({"accuracy", "format"} == set(r["terms"]) for r in rollouts)
    read = read_samples(finished / "samples")
    assert len(read.kept) == 90 and {s.split for s in read.kept} == {"train", "valid", "test"}
    artifact = store.open_artifact(finished / "stages" / "rl" / "checkpoint", "checkpoint", verify=True)
    assert [p["path"] for p in artifact.manifest["parents"]] == ["checkpoint", "samples"]
    assert not list(finished.rglob("*.tmp")) and not (finished / "run.lock").exists()


def test_running_again_does_nothing(finished: Path, recipe: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    done = eosin("run", recipe, "--out", finished)
    assert done.returncode == 0 and "Nothing to do" in done.stderr
    assert before == {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}


def test_another_recipe_does_not_overwrite(finished: Path, recipe: Path) -> None:
    done = eosin("run", recipe, "stages.sft.steps=7", "--out", finished)
    assert done.returncode == 2
    assert "another recipe" in done.stderr and "stages.sft.steps: there 40, here 7" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_run_goes_on(recipe: Path, finished: Path) -> None:
    """SIGKILL in the middle of SFT; the same command ends with the weights of the run that was never stopped."""
    out = recipe.parent / "killed"
    changes = ["stages.sft.save_every=4", "exams.heldout.max_samples=6", "exams.heldout.probes=[]",
               "exams.heldout.baselines=[majority]", "report.curves=false"]  # fmt: skip
    process = forked.start([*forked.EOSIN, "run", recipe, *changes, "--out", out])
    saves = out / "stages" / "sft" / "work"
    while not list(saves.glob("checkpoint-*/whole.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "stages" / "sft" / "stage.json").exists()
    warm = (out / "stages" / "warmup" / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    done = eosin("run", recipe, *changes, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert (out / "stages" / "warmup" / "checkpoint" / "model.safetensors").stat().st_mtime_ns == warm
    steps = [r["step"] for r in store.read_jsonl(out / "stages" / "sft" / "metrics.jsonl") if "loss" in r]
    assert steps == sorted(set(steps)) and steps[-1] == 40
    import torch
    from safetensors.torch import load_file

    a, b = (load_file(p / "stages" / "sft" / "checkpoint" / "model.safetensors") for p in (out, finished))
    assert all(torch.allclose(a[k], b[k], atol=1e-5) for k in a)


def test_resume_without_a_run_is_refused(recipe: Path) -> None:
    done = eosin("run", recipe, "--out", recipe.parent / "nothing", "--resume")
    assert done.returncode == 2 and "no run to resume" in done.stderr


def test_dry_run_prints_a_recipe_that_reads_back(recipe: Path, tmp_path: Path) -> None:
    done = eosin("run", recipe, "seed=5", "--dry-run")
    assert done.returncode == 0 and "#   seed = 5   (command line)" in done.stdout
    again = tmp_path / "toy.yaml"
    again.write_text(done.stdout)
    assert eosin("run", again, "--dry-run").stdout.split("# not")[0] == done.stdout.split("# not")[0]


def test_three_mistakes_are_told_at_once(recipe: Path) -> None:
    done = eosin("run", recipe, "data.lable_column=x", "stages.sft.learning_rate=-1", "modle=3", "--dry-run")
    assert done.returncode == 2 and "3 problems" in done.stderr
    assert "did you mean label_column?" in done.stderr and "did you mean model?" in done.stderr
    assert "greater than 0" in done.stderr and "Traceback" not in done.stderr


def test_evaluate_and_ask_use_the_checkpoint(finished: Path, tmp_path: Path) -> None:
    checkpoint = finished / "stages" / "sft" / "checkpoint"
    done = eosin("evaluate", checkpoint, finished / "samples", "--out", tmp_path / "exam", "--probes", "blank",
                 "--max-new-tokens", "40")  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "exam" / "exam" / "summary.json").read_text())
    first = json.loads((finished / "evals" / "sft" / "heldout" / "summary.json").read_text())
    assert again["accuracy"] == first["accuracy"] and again["n"] == first["n"]
    root = yaml.safe_load((finished / "recipe.yaml").read_text())["data"]["root"]
    tile = Path(root) / "tile_000.png"
    done = eosin("ask", checkpoint, tile, "Which?", "--choices", "red|green|blue", "--json", "--max-new-tokens", "40")
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert {"reply", "blocks", "parsed", "unparsed_reason", "truncated", "note"} <= set(reply)
    assert "not for diagnosis" in reply["note"]


def test_ask_names_a_bad_image(finished: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    done = eosin("ask", finished / "stages" / "sft" / "checkpoint", bad, "What?")
    assert done.returncode == 2 and "not an image" in done.stderr and "Traceback" not in done.stderr


def test_two_processes_do_not_share_a_folder(recipe: Path, tmp_path: Path) -> None:
    from eosin.core.store.lock import locked

    with locked(tmp_path / "run.lock"):
        done = eosin("run", recipe, "--out", tmp_path)
    assert done.returncode == 2 and "Another process" in done.stderr and f"process {os.getpid()}" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == []


def test_a_named_model_with_lora_runs_the_same_chain(recipe: Path, finished: Path) -> None:
    """The path of Qwen2.5-VL-7B: a model by name, adapters in SFT and RL, each from the one before."""
    settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    settings["model"] = {"kind": "hub", "name": str(finished / "stages" / "sft" / "checkpoint"), "max_pixels": 3136}
    lora = {"lora": {"r": 4, "alpha": 8}, "freeze": ["vision", "projector"], "exam": False}
    settings["stages"] = {
        "sft": {"steps": 2, **lora},
        "rl": {"steps": 1, "num_generations": 4, "max_new_tokens": 12, **lora, "exam": True},
        "rl_from_base": {"kind": "rl", "start": "base", "steps": 1, "num_generations": 4, "max_new_tokens": 12, **lora},
    }
    settings["exams"]["heldout"].update(max_samples=6, probes=[], max_new_tokens=12)
    path = recipe.parent / "lora.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    out = recipe.parent / "lora-run"
    done = eosin("run", path, "--out", out)
    assert done.returncode == 0, done.stderr
    for stage, base in (("sft", "finished"), ("rl", "../../sft/checkpoint"), ("rl_from_base", "finished")):
        folder = out / "stages" / stage / "checkpoint"
        config = json.loads((folder / "adapter_config.json").read_text())
        expected = finished / "stages" / "sft" / "checkpoint" if base == "finished" else folder / base
        assert (folder / config["base_model_name_or_path"]).resolve() == expected.resolve()
        record = json.loads((out / "stages" / stage / "stage.json").read_text())
        assert 0 < record["num_trainable"] < record["num_parameters"] / 2
    assert json.loads((out / "summary.json").read_text())["state"] == "complete"
