"""Altered reasoning, noise and another organ: models whose answer hangs on them are told from those whose does not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.engines.base import MockEngine, Request
from eosin.evaluate.exam.evaluator import _noise
from eosin.evaluate.exam.exam import run_exam
from eosin.evaluate.probes.reasoning import begun_with, last_named

NAMES = ["normal mucosa", "adenoma", "carcinoma"]
GRAMMAR = Grammar.of("think/answer")


def seen_in(request: Request) -> str:
    """The class of the colour in the middle of the picture."""
    colours = {"normal mucosa": 200, "adenoma": 120, "carcinoma": 80}
    red = float(np.asarray(request.images[0], dtype=float)[4:12, 4:12, 0].mean())
    return min(colours, key=lambda n: abs(colours[n] - red))


def option(request: Request, text: str) -> str:
    line = next(x for x in request.messages[-1].text.splitlines() if x[3:] == text)
    return f"<answer>{line}</answer>"


def reasoner(request: Request) -> str:
    """Answers what the reasoning names last; without any, what it sees."""
    if request.begun:
        named = last_named(request.begun, NAMES)
        return option(request, named or "normal mucosa")
    told = seen_in(request)
    return f"<think>The glands are seen. This is {told}.</think>" + option(request, told)


def decided(request: Request) -> str:
    """Writes the same reasoning, and answers what it sees whatever was written."""
    return option(request, seen_in(request)) if request.begun else reasoner(request)


PROBES = ["noise", "cut_reasoning", "corrupted_step", "other_reasoning"]
SETTINGS = ExamSettings(probes=PROBES, bootstrap=100)


def test_a_model_that_follows_its_reasoning_changes_its_answer(samples: list[Sample], tmp_path: Path) -> None:
    summary = run_exam(MockEngine(reasoner), samples, GRAMMAR, SETTINGS, tmp_path / "e")
    assert summary["accuracy"] == 1.0 and summary["entailment"]["rate"] == 1.0 and summary["entailment"]["n"] == 24
    probes = summary["probes"]
    assert probes["corrupted_step"]["answer_changed"] == probes["corrupted_step"]["follows_told"] == 1.0
    assert probes["other_reasoning"]["answer_changed"] == probes["other_reasoning"]["follows_told"] == 1.0
    # Cut to "The glands are seen." it falls back on one class: two classes of three change.
    assert probes["cut_reasoning"]["answer_changed"] == pytest.approx(2 / 3)
    assert (
        probes["cut_reasoning"]["follows_told"] is None and probes["cut_reasoning"]["answer_changed_ci95"] is not None
    )
    rows = {r["id"]: r for r in store.read_jsonl(tmp_path / "e" / "probe-cut_reasoning.jsonl")}
    assert all(r["reply"].startswith("<think>The glands are seen.</think><answer>") for r in rows.values())
    normal = {r["id"]: r for r in store.read_jsonl(tmp_path / "e" / "predictions.jsonl")}
    for row in store.read_jsonl(tmp_path / "e" / "probe-other_reasoning.jsonl"):
        assert row["told"] != normal[row["id"]]["choices"][normal[row["id"]]["parsed"]]


def test_a_model_that_had_decided_before_does_not(samples: list[Sample], tmp_path: Path) -> None:
    probes = run_exam(MockEngine(decided), samples, GRAMMAR, SETTINGS, tmp_path / "e")["probes"]
    for name in ("cut_reasoning", "corrupted_step", "other_reasoning"):
        assert probes[name]["answer_changed"] == 0.0 and probes[name]["accuracy"] == 1.0, name


def test_replies_without_reasoning_are_skipped_with_the_reason(samples: list[Sample], tmp_path: Path) -> None:
    engine = MockEngine(lambda r: "<think></think>" + option(r, "adenoma"))
    summary = run_exam(engine, samples, GRAMMAR, SETTINGS, tmp_path / "e")
    assert set(summary["probes_skipped"]) == {"cut_reasoning", "corrupted_step", "other_reasoning"}
    assert summary["entailment"] == {"n": 0, "rate": None, "ci95": None, "num_silent": 0}


def test_an_answer_against_its_own_reasoning_is_not_entailed(samples: list[Sample], tmp_path: Path) -> None:
    engine = MockEngine(lambda r: "<think>Not normal mucosa, but carcinoma.</think>" + option(r, "adenoma"))
    summary = run_exam(engine, samples, GRAMMAR, ExamSettings(probes=[], bootstrap=100), tmp_path / "e")
    assert summary["entailment"]["rate"] == 0.0


def test_an_image_of_another_organ(samples: list[Sample], tmp_path: Path) -> None:
    organs = ["colon", "lung"]
    placed = [s.model_copy(update={"origin": s.origin.model_copy(update={"organ": organs[i // 2 % 2]})})
              for i, s in enumerate(samples)]  # fmt: skip
    of = {s.id: s.origin.organ for s in placed}
    settings = ExamSettings(probes=["wrong_organ", "noise"], bootstrap=100)
    summary = run_exam(MockEngine(reasoner), placed, GRAMMAR, settings, tmp_path / "e")
    rows = store.read_jsonl(tmp_path / "e" / "probe-wrong_organ.jsonl")
    assert len(rows) == 24 and all(of[r["image_of"]] != of[r["id"]] for r in rows)
    assert summary["probes"]["wrong_organ"]["follows_image"] == 1.0
    assert summary["probes"]["noise"]["accuracy"] == pytest.approx(1 / 3)  # noise is grey on average: always adenoma
    none = run_exam(MockEngine(reasoner), samples, GRAMMAR, settings, tmp_path / "f")
    assert none["probes_skipped"] == {"wrong_organ": "no two items name different organs"}


def test_noise_is_the_same_each_time_and_has_the_spread_of_a_bag() -> None:
    rng = np.random.default_rng(0)
    bag = PatchBag("s", rng.normal(3, 2, (500, 4)).astype(np.float32), np.zeros((500, 2)), 256.0, 0.5)
    made = _noise(bag, "a/0")
    assert isinstance(made, PatchBag) and (made.centres_um == bag.centres_um).all()
    assert made.features.mean() == pytest.approx(3, abs=0.3) and made.features.std() == pytest.approx(2, abs=0.3)
    assert (_noise(bag, "a/0").features == made.features).all()  # type: ignore[union-attr]
    assert not (_noise(bag, "b/0").features == made.features).all()  # type: ignore[union-attr]


def test_words_are_whole_and_the_longer_one_wins() -> None:
    assert last_named("An adenoma, or an adenocarcinoma.", ["adenoma", "carcinoma"]) == "adenoma"
    assert last_named("It is tubular adenoma", ["adenoma", "tubular adenoma"]) == "tubular adenoma"
    assert last_named("nothing", ["adenoma"]) is None
    assert re.match(
        r"^<info>x</info><think>y</think>$", begun_with("<info>x</info><think>z</think><answer>A</answer>", "y")
    )
