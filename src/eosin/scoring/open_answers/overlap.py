"""Open answers by the words that they share with a reference: BLEU and ROUGE.

They measure wording, not truth: "no necrosis" and "necrosis" share a word. Token F1 with synonyms (terms.semantic),
entity F1 with polarity (terms.entities) and a judge stand beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

from eosin.core.errors import EosinError
from eosin.core.extras import need

ROUGES = ("rouge1", "rouge2", "rougeL")


def corpus_bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """BLEU-4 of all answers together, 0 to 1, as sacrebleu counts it (Post 2018, arXiv 1804.08771; 13a, exp smoothing).

    Raises:
        MissingExtraError: sacrebleu is not installed.
        EosinError: no answers, or other numbers of them.
    """
    _check(answers, references)
    sacrebleu = need("sacrebleu", "exams")
    return float(sacrebleu.corpus_bleu(list(answers), [list(references)]).score) / 100


def rouge(answers: Sequence[str], references: Sequence[str]) -> dict[str, list[float]]:
    """F measure of ROUGE-1, -2 and -L of each answer (Lin 2004), with stemming, as rouge-score counts it.

    Raises:
        MissingExtraError: rouge-score is not installed.
        EosinError: no answers, or other numbers of them.
    """
    _check(answers, references)
    rouge_scorer = need("rouge_score.rouge_scorer", "exams")
    scorer = rouge_scorer.RougeScorer(list(ROUGES), use_stemmer=True)
    scored = [scorer.score(r, a) for a, r in zip(answers, references, strict=True)]
    return {name: [float(s[name].fmeasure) for s in scored] for name in ROUGES}


def _check(answers: Sequence[str], references: Sequence[str]) -> None:
    if not answers or len(answers) != len(references):
        raise EosinError("Each answer needs its reference.", found=f"{len(answers)}, {len(references)}")
