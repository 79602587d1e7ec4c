"""examples/plugin is installed as a user would install it, and each of its four parts is used through the product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODEL = {
    "kind": "tiny", "image_px": 56, "vocab_size": 400,
    "vision": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
    "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example installed into a folder of its own. Without the build backend at hand, a package folder is laid out
    by hand: the entry points are read from the same pyproject.toml."""
    target = tmp_path_factory.mktemp("site")
    pytest.importorskip("hatchling", reason="building the example needs hatchling: pip install hatchling")
    command = [
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index",
        "--disable-pip-version-check", "--target", str(target), str(ROOT / "examples" / "plugin"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def eosin(site: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process that has the example installed."""
    paths = os.pathsep.join([str(site), str(ROOT / "src")])
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "eosin.cli.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_the_data_source_and_the_reward_train(site: Path, tmp_path: Path) -> None:
    recipe = {
        "data": {"source": "plugin", "plugin": "checkers", "options": {"num": 48}, "test_fraction": 0.25,
                 "valid_fraction": 0.1},
        "prompt": {"instruction": False, "answer": "text"}, "model": MODEL, "base_exam": False,
        "stages": {"sft": {"steps": 2, "batch_size": 8, "exam": False},
                   "rl": {"steps": 1, "batch_size": 4, "num_generations": 4, "max_new_tokens": 8, "keep": "last",
                          "rewards": [{"name": "accuracy"}, {"name": "brief", "max_words": 4, "weight": 0.1}]}},
        "exams": {"heldout": {"max_new_tokens": 8, "probes": [], "baselines": "none", "bootstrap": 100}},
    }  # fmt: skip
    path = tmp_path / "squares.yaml"
    path.write_text(yaml.safe_dump(recipe))
    done = eosin(site, "run", path, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["stages"][-1]["exams"]["heldout"]["n"] == 12
    metrics = (tmp_path / "run" / "stages" / "rl" / "metrics.jsonl").read_text()
    assert "reward/brief" in metrics

    recipe["data"]["options"] = {"nun": 48}  # type: ignore[index]
    path.write_text(yaml.safe_dump(recipe))
    refused = eosin(site, "run", path, "--out", tmp_path / "other")
    assert refused.returncode == 2 and "no such option" in refused.stderr and "nun" in refused.stderr


def test_the_reward_scores_by_hand(site: Path, tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    rows = [{"id": str(n), "reply": f"<think>{'word ' * n}</think><answer>A</answer>", "choices": ["x", "y"],
             "answer": "A"} for n in (3, 6, 8)]  # fmt: skip
    replies.write_text("\n".join(json.dumps(r) for r in rows))
    mine = tmp_path / "scores.jsonl"
    done = eosin(site, "score", replies, "--reward", "brief", "--out", mine)
    assert done.returncode == 0, done.stderr
    assert all(json.loads(line)["total"] == 1.0 for line in mine.read_text().splitlines())  # 80 words are free


def test_the_encoder_makes_features(site: Path, tmp_path: Path) -> None:
    listed = eosin(site, "slides", "encoders")
    assert "mean-colour" in listed.stdout, listed.stderr
    made = eosin(site, "phantom", "slide", tmp_path / "slides" / "s.tiff", "--size", "1024")
    assert made.returncode == 0, made.stderr
    done = eosin(site, "slides", "features", tmp_path / "slides", "--out", tmp_path / "f", "--encoder", "mean-colour",
                 "--tile-mpp", "2.0")  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    import h5py

    (file,) = (tmp_path / "f").rglob("*.h5")
    with h5py.File(file) as store:
        assert store["features"].shape[-1] == 6


def test_the_exam_is_listed_and_read(site: Path, tmp_path: Path) -> None:
    assert "shade" in eosin(site, "exams", "list").stdout
    assert "Light or dark squares" in eosin(site, "exams", "show", "shade").stdout
    verified = eosin(site, "exams", "verify", "shade")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data: {source: plugin, plugin: checkers}\nstages: {sft: {steps: 1}}\n")
    done = eosin(tmp_path, "run", recipe, "--out", tmp_path / "run")
    assert done.returncode == 2 and "No installed package brings this data source" in done.stderr
