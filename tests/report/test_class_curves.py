"""Curves by class from rows that were made by hand; the noise scale over a stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.report.synthetic_run import write_run
from tests.report.test_report_page import read

from eosin.report import build
from eosin.report.drawing.class_curves import MAX_CLASSES, MAX_STRETCHES, _panels, class_curves, shown_classes
from eosin.report.records.load import StageRun
from eosin.report.sections.rl import noise_sentence


def row(step: int, name: str, num: int, **more: Any) -> dict[str, Any]:
    return {"stage": "rl", "step": step, "class": name, "num_replies": num, "num_in_loss": num, **more}


def told(n: int, total: float) -> dict[str, Any]:
    return {"n": n, "num_in_loss": n, "advantage": total / n, "advantage_sum": total}


def by_hand() -> list[dict[str, Any]]:
    return [
        row(1, "a", 8, reward=1.0, answers={"a": told(2, -1.0), "b": told(6, 1.0)}, entropy=0.5, kl=None,
            kinds={"right, form broken": told(2, -1.0), "wrong, form kept": told(6, 1.0)}, term_spread={"format": 0.4}),
        row(1, "b", 24, reward=0.5, answers={"b": told(12, 3.0)}, entropy=None, kl=None,
            kinds={"right, form kept": told(12, 3.0)}, term_spread={"format": 0.0}),
        row(2, "b", 8, reward=0.25, answers={}, entropy=0.1, kl=None, kinds={}, term_spread={}),
    ]  # fmt: skip


def test_means_are_over_replies() -> None:
    panels = {p.title: points for p, points in _panels(by_hand(), ["b", "a"])}
    steps, values = panels["Reward by class of the prompt"]["b"]
    assert steps.tolist() == [1, 2] and values.tolist() == [0.5, 0.25]
    assert panels["What is answered"]["b"][1].tolist() == [pytest.approx(18 / 32)]  # the second step has no answers
    assert panels["What pushes an answer"]["b"][1].tolist() == [pytest.approx(4 / 32), 0]
    assert panels["Advantage by kind of reply"]["right, form broken"][1].tolist() == [-0.5]
    assert panels["Which term ranks the replies"]["format"][1].tolist() == [pytest.approx(0.4 * 8 / 32)]
    assert panels["Entropy by class"]["a"][1].tolist() == [0.5] and not len(panels["KL to the start by class"]["a"][0])


def test_many_steps_and_classes_are_bounded() -> None:
    rows = [row(s, f"class {c}", 8 + c, reward=float(c)) for s in range(1, 91) for c in range(9)]
    assert shown_classes(rows) == [f"class {c}" for c in range(8, 8 - MAX_CLASSES, -1)]
    points = next(iter(_panels(rows, shown_classes(rows))))[1]["class 8"]
    assert len(points[0]) == MAX_STRETCHES and np.allclose(points[1], 8)
    assert len(class_curves(rows, "rl", "x")) == 2  # reward, and the answers' push, which is 0 all along


def test_broken_rows_are_passed_over() -> None:
    assert class_curves([{"step": "x"}, {"class": 3, "step": 1}, {}], "rl", "x") == []
    assert class_curves([row(1, "a", 8, answers=7, kinds=[], term_spread=None, reward="high")], "rl", "x")


def test_noise_is_pooled_over_the_stage() -> None:
    metrics = [
        {"step": 1, "gradient_noise": 6.0, "gradient_signal": 1.0},
        {"step": 2, "loss": 0.1},
        {"step": 3, "gradient_noise": 6.0, "gradient_signal": -0.5},
    ]
    info = {"kind": "rl", "settings": {"batch_size": 64, "num_generations": 8}}
    assert noise_sentence(StageRun("rl", info, "complete", metrics=metrics)) == (
        "simple noise scale 24 prompts (2 measurements; a step takes 8)"
    )
    assert noise_sentence(StageRun("rl", {}, "complete", metrics=metrics[2:])) == (
        "no gradient is seen above the noise (1 measurement)"
    )
    assert noise_sentence(StageRun("rl", {}, "complete", metrics=metrics[1:2])) == ""


def test_the_page_shows_the_curves_by_class(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run")
    assert "By class of the prompt" not in read(build(root)).text  # runs of older versions have no such file
    (root / "stages/rl/by_class.jsonl").write_text("".join(json.dumps(r) + "\n" for r in by_hand()), "utf-8")
    page = read(build(root))
    titles = [a["aria-label"] or "" for a in page.all("svg")]
    assert any(t.startswith("Advantage by kind of reply of stage rl") for t in titles)
    assert "By class of the prompt" in page.text and page.wrong == [] and page.open == []
