"""Deletion and pointing of patch scores, against expectations done by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import user_prompt
from eosin.core.settings.exam import EvidenceSettings
from eosin.engines.base import Request
from eosin.evaluate.evidence.tests import (
    Attribution,
    AttributionTarget,
    area,
    deletion,
    deletion_summary,
    falls,
    inside,
    num_removed,
    pointing_game,
    pointing_summary,
    ranked,
    shares_of,
)

SQUARE = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]], dtype=float)
HOLE = np.array([[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]], dtype=float)


def make_bag(num: int = 10, deciding: Sequence[int] = (3,)) -> PatchBag:
    """Patches in a row; the feature of a deciding patch is 1, of the others 0."""
    features = np.zeros((num, 1), np.float32)
    features[list(deciding)] = 1
    centres = np.stack([np.arange(num) * 100.0 + 50, np.full(num, 50.0)], 1)
    return PatchBag("row", features, centres, 100.0, 0.5)


def make_asked(bag: PatchBag) -> AttributionTarget:
    return AttributionTarget(Request("a", user_prompt("What is it?"), (bag,)), "<answer>x</answer>", (8, 9))


class Decides:
    """A model whose answer is certain (log p -0.1) while a deciding patch is in the bag, and lost (-5) without."""

    def scores(self, asked: AttributionTarget, methods: Sequence[str]) -> Attribution:
        right = asked.bag.features[:, 0].astype(float)
        return Attribution({"gradient": right, "rollout": -right}, self.logprobs([asked])[0], 2, len(asked.bag))

    def logprobs(self, asked: Sequence[AttributionTarget]) -> list[float]:
        return [-0.1 if a.bag.features.any() else -5.0 for a in asked]


def test_one_patch_decides() -> None:
    """Taking out the first-scored patch loses the answer; a wrong ranking keeps it until nearly all are gone."""
    asked, model = make_asked(make_bag()), Decides()
    settings = EvidenceSettings(fractions=[0.1, 0.5], num_random=40)
    row = deletion(asked, model.scores(asked, ["gradient", "rollout"]), model, settings, seed=0)
    assert row["num_removed"] == [1, 5]
    assert row["gradient"] == [-5.0, -5.0]
    assert row["rollout"] == [-0.1, -0.1]
    np.testing.assert_allclose(falls(row, "gradient", probability=False), [4.9, 4.9])
    assert row["num_tokens"] == 2  # so that a token's probability was e^-0.05 and becomes e^-2.5
    np.testing.assert_allclose(falls(row, "gradient", probability=True), math.exp(-0.05) - math.exp(-2.5))
    # At random, the patch is among k of 10 with probability k / 10.
    lost = (np.array(row["random"]) == -5).mean(axis=1)
    assert lost == pytest.approx([0.1, 0.5], abs=0.16)


def test_random_removals_are_nested_and_seeded() -> None:
    asked, model = make_asked(make_bag()), Decides()
    settings = EvidenceSettings(fractions=[0.1, 0.2, 0.9], num_random=3)
    rows = [deletion(asked, model.scores(asked, []), model, settings, seed=s) for s in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]
    curves = np.array(rows[0]["random"])  # (fractions, draws): what is gone stays gone
    assert (np.diff(curves, axis=0) <= 0).all()


def test_a_bag_of_one_patch_is_not_deleted() -> None:
    asked, model = make_asked(make_bag(1, [0])), Decides()
    row = deletion(asked, model.scores(asked, []), model, EvidenceSettings(), seed=0)
    assert row == {"reason": "a bag of one patch"}
    assert [num_removed(f, 2) for f in (0.01, 0.99)] == [1, 1]


def test_area_by_hand() -> None:
    # From (0, 0) to (0.1, 2), (0.3, 2): triangle 0.1, rectangle 0.4, over the length 0.3.
    assert area(np.array([2.0, 2.0]), [0.1, 0.3]) == pytest.approx((0.1 + 0.4) / 0.3)


def test_ranks_break_ties_by_chance() -> None:
    assert list(ranked(np.array([0.0, 3.0, 1.0]), 0)) == [1, 2, 0]
    firsts = {int(ranked(np.zeros(8), seed)[0]) for seed in range(40)}
    assert len(firsts) > 4
    np.testing.assert_allclose(shares_of(np.array([3.0, -2.0, 1.0])), [0.75, 0, 0.25])
    assert shares_of(np.array([-1.0, -2.0])).sum() == 0


def test_points_in_polygons_with_holes() -> None:
    points = np.array([[1.0, 1.0], [5.0, 5.0], [11.0, 5.0], [9.9, 9.9], [5.0, 3.9], [-0.1, 5.0]])
    assert inside(points, [SQUARE, HOLE]).tolist() == [True, False, False, True, True, False]
    slanted = np.array([[0, 0], [10, 10], [0, 10]], dtype=float)  # open ring: left below the diagonal
    assert inside(np.array([[2.0, 8.0], [8.0, 2.0]]), [slanted]).tolist() == [True, False]


def test_pointing_by_hand() -> None:
    lesion = np.zeros(20, dtype=bool)
    lesion[:4] = True
    good = np.arange(20, 0, -1.0)  # first four patches first
    half = good.copy()
    half[[0, 1]] = -1
    row = pointing_game({"gradient": good, "rollout": half}, lesion, seed=0)
    assert row["num_lesion"] == 4 and row["expected"] == 0.2
    assert row["gradient"] == {"lesion": 1.0, "top_1": 1.0, "top_5": 1.0, "top_10": 1.0}
    assert row["rollout"]["lesion"] == 0.5 and row["rollout"]["top_5"] == 1.0
    assert "reason" in pointing_game({"gradient": good}, np.zeros(20, dtype=bool), 0)
    assert "reason" in pointing_game({"gradient": good}, np.ones(20, dtype=bool), 0)


def test_summary_of_pointing_is_a_ratio_of_sums() -> None:
    def row(case: int, hit: float, expected: float) -> dict[str, object]:
        tops = dict.fromkeys(("lesion", "top_1", "top_5", "top_10"), hit)
        return {"group": f"case:{case}", "pointing": {"num_lesion": 1, "expected": expected, "gradient": tops}}

    rows = [row(i, 0.6, 0.2) for i in range(6)] + [row(i + 6, 0.2, 0.2) for i in range(6)]
    found = pointing_summary([*rows, {"group": "case:99", "pointing": {"reason": "no truth"}}], 500, 0)
    assert found["n"] == 12
    assert found["gradient"]["expected"] == pytest.approx(0.2)
    assert found["gradient"]["lesion"]["ratio"]["value"] == pytest.approx(2.0)
    low, high = found["gradient"]["lesion"]["ratio"]["ci95"]
    assert 1.0 < low < 2.0 < high < 3.0
    assert pointing_summary([{"group": "a", "pointing": {"reason": "no truth"}}], 500, 0)["n"] == 0


def test_summary_of_deletion_compares_with_random_on_the_same_items() -> None:
    shared = {"full": -1.0, "num_tokens": 1, "num_removed": [1, 2], "random": [[-1.0, -1.5], [-1.5, -2.0]]}
    rows = [{"group": f"case:{i}", "deletion": {**shared, "gradient": [-2.0 - i, -2.0 - i]}} for i in range(12)]
    found = deletion_summary(rows, [0.1, 0.2], 500, 0)
    own = found["gradient"]["logprob"]
    mean = np.mean([1.0 + i for i in range(12)])
    assert own["falls"][0]["value"] == pytest.approx(mean)
    assert own["minus_random"][1]["value"] == pytest.approx(mean - 0.75)
    # Random: falls 0.25 and 0.75; area (0.0125 + 0.05) / 0.2. Method: (mean / 20 + mean / 10) / 0.2.
    assert found["random"]["logprob"]["area"]["value"] == pytest.approx(0.0625 / 0.2)
    assert own["area_minus_random"]["value"] == pytest.approx(0.75 * mean - 0.3125)
    low, high = own["area_minus_random"]["ci95"]
    assert low < own["area_minus_random"]["value"] < high
