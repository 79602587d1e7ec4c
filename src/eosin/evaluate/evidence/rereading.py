"""Deletion with a new reading: without its best-scored patches the model replies again, and its answer changes or not.

The probability of a reply (`evidence_tests.deletion`) holds the model's own words fixed. Here it may find others: the
answer that it comes to without these patches is compared with the one that it gave, against as many random patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eosin.core.nouns.outcome import Parsed
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.engines.base import Decoding, Engine
from eosin.evaluate.evidence.tests import RANDOM, AttributionTarget, num_removed, ranked
from eosin.evaluate.exam.grading import read_answer
from eosin.evaluate.statistics.mean_intervals import mean_interval

BEST = "best"


def reread(
    asked: AttributionTarget,
    scores: np.ndarray,
    sample: Sample,
    grammar: Grammar,
    engine: Engine,
    decoding: Decoding,
    fractions: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    """Whether the answer stays when patches are gone and the model replies again.

    Args:
        asked: the question with the model's own reply.
        scores: (N,) of the patches, by the method that is shown.

    Returns:
        {"best": [1 or 0 a fraction], "random": [...]}: 1 where the answer is read as the same again. {"reason"} for a
        bag of one patch, or where the reply states no answer.
    """
    own = read_answer(asked.reply, sample, grammar)
    bag = asked.bag
    if len(bag) < 2 or not isinstance(own, Parsed):
        return {"reason": "a bag of one patch" if len(bag) < 2 else "the reply states no answer"}
    orders = {BEST: ranked(scores, seed), RANDOM: np.random.default_rng([seed, 2]).permutation(len(bag))}
    requests = []
    for name, order in orders.items():
        for place, fraction in enumerate(fractions):
            kept = np.sort(order[num_removed(fraction, len(bag)) :])
            requests.append(replace(asked.with_bag(bag.take(kept)).request, id=f"{sample.id}/{name}/{place}"))
    greedy = replace(decoding, temperature=0.0)
    replies = [read_answer(g.text, sample, grammar) for g in engine.generate(requests, greedy)]
    same = [int(isinstance(r, Parsed) and r.value == own.value) for r in replies]
    return {BEST: same[: len(fractions)], RANDOM: same[len(fractions) :]}


def rereading_summary(
    rows: Sequence[Mapping[str, Any]], fractions: Sequence[float], bootstrap: int, seed: int
) -> dict[str, Any] | None:
    """Share of answers that changed at each fraction, for the best-scored and for random patches, and their paired
    difference with its interval over clusters. None where nothing was read again."""
    done = [r for r in rows if BEST in r.get("reread", {})]
    if not done:
        return None
    groups = [str(r["group"]) for r in done]
    changed = {n: 1 - np.array([r["reread"][n] for r in done], dtype=float) for n in (BEST, RANDOM)}

    def told(values: np.ndarray) -> dict[str, Any]:
        mean, interval = mean_interval(values.tolist(), groups, resamples=bootstrap, seed=seed)
        return {"value": mean, "ci95": interval.pair}

    columns = range(len(fractions))
    return {
        "n": len(done),
        "fractions": list(fractions),
        **{f"changed_{n}": [told(changed[n][:, i]) for i in columns] for n in (BEST, RANDOM)},
        "difference": [told((changed[BEST] - changed[RANDOM])[:, i]) for i in columns],
        "mean_difference": told((changed[BEST] - changed[RANDOM]).mean(axis=1)),
    }
