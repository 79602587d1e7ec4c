"""Every documented form of a reward, through the command line to the end of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.toys import toy_recipe, toy_table
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store

OWN = """
from eosin.core.nouns.outcome import Scored
from eosin.scoring import Term, ScoreContext


def letters(item, grammar, *, letter="e"):
    return item.reply.count(letter) / max(1, len(item.reply))


class Brief(Term):
    name = "brief"
    max_words: int = 80

    def score(self, context: ScoreContext):
        return Scored(float(len(context.item.reply.split()) <= self.max_words))
"""
FORMS: dict[str, Any] = {
    "set": "eosin",
    "set with an option": [{"name": "patho-r1-grpo", "gate": "both"}],
    "list": [{"name": "accuracy", "weight": 0.9}, {"name": "format", "weight": 0.1}],
    "by source": {"toy": [{"name": "format"}], "default": "eosin"},
    "own function": [
        {"name": "accuracy"}, {"name": "{file}:letters", "label": "letters", "weight": 0.1, "letter": "a"},
    ],
    "own function alone": "{file}:letters",
    "own class": [{"name": "{file}:Brief", "weight": 0.5, "max_words": 9}, {"name": "format"}],
    "own of a module": [{"name": "mine_of_a_module:letters"}],
    "entry point": [{"name": "letters-of-a-package", "letter": "o"}],
    "by source, own": {"default": [{"name": "{file}:letters", "label": "mine"}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    toy_table(folder / "tiles", num=36)
    (folder / "mine.py").write_text(OWN, "utf-8")
    (folder / "mine_of_a_module.py").write_text(OWN, "utf-8")
    package = folder / "mine-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n", "utf-8")
    (package / "entry_points.txt").write_text(
        "[eosin.rewards]\nletters-of-a-package = mine_of_a_module:letters\n", "utf-8"
    )
    return folder


def with_file(value: Any, file: Path) -> Any:
    if isinstance(value, str):
        return value.replace("{file}", str(file))
    if isinstance(value, list):
        return [with_file(v, file) for v in value]
    return {k: with_file(v, file) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.fixture
def run(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.syspath_prepend(str(started))

    def go(rewards: Any, **more: Any) -> Any:
        stage = {
            "steps": 1, "batch_size": 4, "num_generations": 2, "max_new_tokens": 6, "exam": False,
            "rewards": with_file(rewards, started / "mine.py"),
            **{k: v for k, v in more.items() if k != "exams"},
        }  # fmt: skip
        recipe = toy_recipe(started / "tiles", stage, "text") | {k: v for k, v in more.items() if k == "exams"}
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
        return CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "run")])

    return go


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_run_with_this_form_of_reward_ends(form: str, run: Callable[[Any], Any], tmp_path: Path) -> None:
    done = run(FORMS[form])
    assert done.exit_code == 0, done.exception
    record = store.read_json(tmp_path / "run" / "stages" / "rl" / "stage.json")
    assert store.read_json(tmp_path / "run" / "summary.json")["state"] == "complete"
    assert record["rewards"]["label"]
    if form == "own function":
        own = record["rewards"]["terms"][1]
        assert (
            own["name"] == "letters" and own["code"].endswith("mine.py:letters") and own["options"] == {"letter": "a"}
        )
    assert not (tmp_path / "run" / "stages" / "rl" / "work").exists()


def test_own_rewards_draw_and_examine_too(run: Callable[..., Any], tmp_path: Path, started: Path) -> None:
    """Rejection sampling by a function of one's own, and an exam that lists a class of one's own."""
    letters = {"name": "{file}:letters", "label": "letters"}
    varied = [letters | {"label": letter, "letter": letter} for letter in "aeinorst"]  # untrained replies have some
    terms = [{"name": f"{started / 'mine.py'}:Brief", "max_words": 9}]
    exams = {"heldout": {"max_new_tokens": 6, "probes": [], "baselines": "none", "bootstrap": 100, "terms": terms}}
    done = run(varied, kind="rejection", min_share=0.0, max_new_tokens=24, num_generations=4, exam=True, exams=exams)
    assert done.exit_code == 0, done.exception
    record = store.read_json(tmp_path / "run" / "stages" / "rl" / "stage.json")
    assert record["rewards"]["terms"][0]["code"].endswith("mine.py:letters")
    scored = store.read_json(tmp_path / "run" / "summary.json")["stages"][-1]["exams"]["heldout"]["scored"]
    assert scored["total"]["n"] > 0


@pytest.mark.parametrize("place", ["rl", "rejection", "exam"])
def test_a_reward_that_no_record_can_hold_is_found_before_the_first_step(
    place: str, run: Callable[..., Any], tmp_path: Path, started: Path
) -> None:
    (started / "odd.py").write_text(
        "from eosin.core.nouns.outcome import Scored\nfrom eosin.scoring import Term\n\n"
        "class Odd(Term):\n    name = 'odd'\n\n    def described(self, resources):\n"
        "        return {'what': object()}\n\n"
        "    def score(self, context):\n        return Scored(1.0)\n", "utf-8",
    )  # fmt: skip
    odd = [{"name": f"{started / 'odd.py'}:Odd"}]
    if place == "exam":
        done = run("accuracy", exam=True, exams={"heldout": {"max_new_tokens": 6, "terms": odd}})
    else:
        done = run(odd, kind=place, over_cap="warn")
    assert isinstance(done.exception, EosinError) and "cannot be written into a record" in str(done.exception)
    assert not (tmp_path / "run" / "stages" / "rl" / "metrics.jsonl").exists()
    assert not list((tmp_path / "run").glob("stages/rl/drawn*"))
    assert "odd" not in sys.modules
