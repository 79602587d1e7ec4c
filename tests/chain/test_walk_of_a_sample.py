"""docs/architecture.md: one sample from a PDF to a reward, by the calls that the page names. No torch."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.formats import read_samples
from eosin.core.nouns.outcome import Parsed
from eosin.core.nouns.prompt import gold_reply, prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.scoring import load_rewards
from eosin.scoring.reading.item import item_from_sample
from eosin.sources.captions.questions import with_questions


def test_a_figure_of_a_book_becomes_a_question_whose_reply_is_rewarded(tmp_path: Path) -> None:
    pytest.importorskip("reportlab")
    for argv in (
        ["phantom", "documents", str(tmp_path / "books"), "--num", "1", "--articles", "0"],
        ["documents", str(tmp_path / "books"), "--out", str(tmp_path / "figures"), "--no-previews"],
    ):
        done = CliRunner().invoke(app, argv)
        assert done.exit_code == 0, (done.output, done.exception)
    asked = with_questions(read_samples(tmp_path / "figures"), seed=0)
    sample = next(s for s in asked.kept if s.entities)
    assert sample.origin.article and sample.origin.licence and len(sample.choices) == 4

    grammar = Grammar.of("think/answer")
    sample = sample.model_copy(update={"reasoning": ("The picture shows what the caption says.",)})  # as a teacher's
    prompt = prompt_messages(sample, grammar)[-1].text
    assert all(choice.text in prompt for choice in sample.choices)
    gold = gold_reply(sample, grammar)
    wrong = next(c for c in sample.choices if c.letter != sample.answer)
    rewards = load_rewards("accuracy", "think/answer")
    totals = []
    for reply in (gold, f"<think>No.</think><answer>{wrong.letter}. {wrong.text}</answer>", "I cannot say."):
        outcome = rewards.score(item_from_sample(sample, reply))
        totals.append(outcome.total)
    assert isinstance(grammar.parse(gold), Parsed)
    assert totals == [1.0, 0.0, 0.0]
