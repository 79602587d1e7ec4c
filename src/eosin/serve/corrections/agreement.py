"""How far two readers agree on the same readings: Cohen's kappa with its interval over slides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eosin.evaluate.statistics.agreement import Weights, weighted_kappa
from eosin.serve.corrections.store import CorrectionStore, Version

MEASURES = ("answer", "statements", "rating")


def agreement(store: CorrectionStore, first: str, second: str, model: str | None = None) -> dict[str, Any]:
    """Of the readings that both have signed; with `model` of those that are this model's.

    - answer: the answers as nominal classes (letter case and outer white space aside).
    - statements: of the model's own statements, kept as they are or not.
    - rating: 1 to 5, quadratic weights.

    Slides are the clusters of the intervals.
    """
    signed = {(v.reading, v.correction.reader): v for v in store.signed([first, second])}
    both = sorted({r for r, who in signed if who == first and (r, second) in signed})
    if model is not None:
        both = [r for r in both if (store.reading(r) or {}).get("model") == model]
    pairs = [(signed[r, first], signed[r, second]) for r in both]
    slides = {r: str((store.reading(r) or {}).get("slide", r)) for r in both}
    return {
        "readers": [first, second], "model": model, "num_readings": len(both),
        "answer": _kappa(*_answers(pairs, slides), "none"),
        "statements": _kappa(*_statements(pairs, slides), "none"),
        "rating": _kappa(*_ratings(pairs, slides), "quadratic", grades=[1, 2, 3, 4, 5]),
    }  # fmt: skip


Pairs = Sequence[tuple[Version, Version]]
Columns = tuple[list[int], list[int], list[str]]


def _answers(pairs: Pairs, slides: dict[str, str]) -> Columns:
    told = [(a.correction.answer.strip().casefold(), b.correction.answer.strip().casefold()) for a, b in pairs]
    number = {text: i for i, text in enumerate(sorted({t for pair in told for t in pair}))}
    return [number[a] for a, _ in told], [number[b] for _, b in told], [slides[a.reading] for a, _ in pairs]


def _statements(pairs: Pairs, slides: dict[str, str]) -> Columns:
    found: Columns = ([], [], [])
    for a, b in pairs:
        other = {s.id: s.state for s in b.correction.statements}
        for s in a.correction.statements:
            if s.state != "added" and other.get(s.id, "added") != "added":
                found[0].append(int(s.state == "kept"))
                found[1].append(int(other[s.id] == "kept"))
                found[2].append(slides[a.reading])
    return found


def _ratings(pairs: Pairs, slides: dict[str, str]) -> Columns:
    rated = [(a, b) for a, b in pairs if a.correction.rating and b.correction.rating]
    return (
        [int(a.correction.rating or 0) for a, _ in rated], [int(b.correction.rating or 0) for _, b in rated],
        [slides[a.reading] for a, _ in rated],
    )  # fmt: skip


def _kappa(
    first: list[int], second: list[int], clusters: list[str], weights: Weights, grades: list[int] | None = None
) -> dict[str, Any]:
    if not first:
        return {"n": 0, "kappa": None, "ci95": None, "reason": "nothing that both readers have said"}
    kappa, interval = weighted_kappa(first, second, clusters, weights=weights, grades=grades)
    same = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    return {"n": len(first), "same": round(same, 4), "kappa": kappa, "ci95": interval.pair,
            "reason": interval.reason or interval.warning}  # fmt: skip
