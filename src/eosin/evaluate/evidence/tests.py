"""Is the evidence that is shown the evidence that is used? Deletion and pointing tests of patch scores. No torch.

Deletion: the best-scored patches are taken out of the bag, and the same answer is read again. Patches that the answer
depends on make its probability fall more than as many patches drawn at random. (Compare the pixel-flipping of Samek et
al. 2017, doi:10.1109/TNNLS.2016.2599820, and the deletion metric of RISE, Petsiuk et al. 2018.)

Pointing: of the best-scored patches, the share whose centre lies in a lesion that is known to be there, against the
share of lesion patches in the bag. (Compare the pointing game of Zhang et al. 2018, doi:10.1007/s11263-017-1059-x.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eosin.core.nouns.bags import F64, PatchBag
from eosin.core.settings.exam import EvidenceSettings
from eosin.engines.base import Request
from eosin.evaluate.statistics.mean_intervals import mean_interval, ratio_interval

RANDOM = "random"
TOP_SHARES = (0.01, 0.05, 0.1)
LESION = "lesion"  # as many patches as lie in the lesion


@dataclass(frozen=True)
class AttributionTarget:
    """A question, a reply to it, and which characters of the reply the evidence is sought for.

    Attributes:
        request: with at least one bag among its images.
        reply: the whole reply: the model's own reasoning, and an answer.
        span: first and one past the last of these characters: all of the reply, or the answer's text.
        slide: which of the request's bags, from 0.
    """

    request: Request
    reply: str
    span: tuple[int, int]
    slide: int = 0

    @property
    def place(self) -> int:
        """Which of the request's images is the slide."""
        return [i for i, p in enumerate(self.request.images) if isinstance(p, PatchBag)][self.slide]

    @property
    def bag(self) -> PatchBag:
        """The slide."""
        bag = self.request.images[self.place]
        assert isinstance(bag, PatchBag)
        return bag

    def with_bag(self, bag: PatchBag) -> AttributionTarget:
        """The same question and reply about another bag in the slide's place."""
        images = tuple(bag if i == self.place else p for i, p in enumerate(self.request.images))
        return replace(self, request=replace(self.request, images=images))


@dataclass(frozen=True)
class Attribution:
    """Scores of the patches of one bag.

    Attributes:
        scores: by method, (N,) in the order of the bag; higher is more evidence. Some methods are signed.
        logprob: of what is attributed, the sum over its tokens.
        num_tokens: of what is attributed. num_slide_tokens: that the bag became for the decoder.
        notes: by method, what is to be known about its scores, or why there are none.
    """

    scores: Mapping[str, F64]
    logprob: float
    num_tokens: int
    num_slide_tokens: int
    notes: Mapping[str, str] = field(default_factory=dict)


class Attributor(Protocol):
    """What can say where a model looked. `evidence.ModelEvidence` is one; tests write their own."""

    def scores(self, asked: AttributionTarget, methods: Sequence[str]) -> Attribution:
        """Scores of every patch for the answer."""
        ...

    def logprobs(self, asked: Sequence[AttributionTarget]) -> list[float]:
        """log p of each span: the sum over its tokens, given the prompt and what stands before it in the reply."""
        ...


def ranked(scores: F64, seed: int) -> NDArray[np.int64]:
    """Places of the patches, best first; equal scores in a seeded random order, never in that of the slide."""
    ties = np.random.default_rng(seed).permutation(len(scores))
    return np.lexsort((ties, -np.asarray(scores, dtype=float)))


def shares_of(scores: F64) -> F64:
    """Share of each patch in the evidence that speaks for the answer: positive scores over their sum; (N,)."""
    positive = np.clip(np.asarray(scores, dtype=float), 0, None)
    total = positive.sum()
    return positive / total if total > 0 else np.zeros_like(positive)


def num_removed(fraction: float, num: int) -> int:
    """How many of `num` patches a share is: at least one, never all."""
    return min(max(1, round(fraction * num)), num - 1)


# ---- deletion ------------------------------------------------------------------------------------------------------


