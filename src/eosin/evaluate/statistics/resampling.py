"""Resamples of clusters as sums: which clusters are drawn matters only by what they add up to.

Clusters with the same row of a table are one pattern. How often each pattern is drawn in a resample of G clusters is
multinomial with probabilities n_u / G, so that a resample costs as much as there are patterns, not clusters: right and
wrong replies of a closed exam form few, however many items it has. The distribution is that of drawing the clusters.
Where patterns are many, the clusters themselves are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_CELLS = 4_000_000
_MANY_PATTERNS = 1_000
_GATHERED_CELLS = 1_000_000


def draw_weights(num_clusters: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each cluster is drawn: blocks of (b, G), each row summing to G, `resamples` rows in all.

    The blocks are not to be written to: one that holds all rows is remembered, as every figure of an exam asks for it.
    """
    block = max(1, _MAX_CELLS // num_clusters)
    if block >= resamples:
        yield _all_weights(num_clusters, resamples, seed)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, block):
        yield _weights(rng, num_clusters, min(block, resamples - start))


@lru_cache(maxsize=4)
def _all_weights(num_clusters: int, resamples: int, seed: int) -> NDArray[np.float64]:
    found = _weights(np.random.default_rng(seed), num_clusters, resamples)
    found.setflags(write=False)
    return found


def _weights(rng: np.random.Generator, num_clusters: int, num: int) -> NDArray[np.float64]:
    return rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=num).astype(float)


def draw_sums(table: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Column sums over G clusters that are drawn with replacement, `resamples` times.

    Args:
        table: (G, C), a row a cluster.

    Returns:
        (resamples, C).
    """
    num_clusters = len(table)
    patterns, counts = np.unique(table, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    sums = np.empty((resamples, table.shape[1]))
    if len(patterns) > _MANY_PATTERNS:
        block = max(1, _GATHERED_CELLS // num_clusters)
        for start in range(0, resamples, block):
            size = min(block, resamples - start)
            sums[start : start + size] = _gathered(table, size, rng)
        return sums
    block = max(1, _MAX_CELLS // len(patterns))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        weights = rng.multinomial(num_clusters, counts / num_clusters, size=size)
        sums[start : start + size] = weights @ patterns
    return sums


def _gathered(table: NDArray[np.float64], size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(size, C): each resample adds up the rows that it drew."""
    num_clusters, num_columns = table.shape
    drawn = rng.integers(0, num_clusters, size=(size, num_clusters))  # as places: narrower ones are widened first
    if num_columns <= 2:
        return np.stack([_sums_of(table[:, c], drawn) for c in range(num_columns)], axis=1)
    flat = drawn + np.arange(0, size * num_clusters, num_clusters)[:, None]
    weights = np.bincount(flat.ravel(), minlength=size * num_clusters).reshape(size, num_clusters)
    return weights.astype(np.float64) @ table


def _sums_of(column: NDArray[np.float64], drawn: NDArray[Any]) -> NDArray[np.float64]:
    """Sums over the drawn rows (size, G); a column of one value needs no look-up."""
    if (column == column[0]).all():
        return np.full(len(drawn), column[0] * len(column))
    return np.asarray(column.take(drawn, mode="clip").sum(axis=1))


def by_cluster(clusters: Sequence[str], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the columns (N, C) by cluster: (G, C)."""
    names, place = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    table = np.zeros((len(names), columns.shape[1]))
    np.add.at(table, place, columns)
    return table
