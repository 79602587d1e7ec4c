"""Figures go nowhere but into the run's folder unless the recipe names a service; and what a run's identity is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.toys import toy_recipe

from eosin.chain.recipe import tracking
from eosin.chain.recipe.layout import Layout
from eosin.chain.recipe.run import _refuse_other
from eosin.core.errors import EosinError, RecipeError
from eosin.core.settings.recipe import Recipe, Resolved, load_recipe
from eosin.core.store import artifacts as store


def recipe_of(folder: Path, **more: Any) -> Recipe:
    return Recipe.model_validate({**toy_recipe(folder, {"steps": 1}, "text"), **more})


@pytest.mark.parametrize(
    ("installed", "track", "told"),
    [
        (set(), None, ()), ({"tensorboard"}, None, ("tensorboard",)),
        ({"tensorboard", "wandb"}, None, ("tensorboard",)),
        ({"tensorboardX"}, ["tensorboard"], ("tensorboard",)), ({"tensorboard"}, [], ()),
        ({"wandb"}, ["wandb"], ("wandb",)),
    ],
)  # fmt: skip
def test_only_what_is_named_is_told(
    installed: set[str], track: list[str] | None, told: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_has", lambda package: package in installed)
    assert tracking.tracked(recipe_of(tmp_path, track=track)) == told


def test_a_tracker_that_is_named_and_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_has", lambda package: package == "wandb")
    with pytest.raises(EosinError, match="not installed") as told:
        tracking.tracked(recipe_of(tmp_path, track=["wandb", "trackio"]))
    assert told.value.found == "trackio"
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**toy_recipe(tmp_path, {}, "text"), "track": ["spy"]}), "utf-8")
    with pytest.raises(RecipeError, match="track"):
        load_recipe(tmp_path / "r.yaml")


def test_tensorboard_writes_into_the_run_unless_the_user_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("TENSORBOARD_LOGGING_DIR", None)
    for stage in ("sft", "rl"):
        tracking.place_tracking(Layout(tmp_path), stage)
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "tensorboard" / stage)
    os.environ.pop("EOSIN_PLACED_TENSORBOARD")
    os.environ["TENSORBOARD_LOGGING_DIR"] = "mine"
    tracking.place_tracking(Layout(tmp_path), "sft")
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "mine"


def test_a_run_goes_on_with_other_processes_and_trackers_and_not_with_other_settings(tmp_path: Path) -> None:
    at = Layout(tmp_path / "run")
    at.out.mkdir()
    store.write_text_atomic(at.recipe, Resolved(recipe_of(tmp_path), ()).to_yaml())
    _refuse_other(at, Resolved(recipe_of(tmp_path, launch="fsdp:2", track=[]), ()), True)
    with pytest.raises(EosinError, match="another recipe"):
        _refuse_other(at, Resolved(recipe_of(tmp_path, seed=5), ()), True)
