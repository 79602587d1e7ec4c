"""How probable each option was where a reply names one: the confidence of a closed answer, after its own reasoning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.engines.base import OptionScorer
from eosin.evaluate.exam.evaluator import Evaluator, Instance
from eosin.evaluate.statistics.calibration import brier_over_options, calibration_figures

Row = Mapping[str, Any]
PHASE = "options"
_OPENING = "<answer>"


def option_rows(evaluator: Evaluator, samples: Sequence[Sample], normal: Mapping[str, Row]) -> list[dict[str, Any]]:
    """A row a closed question whose reply names an option: probabilities by letter, which add up to 1.

    The options stand in the form in which the reply gives its answer: letter, letter and text, or text. Rows are kept
    as they are made; a killed exam goes on. Empty where the engine cannot say.
    """
    if not isinstance(evaluator.engine, OptionScorer):
        return []
    kept = {r["id"]: r for r in evaluator.work.load(PHASE)}
    for sample in samples:
        row = normal[sample.id]
        if sample.id in kept or not sample.choices or row["parsed"] is None or _OPENING not in row["reply"]:
            continue
        head, _, said = row["reply"].rpartition(_OPENING)
        request = replace(evaluator.request_of(Instance.plain(sample)), begun=head + _OPENING)
        logps = evaluator.engine.option_logprobs(request, forms(sample, said))
        fresh = {
            "id": sample.id, "group": row["group"], "chosen": row["parsed"], "answer": sample.answer,
            "correct": row["correct"],
            "probabilities": dict(zip([c.letter for c in sample.choices], softmax(logps), strict=True)),
        }  # fmt: skip
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


def option_calibration(rows: Sequence[Row], everything: Sequence[Row], settings: ExamSettings) -> dict[str, Any] | None:
    """Calibration of the probability of the chosen option; a reply without one has confidence 0. None without rows."""
    if not rows:
        return None
    chosen = {r["id"]: r["probabilities"][r["chosen"]] for r in rows}
    closed = [r for r in everything if r["choices"]]
    found = calibration_figures(
        [chosen.get(r["id"], 0.0) for r in closed], [bool(r["correct"]) for r in closed],
        [str(r["group"]) for r in closed], resamples=settings.bootstrap, seed=settings.seed,
    )  # fmt: skip
    found["brier_over_options"] = brier_over_options([r["probabilities"] for r in rows], [r["answer"] for r in rows])
    return found
