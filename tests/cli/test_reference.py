"""The reference: every field is described, the pages are made, and the equations' names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.cli.reference.fields import Group, groups, matching
from eosin.cli.reference.pages import commands_page, python_page, recipe_page
from eosin.core.errors import EosinError
from eosin.core.settings.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
GROUPS = groups()


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: f"{g.name}-{len(g.places)}")
def test_every_field_of_a_recipe_is_described(group: Group) -> None:
    assert group.text, f"{group.name} has no docstring"
    missing = [f.name for f in group.fields if len(f.text) < 4]
    assert not missing, f"{group.name}: add these to its docstring's Attributes: {', '.join(missing)}"


def test_all_settings_are_found() -> None:
    names = {g.name for g in GROUPS}
    assert {"Recipe", "TableData", "RlStage", "Algorithm", "JudgeServer", "SlideTower", "EvidenceSettings"} <= names
    assert {f.name for f in GROUPS[0].fields} == set(Recipe.model_fields)


def test_a_field_by_its_place() -> None:
    found = dict(matching("data.mpp"))
    assert found["data (source: table).mpp"].unit == "µm per pixel"
    assert found["data (source: table).mpp"].kind == "number (> 0, < 1000) or null"
    stages = dict(matching("stages.anything.num_generations"))
    assert {n.default for n in stages.values()} == {"8"}
    assert set(stages) == {"stages.NAME (kind: rl).num_generations", "stages.NAME (kind: rejection).num_generations"}
    assert matching("no.such.field") == []
    assert {n.unit for _, n in matching("timeout_s")} == {"seconds"}


def test_pages_hold_every_field_and_every_verb() -> None:
    recipe = recipe_page()
    assert all(f"| `{f.name}` |" in recipe for g in GROUPS for f in g.fields)
    commands = commands_page(typer.main.get_command(app))
    for verb in ("eosin run", "eosin slides features", "eosin knowledge link", "eosin clip search"):
        assert f"\n## {verb}\n" in commands
    assert "`--dry-run`" in commands and "`OVERRIDES`" in commands
    import eosin

    api = python_page()
    assert all(f"## eosin.{name}\n" in api for name in eosin.__all__ if name != "__version__")


@pytest.mark.parametrize("page", ["equations.md", "concepts.md"])
def test_names_of_equations_and_concepts_exist(page: str) -> None:
    """Looked for in the files: nothing of torch is imported."""
    names = set(re.findall(r"`(eosin(?:\.\w+)+)`", (ROOT / "docs" / page).read_text("utf-8")))
    assert len(names) > 10
    for dotted in sorted(names):
        parts = dotted.split(".")
        path = ROOT / "src" / Path(*parts)
        if path.with_suffix(".py").exists() or path.is_dir():
            continue
        text = path.parent.with_suffix(".py").read_text("utf-8")
        assert re.search(rf"^(?:def|class) {parts[-1]}\b", text, re.M), dotted


def test_each_concept_is_defined_once() -> None:
    text = (ROOT / "docs" / "concepts.md").read_text("utf-8")
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.M)
    assert 10 <= len(words) <= 15 and len(set(words)) == len(words)


def test_the_verb_tells_of_a_field_and_writes_the_pages(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["reference", "stages.rl.temperature"])
    assert done.exit_code == 0 and "of the sampling" in done.output and "number (> 0)" in done.output
    done = CliRunner().invoke(app, ["reference", "--out", str(tmp_path / "pages")])
    assert sorted(p.name for p in (tmp_path / "pages").iterdir()) == ["api.md", "commands.md", "recipe.md"]
    assert "\n## eosin run\n" in (tmp_path / "pages" / "commands.md").read_text("utf-8")
    wrong = CliRunner().invoke(app, ["reference", "temperatur"])
    assert isinstance(wrong.exception, EosinError) and "eosin reference temperature" in str(wrong.exception)
