from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from eosin.core.nouns.classes import Classes
from eosin.core.nouns.sample import ImagePart
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.engines.base import MockEngine, Request
from eosin.evaluate.exam.exam import run_exam
from eosin.evaluate.exam.items import group_of
from eosin.evaluate.probes.probes import looks_at_image, shift_options, swap_donors

ALL = ExamSettings(probes=["blank", "swapped", "question_only", "options_shuffled"])


def test_model_that_looks(samples, look, grammar, tmp_path: Path) -> None:
    summary = run_exam(MockEngine(look), samples, grammar, ALL, tmp_path / "e")
    probes = summary["probes"]
    assert summary["accuracy"] == 1.0 and summary["looks_at_image"] is True
    assert probes["swapped"]["accuracy"] == 0.0
    assert probes["swapped"]["follows_image"] == 1.0 and probes["swapped"]["follows_image_n"] == 24
    assert probes["blank"]["balanced_accuracy"] == pytest.approx(1 / 3), "grey is always nearest to one class"
    assert probes["blank"]["exam_on_same_items"]["accuracy"] == 1.0
    assert probes["blank"]["exam_minus_probe"]["difference"] == pytest.approx(2 / 3)
    assert probes["question_only"]["accuracy"] < 0.6
    assert probes["options_shuffled"]["accuracy"] == probes["options_shuffled"]["consistency"] == 1.0
    for name in ALL.probes:
        rows = store.read_jsonl(tmp_path / "e" / f"probe-{name}.jsonl")
        assert len(rows) == probes[name]["n"] == 24
        assert probes[name]["accuracy"] == np.mean([r["correct"] for r in rows])
        assert len(probes[name]["ci95"]) == 2


def test_model_that_ignores_the_image_is_named(samples, gold, grammar, tmp_path: Path) -> None:
    summary = run_exam(MockEngine(gold), samples, grammar, ExamSettings(), tmp_path / "e")
    assert summary["accuracy"] == summary["probes"]["blank"]["accuracy"] == 1.0
    assert summary["looks_at_image"] is False
    assert "blank: not shown" in summary["looks_at_image_reason"]
    assert summary["probes"]["swapped"]["follows_image"] == 0.0


def test_model_that_guesses_is_not_said_to_look(samples, grammar, tmp_path: Path) -> None:
    """Different random letters with and without the image, same skill: the interval holds 0."""
    rng = np.random.default_rng(0)
    engine = MockEngine(lambda r: f"<think>x</think><answer>{'ABC'[rng.integers(3)]}</answer>")
    summary = run_exam(engine, samples, grammar, ExamSettings(), tmp_path / "e")
    assert summary["looks_at_image"] is False


def test_letter_picker_is_seen_by_shuffling(samples, grammar, tmp_path: Path) -> None:
    engine = MockEngine(lambda r: "<think>x</think><answer>B</answer>")
    summary = run_exam(engine, samples, grammar, ALL, tmp_path / "e")
    assert summary["probes"]["options_shuffled"]["consistency"] == 0.0
    assert summary["looks_at_image"] is False


def test_what_each_probe_shows(samples, grammar, tmp_path: Path) -> None:
    seen: list[Request] = []

    def reply(request: Request) -> str:
        seen.append(request)
        return ""

    run_exam(MockEngine(reply), samples, grammar, ALL, tmp_path / "e")
    normal, blank, swapped, question, shuffled = (seen[24 * k : 24 * (k + 1)] for k in range(5))
    for before, after in zip(normal, blank, strict=True):
        assert after.messages == before.messages and after.images[0].size == before.images[0].size
        assert after.images[0].getcolors() == [(256, (128, 128, 128))]
    for before, after in zip(normal, question, strict=True):
        assert after.images == () and after.messages[-1].text == before.messages[-1].text
        assert not any(isinstance(p, ImagePart) for m in after.messages for p in m.parts)
    for before, after in zip(normal, swapped, strict=True):
        assert after.messages == before.messages and after.images[0].tobytes() != before.images[0].tobytes()
    shown = Counter(r.images[0].tobytes() for r in swapped)
    assert shown == Counter(r.images[0].tobytes() for r in normal), "a permutation: every image once"
    for before, after in zip(normal, shuffled, strict=True):
        assert after.images[0].tobytes() == before.images[0].tobytes()
        assert after.messages[-1].text != before.messages[-1].text


def test_shift_keeps_the_right_text(samples) -> None:
    for sample in samples[:6]:
        shifted = shift_options(sample)
        assert shifted.answer_text == sample.answer_text and shifted.answer != sample.answer
        assert [c.text for c in shifted.choices][1:] == [c.text for c in sample.choices][:-1]


@pytest.mark.parametrize("seed", range(5))
def test_donors_differ_in_class_and_case(make, seed: int) -> None:
    samples = [
        s.model_copy(update={"origin": s.origin.model_copy(update={"case": str(i % 4)})})
        for i, s in enumerate(make(30, 3))
    ]
    skewed = [s for s in samples if s.label != "cancer"] + [s for s in samples if s.label == "cancer"][:2]
    donors = swap_donors(skewed, Classes.of(skewed), seed)
    for sample, donor in zip(skewed, donors, strict=True):
        assert donor is not None
        assert skewed[donor].label != sample.label and group_of(skewed[donor]) != group_of(sample)
    assert len(set(donors)) >= 0.9 * len(skewed)
    assert donors == swap_donors(skewed, Classes.of(skewed), seed)


def test_majority_class_still_gets_donors(make) -> None:
    """10 normals and one cancer: no permutation exists, the cancer's image is shown to all normals."""
    samples = make(30, 1)
    items = [s for s in samples if s.label == "normal"] + [s for s in samples if s.label == "cancer"][:1]
    donors = swap_donors(items, Classes.of(items), 0)
    assert donors[:10] == [10] * 10 and donors[10] in range(10)


def test_one_class_cannot_be_swapped(make, look, grammar, tmp_path: Path) -> None:
    samples = [s for s in make(30, 1) if s.label == "normal"]
    summary = run_exam(MockEngine(look), samples, grammar, ExamSettings(), tmp_path / "e")
    assert "swapped" not in summary["probes"]
    assert summary["probes_skipped"]["swapped"] == "no item has a partner of another class and another case"


def test_probe_samples_are_balanced_and_compared_on_the_same_items(make, look, grammar, tmp_path: Path) -> None:
    samples = make(15, 2)
    kept = [s for s in samples if s.label != "cancer"] + [s for s in samples if s.label == "cancer"][:2]
    summary = run_exam(MockEngine(look), kept, grammar, ExamSettings(probe_samples=8), tmp_path / "e")
    rows = store.read_jsonl(tmp_path / "e" / "probe-blank.jsonl")
    assert Counter(r["label"] for r in rows) == {"normal": 3, "adenoma": 3, "cancer": 2}
    assert summary["n"] == 22 and summary["probes"]["blank"]["n"] == 8


def test_too_few_cases_give_no_verdict(make, look, grammar, tmp_path: Path) -> None:
    settings = ExamSettings(probes=["blank"])
    summary = run_exam(MockEngine(look), make(1, 4), grammar, settings, tmp_path / "e")
    assert summary["looks_at_image"] is None and "one cluster" in summary["looks_at_image_reason"]
    assert looks_at_image({}) == (None, "neither the blank nor the swapped probe ran")
