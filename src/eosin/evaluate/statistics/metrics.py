"""Accuracy, balanced accuracy, confusion, recall. An unparsed reply is a wrong reply everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError
from eosin.evaluate.statistics.resampling import by_cluster, draw_sums


def accuracy(is_correct: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Share of right replies, in [0, 1]. Raises EosinError if there are none: an empty exam has no score."""
    values = np.asarray(is_correct, dtype=bool)
    if values.size == 0:
        raise EosinError("There is nothing to score.", expected="at least one item", found="an empty exam")
    return float(values.mean())


def recalls(gold: Sequence[str], is_correct: Sequence[bool] | NDArray[np.bool_]) -> dict[str, float]:
    """Recall of every class present in `gold`: right replies / items of the class."""
    names = np.asarray(gold, dtype=object)
    right = np.asarray(is_correct, dtype=bool)
    return {name: float(right[names == name].mean()) for name in sorted(set(gold))}


def balanced_accuracy(gold: Sequence[str], is_correct: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Mean of the recalls over the classes present in `gold`. Raises EosinError if there are none."""
    if len(gold) == 0:
        raise EosinError("There is nothing to score.", expected="at least one item", found="an empty exam")
    return float(np.mean(list(recalls(gold, is_correct).values())))


def confusion(gold: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> list[list[int]]:
    """Counts: a row a true class, a column a predicted class; the last, extra column is "unparsed".

    Args:
        gold: true class of every item; each is in `labels`.
        predicted: predicted class of every item, None where the reply did not parse.
        labels: order of rows and columns.

    Returns:
        len(labels) rows of len(labels) + 1 counts. A predicted class outside `labels` raises EosinError:
        it would vanish from the table.
    """
    place = {name: i for i, name in enumerate(labels)}
    strange = sorted({x for x in (*gold, *predicted) if x is not None and x not in place})
    if strange:
        raise EosinError("A class is not among the labels of the table.", found=", ".join(strange[:5]))
    table = np.zeros((len(labels), len(labels) + 1), dtype=int)
    for true, said in zip(gold, predicted, strict=True):
        table[place[true], len(labels) if said is None else place[said]] += 1
    return [[int(v) for v in row] for row in table]


def macro_f1(gold: Sequence[str], predicted: Sequence[str | None]) -> float:
    """Mean over the classes present in `gold` of F1 = 2 TP / (2 TP + FP + FN).

    An unparsed reply (None) is a miss of its class and no false alarm of another.

    Raises:
        EosinError: there are no items.
    """
    if len(gold) == 0:
        raise EosinError("There is nothing to score.", expected="at least one item", found="an empty exam")
    return float(f1_of_counts(_f1_columns(gold, predicted).sum(axis=0)[None])[0])


def macro_f1_interval(
    gold: Sequence[str], predicted: Sequence[str | None], clusters: Sequence[str], *, resamples: int = 2000,
    seed: int = 0,
) -> list[float] | None:  # fmt: skip
    """95 % interval of `macro_f1` by a cluster bootstrap, percentile; None with one cluster.

    In a resample the mean is over the classes that it holds.
    """
    table = by_cluster(clusters, _f1_columns(gold, predicted))
    if len(table) < 2:
        return None
    lo, hi = np.percentile(f1_of_counts(draw_sums(table, resamples, seed)), [2.5, 97.5])
    return [float(lo), float(hi)]


def _f1_columns(gold: Sequence[str], predicted: Sequence[str | None]) -> NDArray[np.float64]:
    """(N, 3 K): whether an item is a true positive of each class, is of it, is said to be of it."""
    names = {name: i for i, name in enumerate(sorted(set(gold)))}
    true = np.zeros((len(gold), len(names)))
    said = np.zeros_like(true)
    true[np.arange(len(gold)), [names[g] for g in gold]] = 1
    for i, name in enumerate(predicted):
        if name in names:
            said[i, names[name]] = 1  # type: ignore[index]
    return np.concatenate([true * said, true, said], axis=1)


def f1_of_counts(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Macro F1 of each row of sums (B, 3 K) of the columns above."""
    hits, true, said = np.split(sums, 3, axis=1)
    present = true > 0
    f1 = np.divide(2 * hits, true + said, out=np.zeros_like(hits), where=true + said > 0)
    return np.asarray((f1 * present).sum(axis=1) / present.sum(axis=1))
