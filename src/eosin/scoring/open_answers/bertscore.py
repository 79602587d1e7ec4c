"""BERTScore through an injected encoder: each token is matched to the most similar one of the other text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError

TokenEncoder = Callable[[Sequence[str]], Sequence[NDArray[np.float64]]]
"""Texts to arrays (T, D), a row a token in its context; special tokens left out."""


@dataclass(frozen=True)
class BertScore:
    """Precision, recall and F1 of one answer, -1 to 1."""

    precision: float
    recall: float
    f1: float


def bert_scores(answers: Sequence[str], references: Sequence[str], encode: TokenEncoder) -> list[BertScore]:
    """BERTScore of each answer (Zhang et al. 2020, arXiv 1904.09675, section 3), without idf weights or rescaling.

    P = mean over the answer's tokens of max cosine to the reference's, R the same the other way, F1 = 2 P R / (P + R).
    An answer or a reference without tokens scores 0.

    Raises:
        EosinError: other numbers of answers and references; an encoder that gives no rows of equal width.
    """
    if len(answers) != len(references):
        raise EosinError("Each answer needs its reference.", found=f"{len(answers)}, {len(references)}")
    encoded = [np.asarray(e, dtype=np.float64) for e in encode([*answers, *references])]
    if len(encoded) != 2 * len(answers) or any(e.ndim != 2 for e in encoded):
        raise EosinError("The encoder must give an array (tokens, width) a text.", found=f"{len(encoded)} arrays")
    return [_score(_unit(a), _unit(r)) for a, r in zip(encoded[: len(answers)], encoded[len(answers) :], strict=True)]


def _score(answer: NDArray[np.float64], reference: NDArray[np.float64]) -> BertScore:
    if not len(answer) or not len(reference):
        return BertScore(0.0, 0.0, 0.0)
    similar = answer @ reference.T
    precision, recall = float(similar.max(axis=1).mean()), float(similar.max(axis=0).mean())
    total = precision + recall
    return BertScore(precision, recall, 2 * precision * recall / total if total > 0 else 0.0)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
