"""The first lines of a report name a model that does not beat the best of its baselines."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.synthetic_run import write_run

from eosin.core.settings.exam import BASELINE_NAMES
from eosin.core.store import artifacts as store
from eosin.report import build, words
from eosin.report.records.load import load
from eosin.report.sections.baselines import BASELINES, baseline_verdict, best_baseline
from eosin.report.sections.overview import headline
from eosin.report.tables import _BASELINES

EXAM = {
    "against_baselines": {
        "best": "colour_texture", "metric": "balanced_accuracy", "model": 0.91, "baseline": 0.957, "difference": -0.047,
        "ci95": [-0.083, -0.013], "n": 300, "beats": False,
    }
}  # fmt: skip


def against(**more: object) -> dict[str, object]:
    return {"against_baselines": {**EXAM["against_baselines"], **more}}


def test_every_baseline_has_words() -> None:
    assert tuple(BASELINES) == BASELINE_NAMES == tuple(_BASELINES)


@pytest.mark.parametrize(
    ("ends", "start"),
    [
        ([-0.083, -0.013], "The model is worse than its best baseline, colour and texture: 91.0"),
        ([-0.083, 0.004], "The model does not beat its best baseline, colour and texture: 91.0"),
        ([0.001, 0.09], "The model beats every baseline; the best of them is colour and texture: 91.0"),
        (None, "Whether the model beats its best baseline (colour and texture) is not known: 91.0"),
    ],
)
def test_verdict_in_one_sentence(ends: list[float] | None, start: str) -> None:
    told = baseline_verdict(against(ci95=ends))
    assert told.startswith(start) and "against 95.7" in told and "same 300 questions" in told
    assert told.count(". ") == 0 and told.endswith(".")


@pytest.mark.parametrize("junk", [{}, {"against_baselines": 3}, against(best=None), against(difference="x")])
def test_nothing_is_said_where_nothing_was_compared(junk: dict[str, object]) -> None:
    assert baseline_verdict(junk) == ""


def test_the_verdict_is_the_first_line_of_the_report(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", num_cases=12)
    path = root / "evals/rl/heldout/summary.json"
    store.write_json(path, {**store.read_object(path), **EXAM})
    run = load(root)
    assert words.result(run)[0] == baseline_verdict(EXAM)
    page = build(root).read_text("utf-8")
    assert page.index("The model is worse than its best baseline") < page.index("stages of training ran")


def test_the_best_baseline_stands_in_large_type(tmp_path: Path) -> None:
    run = load(write_run(tmp_path / "run", num_cases=12))
    assert words.result(run)[0].startswith("3 stages"), "an older run has no comparison"
    assert [t["name"] for t in headline(run) if t["stage"] == "best baseline"] == ["Colour histogram"]
    found = {"majority": {"accuracy": 0.2}, "colour_texture": {"accuracy": 0.9}, "x": {"n": 0, "reason": "none"}}
    assert best_baseline(found, {}) == ("colour_texture", found["colour_texture"])
    assert best_baseline(found, against(best="majority")) == ("majority", found["majority"])
    assert best_baseline({}, {}) is None
