"""Recipes: strict, all mistakes at once, inheritance that can be seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from eosin.core.errors import EosinError, RecipeError
from eosin.core.settings.exam import ExamSettings
from eosin.core.settings.recipe import Recipe, load_recipe


def write(tmp_path: Path, text: str, name: str = "mine.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_defaults_and_name(tmp_path: Path) -> None:
    resolved = load_recipe(write(tmp_path, "stages: {sft: {}, rl: {steps: 5}}"))
    recipe = resolved.recipe
    assert recipe.name == "mine" and recipe.data.source == "phantom" and recipe.model.kind == "tiny"
    assert recipe.start_of("sft") == "base" and recipe.start_of("rl") == "sft"
    assert recipe.stages["rl"].kind == "rl"
    rows = {r["field"]: r["from"] for r in resolved.provenance}
    assert rows["stages.rl.steps"] == "recipe" and rows["stages.rl.temperature"] == "default"


def test_train_block_is_inherited_and_overridden(tmp_path: Path) -> None:
    text = "train: {batch_size: 8, gradient_checkpointing: true}\nstages: {warmup: {}, sft: {batch_size: 4}, rl: {}}"
    resolved = load_recipe(write(tmp_path, text), ["stages.rl.batch_size=24", "seed=3"])
    stages = resolved.recipe.stages
    assert (stages["warmup"].batch_size, stages["sft"].batch_size, stages["rl"].batch_size) == (8, 4, 24)
    assert stages["sft"].gradient_checkpointing is True  # and the warm-up, which has no such setting, is untouched
    rows = {r["field"]: r["from"] for r in resolved.provenance}
    assert rows["stages.warmup.batch_size"] == "train block"
    assert rows["stages.sft.batch_size"] == "recipe"
    assert rows["stages.rl.batch_size"] == "command line" and rows["seed"] == "command line"


def test_resolved_yaml_reads_back_to_the_same_recipe(tmp_path: Path) -> None:
    first = load_recipe(write(tmp_path, "stages: {sft: {lora: {r: 4}}, rl: {rewards: patho-r1-grpo}}"))
    again = load_recipe(write(tmp_path, first.to_yaml(), "again.yaml"))
    assert again.recipe == first.recipe
    assert yaml.safe_load(first.to_yaml())["stages"]["sft"]["lora"]["r"] == 4


def test_every_mistake_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    text = """
data: {train_csaes: 3}
modle: {}
train: {bach_size: 3}
grammar: Think/answer
stages:
  sft: {learning_rate: -1}
  rl: {num_generation: 8}
  more: {steps: 3}
"""
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text))
    problems = "\n".join(caught.value.problems)
    for hint in ("train_cases", "model?", "batch_size", "num_generations", "greater than 0", "usable tag set"):
        assert hint in problems, problems
    assert "stages.more" in problems  # a stage of a new name says its kind
    assert len(caught.value.problems) == 7


def test_controls_are_stages_with_another_start(tmp_path: Path) -> None:
    text = "stages: {sft: {}, rl: {}, rl_from_base: {kind: rl, start: base}, more_sft: {kind: sft, start: sft}}"
    recipe = load_recipe(write(tmp_path, text)).recipe
    assert recipe.start_of("rl_from_base") == "base" and recipe.start_of("more_sft") == "sft"
    with pytest.raises(RecipeError, match="start is 'later'"):
        load_recipe(write(tmp_path, "stages: {sft: {start: later}, later: {kind: sft}}"))
    named = load_recipe(write(tmp_path, f"{text}\nreport: {{result: rl}}")).recipe
    assert named.report.result == "rl"
    with pytest.raises(RecipeError, match="result is 'rll'"):
        load_recipe(write(tmp_path, f"{text}\nreport: {{result: rll}}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mapping"),
        ("- a", "mapping"),
        ("a: [", "not valid YAML"),
        ("stages: {}", "stages"),
        ("stages: {rl: {batch_size: 10, num_generations: 4}}", "multiple of num_generations"),
        ("stages: {warmup: {freeze: [vision]}}", "leave freeze out"),
        ("model: {kind: tiny, image_px: 100}\nstages: {sft: {}}", "multiple of 2 x patch_size"),
        ("data: {source: slidez}\nstages: {sft: {}}", "expected one of"),
        ("stages: {sft: {start: base}, base: {kind: sft}}", "cannot be called 'base'"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EosinError, match=message):
        load_recipe(write(tmp_path, text))


def test_overrides_that_cannot_be(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 1\nstages: {sft: {}}")
    for item in ("seed", "=3", "seed.x=3"):
        with pytest.raises(EosinError, match="override|group of settings"):
            load_recipe(path, [item])
    with pytest.raises(EosinError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")


def test_what_asks_a_question_again_is_not_part_of_a_run() -> None:
    for exam in ({"shifts": 1}, {"input": {"joint": False}}):
        with pytest.raises(ValueError, match="is for eosin evaluate"):
            Recipe.model_validate({"stages": {"sft": {}}, "exams": {"mine": exam}})
    asked = Recipe.model_validate({"stages": {"sft": {}}, "exams": {"mine": {"prompt": "direct"}}})
    assert asked.exams["mine"].prompt == "direct"
    small = Recipe.model_validate({"stages": {"sft": {}}, "exams": {"mine": {"input": {"max_pixels": 4096}}}})
    assert small.exams["mine"].input.max_pixels == 4096


def test_an_exam_that_says_think_style_still_asks_that_way_and_both_are_refused() -> None:
    assert ExamSettings.model_validate({"think_style": "chain-of-draft"}).prompt == "chain-of-draft"
    assert ExamSettings.model_validate({"think_style": "plain"}).prompt == "think"
    assert ExamSettings.model_validate({"think_style": None, "prompt": "letter"}).prompt == "letter"
    for wrong in ({"think_style": "chain-of-draft", "prompt": "letter"}, {"think_style": "aloud"}):
        with pytest.raises(ValidationError, match="think_style is now prompt"):
            ExamSettings.model_validate(wrong)
