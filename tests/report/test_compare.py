"""Several runs side by side: figures by hand, spread over seeds, hostile and partial runs, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import write_run
from test_report_page import read
from typer.testing import CliRunner

from eosin.cli.exams.report import app
from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store
from eosin.report import compare
from eosin.report.pages.compare import as_markdown, mean_line
from eosin.report.records.compare import SeedStats, compare_runs
from eosin.report.records.load import load

SHARES = ({"base": 0.0, "sft": 0.70, "rl": 0.80}, {"base": 0.0, "sft": 0.74, "rl": 0.90})


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u202f", " ")


def seeded(root: Path, seed: int, shares: dict[str, float], name: str = "demo") -> Path:
    """A run of the recipe with this seed."""
    write_run(root, shares, num_cases=30)
    text = (root / "recipe.yaml").read_text("utf-8")
    text = text.replace("seed: 0", f"seed: {seed}").replace("name: demo", f"name: {name}")
    (root / "recipe.yaml").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("compare")
    return [seeded(folder / f"run{seed}", seed, shares) for seed, shares in enumerate(SHARES)]


def test_spread_by_hand() -> None:
    three = SeedStats((0.6, 0.7, 0.8))
    assert three.mean == pytest.approx(0.7) and three.sd == pytest.approx(0.1)
    half = 4.303 * 0.1 / np.sqrt(3)  # t with two degrees of freedom
    assert three.t95 == pytest.approx((0.7 - half, 0.7 + half))
    assert SeedStats((0.6,)).sd is None and SeedStats((0.6,)).t95 is None


def balanced_of(runs: list[Path]) -> list[dict[str, float]]:
    return [{e.stage: e.summary["balanced_accuracy"] for e in load(r).of_exam("heldout")} for r in runs]


def test_rows_by_hand(runs: list[Path]) -> None:
    found = compare_runs(runs)
    table = found.tables["heldout"]
    assert [r.key for r in table] == ["base", "sft", "rl"]
    exams = [{e.stage: e.summary["accuracy"] for e in load(r).of_exam("heldout")} for r in runs]
    rl = table[2]
    assert rl.accuracy.values == tuple(e["rl"] for e in exams)
    assert rl.before is not None and rl.before.values == tuple(e["sft"] for e in exams)
    assert rl.start == "sft" and rl.title == "DAPO+{beta=0.01}"
    assert rl.pooled is not None and rl.pooled.difference == pytest.approx(np.mean([e["rl"] for e in exams]))
    assert rl.pooled.lo < rl.accuracy.mean < rl.pooled.hi and rl.pooled.num_clusters == 30  # cases, not cases x runs
    assert rl.change is not None
    assert rl.change.difference == pytest.approx(np.mean([e["rl"] - e["sft"] for e in exams]))
    assert rl.changes is not None and rl.changes.mean == pytest.approx(rl.change.difference)
    assert rl.prompts is not None and rl.prompts.values == (450.0, 450.0)
    assert table[1].prompts is not None and table[1].prompts.values == (400 * 32.0,) * 2
    assert rl.seconds is not None and rl.seconds.mean == pytest.approx(90 * 0.4 - 0.02 * 90)  # without asking
    both = found.differences["heldout"]
    assert both["rl", "sft"].mean == pytest.approx(-both["sft", "rl"].mean)
    assert both["rl", "sft"].mean == pytest.approx(np.mean([e["rl"] - e["sft"] for e in balanced_of(runs)]))
    assert ("base", "sft") not in both


def test_cases_stay_one_cluster_over_runs(tmp_path: Path) -> None:
    """Two runs that answer alike say no more than one: the interval over cases does not shrink."""
    same = [seeded(tmp_path / f"run{s}", s, {"base": 0.0, "sft": 0.7}) for s in range(2)]
    alone, both = compare_runs(same[:1]).tables["heldout"][1], compare_runs(same).tables["heldout"][1]
    assert alone.pooled is not None and both.pooled is not None
    assert (alone.pooled.lo, alone.pooled.hi) == pytest.approx((both.pooled.lo, both.pooled.hi))


def test_page_markdown_and_json_agree(runs: list[Path], tmp_path: Path) -> None:
    page_path = compare(runs, tmp_path / "out")
    page = read(page_path)
    data = json.loads((tmp_path / "out" / "table.json").read_text("utf-8"))
    markdown = (tmp_path / "out" / "table.md").read_text("utf-8")
    [row] = [r for r in data["exams"]["heldout"] if r["stage"] == "rl"]
    shown = f"{100 * row['accuracy']['mean']:.1f} % \u00b1 {100 * row['accuracy']['sd']:.1f}"
    assert shown in plain(page.text) and shown in plain(markdown)
    assert [r["seed"] for r in row["runs"]] == [0, 1]
    assert row["runs"][0]["ci95"][0] < row["runs"][0]["accuracy"] < row["runs"][0]["ci95"][1]
    assert page.wrong == [] and page.open == []
    charts = [a["aria-label"] or "" for a in page.all("svg")]
    for start in (
        "Balanced accuracy in the exam heldout over runs", "Change of balanced accuracy in the exam heldout",
        "Accuracy in the exam heldout against prompts seen",
        "Accuracy in the exam heldout against seconds", "Held-out accuracy over prompts seen",
        "Held-out accuracy over seconds", "Held-out accuracy over optimiser step",
    ):  # fmt: skip
        assert any(c.startswith(start) for c in charts), start
    assert "PHANTOM" in page.text and "not for diagnosis" in page.text and "not for diagnosis" in markdown
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    for table in markdown.split("Exam ")[1:]:
        lines = [x for x in table.splitlines() if x.startswith("|")]
        assert len(lines) >= 5 and len({x.count("|") for x in lines}) == 1
    assert page_path.stat().st_size < 400_000
    assert "/" not in "".join(r["folder"] for r in data["runs"])  # no path of this machine


def test_sampled_replies_are_a_column_where_there_are_any(runs: list[Path], tmp_path: Path) -> None:
    assert "sampled replies" not in as_markdown(compare_runs(runs))
    root = seeded(tmp_path / "run", 0, SHARES[0])
    path = root / "evals/rl/heldout/summary.json"
    store.write_json(path, {**store.read_json(path), "sampled": {"k": 2, "accuracy": 0.625}})
    markdown = plain(as_markdown(compare_runs([root])))
    assert "sampled replies" in markdown and markdown.count("62.5 %") == 1
    lines = [x for x in markdown.split("Exam ")[-1].splitlines() if x.startswith("|")]
    assert len({x.count("|") for x in lines}) == 1


def test_stages_of_several_recipes_are_kept_apart(tmp_path: Path) -> None:
    one = seeded(tmp_path / "a", 0, SHARES[0])
    other = seeded(tmp_path / "b", 0, SHARES[1], name="other")
    keys = [r.key for r in compare_runs([one, other]).tables["heldout"]]
    assert keys == ["demo/base", "demo/sft", "demo/rl", "other/base", "other/sft", "other/rl"]


def test_what_must_be_known_is_told(tmp_path: Path, runs: list[Path]) -> None:
    assert any("2 runs only" in n for n in compare_runs(runs).notes)
    other = seeded(tmp_path / "c", 0, SHARES[1])
    text = (other / "recipe.yaml").read_text("utf-8").replace("train_cases: 24", "train_cases: 48")
    (other / "recipe.yaml").write_text(text, encoding="utf-8")
    summary = store.read_json(other / "summary.json")
    store.write_json(other / "summary.json", {**summary, "state": "partial"})
    rows = store.read_jsonl(other / "evals/rl/heldout/predictions.jsonl")
    lines = "".join(json.dumps({**r, "id": "new-" + r["id"]}) + "\n" for r in rows)
    (other / "evals/rl/heldout/predictions.jsonl").write_text(lines, "utf-8")
    notes = " ".join(compare_runs([runs[0], other]).notes)
    for told in (
        "differ in data.train_cases", "share a seed (0, 0)", "c (seed 0) is partial", "does not ask the same questions",
    ):  # fmt: skip
        assert told in notes, told


def test_a_stage_that_only_some_runs_have(tmp_path: Path, runs: list[Path]) -> None:
    short = seeded(tmp_path / "short", 7, {"base": 0.0, "sft": 0.5})
    found = compare_runs([*runs, short])
    assert [len(r.entries) for r in found.tables["heldout"]] == [3, 3, 2]
    assert "| rl |" in as_markdown(found)


def test_means_of_curves_by_hand() -> None:
    x, y = mean_line(
        [(np.array([0.0, 10.0, 20.0]), np.array([0.0, 0.5, 1.0])), (np.array([0.0, 16.0]), np.array([0.2, 1.0]))]
    )
    assert x.tolist() == [0.0, 10.0, 16.0]  # as far as both go
    assert y == pytest.approx([0.1, (0.5 + 0.7) / 2, (0.8 + 1.0) / 2])


@pytest.mark.parametrize("wrong", ["twice", "nothing", "no exam"])
def test_what_cannot_be_compared_is_refused(wrong: str, tmp_path: Path, runs: list[Path]) -> None:
    (tmp_path / "empty" / "stages").mkdir(parents=True)
    chosen: dict[str, list[Path]] = {"twice": [runs[0], runs[0]], "nothing": [], "no exam": [tmp_path / "empty"]}
    with pytest.raises(EosinError):
        compare(chosen[wrong], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hostile_names_are_text(tmp_path: Path) -> None:
    root = seeded(tmp_path / "x", 0, {"base": 0.0, "sft": 0.7}, name="<script>alert(1)</script>")
    markdown = as_markdown(compare_runs([root]))
    page = read(compare([root], tmp_path / "out"))
    assert not page.all("script") and "<script>alert(1)</script>" in page.text
    assert markdown.split("Exam ")[1].count("\n| sft ") == 1


def call(*args: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in args])


def test_the_command_writes_all_and_a_run_alone_still_has_its_page(runs: list[Path], tmp_path: Path) -> None:
    done = call("compare", *runs, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "| rl |" in done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"index.html", "table.md", "table.json"}
    alone = call(runs[0], "--out", tmp_path / "one.html")
    assert alone.exit_code == 0 and (tmp_path / "one.html").is_file()
    first = call("--out", tmp_path / "two.html", runs[0])
    assert first.exit_code == 0 and (tmp_path / "two.html").is_file()
    assert call("--help").exit_code == 0 and "compare" in call("--help").output
