"""Probabilities of options: forms of an answer, sums, calibration, and a killed exam that goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.engines.base import MockEngine, Request
from eosin.evaluate.exam.exam import run_exam
from eosin.evaluate.exam.option_probabilities import forms, softmax

GRAMMAR = Grammar.of("think/answer")
SETTINGS = ExamSettings(probes=[], bootstrap=100, option_probabilities=True)


class Sure(MockEngine):
    """Answers A, and is 70 % sure of it."""

    fail_after = 10**9

    def __init__(self) -> None:
        super().__init__(lambda request: "<think>hm</think><answer>A</answer>")
        self.asked: list[tuple[Request, list[str]]] = []

    def option_logprobs(self, request: Request, options: Sequence[str]) -> list[float]:
        if len(self.asked) >= self.fail_after:
            raise KeyboardInterrupt
        self.asked.append((request, list(options)))
        return [math.log(0.7) - 5, *[math.log(0.15) - 5] * 2]


def test_the_chosen_option_has_its_share(samples: list[Sample], tmp_path: Path) -> None:
    engine = Sure()
    summary = run_exam(engine, samples, GRAMMAR, SETTINGS, tmp_path / "e")
    rows = store.read_jsonl(tmp_path / "e" / "options.jsonl")
    assert [r["id"] for r in rows] == [s.id for s in samples]
    assert rows[0]["probabilities"] == pytest.approx({"A": 0.7, "B": 0.15, "C": 0.15})
    assert engine.asked[0][0].begun == "<think>hm</think><answer>" and engine.asked[0][1] == ["A", "B", "C"]
    found = summary["calibration"]
    assert found["mean_confidence"] == pytest.approx(0.7) and found["ece"] == pytest.approx(
        abs(0.7 - summary["accuracy"])
    )
    right, wrong = 0.3**2 + 2 * 0.15**2, 0.7**2 + 0.85**2 + 0.15**2
    share = summary["accuracy"]
    assert found["brier_over_options"] == pytest.approx(share * right + (1 - share) * wrong)


def test_a_killed_exam_asks_no_option_twice(samples: list[Sample], tmp_path: Path) -> None:
    first, second = Sure(), Sure()
    first.fail_after = 9
    with pytest.raises(KeyboardInterrupt):
        run_exam(first, samples, GRAMMAR, SETTINGS, tmp_path / "e")
    run_exam(second, samples, GRAMMAR, SETTINGS, tmp_path / "e")
    assert len(first.asked) + len(second.asked) == len(samples) == 24


def test_an_engine_that_cannot_say_gives_none(samples: list[Sample], tmp_path: Path) -> None:
    engine = MockEngine(lambda request: "<think>hm</think><answer>A</answer>")
    assert run_exam(engine, samples, GRAMMAR, SETTINGS, tmp_path / "e")["calibration"] is None
    assert not (tmp_path / "e" / "options.jsonl").exists()


def test_options_stand_in_the_form_of_the_answer(samples: list[Sample]) -> None:
    sample = samples[0]
    texts = [c.text for c in sample.choices]
    assert forms(sample, " B </answer>") == ["A", "B", "C"]
    assert forms(sample, f"B. {texts[1]}</answer>") == [f"{c}. {t}" for c, t in zip("ABC", texts, strict=True)]
    assert forms(sample, f"{texts[1]}</answer>") == texts
    assert softmax([-1000.0, -1000.0]) == [0.5, 0.5]
