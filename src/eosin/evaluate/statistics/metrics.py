"""Accuracy, balanced accuracy, confusion, recall. An unparsed reply is a wrong reply everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError


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
