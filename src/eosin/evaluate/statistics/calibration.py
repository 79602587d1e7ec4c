"""Does a model's confidence say how often it is right? Calibration, and what is gained by leaving hard items out.

A confidence is a number in 0..1 that stands for "this answer is right": the probability of the chosen option among the
options, or the share of sampled replies that agree. An unparsed reply has confidence 0 and is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.intervals import cluster_interval
from eosin.evaluate.statistics.resampling import by_cluster, draw_sums

F64 = NDArray[np.float64]
BINS = 10
COVERAGE = 0.8
_SIMULATIONS = 1000


@dataclass(frozen=True)
class Bin:
    """Items whose confidence lies in one tenth, for the reliability curve."""

    lo: float
    hi: float
    n: int
    confidence: float
    accuracy: float
    ci95: list[float] | None


def _checked(confidence: Sequence[float] | F64, is_correct: Sequence[bool] | NDArray[np.bool_]) -> tuple[F64, F64]:
    values, right = np.asarray(confidence, dtype=np.float64), np.asarray(is_correct, dtype=bool).astype(np.float64)
    if not len(values) or len(values) != len(right):
        raise EosinError("Calibration needs items, each with its confidence.", found=f"{len(values)}, {len(right)}")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise EosinError("A confidence lies between 0 and 1.", found=f"{values.min():g} to {values.max():g}")
    return values, right


def _bin_of(confidence: F64, bins: int) -> NDArray[np.int64]:
    """Bins (lo, hi], the first with its lower end."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def calibration_error(
    confidence: Sequence[float] | F64, is_correct: Sequence[bool] | NDArray[np.bool_], bins: int = BINS
) -> float:
    """Expected calibration error: sum over bins of n_b / n |accuracy_b - confidence_b| (Guo et al. 2017,
    arXiv 1706.04599, equation 3). Bins of equal width."""
    values, right = _checked(confidence, is_correct)
    place = _bin_of(values, bins)
    gaps = np.bincount(place, weights=right - values, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))


