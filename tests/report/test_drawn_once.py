"""A chart is drawn once from the same values, and anew where any of them is another one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from eosin.evaluate.statistics.resampling import draw_weights
from eosin.report.drawing.curves import Panel, draw_panel
from eosin.report.drawing.figures import accuracy_chart, in_style

ROWS: list[dict[str, Any]] = [
    {"label": "sft", "accuracy": 0.5, "ci95": (0.4, 0.6), "balanced": 0.45, "is_baseline": False},
    {"label": "majority", "accuracy": 0.3, "ci95": None, "balanced": None, "is_baseline": True},
]


def test_equal_values_are_drawn_once_and_others_anew() -> None:
    drawn: list[object] = []

    @in_style
    def draw(rows: object, name: str) -> str:
        drawn.append(copy.deepcopy(rows))
        return f"{name} {len(drawn)}"

    rows = copy.deepcopy(ROWS)
    assert draw(rows, "a") == draw(copy.deepcopy(rows), "a") == "a 1"
    rows[0]["accuracy"] = 0.51  # the very same object, changed
    assert draw(rows, "a") == "a 2" and draw(rows, "b") == "b 3"
    assert draw([1], "c") != draw([1.0], "c") != draw([True], "c")
    assert draw(np.arange(3), "d") == draw(np.arange(3), "d") != draw(np.arange(3.0), "d")
    assert draw(np.array([0.0, np.nan]), "e") == draw(np.array([0.0, np.nan]), "e")
    before = len(drawn)
    assert draw(object(), "f") != draw(object(), "f") and len(drawn) == before + 2  # what cannot be compared


def test_the_picture_follows_the_values() -> None:
    first = accuracy_chart(ROWS, 0.25, "x", "told")
    assert accuracy_chart(copy.deepcopy(ROWS), 0.25, "x", "told") == first
    changed = [{**ROWS[0], "accuracy": 0.9}, ROWS[1]]
    assert accuracy_chart(changed, 0.25, "x", "told") != first and "90.0" in accuracy_chart(changed, 0.25, "x", "told")
    panel, x = Panel("Loss", "nats", ("loss",)), np.arange(5.0)
    one = draw_panel(panel, {"loss": (x, x)}, "sft", "n")
    assert draw_panel(panel, {"loss": (x.copy(), x.copy())}, "sft", "n") == one
    assert draw_panel(panel, {"loss": (x, x + 1)}, "sft", "n") != one


def test_resamples_are_remembered_and_cannot_be_changed() -> None:
    [one], [two] = draw_weights(7, 50, 3), draw_weights(7, 50, 3)
    assert np.array_equal(one, two) and one.shape == (50, 7) and (one.sum(1) == 7).all()
    with pytest.raises(ValueError, match="read-only"):
        one[0, 0] = 1
    rng = np.random.default_rng(3)
    assert np.array_equal(one, rng.multinomial(7, np.full(7, 1 / 7), size=50))
    [other] = draw_weights(7, 50, 4)
    assert not np.array_equal(one, other)
