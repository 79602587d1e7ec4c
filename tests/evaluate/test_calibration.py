"""Calibration by hand and against scikit-learn; pass@k by counting; agreement of judges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, cohen_kappa_score, f1_score

from eosin.core.errors import EosinError
from eosin.evaluate.statistics import calibration as cal
from eosin.evaluate.statistics.agreement import weighted_kappa
from eosin.evaluate.statistics.draws import over_draws, pass_at_k, rungs, vote
from eosin.evaluate.statistics.groups import UNKNOWN, group_figures
from eosin.evaluate.statistics.metrics import macro_f1, macro_f1_interval


def test_calibration_error_by_hand() -> None:
    # (0.9, 0.9]: two items of .85, one right; [0, .1]: one item of 0, wrong; (.5, .6]: one of .6, right.
    confidence, right = [0.85, 0.85, 0.0, 0.6], [True, False, False, True]
    assert cal.calibration_error(confidence, right) == pytest.approx((2 * 0.35 + 0 + 0.4) / 4)
    assert cal.brier(confidence, right) == pytest.approx((0.0225 + 0.7225 + 0 + 0.16) / 4)
    bins = cal.reliability(confidence, right, ["a", "b", "c", "d"])
    assert [(b.lo, b.n, b.accuracy) for b in bins] == [(0.0, 1, 0.0), (0.5, 1, 1.0), (0.8, 2, 0.5)]


def test_brier_as_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random(300), rng.random(300) < 0.5
    assert cal.brier(p, y) == pytest.approx(brier_score_loss(y, p), abs=1e-9)
    both = [{"A": float(q), "B": float(1 - q)} for q in p]
    assert cal.brier_over_options(both, ["A" if t else "B" for t in y]) == pytest.approx(
        2 * brier_score_loss(y, p), abs=1e-9
    )


def test_bad_confidences_are_refused() -> None:
    for bad in ([1.2], [float("nan")], [-0.1]):
        with pytest.raises(EosinError, match="between 0 and 1"):
            cal.calibration_error(bad, [True])
    with pytest.raises(EosinError, match="needs items"):
        cal.calibration_error([], [])


def test_a_calibrated_model_shows_the_error_that_is_expected_of_it() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(500)
    mean, high = cal.expected_error(p)
    seen = [cal.calibration_error(p, rng.random(500) < p) for _ in range(200)]
    assert np.mean(seen) == pytest.approx(mean, rel=0.06) and np.mean(np.asarray(seen) > high) < 0.12
    assert cal.calibration_error(np.full(500, 0.9), rng.random(500) < 0.5) > cal.expected_error(np.full(500, 0.9))[1]


def test_selective_accuracy_does_not_hang_on_order() -> None:
    confidence, right = [0.9, 0.5, 0.5, 0.5, 0.1], [True, True, False, False, False]
    # four of five items: the first, and all three of .5
    assert cal.selective_accuracy(confidence, right, 0.8) == pytest.approx(2 / 4)
    # two of five: the first, and one of three by chance, right in a third of the draws
    assert cal.selective_accuracy(confidence, right, 0.4) == pytest.approx((1 + 1 / 3) / 2)
    assert cal.selective_accuracy(confidence[::-1], right[::-1], 0.4) == pytest.approx((1 + 1 / 3) / 2)
    assert cal.selective_accuracy(confidence, right, 1.0) == pytest.approx(0.4)


def test_risk_and_coverage() -> None:
    confidence, right = [0.9, 0.8, 0.7, 0.7], [True, False, True, True]
    assert cal.risk_coverage(confidence, right) == [(0.25, 0.0), (0.5, 0.5), (1.0, 0.25)]
    assert cal.area_under_risk(confidence, right) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_error_interval_holds_what_other_samples_show() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(2000)
    right = rng.random(2000) < p**2  # too sure of itself: the error is the mean of p - p^2, one sixth
    lo, hi = cal.error_interval(p, right, [str(i) for i in range(2000)]) or (1, 0)
    assert lo < 1 / 6 < hi and hi - lo < 0.08
    assert cal.error_interval(p, right, ["one"] * 2000) is None


def test_figures_are_plain_json_and_add_up() -> None:
    rng = np.random.default_rng(3)
    p = np.round(rng.random(200), 1)
    right = rng.random(200) < p
    found = cal.calibration_figures(p.tolist(), right.tolist(), [str(i // 2) for i in range(200)])
    assert sum(b["n"] for b in found["reliability"]) == found["n"] == 200
    assert found["risk_coverage"][-1] == [1.0, pytest.approx(1 - right.mean())]


def test_pass_at_k_is_the_share_of_all_choices() -> None:
    for n, c, k in itertools.product(range(1, 8), range(8), range(1, 8)):
        if c <= n and k <= n:
            chosen = list(itertools.combinations([True] * c + [False] * (n - c), k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, chosen)) / len(chosen), abs=1e-12)
    assert pass_at_k(1000, 3, 500) == pytest.approx(1 - math.comb(997, 500) / math.comb(1000, 500), abs=1e-12)
    with pytest.raises(EosinError, match="at least k"):
        pass_at_k(4, 1, 5)
    assert rungs(8) == [1, 2, 4, 8] and rungs(6) == [1, 2, 4, 6] and rungs(1) == [1]


def test_over_draws_and_votes() -> None:
    found = over_draws([0.5, 0.6, 0.7])
    assert found.mean == pytest.approx(0.6) and found.sd == pytest.approx(0.1) and over_draws([0.5]).sd is None

    def reply(parsed: str | None, correct: bool) -> dict[str, object]:
        return {"parsed": parsed, "correct": correct}

    won = vote([reply("B", False), reply("A", True), reply(None, False), reply("a", True)])
    assert (won.answer, won.confidence, won.is_correct) == ("A", 0.5, True)
    tie = vote([reply("B", False), reply("A", True)])
    assert (tie.answer, tie.is_correct) == ("B", False)
    assert vote([reply(None, False)]).confidence == 0.0


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_as_scikit_learn(weights: str) -> None:
    rng = np.random.default_rng(5)
    a = rng.integers(1, 6, 150)
    b = np.clip(a + rng.integers(-1, 2, 150), 1, 5)
    found, interval = weighted_kappa(a.tolist(), b.tolist(), weights=weights, grades=range(1, 6))  # type: ignore[arg-type]
    wanted = cohen_kappa_score(a, b, weights=None if weights == "none" else weights, labels=range(1, 6))
    assert found == pytest.approx(wanted, abs=1e-9)
    assert interval.lo is not None and interval.hi is not None and interval.lo < wanted < interval.hi


def test_kappa_of_one_grade_is_not_defined() -> None:
    found, interval = weighted_kappa([3, 3, 3], [3, 3, 3])
    assert found is None and interval.pair is None and interval.reason is not None
    with pytest.raises(EosinError, match="outside the scale"):
        weighted_kappa([3], [9], grades=range(1, 6))


def test_macro_f1_as_scikit_learn() -> None:
    rng = np.random.default_rng(6)
    gold = [str(x) for x in rng.integers(0, 4, 120)]
    said: list[str | None] = [str(x) for x in rng.integers(0, 5, 120)]
    said[3] = said[50] = None
    wanted = f1_score(gold, [s or "none" for s in said], labels=list("0123"), average="macro", zero_division=0)
    assert macro_f1(gold, said) == pytest.approx(wanted, abs=1e-9)
    ends = macro_f1_interval(gold, said, [str(i) for i in range(120)])
    assert ends is not None and ends[0] < wanted < ends[1]
    assert macro_f1_interval(gold, said, ["one"] * 120) is None


def test_groups_add_up() -> None:
    def row(organ: str | None, correct: bool, case: int) -> dict[str, object]:
        return {"organ": organ, "stain": "H&E", "correct": correct, "group": f"case:{case}"}

    rows = [row("colon", True, 1), row("colon", False, 2), row("lung", True, 3), row(None, False, 4)]
    found = group_figures(rows)
    assert list(found) == ["organ"]  # one stain only, no modality, no subset
    names: Sequence[str] = [g["name"] for g in found["organ"]]
    assert names == ["colon", "lung", UNKNOWN] and [g["accuracy"] for g in found["organ"]] == [0.5, 1.0, 0.0]
    assert found["organ"][1]["ci95"] is None and found["organ"][1]["num_clusters"] == 1
