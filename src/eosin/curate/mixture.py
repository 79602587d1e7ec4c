"""A weighted mixture of several sample lists, fixed by its seed and resumable at any index."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

from eosin.core.errors import EosinError

T = TypeVar("T")
BLOCK = 1000


class Mixture(Generic[T]):
    """An endless sequence: item `i` is the same in every run with the same lists, weights and seed.

    Every block of 1,000 items holds each list in proportion to its weight, in an order drawn with the seed. A
    list is used up in a shuffled order before it begins again in another one.

    Args:
        lists: name -> items.
        weights: name -> weight, relative to the others.
        seed: of both orders.

    Raises:
        EosinError: a list is empty, a weight is not positive, or names differ.
    """

    def __init__(self, lists: Mapping[str, Sequence[T]], weights: Mapping[str, float], seed: int = 0) -> None:
        if set(lists) != set(weights) or not lists:
            raise EosinError(
                "A mixture needs one weight for each list.",
                expected=", ".join(sorted(lists)) or "at least one list", found=", ".join(sorted(weights)),
            )  # fmt: skip
        for name in lists:
            if not lists[name]:
                raise EosinError("A list of the mixture is empty.", where=name)
            if not 0 < weights[name] < float("inf"):
                raise EosinError("A weight must be a positive number.", found=str(weights[name]), where=name)
        if len(lists) > BLOCK:
            raise EosinError(f"A mixture takes at most {BLOCK} lists.", found=str(len(lists)))
        self._lists = dict(sorted(lists.items()))
        self._names = list(self._lists)
        self._seed = seed
        self._quota = _quotas([weights[n] for n in self._names])
        self._block = lru_cache(maxsize=4)(self._make_block)
        self._order = lru_cache(maxsize=2 * len(self._names))(self._make_order)

    @property
    def shares(self) -> dict[str, float]:
        """Share of each list in the mixture, as it is drawn."""
        return {n: q / BLOCK for n, q in zip(self._names, self._quota, strict=True)}

    def source_of(self, index: int) -> tuple[str, int]:
        """Name of the list, and the position in it, of item `index`."""
        if index < 0:
            raise IndexError("a mixture has no last item to count back from")
        block, offset = divmod(index, BLOCK)
        which, rank = self._block(block)[offset]
        name = self._names[which]
        epoch, position = divmod(block * self._quota[which] + rank, len(self._lists[name]))
        return name, self._order(which, epoch)[position]

    def __getitem__(self, index: int) -> T:
        name, position = self.source_of(index)
        return self._lists[name][position]

    def iterate(self, start: int = 0) -> Iterator[T]:
        """Items from `start` on, without end."""
        index = start
        while True:
            yield self[index]
            index += 1

    def _make_block(self, block: int) -> list[tuple[int, int]]:
        which = [w for w, quota in enumerate(self._quota) for _ in range(quota)]
        random.Random(f"mixture:{self._seed}:{block}").shuffle(which)
        used = [0] * len(self._names)
        pairs = []
        for w in which:
            pairs.append((w, used[w]))
            used[w] += 1
        return pairs

    def _make_order(self, which: int, epoch: int) -> list[int]:
        name = self._names[which]
        order = list(range(len(self._lists[name])))
        random.Random(f"mixture:{self._seed}:{name}:{epoch}").shuffle(order)
        return order


def _quotas(weights: Sequence[float]) -> list[int]:
    """Whole numbers that sum to BLOCK, by largest remainder; each at least 1."""
    total = sum(weights)
    exact = [w / total * BLOCK for w in weights]
    quotas = [max(1, int(x)) for x in exact]
    while sum(quotas) != BLOCK:
        step = 1 if sum(quotas) < BLOCK else -1
        candidates = [i for i in range(len(quotas)) if step > 0 or quotas[i] > 1]
        chosen = max(candidates, key=lambda i: step * (exact[i] - quotas[i]))
        quotas[chosen] += step
    return quotas
