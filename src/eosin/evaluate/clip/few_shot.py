"""Few-shot by Patho-CLIP's protocol (arXiv 2505.11404): logistic regression on frozen features of few samples a class.

For each size, `num_subsets` random subsets of the training samples, each drawn with its own seed; the whole held-out
split is asked each time. Beside the model stands the colour histogram of the same pictures, in the same subsets, and
where one is named a frozen encoder with that histogram; both are standardised with the mean and deviation of each
subset, without which logistic regression makes little of a histogram.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError
from eosin.core.settings.clip import FewShot
from eosin.evaluate.clip.beside import STANDARDISED

Floats = NDArray[np.floating[Any]]


def few_shot(
    train: Mapping[str, Floats], train_labels: Sequence[str], test: Mapping[str, Floats], test_labels: Sequence[str],
    settings: FewShot,
) -> dict[str, Any]:  # fmt: skip
    """Balanced accuracy of each kind of features at each size, its mean and spread over the subsets.

    Args:
        train, test: features by name, each (N, D) in one order.

    Returns: {"sizes": [{"shots", "n_train", "short_classes", "features": {name: {...}}}], "classes": [...]}

    Raises:
        EosinError: fewer than two classes.
    """
    classes = sorted(set(train_labels))
    if len(classes) < 2 or not test_labels:
        raise EosinError("Few-shot needs two classes and something held out.",
                         found=f"{len(classes)} classes, {len(test_labels)} held out")  # fmt: skip
    unseen = sorted(set(test_labels) - set(classes))
    sizes = [*settings.shots, None]
    rows = [_size(train, train_labels, test, test_labels, settings, shots) for shots in sizes]
    return {"classes": classes, "unseen_classes": unseen, "sizes": rows, "n_test": len(test_labels)}


def _size(
    train: Mapping[str, Floats], train_labels: Sequence[str], test: Mapping[str, Floats], test_labels: Sequence[str],
    settings: FewShot, shots: int | None,
) -> dict[str, Any]:  # fmt: skip
    num = settings.num_subsets if shots is not None else 1
    subsets = [draw(train_labels, shots, settings.seed + i) for i in range(num)]
    labels, gold = np.asarray(train_labels), np.asarray(test_labels)
    features: dict[str, Any] = {}
    for name in train:
        scores = []
        for chosen in subsets:
            said = fit(train[name][chosen], labels[chosen], settings, name.endswith(STANDARDISED)).predict(test[name])
            scores.append(float(np.mean([(said[gold == c] == c).mean() for c in sorted(set(test_labels))])))
        features[name] = {
            "balanced_accuracy": float(np.mean(scores)), "sd": float(np.std(scores, ddof=1)) if num > 1 else None,
            "lowest": min(scores), "highest": max(scores), "all": scores,
        }  # fmt: skip
    short = [c for c in sorted(set(train_labels)) if shots is not None and int((labels == c).sum()) < shots]
    return {"shots": shots, "n_train": len(subsets[0]), "short_classes": short, "features": features}


def draw(labels: Sequence[str], shots: int | None, seed: int) -> NDArray[np.int64]:
    """Places of `shots` samples of each class, seeded; all where a class has no more. None: all of all classes."""
    if shots is None:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    names = np.asarray(labels)
    chosen = [rng.permutation(np.flatnonzero(names == c))[:shots] for c in sorted(set(labels))]
    return np.sort(np.concatenate(chosen))


def fit(features: Floats, labels: NDArray[Any], settings: FewShot, standardise: bool = False) -> Any:
    """Multinomial logistic regression with L2 penalty; one that has not converged is judged like any other."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    model = LogisticRegression(C=settings.c, max_iter=settings.max_iter)
    with threadpool_limits(1), warnings.catch_warnings():  # threads wait for each other in products this small
        warnings.simplefilter("ignore", ConvergenceWarning)
        return (make_pipeline(StandardScaler(), model) if standardise else model).fit(features, labels)
