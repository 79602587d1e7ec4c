"""Which of several copies stays: one pass in an order of preference, so that each that goes is near one that stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Edge:
    """Two samples by number that are copies, how alike they are, and what is alike.

    Attributes:
        order: where several reasons hold, the one with the least is told.
    """

    first: int
    second: int
    likeness: float
    reason: str
    order: int = 0


def choose(edges: Iterable[Edge], ranks: Mapping[int, int] | Sequence[int]) -> dict[int, tuple[int, Edge]]:
    """Samples that go: number -> (the one that stays in its place, why).

    Samples are looked at by rank, then by number. One goes where it is a copy of one that stays.

    Args:
        ranks: of each sample; a smaller one stays rather.
    """
    beside: dict[int, list[Edge]] = defaultdict(list)
    for edge in edges:
        beside[edge.first].append(edge)
        beside[edge.second].append(edge)
    gone: dict[int, tuple[int, Edge]] = {}
    stays: set[int] = set()
    for number in sorted(beside, key=lambda n: (ranks[n], n)):
        copies = [(e, e.second if e.first == number else e.first) for e in beside[number]]
        kept = [(e.order, -e.likeness, other, e) for e, other in copies if other in stays]
        if kept:
            _, _, other, edge = min(kept, key=lambda k: k[:3])
            gone[number] = (other, edge)
        else:
            stays.add(number)
    return gone
