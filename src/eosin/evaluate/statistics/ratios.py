"""Figures of an exam as sums by cluster, so that one resampling of clusters serves every figure.

A figure is the mean over its parts k of sum(over_k) / sum(under_k). Balanced accuracy has a part a class: right replies
over items. Precision of findings has one part: matched over stated. An unparsed reply is a wrong reply everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]
# over, under, part of one row; None where the row has no say in the figure.
Reading = Callable[[Row], tuple[float, float, str] | None]


@dataclass(frozen=True)
class Ratios:
    """Sums by cluster and part.

    Attributes:
        clusters: G names, in order.
        over, under: (G, K).
    """

    clusters: tuple[str, ...]
    over: NDArray[np.float64]
    under: NDArray[np.float64]

    def score(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The figure when cluster g counts weights[b, g] times: (B, G) -> (B,). NaN where nothing is left to count."""
        over, under = weights @ self.over, weights @ self.under
        present = under > 0
        parts = np.divide(over, under, out=np.zeros_like(over), where=present)
        number = present.sum(axis=1)
        return np.divide(parts.sum(axis=1), number, out=np.full(len(number), np.nan), where=number > 0)

    @property
    def value(self) -> float | None:
        """The figure itself; None where there is nothing to count."""
        found = float(self.score(np.ones((1, len(self.clusters))))[0])
        return None if np.isnan(found) else found


def _accuracy(row: Row) -> tuple[float, float, str]:
    return float(bool(row.get("correct"))), 1.0, ""


def _balanced(row: Row) -> tuple[float, float, str] | None:
    label = row.get("label")
    return None if label is None else (float(bool(row.get("correct"))), 1.0, str(label))


def _unparsed(row: Row) -> tuple[float, float, str]:
    return float(row.get("parsed") is None), 1.0, ""


def _of(over: str, under: str | None = None) -> Reading:
    def read(row: Row) -> tuple[float, float, str] | None:
        top, bottom = row.get(over), 1.0 if under is None else row.get(under)
        return None if top is None or bottom is None else (float(top), float(bottom), "")

    return read


FIGURES: dict[str, Reading] = {
    "balanced_accuracy": _balanced,
    "accuracy": _accuracy,
    "entity_f1": _of("entity_f1"),
    "entity_precision": _of("entity_matched", "entity_predicted"),
    "entity_recall": _of("entity_matched", "entity_gold"),
    "unparsed": _unparsed,
    "length": _of("num_tokens"),
}


def recall_of(label: str) -> Reading:
    """Right replies over the items of one class."""
    return lambda row: _accuracy(row) if row.get("label") == label else None


def paired(before: Sequence[Row], after: Sequence[Row], reading: Reading) -> tuple[Ratios, Ratios] | None:
    """A figure before and after, over the questions that both exams hold, with the same clusters and parts.

    A finding's gold count is the question's own: where one of the replies broke the grammar and its row has none, it
    is taken from the other. Questions without the figure on either side are left out on both. None where none is left.
    """
    earlier = {str(r["id"]): r for r in before if "id" in r}
    found: list[tuple[str, tuple[float, float, str], tuple[float, float, str]]] = []
    for row in after:
        other = earlier.get(str(row.get("id")))
        if other is None:
            continue
        gold = next((r["entity_gold"] for r in (row, other) if r.get("entity_gold") is not None), None)
        one, two = (reading({**r, "entity_gold": gold}) for r in (other, row))
        if one is not None and two is not None:
            found.append((str(row.get("group") or row["id"]), one, two))
    if not found:
        return None
    names = [cluster for cluster, _, _ in found]
    parts = [part for _, _, (_, _, part) in found]
    first, second = (_tally([f[side] for f in found], names, parts) for side in (1, 2))  # type: ignore[misc]
    return first, second


def _tally(values: Sequence[tuple[float, float, str]], clusters: Sequence[str], parts: Sequence[str]) -> Ratios:
    names, g = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    kinds, k = np.unique(np.asarray(parts, dtype=str), return_inverse=True)
    over, under = np.zeros((len(names), len(kinds))), np.zeros((len(names), len(kinds)))
    np.add.at(over, (g, k), np.array([v[0] for v in values]))
    np.add.at(under, (g, k), np.array([v[1] for v in values]))
    return Ratios(tuple(map(str, names)), over, under)
