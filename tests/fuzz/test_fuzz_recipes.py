"""Whatever stands in a recipe, loading and checking it ends in a recipe or in an EosinError."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from eosin.chain.recipe.checks import check_recipe
from eosin.core.errors import EosinError
from eosin.core.settings.recipe import load_recipe
from tests.fuzz.budget import fuzz_settings
from tests.fuzz.test_fuzz_knowledge import ODD, damaged, places

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {p.name: p.read_text("utf-8") for p in sorted((ROOT / "recipes").glob("*.yaml"))}


def load(path: Path, overrides: tuple[str, ...] = ()) -> None:
    try:
        recipe = load_recipe(path, overrides).recipe
        check_recipe(recipe, path, load_code=False)
    except EosinError as exc:
        assert str(exc)


@fuzz_settings(12)
@given(data=st.data())
def test_values_of_other_kinds(tmp_path: Path, data: st.DataObject) -> None:
    value: Any = copy.deepcopy(yaml.safe_load(SHIPPED[data.draw(st.sampled_from(sorted(SHIPPED)))]))
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(places(value)))
        holder[key] = data.draw(ODD)
    path = tmp_path / "odd.yaml"
    path.write_bytes(yaml.safe_dump(value, allow_unicode=False).encode("utf-8", "replace"))
    load(path)


@fuzz_settings(12)
@given(data=st.data())
def test_damaged_text(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(data.draw(damaged(SHIPPED[data.draw(st.sampled_from(sorted(SHIPPED)))])))
    load(path)


KEYS = ["data", "stages", "rl", "sft", "rewards", "name", "train", "model", "kind", "x", "", "exams"]
VALUES = ["[a]", "{a: 1}", "1", "&a [*a]", "!!set {a}", "1e999", "~", "\ud800"]


@fuzz_settings(12)
@given(
    keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4),
    value=st.one_of(st.text(max_size=12), st.sampled_from(VALUES)),
)
def test_overrides(tmp_path: Path, keys: list[str], value: str) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text(SHIPPED["demo.yaml"], "utf-8")
    load(path, (".".join(keys) + "=" + value,))
