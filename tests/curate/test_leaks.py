"""Leaks between an exam and training are found by patient, image, near image and text, and wording is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosin.chain.leaks import UNKNOWN, measure_leaks, training_of
from eosin.core.formats import write_artifact
from eosin.core.images import encode_png
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, make_choices, user_prompt
from eosin.core.store import artifacts as store
from eosin.curate.leaks import IMAGE, NEAR, PATIENT, TEXT, find_leaks


def picture(seed: int, shift: int = 0) -> ImageBytes:
    rng = np.random.default_rng(seed)
    pixels = np.asarray(Image.fromarray(rng.integers(0, 255, (8, 9, 3), dtype=np.uint8)).resize((72, 64)))
    return ImageBytes(data=encode_png(Image.fromarray((pixels.astype(int) * 0.9 + shift).astype(np.uint8))))


def sample(id: str, seed: int, text: str, case: str, *, shift: int = 0, split: str = "test") -> Sample:
    return Sample(
        id=id, images=(picture(seed, shift),), messages=user_prompt(text), choices=make_choices(["adenoma", "lipoma"]),
        answer="A", origin=Origin(source="made", case=case), split=split,  # type: ignore[arg-type]
    )  # fmt: skip


WORDS = ("man", "of", "some", "years", "has", "a", "firm", "nodule", "that", "grows", "without", "any", "pain", "now")


def question(i: int) -> str:
    """A long question of its own words."""
    return " ".join(
        f"{word}{i}"
        for word in [
            "a",
            "man",
            "of",
            "some",
            "years",
            "has",
            "a",
            "firm",
            "nodule",
            "that",
            "grows",
            "without",
            "any",
            "pain",
        ]
    )


EXAM = [sample(f"e{i}", i, question(i), f"c{i}") for i in range(8)]
TRAIN = [
    sample("same case", 100, "Which is it?", "c1", split="train"),
    sample("same image", 2, "Which?", "x2", split="train"),
    sample("brighter", 3, "Which one?", "x3", shift=12, split="train"),
    sample("same text", 104, "Please tell. " + question(4).upper(), "x4", split="train"),
    *[sample(f"other{i}", 200 + i, f"What number {i} is this?", f"y{i}", split="train") for i in range(6)],
]


def test_each_kind_is_found_once() -> None:
    found = find_leaks(EXAM, TRAIN)
    assert [(leak.id, leak.reason, leak.training) for leak in found] == [
        ("e1", PATIENT, "same case"), ("e2", IMAGE, "same image"), ("e3", NEAR, "brighter"), ("e4", TEXT, "same text"),
    ]  # fmt: skip
    assert find_leaks(EXAM, TRAIN[4:]) == []


def test_another_source_may_use_the_same_names() -> None:
    other = [s.model_copy(update={"origin": s.origin.model_copy(update={"source": "b"})}) for s in TRAIN[:1]]
    assert find_leaks(EXAM, other) == []


def test_wording_that_a_set_repeats_is_no_leak() -> None:
    words = "What does this tile of tissue show, and which of the options below names it best of all of them?"
    exam = [sample(f"e{i}", i, words, f"c{i}") for i in range(10)]
    assert find_leaks(exam, [sample("t", 99, words, "x", split="train")]) == []
    often = [sample(f"t{i}", 300 + i, words, f"x{i}", split="train") for i in range(10)]
    assert find_leaks(exam[:1], often) == []
    assert [leak.reason for leak in find_leaks(exam[:1], often[:1])] == [TEXT]  # once here and once there: a copy


def test_clean_accuracy_beside_the_figure(tmp_path: Path) -> None:
    exam = tmp_path / "out" / "exam"
    exam.mkdir(parents=True)
    rows = [{"id": s.id, "group": f"case:{s.id}", "correct": i in (1, 2, 3, 4, 7)} for i, s in enumerate(EXAM)]
    (exam / "predictions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = measure_leaks(TRAIN, EXAM, exam)
    assert (found["num_leaked"], found["n"], found["clean_n"]) == (4, 8, 4)
    assert found["clean_accuracy"] == pytest.approx(1 / 4)  # of 5 right ones, 4 had been seen
    assert found["by_reason"] == {PATIENT: 1, IMAGE: 1, NEAR: 1, TEXT: 1}
    assert store.read_json(tmp_path / "out" / "leaks.json") == found
    assert measure_leaks(None, EXAM, exam)["reason"] == UNKNOWN


def test_training_samples_are_those_of_the_record(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_artifact([*TRAIN, *EXAM], run / "samples")
    samples = store.open_artifact(run / "samples", "samples")
    checkpoint = run / "stages" / "sft" / "checkpoint"
    with store.writing(checkpoint, "checkpoint", parents=(samples,)) as writer:
        (writer.dir / "x.txt").write_text("x")
    found = training_of(str(checkpoint))
    assert found is not None and [s.id for s in found] == [s.id for s in TRAIN]
    assert training_of("some/model-on-the-hub") is None
    with store.writing(run / "alone", "checkpoint") as writer:
        (writer.dir / "x.txt").write_text("x")
    assert training_of(str(run / "alone")) is None
