"""Readings of benchmarks: what each makes of one reply, worked out by hand from its described rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.nouns.outcome import Parsed
from eosin.scoring.reading.presets import PRESETS, answer_part, differences

FOUR = {"A": "normal mucosa", "B": "tubular adenoma", "C": "adenocarcinoma", "D": "carcinoid tumour"}
YES_NO = {"A": "Yes", "B": "No"}


def read(name: str, text: str, choices: dict[str, str] = FOUR) -> str | None:
    found = PRESETS[name].read(text, choices)
    return found.value if isinstance(found, Parsed) else None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B) and (C)", "C"), ("First (A), then (B).", "B"), ("I say B here", "B"), ("B", "B"), ("B.", "B"),
        ("tubular adenoma is what I see here", "B"), ("adenocarcinoma or rather tubular adenoma of colon", "B"),
    ],
)  # fmt: skip
def test_pathmmu_takes_the_last_one(text: str, letter: str) -> None:
    assert read("pathmmu", text) == letter


def test_pathmmu_gives_an_answer_to_nothing_at_all_and_it_is_spread() -> None:
    drawn = {read("pathmmu", f"dunno {i}") for i in range(60)}
    assert drawn == set("ABCD") and read("strict", "dunno 1") is None and read("tolerant", "dunno 1") is None


def test_omnimedvqa_takes_what_looks_most_alike() -> None:
    assert read("omnimedvqa", "a tubular adenom") == "B" and read("omnimedvqa", "not adenocarcinoma") == "C"


def test_quilt_llava_hears_a_no_in_every_not() -> None:
    assert read("quilt-llava", "Yes, although it is not large", YES_NO) == "B"
    assert read("quilt-llava", "It grows slowly", YES_NO) == "A"
    assert read("tolerant", "It grows slowly", YES_NO) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [("B", "B"), ("(B)", "B"), ("A benign looking gland", None), ("A", "A"), ("B or C", None), ("tubular adenoma", "B"),
     ("I'm sorry, but B", None)],
)  # fmt: skip
def test_vlmevalkit(text: str, letter: str | None) -> None:
    assert read("vlmevalkit", text) == letter


def test_which_part_a_script_is_given() -> None:
    assert answer_part("<think>A</think><answer>B</answer>") == "B"
    assert answer_part("<think>A</think> C") == "C" and answer_part(" D ") == "D"


def test_differences_on_the_same_replies_and_the_verb(tmp_path: Path) -> None:
    row = {"choices": FOUR, "answer": "C"}
    rows = [
        {**row, "reply": "<think>x</think><answer>C</answer>", "parsed": "C", "tolerant": "C"},
        {**row, "reply": "<think>x</think><answer>(B) and (C)</answer>", "parsed": None, "tolerant": None},
        {**row, "reply": "<think>x</think><answer>It is C</answer>", "parsed": None, "tolerant": "C"},
        {"choices": {}, "answer": "x", "reply": "x", "parsed": "x", "tolerant": "x"},
    ]
    found = differences(rows)
    assert {n: (f["accuracy"], f["others"]) for n, f in found.items() if n in ("strict", "tolerant", "pathmmu")} == {
        "strict": (pytest.approx(1 / 3), 0), "tolerant": (pytest.approx(2 / 3), 1), "pathmmu": (1.0, 2),
    }  # fmt: skip
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    shown = CliRunner().invoke(app, ["exams", "readings", str(tmp_path)], env={"COLUMNS": "160"})
    assert shown.exit_code == 0 and "pathmmu" in shown.stdout and "1.000" in shown.stdout
    assert CliRunner().invoke(app, ["exams", "readings", str(tmp_path / "no")]).exception is not None
