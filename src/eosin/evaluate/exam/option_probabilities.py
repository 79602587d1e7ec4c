"""How probable each option was where a reply names one: the confidence of a closed answer, after its own reasoning.

An engine that holds the model says it by a pass an option. A server says it by the probabilities of the tokens that it
wrote, where it gives them; where it does not, replies are drawn, and the options' shares among them stand instead.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.engines.base import OptionScorer, StreamingEngine
from eosin.evaluate.exam.evaluator import Evaluator, Instance
from eosin.evaluate.statistics.calibration import brier_over_options, calibration_figures

Row = Mapping[str, Any]
PHASE = "options"
BY_PASSES = "a pass an option"
BY_TOKENS = "token probabilities of the server"
BY_SHARES = "shares of {} sampled replies"
OWN_DRAWS = 8
"""Replies that are drawn where the exam draws none of its own."""
_OPENING = "<answer>"


def option_rows(
    evaluator: Evaluator, samples: Sequence[Sample], normal: Mapping[str, Row], draws: Sequence[Sequence[Row]],
    settings: ExamSettings,
) -> tuple[list[dict[str, Any]], str]:  # fmt: skip
    """A row a closed question whose reply names an option: probabilities by letter, which add up to 1.

    Args:
        normal: graded rows of the greedy replies, by sample id; of a server with `option_probabilities`.
        draws: graded rows of the sampled replies, draw by draw.

    Returns:
        The rows, and how the probabilities were found. Empty where the engine cannot say.
    """
    if isinstance(evaluator.engine, OptionScorer):
        return _by_passes(evaluator, samples, normal), BY_PASSES
    if not isinstance(evaluator.engine, StreamingEngine):
        return [], ""
    named = [s for s in samples if s.choices and normal[s.id]["parsed"] is not None]
    told = {s.id: normal[s.id].get("option_probabilities") for s in named}
    if 2 * sum(p is not None for p in told.values()) >= len(named):
        rows = [_row(s, normal[s.id], p) for s in named if (p := told[s.id]) is not None]
        return rows, BY_TOKENS
    drawn = list(draws) or _own_draws(evaluator, named, settings)
    shares = _shares(drawn)
    return [_row(s, normal[s.id], shares[s.id]) for s in named if s.id in shares], BY_SHARES.format(len(drawn))


def _row(sample: Sample, row: Row, probabilities: Mapping[str, float]) -> dict[str, Any]:
    return {
        "id": sample.id, "group": row["group"], "chosen": row["parsed"], "answer": sample.answer,
        "correct": row["correct"],
        "probabilities": {c.letter: probabilities.get(c.letter, 0.0) for c in sample.choices},
    }  # fmt: skip


def _own_draws(evaluator: Evaluator, samples: Sequence[Sample], settings: ExamSettings) -> list[list[dict[str, Any]]]:
    decoding = replace(evaluator.decoding, temperature=settings.temperature, top_p=settings.top_p)
    instances = [Instance.plain(s) for s in samples]
    return [evaluator.run(f"options-{k}", instances, decoding) for k in range(OWN_DRAWS)] if samples else []


def _shares(draws: Sequence[Sequence[Row]]) -> dict[str, dict[str, float]]:
    """By sample id the share of each option among its drawn replies that name one; without a sample whose replies name
    none."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for rows in draws:
        for row in rows:
            if row.get("parsed") is not None:
                votes[row["id"]][row["parsed"]] += 1
    return {id: {letter: n / found.total() for letter, n in found.items()} for id, found in votes.items()}


def _by_passes(evaluator: Evaluator, samples: Sequence[Sample], normal: Mapping[str, Row]) -> list[dict[str, Any]]:
    """Asked of the engine. The options stand in the form in which the reply gives its answer: letter, letter and text,
    or text. Rows are kept as they are made; a killed exam goes on."""
    assert isinstance(evaluator.engine, OptionScorer)
    kept = {r["id"]: r for r in evaluator.work.load(PHASE)}
    for sample in samples:
        row = normal[sample.id]
        if sample.id in kept or not sample.choices or row["parsed"] is None or _OPENING not in row["reply"]:
            continue
        head, _, said = row["reply"].rpartition(_OPENING)
        request = replace(evaluator.request_of(Instance.plain(sample)), begun=head + _OPENING)
        logps = evaluator.engine.option_logprobs(request, forms(sample, said))
        fresh = _row(sample, row, dict(zip([c.letter for c in sample.choices], softmax(logps), strict=True)))
        evaluator.work.append(PHASE, [fresh])
        kept[sample.id] = fresh
    return [kept[s.id] for s in samples if s.id in kept]


def forms(sample: Sample, said: str) -> list[str]:
    """The options as the reply writes its own."""
    text = said.partition("</answer>")[0].strip()
    if len(text) <= 3:
        return [c.letter for c in sample.choices]
    if any(text.startswith(f"{c.letter}. ") for c in sample.choices):
        return [f"{c.letter}. {c.text}" for c in sample.choices]
    return [c.text for c in sample.choices]


def softmax(logps: Sequence[float]) -> list[float]:
    """exp(l_k) / sum exp(l_j)."""
    top = max(logps)
    found = [math.exp(v - top) for v in logps]
    return [v / sum(found) for v in found]


def option_calibration(
    rows: Sequence[Row], found_by: str, everything: Sequence[Row], settings: ExamSettings
) -> dict[str, Any] | None:
    """Calibration of the probability of the chosen option. None without rows.

    A reply that names no option has confidence 0. One that names an option whose probability is not known is left out,
    and counted in `num_left_out`.
    """
    if not rows:
        return None
    chosen = {r["id"]: r["probabilities"][r["chosen"]] for r in rows}
    asked = [r for r in everything if r["choices"]]
    closed = [r for r in asked if r["id"] in chosen or r["parsed"] is None]
    found = calibration_figures(
        [chosen.get(r["id"], 0.0) for r in closed], [bool(r["correct"]) for r in closed],
        [str(r["group"]) for r in closed], resamples=settings.bootstrap, seed=settings.seed,
    )  # fmt: skip
    found |= {"found_by": found_by, "num_left_out": len(asked) - len(closed)}
    found["brier_over_options"] = brier_over_options([r["probabilities"] for r in rows], [r["answer"] for r in rows])
    return found
