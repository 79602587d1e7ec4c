"""Comparisons of two models against scipy and statsmodels, by hand, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.comparisons import (
    compared,
    holm,
    smallest_between,
    smallest_difference,
    smallest_paired,
    standard_error,
)
from eosin.evaluate.statistics.intervals import cluster_interval, mcnemar_exact
from eosin.evaluate.statistics.mean_intervals import mean_interval
from eosin.evaluate.statistics.resampling import draw_sums, draw_weights

RNG = np.random.default_rng(0)
A, B = RNG.random(200) < 0.7, RNG.random(200) < 0.6


def test_mcnemar_as_statsmodels_and_scipy() -> None:
    found = mcnemar_exact(A, B)
    table = [[int((A & B).sum()), int((A & ~B).sum())], [int((~A & B).sum()), int((~A & ~B).sum())]]
    assert found["p"] == pytest.approx(mcnemar(table, exact=True).pvalue, abs=1e-9)
    few, many = sorted((found["only_a"], found["only_b"]))
    assert found["p"] == pytest.approx(stats.binomtest(int(few), int(few + many), 0.5).pvalue, abs=1e-9)


def test_holm_as_statsmodels() -> None:
    for size in (1, 2, 7, 40):
        p = np.random.default_rng(size).random(size) ** 3
        assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1].tolist(), abs=1e-9)
    assert holm([0.04, None, 0.01]) == pytest.approx([0.04, None, 0.02])  # the one without does not count
    assert holm([]) == [] and holm([None]) == [None]
    with pytest.raises(EosinError, match="between 0 and 1"):
        holm([0.2, 1.2])


def test_clusters_of_one_give_mcnemar_and_others_the_bootstrap() -> None:
    alone = compared(A, B, [str(i) for i in range(200)])
    assert alone.difference == pytest.approx(A.mean() - B.mean()) and alone.test == "McNemar, exact"
    assert alone.p == pytest.approx(mcnemar_exact(A, B)["p"]) and alone.n == alone.num_clusters == 200
    pairs = compared(A, B, [str(i // 2) for i in range(200)], seed=3)
    assert pairs.test == "paired cluster bootstrap" and pairs.num_clusters == 100
    assert alone.ends is not None and pairs.ends is not None and alone.ends[0] < alone.difference < alone.ends[1]
    # An interval that leaves 0 out and a p below 5 % say the same, but for the resamples' last one.
    assert (pairs.p is not None and pairs.p < 0.05) == (not pairs.ends[0] <= 0 <= pairs.ends[1])
    assert compared(A, A, ["x"] * 100 + ["y"] * 100).p == 1.0
    one = compared(A, B, ["only"] * 200)
    assert one.p is None and one.ends is None and "one cluster" in one.test


def test_the_bootstrap_of_a_comparison_as_scipy_does_it() -> None:
    """Same statistic, same data, other draws: ends agree to the noise of 20,000 resamples."""
    difference = A.astype(float) - B
    wanted = stats.bootstrap(
        (difference,), np.mean, n_resamples=20_000, method="percentile", random_state=np.random.default_rng(1)
    ).confidence_interval
    found = compared(A, B, [str(i) for i in range(200)], resamples=20_000)
    assert found.ends == pytest.approx((wanted.low, wanted.high), abs=0.006)


def test_patterns_are_drawn_as_clusters_are() -> None:
    """Mean and covariance of the drawn sums: by patterns, by gathering, and by weights of every cluster."""
    rng = np.random.default_rng(2)
    table = np.stack([rng.integers(0, 2, 60), rng.integers(1, 4, 60)], axis=1).astype(float)
    weighed = np.concatenate([w @ table for w in draw_weights(60, 20_000, 0)])
    found = draw_sums(table, 20_000, 1)
    assert found.mean(axis=0) == pytest.approx(weighed.mean(axis=0), rel=0.01)
    assert np.cov(found.T) == pytest.approx(np.cov(weighed.T), rel=0.08, abs=1.0)
    for columns in (2, 4):  # so many different rows that they are gathered
        many = rng.random((2000, columns))
        sums = draw_sums(many, 3000, 5)
        assert sums.mean(axis=0) == pytest.approx(many.sum(axis=0), rel=0.005)
        assert sums.std(axis=0) == pytest.approx(np.sqrt(2000) * many.std(axis=0), rel=0.06)


def test_means_of_many_different_values_have_the_normal_interval() -> None:
    values = np.random.default_rng(4).normal(5, 2, 4000)
    mean, interval = mean_interval(values.tolist(), [str(i) for i in range(4000)])
    error = values.std() / np.sqrt(4000)
    assert interval.pair == pytest.approx([mean - 1.96 * error, mean + 1.96 * error], abs=0.15 * error)


def test_standard_error_over_clusters_as_statsmodels() -> None:
    groups = np.random.default_rng(1).integers(0, 40, 200)
    fit = OLS(A.astype(float), np.ones(200)).fit()
    # statsmodels' small-sample factor is G / (G - 1) (n - 1) / (n - k); with k = 1 the second part is 1.
    wanted = fit.get_robustcov_results("cluster", groups=groups).bse[0]
    assert standard_error(A, [str(g) for g in groups]) == pytest.approx(wanted, abs=1e-9)
    own = standard_error(A, [str(i) for i in range(200)])
    assert own == pytest.approx(A.std(ddof=1) / np.sqrt(200), abs=1e-12)
    assert standard_error(A, ["one"] * 200) is None


def test_smallest_difference_by_hand() -> None:
    # (1.959964 + 0.841621) * 0.02
    assert smallest_difference(0.02) == pytest.approx(0.0560317, abs=1e-6)
    right = np.arange(400) % 4 > 0
    error = np.sqrt(0.75 * 0.25 / 400 * 400 / 399)
    assert smallest_between(right, [str(i) for i in range(400)]) == pytest.approx(
        2.801585 * np.sqrt(2) * error, rel=1e-6
    )
    assert smallest_between([True] * 10, [str(i) for i in range(10)]) is None


def test_smallest_paired_difference_is_shown_as_often_as_it_says() -> None:
    n, discordant = 500, 0.2
    d = smallest_paired(discordant, n)
    assert d is not None
    first, second = 1.959964, 0.841621
    needed = (first * discordant**0.5 + second * (discordant - d * d) ** 0.5) ** 2 / d**2
    assert needed == pytest.approx(n, rel=1e-5)
    rng, shown = np.random.default_rng(0), 0
    for _ in range(2000):
        only_a, only_b, _ = rng.multinomial(n, [(discordant + d) / 2, (discordant - d) / 2, 1 - discordant])
        z = (only_a - only_b) / max(1, only_a + only_b) ** 0.5
        shown += abs(z) > first
    assert shown / 2000 == pytest.approx(0.8, abs=0.03)
    assert smallest_paired(0.01, 20) is None and smallest_paired(0.0, 20) is None


def test_ten_thousand_resamples_of_ten_thousand_items_as_scipy() -> None:
    right = np.random.default_rng(0).random(10_000) < 0.73
    found = cluster_interval(right, [str(i) for i in range(10_000)], resamples=10_000)
    exact = stats.binom.ppf([0.025, 0.975], 10_000, right.mean()) / 10_000
    assert found.pair == pytest.approx(list(exact), abs=0.0006)
