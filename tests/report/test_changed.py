"""The page of what a stage changed: warnings, figures by hand, items that turned, old and odd runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import write_run
from test_report_page import check_self_contained, read

from eosin.core.store import artifacts as store
from eosin.evaluate.statistics.before_after import before_after, interval_of
from eosin.evaluate.statistics.intervals import cluster_interval
from eosin.evaluate.statistics.ratios import FIGURES, paired
from eosin.report import build
from eosin.report.pages.run import shown_samples
from eosin.report.records.load import Run, load
from eosin.report.sections.changed import (
    MAX_TURNED,
    change_warnings,
    changed_stages,
    class_changes,
    comparisons,
    exam_change,
    kept_record,
    shown_turned,
    turned,
)

Edit = Callable[[dict[str, Any]], dict[str, Any]]
KEEP = {
    "figure": "valid_score", "start": 0.71, "end": 0.63, "best": 0.74, "best_step": 20, "kept": "step 20", "n": 60,
    "verdict": "The end was worse than the start beyond noise; the run goes on from step 20.",
    "classes_lost": ["necrosis"],
}  # fmt: skip


def edited(root: Path, stage: str, edit: Edit) -> None:
    path = root / f"evals/{stage}/heldout/predictions.jsonl"
    rows = [edit(r) for r in store.read_jsonl(path)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")


def forget(label: str) -> Edit:
    """All questions of a class are answered wrongly."""
    return lambda r: r | {"correct": False, "predicted_label": "muscle"} if r["label"] == label else r


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", {"base": 0.0, "sft": 0.86, "rl": 0.92})


def rl_of(root: Path) -> tuple[Run, Any, Any]:
    run = load(root)
    [(before, after)] = comparisons(run, "rl")
    return run, before, after


def test_a_lost_class_is_told_first(root: Path) -> None:
    edited(root, "rl", forget("necrosis"))
    run, before, after = rl_of(root)
    share = class_changes(before, after)["necrosis"].before
    [told] = [w for w in change_warnings(run) if "lost" in w]
    assert told == (
        f"rl against sft, exam \u201cheldout\u201d: the class \u201cnecrosis\u201d was lost: "
        f"recall from {100 * share:.0f}\u00a0% to 0."  # type: ignore[operator]
    )
    page, index = read(build(root).parent / "changed-rl.html"), read(root / "report/index.html")
    for where in (page, index):
        assert told.replace("\u00a0", " ") in where.text.replace("\u00a0", " ")
    assert page.text.index("What this stage made worse") < page.text.index("Recall by class")
    check_self_contained(page)
    check_self_contained(index)
    assert any(a.get("href") == "changed-rl.html" for a in index.all("a"))
    assert any(a.get("href") == "index.html" for a in page.all("a"))


def test_a_recall_that_falls_clear_of_0_is_told_and_a_gain_is_not(root: Path) -> None:
    edited(root, "sft", lambda r: r | {"correct": True} if r["label"] in ("muscle", "necrosis") else r)
    edited(root, "rl", lambda r: r | {"correct": not r["id"].endswith("-0")} if r["label"] == "muscle" else r)
    run, before, after = rl_of(root)
    found = class_changes(before, after)["muscle"]
    assert (found.before, found.after, found.change) == (1.0, 0.5, -0.5) and found.is_clear and not found.is_lost
    [told] = [w for w in change_warnings(run) if "muscle" in w]
    assert "recall of \u201cmuscle\u201d fell from 100\u00a0% to 50\u00a0% (\u221250.0 [" in told
    assert not [w for w in change_warnings(run) if "normal mucosa" in w and "sft" not in w.split(" against ")[0]]


def test_figures_by_hand(root: Path) -> None:
    run, before, after = rl_of(root)
    found = exam_change(before, after)
    assert [r["name"] for r in found["figures"]][:2] == ["balanced accuracy", "accuracy"]
    assert found["n"] == "120" and found["num_clusters"] == "60" and len(found["confusions"]) == 2
    wrong, right = turned(before, after)
    gain = sum(r["correct"] for r in after.rows) - sum(r["correct"] for r in before.rows)
    assert len(right) - len(wrong) == gain and found["num_wrong"] == len(wrong)
    shown = shown_turned(before, after)
    assert all(0 < len(rows) <= MAX_TURNED for rows in shown)
    assert {str(r["id"]) for rows in shown for r in rows} <= set(shown_samples(root))
    page = read(build(root).parent / "changed-rl.html")
    for sample in (r["id"] for rows in shown for r in rows):
        assert sample in page.text
    assert page.text.count("turned wrong") == len(shown[0]) + 1  # and the sentence that counts them
    pictures = [a for a in page.all("img") if a.get("class") == "tile"]
    assert len(pictures) == len(shown[0]) + len(shown[1])
    assert run.start_of("rl") == "sft" and "reward term accuracy" in page.text


def test_intervals_are_those_of_the_exams(root: Path) -> None:
    _, before, after = rl_of(root)
    pair = paired(before.rows, after.rows, FIGURES["accuracy"])
    assert pair is not None
    order = {r["id"]: r for r in before.rows}
    rows = [order[r["id"]] for r in after.rows]
    wanted = cluster_interval([r["correct"] for r in rows], [r["group"] for r in rows])
    assert interval_of(pair[0]) == pytest.approx(wanted.pair)
    all_parsed = [r | {"parsed": "A"} for r in after.rows]
    found = before_after(all_parsed, all_parsed, FIGURES["unparsed"])
    assert found is not None and found.after == 0 and found.change == 0 and found.change_ends == (0, 0)
    assert found.after_ends is not None and found.after_ends[1] == pytest.approx(1 - 0.025 ** (1 / 60))  # not [0, 0]


def test_findings_have_their_own_rows(root: Path) -> None:
    for stage, stated in (("sft", 4), ("rl", 2)):
        edited(root, stage, lambda r, n=stated: r | {  # type: ignore[misc]
            "entity_f1": 0.5, "entity_matched": 1, "entity_predicted": n, "entity_gold": 2,
        })  # fmt: skip
    _, before, after = rl_of(root)
    shown = {r["name"]: r for r in exam_change(before, after)["figures"]}
    assert shown["findings: precision"]["before"].startswith("25.0\u00a0%")
    assert shown["findings: precision"]["change"].startswith("+25.0")
    assert shown["findings: precision"]["verdict"] == "better" and not shown["findings: precision"]["is_bad"]
    assert shown["findings: recall"]["verdict"] == "no clear change"


def test_more_unparsed_replies_are_worse(root: Path) -> None:
    edited(root, "rl", lambda r: r | {"parsed": None, "correct": False} if r["id"].endswith("-0") else r)
    _, before, after = rl_of(root)
    shown = {r["name"]: r for r in exam_change(before, after)["figures"]}
    assert shown["unparsed replies"]["verdict"] == "worse" and shown["unparsed replies"]["is_bad"]


def test_what_the_stage_kept_is_shown_and_may_be_missing(root: Path) -> None:
    assert "What the stage kept" not in read(build(root).parent / "changed-rl.html").text
    path = root / "stages/rl/stage.json"
    store.write_json(path, {**store.read_json(path), "keep": KEEP})
    text = read(build(root).parent / "changed-rl.html").text
    assert str(KEEP["verdict"]) in text and "0.74, at step 20" in text and "necrosis" in text
    for odd in (7, {}, {"classes_lost": 3, "best": "high", "n": None}):
        store.write_json(path, {**store.read_json(path), "keep": odd})
        stage = next(s for s in load(root).stages if s.name == "rl")
        assert (kept_record(stage) is None) == (odd == 7)
        build(root)


def test_stages_without_both_exams_have_no_page(root: Path) -> None:
    assert [s.name for s in changed_stages(load(root))] == ["sft", "rl"]
    (root / "evals/rl/heldout/predictions.jsonl").unlink()
    build(root, root / "other.html")
    names = {p.name for p in root.glob("*.html")}
    assert names == {"other.html", "other-changed-sft.html"}
    home = [a["href"] for a in read(root / "other-changed-sft.html").all("a")]
    assert "other.html" in home


def test_answers_without_classes_and_one_cluster(root: Path) -> None:
    for stage in ("sft", "rl"):
        path = root / f"evals/{stage}/heldout/summary.json"
        store.write_json(path, {**store.read_json(path), "labels": [], "confusion": [], "recall": {}})
        edited(root, stage, lambda r: r | {"group": "case:1"})
    _, before, after = rl_of(root)
    found = exam_change(before, after)
    assert [r["name"] for r in found["figures"]][0] == "accuracy" and found["classes"] == []
    assert "[" not in found["figures"][0]["change"]  # one cluster has no interval
    page = read(build(root).parent / "changed-rl.html")
    assert "form no classes" in page.text and "No confusion matrix was recorded" in page.text


def test_hostile_names_are_text(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", {"base": 0.0, "sft": 0.86, "rl": 0.7})
    bad = "<script>alert(1)</script>"
    for stage in ("sft", "rl"):
        edited(root, stage, lambda r: r | {"label": bad, "group": bad, "reply": bad, "question": bad})
        path = root / f"evals/{stage}/heldout/summary.json"
        store.write_json(path, {**store.read_json(path), "labels": [bad]})
    page = read(build(root).parent / "changed-rl.html")
    assert not page.all("script") and bad in page.text
    check_self_contained(page)
