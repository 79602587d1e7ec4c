"""Logistic regression and a random forest on features of an image or a slide.

Features are standardised with the train split's mean and deviation. Logistic regression is multinomial with L2 penalty;
C is 1, or the one of CHOICES with the best balanced accuracy in a cross-validation on the train split whose folds hold
whole groups; of equal ones that with the highest likelihood there. Matrix products run in one thread: these are small,
threads that wait for each other made a fit ten times as long, and the figures do not hang on their number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.evaluate.baselines.problem import F64, Floats, Order, Rows

CHOICES = (0.001, 0.01, 0.1, 1.0, 10.0)
MAX_FOLDS = 4
NUM_TREES = 300


def fixed_penalty(train: Rows, valid: Rows, seen: list[Floats]) -> tuple[list[Order], dict[str, Any]]:
    """Logistic regression with C = 1, not tuned."""
    with _alone():
        fitted = _logistic(1.0).fit(np.stack(train.X), train.y)
    return ranked(fitted, seen), {"c": 1.0}


def chosen_penalty(train: Rows, valid: Rows, seen: list[Floats]) -> tuple[list[Order], dict[str, Any]]:
    """Logistic regression with the best of CHOICES."""
    X = np.stack(train.X).astype(np.float64)
    best = best_c(_logistic, X, train.y, train.groups)
    with _alone():
        return ranked(_logistic(best).fit(X, train.y), seen), {"c": best}


def forest(train: Rows, valid: Rows, seen: list[Floats]) -> tuple[list[Order], dict[str, Any]]:
    """Random forest of 300 trees on bootstrap samples, square root of the features at each split (Breiman 2001)."""
    from sklearn.ensemble import RandomForestClassifier

    with _alone():
        fitted = RandomForestClassifier(NUM_TREES, min_samples_leaf=2, random_state=0).fit(np.stack(train.X), train.y)
        return ranked(fitted, seen), {"num_trees": NUM_TREES}


def ranked(fitted: Any, seen: Sequence[Floats]) -> list[Order]:
    """Class names for each row of `seen`, the likeliest first."""
    places = np.argsort(-fitted.predict_proba(np.stack(seen)), axis=1, kind="stable")
    names = [str(name) for name in fitted.classes_]
    return [[names[k] for k in row] for row in places]


def _logistic(c: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500))


@contextmanager
def _alone() -> Iterator[None]:
    """One thread, and a weak penalty that has not converged is judged like any other."""
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def best_c(model: Callable[[float], Any], X: F64, y: Sequence[str], groups: Sequence[str]) -> float:
    """The penalty that does best in a cross-validation over whole groups; 1 where a class has one group only.

    Args:
        X: (n, D). y: its n class names, at least two. groups: its n groups.
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold

    per_class = min(len({g for g, name in zip(groups, y, strict=True) if name == c}) for c in set(y))
    folds = min(MAX_FOLDS, per_class)
    if folds < 2:
        return 1.0
    labels = np.asarray(y)
    parts = list(StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(X, labels, groups))
    scores = []
    with _alone():
        for c in CHOICES:
            said, likely = _held_out(model(c), X, labels, parts)
            share = round(balanced_accuracy_score(labels, said), 6)
            scores.append((share, float(np.log(likely + 1e-12).mean()), c))
    return max(scores)[2]


def _held_out(
    model: Any, X: F64, labels: NDArray[Any], parts: Sequence[tuple[NDArray[Any], NDArray[Any]]]
) -> tuple[NDArray[Any], F64]:
    said, likely = np.empty_like(labels), np.full(len(labels), 1e-12)
    for fit, held in parts:
        fitted = model.fit(X[fit], labels[fit])
        shares = fitted.predict_proba(X[held])
        said[held] = fitted.classes_[shares.argmax(axis=1)]
        for k, name in enumerate(fitted.classes_):
            own = labels[held] == name
            likely[held[own]] = shares[own, k]
    return said, likely