def deletion(
    asked: AttributionTarget, attribution: Attribution, attributor: Attributor, settings: EvidenceSettings, seed: int
) -> dict[str, Any]:
    """log p of the answer after each removal.

    Returns:
        {"full": log p of the whole bag, "num_tokens", "num_removed": [...], METHOD: [log p a fraction], "random":
        [[log p a draw] a fraction]}, or {"reason"} for a bag of one patch.
    """
    bag = asked.bag
    num = len(bag)
    if num < 2:
        return {"reason": "a bag of one patch"}
    counts = [num_removed(f, num) for f in settings.fractions]
    removals: list[NDArray[np.int64]] = []
    for name in attribution.scores:
        order = ranked(attribution.scores[name], seed)
        removals += [order[:k] for k in counts]
    rng = np.random.default_rng([seed, 1])
    for _ in range(settings.num_random):  # one order a draw: its removals are nested, as those of a method are
        order = rng.permutation(num)
        removals += [order[:k] for k in counts]
    found = attributor.logprobs([asked.with_bag(bag.take(_kept(num, gone))) for gone in removals])
    rows = np.asarray(found, dtype=float).reshape(-1, len(counts))
    result: dict[str, Any] = {
        "full": attribution.logprob, "num_tokens": attribution.num_tokens, "num_removed": counts,
    }  # fmt: skip
    result |= {name: rows[i].tolist() for i, name in enumerate(attribution.scores)}
    return {**result, RANDOM: rows[len(attribution.scores) :].T.tolist()}


def _kept(num: int, gone: NDArray[np.int64]) -> NDArray[np.bool_]:
    keep = np.ones(num, dtype=bool)
    keep[gone] = False
    return keep


def falls(row: Mapping[str, Any], name: str, *, probability: bool) -> F64:
    """Fall of log p at each fraction, from a row of `deletion`, or of the mean probability of a token, exp(log p /
    tokens); random draws are averaged. (F,)"""
    after = np.asarray(row[name], dtype=float)
    before = np.asarray(row["full"], dtype=float)
    if probability:
        after, before = (np.exp(v / row["num_tokens"]) for v in (after, before))
    fall = before - after
    return np.asarray(fall.mean(axis=1) if fall.ndim == 2 else fall)


def area(fall: F64, fractions: Sequence[float]) -> float:
    """Mean height of the curve of the fall from 0 to the largest fraction, by the trapezium rule; 0 removed is 0."""
    x = np.concatenate([[0.0], np.asarray(fractions, dtype=float)])
    y = np.concatenate([[0.0], fall])
    return float(np.trapezoid(y, x) / x[-1])


# ---- pointing ------------------------------------------------------------------------------------------------------


