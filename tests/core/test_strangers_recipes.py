"""To look at a stranger's recipe does nothing: no code runs, no name leads elsewhere, no alias fills the memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import forked

from eosin.core.errors import EosinError, RecipeError
from eosin.core.settings.recipe import load_recipe
from eosin.core.store.yaml_text import parse_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGE_BOMB = "m0: &m0 {a: 1, b: 2}\n" + "".join(
    f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n" for i in range(1, 12)
)


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    (folder / name).write_text(text, "utf-8")
    return folder / name


@pytest.mark.parametrize("name", ["../../../x", "/etc/x", "..", ".", "a/b", "", ".hidden", "x\\ty", "nul", "a:b"])
@pytest.mark.parametrize("place", ["exams: {%s: {}}\nstages: {sft: {}}", "stages: {%s: {kind: sft}}"])
def test_names_of_exams_and_stages_are_checked_by_the_schema(tmp_path: Path, place: str, name: str) -> None:
    path = written(tmp_path, place % f'"{name}"')
    with pytest.raises(RecipeError, match="cannot be the name of a folder"):
        load_recipe(path)


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..", "a/b"])
def test_the_name_of_a_recipe_stays_under_runs(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="cannot be the name of a folder"):
        load_recipe(written(tmp_path, f'name: "{name}"\nstages: {{sft: {{}}}}'))


def test_a_recipe_without_a_name_has_that_of_its_file(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, "stages: {sft: {}}", "my run.yaml")).recipe.name == "my run"
    odd = load_recipe(written(tmp_path, "stages: {sft: {}}", "nul.yaml")).recipe.name
    assert odd.startswith("_nul-")


@pytest.mark.parametrize("rewards", ['"{code}"', '[{{name: accuracy}}, {{name: "{code}"}}]', '{{default: "{code}"}}'])
def test_a_dry_run_imports_nothing_of_the_recipes_and_a_run_says_what_it_will(tmp_path: Path, rewards: str) -> None:
    (tmp_path / "mine.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).write_text('ran')\n"
        "def good(item, grammar):\n    return 1.0\n", "utf-8"
    )  # fmt: skip
    code = f"{tmp_path / 'mine.py'}:good"
    path = written(tmp_path, f"stages:\n  rl: {{rewards: {rewards.format(code=code)}}}\n")
    done = forked.eosin("run", path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "the recipe's own code" in done.stdout and "mine.py:good" in done.stdout
    assert not (tmp_path / "ran").exists()
    from eosin.chain.recipe.checks import check_recipe

    [note] = check_recipe(load_recipe(path).recipe, path)
    assert note.startswith("rl: loads and runs the recipe's own code") and (tmp_path / "ran").exists()


def test_the_code_of_an_exams_terms_is_named_and_not_imported_either(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def good(item, grammar):\n    return 1.0\n1 / 0\n", "utf-8")
    code = f"{tmp_path / 'mine.py'}:good"
    path = written(tmp_path, f"stages: {{sft: {{}}}}\nexams: {{own: {{terms: [{{name: '{code}'}}]}}}}\n")
    from eosin.chain.recipe.checks import check_recipe

    [note] = check_recipe(load_recipe(path).recipe, path, load_code=False)
    assert note == f"exams.own: a run loads (not this look at it) the recipe's own code: {code}"
    with pytest.raises(RecipeError, match="ZeroDivisionError: division by zero"):
        check_recipe(load_recipe(path).recipe, path)


def test_a_dry_run_still_finds_wrong_rewards_beside_code(tmp_path: Path) -> None:
    path = written(tmp_path, 'stages:\n  rl: {rewards: [{name: acuracy}, {name: "mine.py:good"}]}\n')
    from eosin.chain.recipe.checks import check_recipe

    with pytest.raises(RecipeError, match="accuracy"):
        check_recipe(load_recipe(path).recipe, path, load_code=False)


@pytest.mark.parametrize("text", [BOMB, MERGE_BOMB], ids=["aliases", "merges"])
def test_an_alias_bomb_is_refused_at_once(tmp_path: Path, text: str) -> None:
    with pytest.raises(EosinError, match="out of proportion"):
        load_recipe(written(tmp_path, text + "stages: {sft: {}}\n"))


def test_yaml_that_is_not_plain_values_is_refused() -> None:
    odd = {
        "&a [*a]": "refers to itself", "!!python/object/apply:os.system [x]": "not valid YAML",
        "a: [": "not valid YAML", "{[a]: 1}": "cannot be read|not valid",
        "[" * 5000: "nested too deeply|not valid", "a: 2001-99-99": "cannot be read",
    }  # fmt: skip
    for text, message in odd.items():
        with pytest.raises(EosinError, match=message):
            parse_yaml(text, "x.yaml")
    assert parse_yaml("", "x") is None and parse_yaml("a: &a [1]\nb: *a", "x") == {"a": [1], "b": [1]}


ODD = [
    "[]", "3", "stages: 3", "stages: []", "stages: {sft: 3}", "stages: {sft: [1]}", "stages: {sft: {kind: [a]}}",
    "stages: {sft: {kind: {a: 1}}}", "train: 1\nstages: {sft: {}}", "train: [a]\nstages: {sft: {}}",
    "data: 3\nstages: {sft: {}}", "data: {source: {a: 1}}\nstages: {sft: {}}", "data: {source: [a]}\nstages: {sft: {}}",
    "model: {kind: []}\nstages: {sft: {}}", "stages: {rl: {algorithm: {name: {a: 1}}}}",
    "stages: {rl: {algorithm: {name: [a]}}}", "stages: {rl: {algorithm: [grpo]}}",
    "stages: {rl: {rewards: {a: {b: 1}}}}",
    "stages: {rl: {rewards: [[a]]}}", "stages: {rl: {rewards: 3}}", "stages: {rl: {difficulty: [1]}}",
    "exams: [a]\nstages: {sft: {}}",
    "exams: {x: 1}\nstages: {sft: {}}", "name: [a]\nstages: {sft: {}}", "name: {a: 1}\nstages: {sft: {}}",
    "grammar: {a: 1}\nstages: {sft: {}}", "seed: .nan\nstages: {sft: {}}", "seed: {}\nstages: {sft: {}}",
    "1: 2\nstages: {sft: {}}", "stages: {1: {kind: sft}}", "stages: {sft: {start: [a]}}", "~: ~",
    "stages: {sft: {1: 2}}",
    "schema_version: [1]\nstages: {sft: {}}", "stages: {sft: {freeze: {a: 1}}}", "prompt: [a]\nstages: {sft: {}}",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_a_recipe_of_the_wrong_shape_is_told_and_never_a_traceback(tmp_path: Path, text: str) -> None:
    with pytest.raises(EosinError) as caught:
        load_recipe(written(tmp_path, text))
    assert str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["train=1", "stages=3", "data=[a]", "=x", "a", "stages.sft=1", "data.source={a: 1}", "x.y.z=1", "name=../x"],
)
def test_an_override_of_the_wrong_shape_is_told(tmp_path: Path, override: str) -> None:
    with pytest.raises(EosinError):
        load_recipe(written(tmp_path, "stages: {sft: {}}"), [override])


def test_recipes_found_by_fuzzing_are_told(shared_data: Path) -> None:
    for path in sorted((shared_data / "odd_files").glob("recipe-*.yaml")):
        try:
            load_recipe(path)
        except EosinError:
            continue
