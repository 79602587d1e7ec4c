"""Every family of docs/models.md, as a very small random model, through the command line: SFT, RL with the prompt
shared where the family can, RL on the plain path with LoRA, an exam, and a run that goes on."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.families import FAMILIES, write_family
from tests.support.toys import toy_table
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.store import artifacts as store

REWARD = f"{Path(__file__).parents[1] / 'support' / 'rewards.py'}:share_of_e"
SHARES = {name: name != "gemma3" for name in FAMILIES}
"""Whether a family's prompts can be shared: layers with a sliding window cannot."""


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families") / "tiles"
    toy_table(folder, num=24)
    return folder


def recipe_of(name: str, model: Path, tiles: Path) -> dict[str, Any]:
    rl: dict[str, Any] = {
        "kind": "rl", "steps": 1, "batch_size": 4, "num_generations": 2, "max_new_tokens": 4, "collapse": None,
        "keep": "last", "log_every": 1, "rewards": [{"name": REWARD}], "exam": False,
        "algorithm": {"name": "grpo", "mask_truncated": False},
    }  # fmt: skip
    return {
        "data": {"source": "table", "name": "toy", "root": str(tiles), "label_column": "label",
                 "group_column": "slide", "hold_out": {"slide": ["s2"]}},
        "prompt": {"instruction": False, "answer": "text"},
        "model": {"kind": "hub", "name": str(model)},
        "stages": {
            "sft": {"steps": 1, "batch_size": 2, "learning_rate": 1e-3, "log_every": 1, "exam": False},
            "rl": {**rl, "fast_path": "on" if SHARES[name] else "auto"},
            "rl-lora": {**rl, "fast_path": "off", "lora": {"r": 2, "alpha": 4}, "exam": True},
        },
        "base_exam": False,
        "report": {"curves": False},
        "exams": {"heldout": {"max_new_tokens": 4, "probes": [], "bootstrap": 100, "baselines": ["majority"]}},
    }  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_trains_and_is_examined(name: str, tiles: Path, tmp_path: Path) -> None:
    if name == "smolvlm" and find_spec("num2words") is None:
        pytest.skip("the processor of SmolVLM needs the package num2words")
    model, out = write_family(name, tmp_path / "model"), tmp_path / "run"
    recipe = tmp_path / "family.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(name, model, tiles), sort_keys=False), "utf-8")

    def run() -> None:
        done = CliRunner().invoke(app, ["run", str(recipe), "--out", str(out)])
        assert done.exit_code == 0, (done.exception, done.output[-1500:])

    run()
    stages = {p.parent.name: store.read_object(p) for p in out.glob("stages/*/stage.json")}
    assert set(stages) == {"sft", "rl", "rl-lora"}
    rl: Any = stages["rl"]
    assert rl["path"].startswith("prompt shared") is SHARES[name], rl["path"]
    if SHARES[name]:
        assert rl["checks"]["shared"] <= rl["checks"]["tolerance"]
    else:
        assert "sliding_attention" in rl["path"]
    assert rl["checks"]["sight"] > 1e-6  # it sees its pictures
    lora: Any = stages["rl-lora"]
    assert lora["path"].startswith("plain TRL") and lora["num_trainable"] < lora["num_parameters"] / 2
    exam = store.read_object(out / "evals" / "rl-lora" / "heldout" / "summary.json")
    assert exam["n"] > 0
    shutil.rmtree(out / "stages" / "rl-lora")
    shutil.rmtree(out / "evals" / "rl-lora")
    (out / "summary.json").unlink()  # as a run that was stopped has none
    run()
    assert store.read_object(out / "evals" / "rl-lora" / "heldout" / "summary.json")["n"] == exam["n"]
