"""`eosin train show-mask`: the very batch of the trainer, coloured."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.errors import EosinError

RECIPE = {
    "data": {"source": "table", "root": "", "hold_out": {"slide": ["s2"]}},
    "model": {
        "kind": "tiny", "image_px": 56, "vocab_size": 420,
        "vision": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
        "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1},
    },
    "stages": {"plain": {"kind": "sft", "steps": 1}, "masked": {"kind": "sft", "steps": 1, "trajectory": {}}},
}  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    data = {"source": "phantom", "train_cases": 6, "valid_cases": 0, "test_cases": 6, "tiles_per_case": 1,
            "tile_px": 64}  # fmt: skip
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({**RECIPE, "data": data}))
    return file


def test_the_mask_of_a_recipe_is_shown_and_written(recipe: Path, tmp_path: Path) -> None:
    html = tmp_path / "mask.html"
    asked = ["train", "show-mask", str(recipe), "--variant", "2", "--num", "1", "--html", str(html)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert "loss from step 2 of" in done.output and "<|im_end|>" in done.output and "<think>" in done.output
    assert "Research use only" in done.output
    page = html.read_text()
    assert "&lt;think&gt;" in page and "background-color" in page
    assert not list(tmp_path.glob("runs*"))
    with pytest.raises(EosinError, match="already"):
        CliRunner().invoke(app, asked, catch_exceptions=False)


def test_a_stage_without_masks_and_a_sample_that_is_not_there(recipe: Path) -> None:
    plain = CliRunner().invoke(app, ["train", "show-mask", str(recipe), "--stage", "plain", "--num", "1"])
    assert "whole reply" in plain.output and "stage plain" in plain.output
    with pytest.raises(EosinError, match="No row of this stage fits"):
        CliRunner().invoke(
            app, ["train", "show-mask", str(recipe), "--stage", "plain", "--sample", "nobody"], catch_exceptions=False
        )
    with pytest.raises(EosinError, match="no stage with a loss"):
        CliRunner().invoke(app, ["train", "show-mask", str(recipe), "--stage", "rl"], catch_exceptions=False)
