"""Rewards and tables that a recipe names are opened before any training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eosin.chain.recipe.checks import check_recipe
from eosin.core.errors import RecipeError
from eosin.core.settings.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]


def recipe_of(folder: Path, stages: str) -> Path:
    (folder / "mine.yaml").write_text(f"stages:\n{stages}")
    return folder / "mine.yaml"


def test_a_way_of_asking_that_is_not_there_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("stages: {sft: {}}\nexams: {drafts: {prompt: chain-of-drafts}, plain: {}}")
    with pytest.raises(RecipeError) as told:
        check_recipe(load_recipe(tmp_path / "mine.yaml").recipe, tmp_path / "mine.yaml")
    [problem] = told.value.problems
    assert "exams.drafts.prompt" in problem and "did you mean chain-of-draft?" in problem


def test_every_wrong_reward_and_table_is_told_at_once(tmp_path: Path) -> None:
    path = recipe_of(
        tmp_path,
        "  rl: {rewards: eosinn}\n"
        "  b: {kind: rl, rewards: {tiles: [{name: patho-r1-grpo, gaet: both}], default: eosin}}\n"
        "  c: {kind: rl, rewards: eosin, difficulty: none.parquet}\n"
        "  sft: {}\n",
    )
    with pytest.raises(RecipeError) as told:
        check_recipe(load_recipe(path).recipe, path)
    assert len(told.value.problems) == 3
    text = "\n".join(told.value.problems)
    assert "stages.rl.rewards" in text and "did you mean the set 'eosin'?" in text
    assert "stages.b.rewards" in text and "did you mean 'gate'?" in text
    assert "stages.c.difficulty.file" in text and "eosin rl-data" in text


def test_length_punished_twice_is_noted(tmp_path: Path) -> None:
    path = recipe_of(tmp_path, "  rl: {algorithm: dapo, rewards: patho-r1-dapo}\n")
    [note] = check_recipe(load_recipe(path).recipe, path)
    assert note.startswith("rl: patho-r1-dapo") and "overlong_buffer" in note
    assert check_recipe(load_recipe(path, ["stages.rl.algorithm.overlong_buffer=0"]).recipe, path) == []


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_name_rewards_that_exist(path: Path) -> None:
    notes = check_recipe(load_recipe(path).recipe, path)
    assert [n for n in notes if "not as published" not in n] == []


def test_dry_run_names_the_algorithm_and_loads_no_torch(tmp_path: Path) -> None:
    path = recipe_of(tmp_path, "  rl: {algorithm: {name: dapo, beta: 0.01}, rewards: patho-r1-dapo}\n")
    code = (
        "import sys; from eosin.cli.main import app\n"
        f"app(['run', {str(path)!r}, '--dry-run'], standalone_mode=False)\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "# rl trains with DAPO+{beta=0.01}" in done.stdout and "# note: rl: patho-r1-dapo" in done.stdout
    assert done.stdout.strip().endswith("False")
