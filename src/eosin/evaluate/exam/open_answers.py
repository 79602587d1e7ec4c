"""Figures of the open questions of an exam: words shared with the reference, beside exact match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eosin.core.errors import MissingExtraError
from eosin.core.nouns.outcome import Parsed
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.exam.grading import read_answer
from eosin.evaluate.statistics.mean_intervals import mean_interval
from eosin.scoring.open_answers.overlap import corpus_bleu, rouge
from eosin.scoring.terms.base import Resources
from eosin.scoring.terms.semantic import token_f1

Row = Mapping[str, Any]


def open_figures(
    samples: Sequence[Sample], rows: Mapping[str, Row], grammar: Grammar, settings: ExamSettings
) -> dict[str, Any] | None:
    """Token F1, ROUGE-1, -2, -L (means with intervals over clusters) and corpus BLEU of the questions without options.

    Token F1 is that of `scoring.terms.semantic`: names of the lexicon become concepts with polarity, words count with
    multiplicity. An unparsed reply says nothing, and scores 0.

    Returns:
        {"n", "token_f1": {"mean", "ci95"}, "rouge1", ..., "bleu"}; "missing" names what a package was not there for.
        None where every question has options.
    """
    asked = [s for s in samples if not s.choices and s.answer]
    if not asked:
        return None
    read = [read_answer(rows[s.id]["reply"], s, grammar) for s in asked]
    said = [r.value if isinstance(r, Parsed) else "" for r in read]
    gold, clusters = [str(s.answer) for s in asked], [str(rows[s.id]["group"]) for s in asked]

    linker = Resources().links

    def figure(values: Sequence[float]) -> dict[str, Any]:
        mean, interval = mean_interval(values, clusters, resamples=settings.bootstrap, seed=settings.seed)
        return {"mean": mean, "ci95": interval.pair}

    found: dict[str, Any] = {
        "n": len(asked),
        "token_f1": figure([token_f1(a, r, linker) for a, r in zip(said, gold, strict=True)]),
    }
    try:
        found |= {name: figure(values) for name, values in rouge(said, gold).items()}
        found["bleu"] = corpus_bleu(said, gold)
    except MissingExtraError as exc:
        found["missing"] = f"{exc.message} {exc.next_step or ''}".strip()
    return found