def inside(points: F64, rings: Sequence[F64]) -> NDArray[np.bool_]:
    """Which points (n, 2) lie in a polygon of an outer ring and holes, by the even-odd rule."""
    x, y = points[:, 0][:, None], points[:, 1][:, None]
    odd = np.zeros(len(points), dtype=bool)
    for ring in rings:
        a = np.asarray(ring, dtype=float)
        b = np.roll(a, -1, axis=0)
        (ax, ay), (bx, by) = a.T, b.T
        spans = (ay > y) != (by > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            crosses = ax + (y - ay) * (bx - ax) / (by - ay)
        odd ^= (spans & (x < crosses)).sum(axis=1) % 2 == 1
    return odd


def pointing_game(scores: Mapping[str, F64], in_lesion: NDArray[np.bool_], seed: int) -> dict[str, Any]:
    """Share of the best-scored patches in a lesion.

    Returns:
        {"num_lesion", "expected": lesion patches over all, METHOD: {"lesion": share of hits among the first L patches,
        "top_1", "top_5", "top_10": among that percentage of patches, at least one}}, or {"reason"} where no patch, or
        every patch, lies in a lesion.
    """
    num, lesion = len(in_lesion), int(in_lesion.sum())
    if lesion in (0, num):
        return {"reason": "no patch lies in a lesion" if not lesion else "every patch lies in a lesion"}
    tops = {LESION: lesion, **{f"top_{s:.0%}".rstrip("%"): max(1, round(s * num)) for s in TOP_SHARES}}
    result: dict[str, Any] = {"num_lesion": lesion, "expected": lesion / num}
    for name, values in scores.items():
        order = ranked(values, seed)
        result[name] = {top: float(in_lesion[order[:k]].mean()) for top, k in tops.items()}
    return result


# ---- the figures of an exam ----------------------------------------------------------------------------------------


def figure(
    values: Sequence[float], groups: Sequence[str], over: Sequence[float] | None, resamples: int, seed: int
) -> dict[str, Any]:
    """A mean (or ratio of sums) as summary.json holds it."""
    if over is None:
        value, interval = mean_interval(values, groups, resamples=resamples, seed=seed)
    else:
        value, interval = ratio_interval(values, over, groups, resamples=resamples, seed=seed)
    told = {"reason": interval.reason, "warning": interval.warning}
    return {"value": value, "ci95": interval.pair, **{k: v for k, v in told.items() if v is not None}}


def deletion_summary(
    rows: Sequence[Mapping[str, Any]], fractions: Sequence[float], resamples: int, seed: int
) -> dict[str, Any]:
    """Deletion over the items of an exam: for each method and for random patches the mean fall at each fraction and
    the area under it, and method minus random on the same items.

    Args:
        rows: of evidence.jsonl.

    Returns:
        {"n", METHOD: {"logprob": {"falls": [...], "area", "area_minus_random", "minus_random": [...]}, "probability":
        the same}}; every figure with its 95 % interval over clusters. {"n": 0, "reason"} where nothing was measured.
    """
    used = [r for r in rows if "reason" not in r["deletion"]]
    if not used:
        return {"n": 0, "reason": "no item was measured"}
    names = _methods_of(used, "deletion")
    result: dict[str, Any] = {"n": len(used), "fractions": list(fractions)}
    for name in (*names, RANDOM):
        own = [r for r in used if name in r["deletion"]]
        groups = [str(r["group"]) for r in own]
        result[name] = {"n": len(own)}
        for scale in ("logprob", "probability"):
            by_item = [falls(r["deletion"], name, probability=scale == "probability") for r in own]
            control = [falls(r["deletion"], RANDOM, probability=scale == "probability") for r in own]
            areas, areas_random = ([area(f, fractions) for f in fs] for fs in (by_item, control))
            columns = [[f[j] for f in by_item] for j in range(len(fractions))]
            told: dict[str, Any] = {
                "falls": [figure(c, groups, None, resamples, seed) for c in columns],
                "area": figure(areas, groups, None, resamples, seed),
            }
            if name != RANDOM:
                gaps = [[f[j] - c[j] for f, c in zip(by_item, control, strict=True)] for j in range(len(fractions))]
                told["minus_random"] = [figure(g, groups, None, resamples, seed) for g in gaps]
                gap = [a - b for a, b in zip(areas, areas_random, strict=True)]
                told["area_minus_random"] = figure(gap, groups, None, resamples, seed)
            result[name][scale] = told
    return result


def pointing_summary(rows: Sequence[Mapping[str, Any]], resamples: int, seed: int) -> dict[str, Any]:
    """Pointing over the items of an exam: hits, the hits expected at random, and their ratio with its interval."""
    used = [r for r in rows if "reason" not in r["pointing"]]
    if not used:
        return {"n": 0, "reason": "no item has a known lesion"}
    result: dict[str, Any] = {"n": len(used)}
    for name in _methods_of(used, "pointing"):
        own = [r for r in used if name in r["pointing"]]
        groups = [str(r["group"]) for r in own]
        expected = [float(r["pointing"]["expected"]) for r in own]
        result[name] = {"n": len(own), "expected": sum(expected) / len(expected)}
        for top in own[0]["pointing"][name]:
            hits = [float(r["pointing"][name][top]) for r in own]
            result[name][top] = {
                "hits": sum(hits) / len(hits), "ratio": figure(hits, groups, expected, resamples, seed),
            }  # fmt: skip
    return result


_NOT_METHODS = {"deletion": ("full", "num_tokens", "num_removed", RANDOM), "pointing": ("num_lesion", "expected")}


def _methods_of(rows: Sequence[Mapping[str, Any]], test: str) -> list[str]:
    return list(dict.fromkeys(k for r in rows for k in r[test] if k not in _NOT_METHODS[test]))