def brier(confidence: Sequence[float] | F64, is_correct: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Mean of (confidence - right)^2 (Brier 1950)."""
    values, right = _checked(confidence, is_correct)
    return float(((values - right) ** 2).mean())


def brier_over_options(probabilities: Sequence[Mapping[str, float]], answers: Sequence[str]) -> float:
    """Mean over items of sum over options of (p_k - [k is the answer])^2: Brier's own, 0 to 2."""
    if not len(answers) or len(probabilities) != len(answers):
        raise EosinError("A Brier score needs items.", found=f"{len(probabilities)}, {len(answers)}")
    each = [
        sum((p - (name == answer)) ** 2 for name, p in options.items()) + (answer not in options)
        for options, answer in zip(probabilities, answers, strict=True)
    ]
    return float(np.mean(each))


def selective_accuracy(
    confidence: Sequence[float] | F64, is_correct: Sequence[bool] | NDArray[np.bool_], coverage: float = COVERAGE
) -> float:
    """Accuracy on the most confident share of the items (El-Yaniv and Wiener 2010).

    Of items that tie at the threshold, a random choice is taken, in expectation: the result depends on no order.
    """
    values, right = _checked(confidence, is_correct)
    if not 0 < coverage <= 1:
        raise EosinError("A coverage lies between 0 and 1.", found=f"{coverage:g}")
    wanted = coverage * len(values)
    kept, total = 0.0, 0.0
    for num, num_right in _from_the_top(values, right):
        taken = min(num, wanted - kept)
        total += num_right * taken / num
        kept += taken
        if kept >= wanted - 1e-9:
            break
    return total / kept


def _from_the_top(values: F64, right: F64) -> list[tuple[float, float]]:
    """(items, right ones) of every different confidence, the highest first."""
    _, place, counts = np.unique(-values, return_inverse=True, return_counts=True)
    rights = np.bincount(place, weights=right)
    return list(zip(counts.astype(float).tolist(), rights.tolist(), strict=True))


def risk_coverage(
    confidence: Sequence[float] | F64, is_correct: Sequence[bool] | NDArray[np.bool_]
) -> list[tuple[float, float]]:
    """(coverage, risk) at every threshold: risk is the share of wrong answers among the items above it."""
    values, right = _checked(confidence, is_correct)
    curve, num, num_right = [], 0.0, 0.0
    for count, rights in _from_the_top(values, right):
        num, num_right = num + count, num_right + rights
        curve.append((num / len(values), 1 - num_right / num))
    return curve


def area_under_risk(confidence: Sequence[float] | F64, is_correct: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Mean risk over coverage 1/n, 2/n, ... 1, ties in expectation (Geifman et al. 2018, arXiv 1805.08206)."""
    values, right = _checked(confidence, is_correct)
    risks: list[F64] = []
    num, num_right = 0.0, 0.0
    for count, rights in _from_the_top(values, right):
        steps = np.arange(1, int(count) + 1)
        risks.append(1 - (num_right + rights * steps / count) / (num + steps))
        num, num_right = num + count, num_right + rights
    return float(np.concatenate(risks).mean())


def reliability(
    confidence: Sequence[float] | F64, is_correct: Sequence[bool] | NDArray[np.bool_], clusters: Sequence[str],
    *, bins: int = BINS, resamples: int = 2000, seed: int = 0,
) -> list[Bin]:  # fmt: skip
    """The reliability curve: bins that hold items, with their mean confidence, accuracy and its interval."""
    values, right = _checked(confidence, is_correct)
    place, names = _bin_of(values, bins), np.asarray(clusters, dtype=str)
    found = []
    for b in np.unique(place):
        here = place == b
        interval = cluster_interval(right[here].astype(bool), names[here].tolist(), resamples=resamples, seed=seed)
        found.append(
            Bin(b / bins, (b + 1) / bins, int(here.sum()), float(values[here].mean()), float(right[here].mean()),
                interval.pair)
        )  # fmt: skip
    return found


def error_interval(
    confidence: Sequence[float] | F64, is_correct: Sequence[bool] | NDArray[np.bool_], clusters: Sequence[str],
    *, bins: int = BINS, resamples: int = 2000, seed: int = 0,
) -> list[float] | None:  # fmt: skip
    """95 % interval of the calibration error by a cluster bootstrap, percentile; None with one cluster.

    The error of a sample, and of a resample even more, is too large: it is a mean of absolute values. What a perfectly
    calibrated model would show on these items stands beside it (`expected_error`).
    """
    values, right = _checked(confidence, is_correct)
    columns = np.zeros((len(values), bins + 1))
    columns[np.arange(len(values)), _bin_of(values, bins)] = right - values
    columns[:, bins] = 1
    table = by_cluster(clusters, columns)
    if len(table) < 2:
        return None
    sums = draw_sums(table, resamples, seed)
    lo, hi = np.percentile(np.abs(sums[:, :bins]).sum(axis=1) / sums[:, bins], [2.5, 97.5])
    return [float(lo), float(hi)]


def expected_error(confidence: Sequence[float] | F64, *, bins: int = BINS, seed: int = 0) -> tuple[float, float]:
    """The calibration error that a perfectly calibrated model shows on so many items: mean and 95 % quantile.

    Right and wrong are drawn from the confidences themselves (consistency resampling; Broecker and Smith 2007).
    """
    values, _ = _checked(confidence, np.zeros(len(confidence), dtype=bool))
    place, rng = _bin_of(values, bins), np.random.default_rng(seed)
    errors = np.zeros(_SIMULATIONS)
    for b in np.unique(place):
        here, total = values[place == b], 0.0
        kinds, counts = np.unique(here, return_counts=True)
        total = float(here.sum())
        errors += np.abs(rng.binomial(counts, kinds, size=(_SIMULATIONS, len(kinds))).sum(axis=1) - total)
    errors /= len(values)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def calibration_figures(
    confidence: Sequence[float], is_correct: Sequence[bool], clusters: Sequence[str], *, resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """All of this for summary.json: ece with ci95, what a calibrated model would show, brier, curve, risk, coverage."""
    mean, quantile = expected_error(confidence, seed=seed)
    curve = risk_coverage(confidence, is_correct)
    step = max(1, len(curve) // 100)
    return {
        "n": len(confidence),
        "ece": calibration_error(confidence, is_correct),
        "ece_ci95": error_interval(confidence, is_correct, clusters, resamples=resamples, seed=seed),
        "ece_if_calibrated": {"mean": mean, "q95": quantile},
        "brier": brier(confidence, is_correct),
        "mean_confidence": float(np.mean(confidence)),
        "accuracy": float(np.mean(is_correct)),
        "reliability": [asdict(b) for b in reliability(confidence, is_correct, clusters, resamples=resamples)],
        "risk_coverage": [list(p) for p in (*curve[:-1:step], curve[-1])],
        "area_under_risk": area_under_risk(confidence, is_correct),
        "selective_accuracy": {f"{COVERAGE:g}": selective_accuracy(confidence, is_correct)},
    }
