"""A reward of a user's own: in a file, in a module, and as the entry point of an installed package."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from eosin.core import plugins
from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Scored, Unscored
from eosin.scoring import ScoreContext, ScoreItem, Term, load_rewards, term_names
from eosin.scoring.terms import base as term

ITEM = ScoreItem(id="1", reply="<think>short words</think><answer>B</answer>", answer="B", choices={"A": "x", "B": "y"})


class Brief(Term):
    """A reward as a class, with checked options."""

    name = "brief"
    max_words: int = 5

    def score(self, context: ScoreContext) -> Scored | Unscored:
        return Scored(float(len(context.block("think").split()) <= self.max_words))


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        textwrap.dedent("""
        def shout(item, grammar, *, mark="!"):
            if not item.reply:
                return None
            return float(mark in item.reply)
        """),
        "utf-8",
    )
    rewards = load_rewards([{"name": f"{file}:shout", "label": "shout", "mark": "short"}, {"name": "accuracy"}])
    assert rewards.score(ITEM).terms == {"shout": 1.0, "accuracy": 1.0}
    assert rewards.score(ITEM.with_reply("")).unscored["shout"] == "the reward returned None"
    with pytest.raises(EosinError, match="cannot be loaded"):
        load_rewards(f"{file}:whisper")


def test_a_file_with_annotations_that_are_texts_and_classes_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        textwrap.dedent("""
        from __future__ import annotations
        from dataclasses import dataclass
        from typing import ClassVar, Literal
        from eosin.core.nouns.outcome import Scored
        from eosin.scoring import Term

        @dataclass
        class Words:
            num: ClassVar[int] = 2

        class Own(Term):
            name = "own"
            way: Literal["half", "whole"] = "half"

            def score(self, context):
                return Scored(1 / Words.num if self.way == "half" else 1.0)
        """),
        "utf-8",
    )
    assert load_rewards(f"{file}:Own").score(ITEM).total == 0.5
    assert load_rewards({"name": f"{file}:Own", "way": "whole"}).score(ITEM).total == 1.0
    with pytest.raises(EosinError, match="does not take this"):
        load_rewards({"name": f"{file}:Own", "way": "none"})


@pytest.mark.parametrize("text", ["def f(:", "1 / 0", "import no_such_package", "raise RuntimeError('x')", "\0"])
def test_a_file_that_does_not_run_is_one_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.py").write_text(text, "utf-8")
    before = set(sys.modules)
    with pytest.raises(EosinError, match=r"broken.py:f' cannot be loaded") as caught:
        load_rewards(f"{tmp_path / 'broken.py'}:f")
    assert "must run without an error" in str(caught.value)
    assert not {m for m in set(sys.modules) - before if "broken" in m}


def test_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("brief", f"{__name__}:Brief", term.ENTRY_POINT_GROUP)])
    monkeypatch.setattr(plugins, "entry_points", lambda group: points.select(group=group))
    assert "brief" in term_names()
    assert load_rewards([{"name": "brief", "max_words": 1}]).score(ITEM).total == 0.0
    assert load_rewards("brief").score(ITEM).total == 1.0
    with pytest.raises(EosinError, match="does not take this") as caught:
        load_rewards([{"name": "brief", "max_word": 1}])
    assert "max_words" in str(caught.value)


def test_wrong_returns_are_unscored(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "def odd(item, grammar): return 'good'\ndef nan(item, grammar): return float('nan')\nthing = 3\n", "utf-8"
    )
    assert "returned str" in load_rewards(f"{file}:odd").score(ITEM).unscored[f"{file}:odd"]
    assert load_rewards(f"{file}:nan").score(ITEM).total is None
    with pytest.raises(EosinError, match="not a function"):
        load_rewards(f"{file}:thing")


def test_scoring_does_not_load_torch() -> None:
    code = (
        "import sys, eosin.scoring, eosin.scoring.proof.prove, eosin.scoring.judge.model;"
        "import eosin.scoring.adapters.trl, eosin.scoring.adapters.verl;"
        "eosin.scoring.load_rewards('eosin').score(eosin.scoring.ScoreItem(id='1', reply='x', answer='y'));"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'trl')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
