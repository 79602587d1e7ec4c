"""A text-only answerer: a small classifier of question and options, fitted on the questions of other patients.

It is the text-only baseline of exams (evaluate/baselines/text.py), with every class counted alike, so that naming the
commonest diagnosis is no knowledge. Weights lie in one .npz file a fold.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eosin.core.nouns.classes import normalised
from eosin.core.nouns.sample import Sample
from eosin.core.store.artifacts import write_bytes_atomic
from eosin.evaluate.baselines.text import NUM_HASHES, option_features

FOLDS = 5
LEAST = 20


def fold_of(sample: Sample) -> int:
    """The fold of a sample's patient, case or slide."""
    key = sample.origin.group or sample.id
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % FOLDS


def fit_probe(questions: Sequence[Sample], folder: Path) -> int:
    """Fit one classifier a fold on the questions of the other folds; returns how many could be fitted."""
    from io import BytesIO

    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import LogisticRegression

    hasher = FeatureHasher(NUM_HASHES)
    made = 0
    for fold in range(FOLDS):
        train = [s for s in questions if fold_of(s) != fold and len(s.choices) > 1]
        counts = Counter(normalised(s.answer_text or "") for s in train)
        if len(train) < LEAST or len(counts) < 2:
            continue
        X = hasher.transform(pair for s in train for pair in option_features(s))
        y = [c.letter == s.answer for s in train for c in s.choices]
        weights = [1 / counts[normalised(s.answer_text or "")] for s in train for _ in s.choices]
        fitted = LogisticRegression(C=1.0, max_iter=300).fit(X, y, np.array(weights) * len(train) / len(counts))
        buffer = BytesIO()
        np.savez(buffer, weights=fitted.coef_[0].astype(np.float32))
        write_bytes_atomic(folder / f"probe-{fold}.npz", buffer.getvalue())
        made += 1
    return made


class Probe:
    """Answers a question from its text, by the classifier that never saw its patient."""

    def __init__(self, folder: Path) -> None:
        self._weights = {}
        for fold in range(FOLDS):
            file = folder / f"probe-{fold}.npz"
            if file.is_file():
                with np.load(file, allow_pickle=False) as held:
                    self._weights[fold] = held["weights"]

    def __call__(self, sample: Sample) -> str | None:
        """The letter with the highest score; None where no option stands out, or nothing was fitted."""
        from sklearn.feature_extraction import FeatureHasher

        weights = self._weights.get(fold_of(sample))
        if weights is None or len(sample.choices) < 2:
            return None
        scores = FeatureHasher(NUM_HASHES).transform(option_features(sample)) @ weights
        best = np.flatnonzero(scores >= scores.max() - 1e-9)
        return sample.choices[int(best[0])].letter if len(best) == 1 else None
