"""examples/plugin is installed as a user would install it, and each of its four parts is used through the product."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from eosin.chain.recipe.data import read_source
from eosin.cli.main import app
from eosin.core import plugins
from eosin.core.errors import EosinError
from eosin.core.settings.data import PluginData
from eosin.scoring import ScoreItem, load_rewards

ROOT = Path(__file__).resolve().parents[2]
MODEL = {
    "kind": "tiny", "image_px": 56, "vocab_size": 400,
    "vision": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
    "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example installed into a folder of its own, which this process then sees."""
    pytest.importorskip("hatchling", reason="building the example needs hatchling: pip install hatchling")
    target = tmp_path_factory.mktemp("site")
    command = [
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index",
        "--disable-pip-version-check", "--target", str(target), str(ROOT / "examples" / "plugin"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, str(target))
    importlib.invalidate_caches()
    yield target
    sys.path.remove(str(target))
    for name in [m for m in sys.modules if m.startswith("eosin_example")]:
        del sys.modules[name]


def eosin(*args: str | Path) -> Result:
    """The real command line, in this process: what is wrong is the result's exception."""
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(map(str, args)))


def test_the_data_source_and_the_reward_train(site: Path, tmp_path: Path) -> None:
    recipe = {
        "data": {"source": "plugin", "plugin": "checkers", "options": {"num": 48}, "test_fraction": 0.25,
                 "valid_fraction": 0.1},
        "prompt": {"instruction": False, "answer": "text"}, "model": MODEL, "base_exam": False,
        "stages": {"rl": {"steps": 1, "batch_size": 4, "num_generations": 4, "max_new_tokens": 8, "keep": "last",
                          "log_every": 1, "fast_path": "off",
                          "rewards": [{"name": "accuracy"}, {"name": "brief", "max_words": 4, "weight": 0.1}]}},
        "exams": {"heldout": {"max_new_tokens": 8, "probes": [], "baselines": "none", "bootstrap": 100}},
    }  # fmt: skip
    path = tmp_path / "squares.yaml"
    path.write_text(yaml.safe_dump(recipe))
    done = eosin("run", path, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.exception
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["stages"][-1]["exams"]["heldout"]["n"] == 12
    assert "reward/brief" in (tmp_path / "run" / "stages" / "rl" / "metrics.jsonl").read_text()


def test_the_source_refuses_an_option_that_it_does_not_know(site: Path) -> None:
    settings = PluginData(plugin="checkers", options={"nun": 48})
    with pytest.raises(EosinError, match="no such option") as caught:
        read_source(settings, 0)
    assert "nun" in str(caught.value)


def test_cases_of_the_source_stay_together(site: Path) -> None:
    first, second = (read_source(PluginData(plugin="checkers", options={"num": 12}), seed) for seed in (3, 3))
    assert first.kept == second.kept and len(first.kept) == 12
    assert [s.origin.group for s in first.kept] == ["case:000"] * 4 + ["case:001"] * 4 + ["case:002"] * 4
    assert [s.answer_text for s in first.kept] == ["light"] * 4 + ["dark"] * 4 + ["light"] * 4


def test_the_reward_scores_by_hand(site: Path) -> None:
    rewards = load_rewards([{"name": "brief", "max_words": 4}])
    got = []
    for words in (0, 3, 4, 6, 9):
        reply = f"<think>{'word ' * words}</think><answer>A</answer>"
        got.append(rewards.score(ScoreItem(id="1", reply=reply, answer="A", choices={"A": "x", "B": "y"})).total)
    assert got == [0.0, 1.0, 1.0, 0.5, 0.0]


def test_the_encoder_makes_features(site: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    assert "mean-colour" in eosin("slides", "encoders").stdout
    slides = tmp_path / "slides"
    slides.mkdir()
    assert eosin("phantom", "slide", slides / "s.tiff", "--size", "1024").exit_code == 0
    done = eosin("slides", "features", slides, "--out", tmp_path / "f", "--encoder", "mean-colour", "--tile-mpp", "2.0")
    assert done.exit_code == 0, done.output
    (file,) = (p for p in (tmp_path / "f").rglob("*.h5") if p.parent.name.startswith("features_"))
    with h5py.File(file) as store:
        features = np.asarray(store["features"]).reshape(-1, 6)
    assert len(features) > 4 and features.min() > 0 and features.max() < 1
    unknown = eosin("slides", "features", slides, "--out", tmp_path / "g", "--encoder", "mean-color")
    assert "did you mean mean-colour" in str(unknown.exception)


def test_the_exam_is_listed_and_read(site: Path) -> None:
    assert "shade" in eosin("exams", "list").stdout
    assert "Light or dark squares" in eosin("exams", "show", "shade").stdout
    done = eosin("exams", "verify", "shade")
    assert done.exit_code == 0, done.output


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(EosinError, match="No installed package brings this data source"):
        read_source(PluginData(plugin="nowhere"), 0)


def test_a_plugin_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("broken", "eosin_no_such_module:thing", "eosin.exams")])
    monkeypatch.setattr(plugins, "entry_points", lambda group: points.select(group=group))
    with pytest.raises(EosinError, match="cannot be loaded") as caught:
        plugins.plugin("eosin.exams", "broken")
    assert "eosin_no_such_module" in str(caught.value)
