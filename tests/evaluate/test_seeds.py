"""Change over seeds: exact where it can be done by hand, and how often the intervals hold the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.intervals import paired_difference
from eosin.evaluate.statistics.ratios import FIGURES, Ratios, paired, recall_of
from eosin.evaluate.statistics.seeds import change_over_seeds, seeds_in_words


def pair_of(changes: NDArray[np.float64], names: list[str] | None = None) -> tuple[Ratios, Ratios]:
    """One item a cluster, which changes by this much."""
    clusters = tuple(names or [f"case {i:04d}" for i in range(len(changes))])
    ones = np.ones((len(changes), 1))
    return Ratios(clusters, 0.5 * ones, ones), Ratios(clusters, 0.5 * ones + changes[:, None], ones)


def row(id: str, label: str, is_right: bool, **more: Any) -> dict[str, Any]:
    return {"id": id, "group": f"case:{id[0]}", "label": label, "correct": is_right, "parsed": "A", **more}


def test_figures_by_hand() -> None:
    before = [
        row("a1", "x", True, entity_matched=2, entity_predicted=4, entity_gold=3, entity_f1=4 / 7),
        row("a2", "x", False, parsed=None, entity_matched=0, entity_predicted=0, entity_gold=None, entity_f1=0.0),
        row("b1", "y", True, num_tokens=30), row("c1", "y", True),
    ]  # fmt: skip
    after = [
        row("a1", "x", False, entity_matched=0, entity_predicted=0, entity_gold=None, entity_f1=0.0, parsed=None),
        row("a2", "x", False, entity_matched=1, entity_predicted=1, entity_gold=2, entity_f1=2 / 3),
        row("b1", "y", True, num_tokens=20), row("d1", "y", True),
    ]  # fmt: skip

    def change(name: str) -> list[float | None]:
        found = paired(before, after, FIGURES[name])
        assert found is not None
        return [r.value for r in found]

    assert change("balanced_accuracy") == [(0.5 + 1) / 2, (0 + 1) / 2]  # c1 and d1 stand on one side only
    assert change("accuracy") == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert change("entity_f1") == [pytest.approx(2 / 7), pytest.approx(1 / 3)]
    assert change("entity_precision") == [0.5, 1.0]
    assert change("entity_recall") == [2 / 5, 1 / 5]  # what gold holds is the question's own
    assert change("unparsed") == [pytest.approx(1 / 3), pytest.approx(1 / 3)] and change("length") == [30, 20]
    [recall, _] = paired(before, after, recall_of("x")) or []
    assert recall.value == 0.5 and recall.clusters == ("case:a",)
    assert paired(before, after[3:], FIGURES["accuracy"]) is None
    nothing = paired(before[1:2], after[:2], FIGURES["entity_precision"])
    assert nothing is not None and nothing[0].value is None  # nothing was stated: there is no precision


def test_one_seed_is_the_paired_bootstrap_over_cases() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.random(60) < 0.6, rng.random(60) < 0.7
    groups, gold = [f"case:{i // 2}" for i in range(60)], [f"k{i % 3}" for i in range(60)]
    rows = [
        [{"id": str(i), "group": groups[i], "label": gold[i], "correct": bool(r)} for i, r in enumerate(side)]
        for side in (before, after)
    ]
    both = paired(*rows, FIGURES["balanced_accuracy"])
    assert both is not None
    found = change_over_seeds([both], seed=7, resamples=20_000)
    difference, interval = paired_difference(
        after, before, groups, gold, metric="balanced_accuracy", seed=7, resamples=20_000
    )
    assert found.mean == pytest.approx(difference)
    assert found.bootstrap == pytest.approx(interval.pair, abs=0.01)  # the draws are others, their distribution is one
    assert found.two_way is None and found.interval == found.bootstrap and found.seed == 7


def test_copies_of_one_run_say_no_more_than_one() -> None:
    """Only cases vary: five seeds that answer alike have the interval of one of them."""
    changes = np.random.default_rng(1).normal(0.1, 0.3, 80)
    one, five = change_over_seeds([pair_of(changes)]), change_over_seeds([pair_of(changes)] * 5)
    assert five.is_crossed and five.bootstrap == pytest.approx(one.bootstrap)
    assert five.mean == pytest.approx(one.mean) and five.two_way is not None and one.bootstrap is not None
    assert five.two_way == pytest.approx(one.bootstrap, abs=0.02)
    # Taken as cases of their own, five times as many would stand behind it, and the interval be narrower by sqrt(5).
    apart = [pair_of(changes, [f"{s}/{i:03d}" for i in range(80)]) for s in range(5)]
    nested = change_over_seeds(apart)
    assert not nested.is_crossed and nested.num_clusters == 400 and nested.bootstrap is not None
    ratio = (one.bootstrap[1] - one.bootstrap[0]) / (nested.bootstrap[1] - nested.bootstrap[0])
    assert ratio == pytest.approx(5**0.5, rel=0.1)


def test_only_seeds_vary_by_hand() -> None:
    """Two seeds, all cases alike: a replicate is 0, 1/2 or 1; t with one degree of freedom."""
    found = change_over_seeds([pair_of(np.zeros(20)), pair_of(np.ones(20))])
    assert found.mean == 0.5 and found.by_seed == (0, 1) and found.bootstrap == (0, 1)
    half = 12.706 * 0.5  # t of one degree of freedom, sqrt(s^2 / 2) = sqrt(0.5 / 2)
    assert found.two_way == pytest.approx((0.5 - half, 0.5 + half), rel=1e-4) and not found.is_clear


def test_nothing_varies() -> None:
    same = change_over_seeds([pair_of(np.zeros(10))] * 3)
    assert same.bootstrap == same.two_way == (0, 0) and not same.is_clear
    moved = change_over_seeds([pair_of(np.full(10, 0.25))] * 3)
    assert moved.mean == 0.25 and moved.bootstrap == moved.two_way == pytest.approx((0.25, 0.25)) and moved.is_clear


def test_one_cluster_has_no_interval_over_cases() -> None:
    alone = change_over_seeds([pair_of(np.array([0.3]))])
    assert alone.bootstrap is None and alone.interval is None and not alone.is_clear
    two = change_over_seeds([pair_of(np.array([0.3])), pair_of(np.array([0.1]))])
    assert two.bootstrap is None and two.two_way is not None


def test_the_same_seed_gives_the_same_interval() -> None:
    pairs = [pair_of(np.random.default_rng(s).normal(0, 0.3, 50)) for s in range(3)]
    assert change_over_seeds(pairs, seed=4) == change_over_seeds(pairs, seed=4)
    assert change_over_seeds(pairs, seed=4).bootstrap != change_over_seeds(pairs, seed=5).bootstrap


def test_a_figure_that_is_missing_is_refused() -> None:
    empty = Ratios(("a", "b"), np.zeros((2, 1)), np.zeros((2, 1)))
    with pytest.raises(EosinError, match="every seed"):
        change_over_seeds([pair_of(np.zeros(2)), (empty, empty)])
    with pytest.raises(EosinError):
        change_over_seeds([])


@pytest.mark.parametrize(
    ("of_seeds", "of_cases", "of_replies", "bootstrap", "two_way"),
    [
        pytest.param(0.05, 0.0, 0.0, (0.72, 0.88), (0.9, 0.99), id="seeds"),
        pytest.param(0.0, 0.3, 0.0, (0.9, 0.99), (0.9, 0.995), id="cases"),
        pytest.param(0.0, 0.0, 0.35, (0.97, 1.0), (0.9, 0.99), id="replies"),
        pytest.param(0.02, 0.15, 0.35, (0.93, 1.0), (0.9, 0.99), id="all"),
    ],
)
def test_how_often_the_truth_is_held(
    of_seeds: float, of_cases: float, of_replies: float, bootstrap: tuple[float, float], two_way: tuple[float, float]
) -> None:
    """Five seeds, 180 cases, truth 0: 250 experiments. The bounds are wide of the measured shares (see the module)."""
    rng = np.random.default_rng(11)
    held = np.zeros(2)
    for _ in range(250):
        changes = rng.normal(0, of_seeds, (5, 1)) + rng.normal(0, of_cases, 180) + rng.normal(0, of_replies, (5, 180))
        found = change_over_seeds([pair_of(c) for c in changes], resamples=300)
        for i, ends in enumerate((found.bootstrap, found.two_way)):
            assert ends is not None
            held[i] += ends[0] <= 0 <= ends[1]
    assert bootstrap[0] <= held[0] / 250 <= bootstrap[1]
    assert two_way[0] <= held[1] / 250 <= two_way[1]


def test_seeds_in_words() -> None:
    assert [seeds_in_words(n) for n in (1, 3, 5)] == ["one run", "few seeds (3)", ""]
