"""What an exam of slides can be passed with by the mean of all patches, without a slide model.

Mean features: the mean over a slide's patches of every feature (and over slides, where an item shows several),
standardised with the train split's mean and deviation, and given to multinomial logistic regression with L2 penalty. C
is the one of CHOICES with the best balanced accuracy in a cross-validation on the train split whose folds hold whole
groups; of equal ones that with the highest likelihood there. A model that does not beat it need not have looked at any
one patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import ImageError
from eosin.core.images import RegionReader
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import Sample, SlideBag

CHOICES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
MAX_FOLDS = 5

F64 = NDArray[np.float64]


class MeanFeatures:
    """Mean features of samples; a slide asked about many times is read once."""

    def __init__(self, read_region: RegionReader | None) -> None:
        self._read_region = read_region
        self._seen: dict[SlideBag, F64 | None] = {}

    def of(self, sample: Sample) -> F64 | None:
        """(D,) of a sample's slides; None without slides, or with one that cannot be used."""
        parts: list[F64] = []
        for ref in sample.images:
            if not isinstance(ref, SlideBag):
                continue
            if ref not in self._seen:
                self._seen[ref] = self._mean(ref)
            mean = self._seen[ref]
            if mean is None or (parts and len(parts[0]) != len(mean)):
                return None
            parts.append(mean)
        return np.mean(parts, axis=0) if parts else None

    def _mean(self, ref: SlideBag) -> F64 | None:
        try:
            return np.asarray(self._bag(ref).features.mean(axis=0, dtype=np.float64))
        except ImageError:
            return None

    def _bag(self, ref: SlideBag) -> PatchBag:
        if self._read_region is not None:
            return self._read_region.bag(ref)
        from eosin.slides.features.bags import read_bag

        return read_bag(ref)


def fit_mean_features(X: F64, y: Sequence[str], groups: Sequence[str], seen: F64) -> tuple[list[list[str]], float]:
    """Class names for each row of `seen`, the likeliest first, and the C that was chosen.

    Args:
        X: (n, D) of the train split. y: its n class names, at least two. groups: its n groups.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def model(c: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))

    best = _best_c(model, X, y, groups)
    fitted = model(best).fit(X, y)
    ranked = np.argsort(-fitted.predict_proba(seen), axis=1)
    names = [str(name) for name in fitted.classes_]
    return [[names[k] for k in row] for row in ranked], best


def _best_c(model: Callable[[float], Any], X: F64, y: Sequence[str], groups: Sequence[str]) -> float:
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold

    per_class = min(len({g for g, name in zip(groups, y, strict=True) if name == c}) for c in set(y))
    folds = min(MAX_FOLDS, per_class)
    if folds < 2:
        return 1.0
    labels = np.asarray(y)
    parts = list(StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(X, labels, groups))
    scores = []
    for c in CHOICES:
        said, likely = np.empty_like(labels), np.full(len(labels), 1e-12)
        for fit, held in parts:
            fitted = model(c).fit(X[fit], labels[fit])
            shares = fitted.predict_proba(X[held])
            said[held] = fitted.classes_[shares.argmax(axis=1)]
            for k, name in enumerate(fitted.classes_):
                own = held[labels[held] == name]
                likely[own] = shares[labels[held] == name, k]
        scores.append((round(balanced_accuracy_score(labels, said), 6), float(np.log(likely + 1e-12).mean()), c))
    return max(scores)[2]
