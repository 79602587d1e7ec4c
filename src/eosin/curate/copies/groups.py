"""Names that belong together, joined pair by pair (union-find, Tarjan 1975)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Groups(Generic[K]):
    """Sets that grow by joining. Only what was joined with something else takes memory."""

    def __init__(self) -> None:
        self._above: dict[K, K] = {}
        self.num_joined = 0

    def root(self, name: K) -> K:
        """The name that stands for the set of `name`."""
        top = name
        while (above := self._above.get(top, top)) != top:
            top = above
        while (above := self._above.get(name, name)) != top and above != name:
            self._above[name] = top
            name = above
        return top

    def join(self, first: K, second: K) -> None:
        """Put the sets of both names together, under the root of `second`."""
        a, b = self.root(first), self.root(second)
        if a != b:
            self._above[a] = b
            self.num_joined += 1
