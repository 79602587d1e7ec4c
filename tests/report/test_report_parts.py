"""Words, statistics, replies, curves and the terminal table, each against values done by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from synthetic_run import make_samples, predict, scores, write_exam, write_run

from eosin.core.store import artifacts as store
from eosin.report import summary_table, words
from eosin.report.drawing import numbers
from eosin.report.drawing.curves import _series, _smooth, _thinned
from eosin.report.records.load import ExamRun, StageRun, load
from eosin.report.records.stats import chance_level, lower_end, paired_change
from eosin.report.sections.replies import Piece, gallery_rows, pieces, rollout_groups


def row(i: int, correct: bool, group: str | None = None, label: str = "a") -> dict[str, Any]:
    return {"id": f"q{i}", "group": group or f"case:{i}", "correct": correct, "label": label}


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u202f", " ")


def test_numbers_by_hand() -> None:
    assert plain(numbers.percent_with_interval(0.875, [0.8, 0.9])) == "87.5 % [80.0, 90.0]"
    assert numbers.percent(None) == numbers.percent(float("nan")) == numbers.percent(True) == "not recorded"
    assert [plain(numbers.duration(s)) for s in (4.24, 75, 252, 7500)] == ["4.2 s", "75 s", "4 min 12 s", "2 h 05 min"]
    assert plain(numbers.count(1234567)) == "1 234 567"
    assert numbers.points(-0.033) == "\u22123.3"
    assert [numbers.figure(v) for v in (1.0, 0.1, 0.00123, None)] == ["1", "0.1", "0.00123", "none"]


def test_paired_change_by_hand() -> None:
    before = [row(i, i < 50) for i in range(100)]
    after = [row(i, i < 80) for i in range(100)]
    change = paired_change(before, after)
    assert change is not None
    assert change.difference == pytest.approx(0.3) and (change.n, change.num_clusters) == (100, 100)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 100)  # the differences are 0 or 1, with mean 0.3
    assert change.lo == pytest.approx(0.3 - half, abs=0.02) and change.hi == pytest.approx(0.3 + half, abs=0.02)
    assert change.is_better and not change.is_worse


def test_paired_change_is_wider_where_cases_repeat() -> None:
    before = [row(i, False, f"case:{i // 10}") for i in range(100)]
    after = [row(i, (i // 10) % 2 == 0, f"case:{i // 10}") for i in range(100)]
    clustered = paired_change(before, after)
    single = paired_change([{**r, "group": r["id"]} for r in before], [{**r, "group": r["id"]} for r in after])
    assert clustered is not None and single is not None
    assert clustered.num_clusters == 10
    assert clustered.hi - clustered.lo > 2 * (single.hi - single.lo)


def test_paired_change_needs_shared_questions() -> None:
    assert paired_change([row(1, True)], [row(2, True)]) is None
    assert paired_change([row(1, True)], [row(1, True)]) is None  # one cluster gives no interval


def test_chance_and_lower_end_by_hand() -> None:
    assert chance_level([{"choices": {"A": "x", "B": "y"}}, {"choices": dict.fromkeys("ABCD", "x")}]) == 0.375
    assert chance_level([], ["a", "b", "c", "d"]) == 0.25
    assert chance_level([{"choices": {}}], ["a"]) is None
    assert lower_end({"ci95": [0.2, 0.4], "accuracy": 0.3}) == 0.2
    assert lower_end({"accuracy": 0.5, "n": 100}) == pytest.approx(0.4038, abs=1e-3)  # Wilson
    assert lower_end({"accuracy": None, "n": 100}) is None


def test_pieces_keep_all_text() -> None:
    assert pieces("<think>a</think>\n<answer>B. x</answer>") == [Piece("think", "a"), Piece("answer", "B. x")]
    assert pieces("hm <think>a</think> b <answer>c") == [
        Piece(None, "hm"), Piece("think", "a"), Piece(None, "b"), Piece("answer", "c", is_closed=False),
    ]  # fmt: skip
    assert pieces("</think>only") == [Piece(None, "</think>only")]
    assert pieces(None) == [] and pieces("") == []
    assert "more characters" in pieces("x" * 9999)[0].text


def test_gallery_shows_both_outcomes_and_new_cases_first() -> None:
    rows = [row(i, True, f"case:{i // 2}", label="ab"[i % 2]) for i in range(20)] + [row(99, False, label="b")]
    chosen = gallery_rows(ExamRun("rl", "x", {}, rows), 4)
    assert [r["correct"] for r in chosen].count(False) == 1
    assert len({r["group"] for r in chosen}) == 4
    assert chosen == gallery_rows(ExamRun("rl", "x", {}, rows), 4)
    late = [row(i, True, label=f"l{i:02d}") for i in range(20)] + [row(99, False, label="z")]
    assert any(not r["correct"] for r in gallery_rows(ExamRun("rl", "x", {}, late), 6))
    assert gallery_rows(ExamRun("rl", "x", {}, rows), 0) == []


def test_rollout_groups_take_the_widest_of_a_step() -> None:
    rows = [
        {"step": s, "sample_id": f"s{g}", "group": g, "reward": r}
        for s in (1, 2, 3)
        for g, rewards in ((0, (1, 1)), (1, (0, 1)))
        for r in rewards
    ]
    groups = rollout_groups(StageRun("rl", {}, "complete", rollouts=rows), limit=2)
    assert [(g.step, g.sample_id, g.mean, g.std) for g in groups] == [
        (1, "s1", 0.5, np.sqrt(0.5)),
        (3, "s1", 0.5, np.sqrt(0.5)),
    ]


def test_curves_sort_and_count_a_resumed_step_once() -> None:
    series = _series([{"step": 2, "loss": 5.0}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 4.0}, {"loss": 9}])
    assert series["loss"][0].tolist() == [1, 2] and series["loss"][1].tolist() == [3.0, 4.0]
    steps, values = _thinned(np.arange(900.0), np.arange(900.0))
    assert len(steps) == 300 and values.mean() == pytest.approx(449.5) and values[0] == 1.0
    assert np.allclose(_smooth(np.arange(90.0)), np.arange(90.0))  # a straight line stays straight


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("words") / "run")


def test_a_good_run_has_no_warning(good: Path) -> None:
    assert words.warnings(load(good)) == []


def test_rl_below_sft_is_told(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", {"base": 0.1, "sft": 0.95, "rl": 0.6})
    told = words.warnings(load(root))
    assert any("rl is worse than sft" in w for w in told)
    assert any("a loss" in s for s in words.result(load(root)))


def test_change_is_measured_from_the_start_of_the_stage(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", {"base": 0.2, "sft": 0.95, "rl": 0.6})
    text = (root / "recipe.yaml").read_text("utf-8").replace("  rl:\n", "  rl:\n    start: base\n")
    (root / "recipe.yaml").write_text(text, encoding="utf-8")
    run = load(root)
    assert run.exam_before(run.of_exam("heldout")[-1]).stage == "base"  # type: ignore[union-attr]
    assert not any("worse" in w for w in words.warnings(run))


def _spoil(root: Path, **changed: Any) -> list[str]:
    run = load(root)
    exam = next(e for e in run.exams if e.stage == "rl")
    exam.summary.update(changed)
    return words.warnings(run)


def test_each_warning_follows_its_figure(good: Path) -> None:
    blind = {"blank": {"accuracy": 0.6, "n": 120, "ci95": [0.5, 0.7]}}
    assert any("Blank image: accuracy 60.0 %" in plain(w) for w in _spoil(good, probes=blind))
    assert any("2.0 % of the replies did not obey" in plain(w) for w in _spoil(good, unparsed_rate=0.02))
    assert any("9.0 % of the replies hit the length cap" in plain(w) for w in _spoil(good, truncated_rate=0.09))
    assert any("is small: 40 questions" in plain(w) for w in _spoil(good, n=40))
    assert any("5 cases only" in plain(w) for w in _spoil(good, num_clusters=5))
    assert any("2 items without a usable image" in plain(w) for w in _spoil(good, num_set_aside=2))
    assert _spoil(good, unparsed_rate=0.01, truncated_rate=0.05) == []


def test_failed_and_starved_stages_are_told(good: Path) -> None:
    run = load(good)
    run.stages[0].state, run.stages[0].info["error"] = "failed", "out of memory"
    run.stages[1].info["step_time"] = {"data": 30.0, "compute": 70.0}
    run.stages[2].metrics = [{"step": i, "frac_zero_std": 0.8} for i in range(5)]
    told = [plain(w) for w in words.warnings(run)]
    assert "Stage pretrain failed: out of memory." in told
    assert "Data takes 30 % of the step in sft: it holds training back." in told
    assert any("80 % of the groups had no spread" in w for w in told)
    assert "Data starves the step in sft" in words.starve_sentence(run)


def test_overfitting_is_told(good: Path) -> None:
    run = load(good)
    run.stages[1].metrics = [{"step": i, "eval_loss": v} for i, v in enumerate((2.0, 1.0, 1.5))]
    assert any("rose again from 1 to 1.5" in w for w in words.warnings(run))


def test_a_case_in_two_splits_is_told(tmp_path: Path) -> None:
    from eosin.core.formats.parquet import write_parquet

    root = write_run(tmp_path / "run", {"sft": 0.9}, num_cases=30)
    moved = [s.model_copy(update={"split": "valid"}) for s in make_samples("test", 2)]
    write_parquet(moved, root / "samples/valid.parquet")
    assert any("2 of the split units stand in both valid and test" in w for w in words.warnings(load(root)))
    assert "some stand in two of them" in words.split_rule(load(root))


def test_probe_sentence_tells_blind_from_seeing(good: Path) -> None:
    run = load(good)
    exam = run.result_exam
    assert exam is not None
    assert "its answers come from the image" in words.probe_sentence(run, exam)
    exam.summary.update(accuracy=0.2, ci95=[0.12, 0.28])
    assert "not shown that its answers come from the image" in words.probe_sentence(run, exam)
    exam.summary["probes"]["blank"].update(accuracy=0.8, ci95=[0.7, 0.9])
    assert "does not come from the image" in words.probe_sentence(run, exam)
    exam.summary["probes"] = {}
    assert "not known" in words.probe_sentence(run, exam)


def test_a_baseline_that_could_not_be_computed_says_why(good: Path) -> None:
    run = load(good)
    run.baselines["heldout"]["colour_histogram"] = {"n": 0, "reason": "needs images"}
    assert any("colour histogram not computed (needs images)" in s for s in words.result(run))


def test_exam_on_training_samples_is_not_the_main_one(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", {"sft": 0.9}, num_cases=30)
    text = (root / "recipe.yaml").read_text("utf-8").replace("exams:\n", "exams:\n  aseen:\n    split: train\n")
    (root / "recipe.yaml").write_text(text, encoding="utf-8")
    (root / "evals/sft/heldout").rename(root / "evals/sft/aseen")
    write_exam(root, "sft", make_samples("test", 30), 0.7, 5)
    (root / "summary.json").unlink()
    run = load(root)
    assert run.exam_names[:2] == ["aseen", "heldout"]
    assert run.result_exam is not None and run.result_exam.name == "heldout"
    assert any("uses training samples" in w for w in words.warnings(run))


def test_the_first_lines_speak_of_the_stage_that_the_recipe_names(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", {"sft": 0.9, "rl": 0.8}, num_cases=30)
    assert (exam := load(root).result_exam) is not None and exam.stage == "rl"
    with (root / "recipe.yaml").open("a", encoding="utf-8") as file:
        file.write("report: {result: sft}\n")
    assert (exam := load(root).result_exam) is not None and exam.stage == "sft"


def shown(summary: dict[str, Any], width: int = 80) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=width).print(summary_table(summary))
    return buffer.getvalue()


def test_summary_table_shows_stages_probes_and_baselines(good: Path) -> None:
    summary = store.read_json(good / "summary.json")
    text = shown(summary)
    last = summary["stages"][-1]["exams"]["heldout"]
    line = next(x for x in text.splitlines() if x.strip().startswith("rl"))
    assert f"{100 * last['accuracy']:.1f} [{100 * last['ci95'][0]:.1f}, {100 * last['ci95'][1]:.1f}]" in line
    assert f"{100 * last['probes']['blank']['accuracy']:.1f}" in line and "120" in line
    assert "colours only" in text and "majority" in text and "question" in text and "…" not in text
    assert "not for diagnosis" in text


def test_summary_table_of_little_or_odd_content() -> None:
    assert "not for diagnosis" in " ".join(shown({}).split())
    odd = {"stages": [{"name": "[bold]x[/nope]", "exams": {"e": {"accuracy": None, "probes": {"blank": 0.25}}}}, 3]}
    two = {"e": {"accuracy": 0.5}, "f": {"accuracy": 0.25}}
    assert [x.split()[-1] for x in shown({"stages": [{"name": "s", "exams": two}]}).splitlines() if ".0" in x] == [
        "50.0",
        "25.0",
    ]
    text = shown({**odd, "baselines": {"e": {"majority": {"n": 0, "reason": "none"}, "z": 4}}})
    assert "[bold]x[/nope]" in text and "25.0" in text


def test_synthetic_scores_agree_with_their_rows() -> None:
    rows = predict(make_samples("test", 6), 1.0, 0, unparsed=0.0)
    found = scores(rows)
    assert found["accuracy"] == 1.0 and found["confusion"][0][0] == 2
