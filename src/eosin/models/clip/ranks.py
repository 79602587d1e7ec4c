"""Ranks of what belongs together, among all that could: retrieval without ever holding all products."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError

TILE = 4096
AT = (1, 5, 10, 20)
Ranks = NDArray[np.int64]


@dataclass(frozen=True)
class BothWays:
    """Rank, from 1, of the first right caption of every picture (N,), and likewise of every caption."""

    captions: Ranks
    pictures: Ranks


def ranks_both_ways(
    pictures: NDArray[np.float32], captions: NDArray[np.float32], same: Sequence[Hashable], tile: int = TILE
) -> BothWays:
    """Ranks in N pairs of unit vectors; row i of both belongs together, and so do rows whose `same` is equal.

    The rank is 1 + the number of wrong ones that score at least as much as the best right one: a tie is no hit, so that
    a model that gives all things one vector finds nothing. Products stand in memory tile by tile: tile^2 numbers.

    Args:
        pictures, captions: (N, D).
        same: N keys, such as the captions themselves; equal keys count as right for each other.

    Raises:
        EosinError: no pairs, unequal numbers, or numbers that are not finite.
    """
    _check(pictures, captions, len(same))
    keys = numbered(same)
    num = len(keys)
    best_row, best_column = (np.full(num, -np.inf, np.float32) for _ in range(2))
    with_right = set()
    for rows, columns in _tiles(num, tile):
        if np.intersect1d(keys[rows], keys[columns]).size:
            with_right.add((rows.start, columns.start))
            products = pictures[rows] @ captions[columns].T
            products[keys[rows][:, None] != keys[columns][None, :]] = -np.inf
            best_row[rows] = np.maximum(best_row[rows], products.max(1))
            best_column[columns] = np.maximum(best_column[columns], products.max(0))
    above_row, above_column = (np.ones(num, np.int64) for _ in range(2))
    for rows, columns in _tiles(num, tile):
        products = pictures[rows] @ captions[columns].T
        if (rows.start, columns.start) in with_right:
            products[keys[rows][:, None] == keys[columns][None, :]] = -np.inf
        above_row[rows] += np.count_nonzero(products >= best_row[rows][:, None], axis=1)
        above_column[columns] += np.count_nonzero(products >= best_column[columns][None, :], axis=0)
    return BothWays(above_row, above_column)


def recalls_at(ranks: Ranks, at: Sequence[int] = AT) -> dict[str, float]:
    """R@k for each k, the mean of these, and the median rank."""
    found = {f"r@{k}": float((ranks <= k).mean()) for k in at}
    return {**found, "mean_recall": float(np.mean(list(found.values()))), "median_rank": float(np.median(ranks))}


def chance_at(same: Sequence[Hashable], k: int) -> float:
    """R@k of a random order: mean over the pairs of 1 - C(N - m, k) / C(N, k), with m right ones among N."""
    counts = np.bincount(numbered(same))
    num = len(same)
    k = min(k, num)
    misses = np.ones(len(counts))
    for i in range(k):
        misses *= np.clip((num - counts - i) / (num - i), 0, 1)
    return float(((1 - misses) * counts).sum() / num)


def numbered(keys: Sequence[Hashable]) -> Ranks:
    """Numbers (N,) of keys: equal ones have equal numbers, from 0 in the order in which they come."""
    seen: dict[Hashable, int] = {}
    return np.asarray([seen.setdefault(k, len(seen)) for k in keys], dtype=np.int64)


def _tiles(num: int, tile: int) -> Iterator[tuple[slice, slice]]:
    for i in range(0, num, tile):
        for j in range(0, num, tile):
            yield slice(i, min(num, i + tile)), slice(j, min(num, j + tile))


def _check(pictures: NDArray[np.float32], captions: NDArray[np.float32], num_keys: int) -> None:
    if not len(pictures):
        raise EosinError("There is nothing to retrieve.", expected="pairs of a picture and a caption", found="none")
    if pictures.shape != captions.shape or len(pictures) != num_keys:
        raise EosinError(
            "Pictures, captions and keys differ in number or size.",
            found=f"{pictures.shape}, {captions.shape}, {num_keys}",
        )
    if not (np.isfinite(pictures).all() and np.isfinite(captions).all()):
        raise EosinError("Some embeddings are not finite numbers.")
