"""Stages over several runs: mean change, worst seed, classes that were lost, and what few seeds allow to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import write_run
from test_report_page import read

from eosin.report.pages.compare import as_markdown, compare
from eosin.report.records.compare import compare_runs
from eosin.report.records.load import ExamRun
from eosin.report.records.over_seeds import Exams, difference, figures_over_seeds, lost_over_seeds, shared_questions

LABELS = ["a", "b"]


def exam(stage: str, right: dict[str, int], *, per_class: int = 20, prefix: str = "", **more: Any) -> ExamRun:
    """An exam of two classes with this many right replies of each, one case a question."""
    rows = [
        {"id": f"{prefix}{label}{i}", "group": f"case:{label}{i}", "label": label, "correct": i < right[label],
         "parsed": "A", **more}
        for label in LABELS for i in range(per_class)
    ]  # fmt: skip
    return ExamRun(stage, "heldout", {"balanced_accuracy": 0.5, "labels": LABELS}, rows)


def runs_with(gains: list[int], **more: Any) -> list[Exams]:
    """Runs whose class a gains this many right replies of 20."""
    return [
        Exams(f"seed {i}", exam("sft", {"a": 10, "b": 16}, **more), exam("rl", {"a": 10 + g, "b": 16}, **more))
        for i, g in enumerate(gains)
    ]


def test_mean_worst_seed_and_words() -> None:
    found = figures_over_seeds(runs_with([2, 4, -2, 3, 3]))["balanced_accuracy"]
    assert found.change is not None and found.change.is_crossed and found.change.num_clusters == 40
    assert found.change.by_seed == pytest.approx([0.05, 0.1, -0.05, 0.075, 0.075])
    assert found.change.mean == pytest.approx(0.05) and found.level.mean == pytest.approx(0.7)
    assert found.worst == ("seed 2", pytest.approx(-0.05)) and found.read_as == "not clear of 0"
    steady = figures_over_seeds(runs_with([4, 5, 4, 5, 4]))["balanced_accuracy"]
    assert steady.read_as == "clear of 0"
    assert figures_over_seeds(runs_with([4, 5]))["accuracy"].read_as.startswith("few seeds (2); ")
    assert figures_over_seeds(runs_with([4]))["accuracy"].read_as.startswith("one run; ")


def test_more_unparsed_replies_make_the_worst_seed() -> None:
    runs = runs_with([0, 0])
    for row in runs[1].after.rows[:10]:
        row["parsed"] = None
    found = figures_over_seeds(runs)["unparsed"]
    assert found.worst == ("seed 1", 0.25) and found.change is not None and found.change.mean == 0.125


def test_a_lost_class_names_its_seeds() -> None:
    runs = [*runs_with([1, 1]), Exams("seed 9", exam("sft", {"a": 10, "b": 16}), exam("rl", {"a": 20, "b": 0}))]
    assert lost_over_seeds(runs) == {"b": ["seed 9"]}
    low = Exams("x", exam("sft", {"a": 3, "b": 16}), exam("rl", {"a": 0, "b": 16}))
    assert lost_over_seeds([low]) == {}  # from 0.15


def test_runs_with_cases_of_their_own_are_nested() -> None:
    """Cases that are called alike, but whose questions differ, are other cases."""
    own = [e for i in range(3) for e in runs_with([3], prefix=f"{i}-")]
    found = figures_over_seeds(own)["accuracy"]
    assert shared_questions([e.after for e in own]) is None
    assert found.change is not None and not found.change.is_crossed and found.change.num_clusters == 120


def test_only_questions_that_all_runs_hold_count() -> None:
    runs = runs_with([2, 2, 2])
    del runs[0].after.rows[0], runs[2].before.rows[5:7]  # type: ignore[union-attr]
    found = figures_over_seeds(runs)["accuracy"]
    assert found.change is not None and found.level.num_clusters == 39
    # The third run's start lacks two questions more.
    assert found.change.is_crossed and found.change.num_clusters == 37
    assert found.change.by_seed == pytest.approx([2 / 37] * 3)


def test_what_has_no_figure_is_left_out_and_counted() -> None:
    runs = runs_with([1, 1], entity_f1=0.5, entity_matched=0, entity_predicted=0, entity_gold=2)
    for row in runs[0].after.rows + runs[0].before.rows:  # type: ignore[union-attr]
        row["entity_predicted"] = 1
    found = figures_over_seeds(runs)["entity_precision"]
    assert found.num_left_out == 1 and found.changed == ("seed 0",) and found.labels == ("seed 0",)
    alone = figures_over_seeds([Exams("seed 0", None, exam("sft", {"a": 1, "b": 1}))])
    assert alone["accuracy"].change is None and alone["accuracy"].worst is None and alone["accuracy"].read_as == ""
    assert figures_over_seeds([Exams("x", None, ExamRun("sft", "heldout", {"accuracy": 0.5}))]) == {}


def test_stages_are_compared_within_the_same_run() -> None:
    more = [Exams(e.label, e.before, exam("more-sft", {"a": 9, "b": 16})) for e in runs_with([0, 0, 0])]
    found = difference(runs_with([2, 3, 4]), more[1:], "balanced_accuracy")
    assert found is not None and found.by_seed == pytest.approx([0.1, 0.125])  # seeds 1 and 2: those that both have
    assert difference(runs_with([2]), [], "accuracy") is None


def test_the_comparison_says_it(tmp_path: Path) -> None:
    folders = []
    for seed, share in enumerate((0.80, 0.90)):
        root = write_run(tmp_path / f"run{seed}", {"base": 0.0, "sft": 0.7, "rl": share}, num_cases=30)
        text = (root / "recipe.yaml").read_text("utf-8").replace("seed: 0", f"seed: {seed}")
        (root / "recipe.yaml").write_text(text, "utf-8")
        folders.append(root)
    path = folders[1] / "evals/rl/heldout/predictions.jsonl"
    rows = [json.loads(x) for x in path.read_text("utf-8").splitlines()]
    rows = [r | {"correct": False, "parsed": None} if r["label"] == "necrosis" else r for r in rows]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    found = compare_runs(folders)
    rl = found.tables["heldout"][2]
    assert rl.headline is not None and rl.headline.name == "balanced_accuracy"
    assert rl.lost == {"necrosis": ["seed 1"]} and any("at least 5 seeds" in n for n in found.notes)
    markdown = as_markdown(found)
    assert (
        "necrosis (seed 1)" in markdown and "few seeds (2)" in markdown and "balanced accuracy over seeds" in markdown
    )
    page = read(compare(folders, tmp_path / "out"))
    assert "necrosis (seed 1)" in page.text and "Balanced accuracy over seeds" in page.text
    assert page.wrong == [] and page.open == []
    data = json.loads((tmp_path / "out" / "table.json").read_text("utf-8"))
    change = data["exams"]["heldout"][2]["figures"]["balanced_accuracy"]["change"]
    assert change["cases"] == "crossed" and change["bootstrap_seed"] == 0 and len(change["by_seed"]) == 2
    assert data["exams"]["heldout"][2]["classes_lost"] == {"necrosis": ["seed 1"]}
