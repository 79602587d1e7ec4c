"""The rewards of the tile demo: gold earns the most, no listed cheat pays."""

from __future__ import annotations

from pathlib import Path

from eosin.core.settings.data import PhantomData
from eosin.core.settings.recipe import load_recipe
from eosin.scoring import load_rewards
from eosin.scoring.proof.prove import prove
from eosin.sources.phantom import read_phantom

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "demo.yaml"


def test_the_rewards_of_the_demo_cannot_be_farmed() -> None:
    stage = load_recipe(RECIPE).recipe.stages["rl"]
    settings = PhantomData(train_cases=6, valid_cases=0, test_cases=1, tiles_per_case=2, tile_px=96, mimics=True)
    samples = read_phantom(settings, 0).samples.kept
    assert stage.kind == "rl" and isinstance(stage.rewards, list) and len(samples) == 14
    proof = prove(load_rewards([r.model_dump(exclude_unset=True) for r in stage.rewards]), samples)
    assert proof.breaches == []
