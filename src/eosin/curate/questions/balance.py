"""Which questions are taken, so that counts are equal: yes and no of every concept, strata by their weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

Row = tuple[str, bool, float]
"""Concept, whether it is there, and the row's own draw in [0, 1)."""


def yes_no_limits(rows: Iterable[Row], most: int | None = None) -> dict[str, tuple[float, float]]:
    """For each concept the draws below which a "yes" and a "no" are taken, so that both are equally many.

    Args:
        most: of each side of a concept.
    """
    draws: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for concept, is_there, draw in rows:
        draws[concept][0 if is_there else 1].append(draw)
    limits = {}
    for concept, (yes, no) in draws.items():
        take = min(len(yes), len(no), most if most is not None else len(yes))
        if take:
            limits[concept] = (_below(yes, take), _below(no, take))
    return limits


def _below(draws: Sequence[float], take: int) -> float:
    """A limit that exactly `take` draws lie below."""
    ordered = sorted(draws)
    return 1.0 if take >= len(ordered) else ordered[take]


def quotas(counts: Mapping[str, int], size: int, weights: Mapping[str, float], temperature: float) -> dict[str, int]:
    """How many of each stratum: shares proportional to weight x count ** (1 / temperature), none beyond its count.

    What a full stratum cannot take is shared out among the others, so that the sum is min(size, all).

    Args:
        temperature: 1 keeps the natural shares; large ones make all strata equal.
    """
    left = {name: n for name, n in counts.items() if n > 0 and weights.get(name, 1.0) > 0}
    taken: dict[str, int] = {}
    free = min(size, sum(left.values()))
    while left:
        mass = {n: weights.get(n, 1.0) * c ** (1 / temperature) for n, c in left.items()}
        total = sum(mass.values())
        full = [n for n in left if free * mass[n] / total >= left[n]]
        if not full:
            taken |= _rounded({n: free * m / total for n, m in mass.items()}, free)
            break
        for name in full:
            taken[name] = left.pop(name)
            free -= taken[name]
    return {name: taken.get(name, 0) for name in counts}


def _rounded(exact: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers of a given sum, by largest remainder."""
    made = {n: int(x) for n, x in exact.items()}
    for name in sorted(exact, key=lambda n: made[n] - exact[n])[: total - sum(made.values())]:
        made[name] += 1
    return made


def limits_of(draws: Mapping[str, Sequence[float]], wanted: Mapping[str, int]) -> dict[str, float]:
    """For each stratum the draw below which a sample is taken."""
    return {n: 0.0 if not wanted.get(n) else _below(d, wanted[n]) for n, d in draws.items()}


def places(num: int, num_options: int, draw: Sequence[float]) -> list[int]:
    """Places of the right answer for `num` questions: every block of `num_options` has each place once, in drawn order.

    Args:
        draw: at least `num` numbers that order the places within blocks.
    """
    made: list[int] = []
    for start in range(0, num, num_options):
        block = sorted(range(num_options), key=lambda k: draw[(start + k) % len(draw)] * (k + 1) % 1)
        made += block
    return made[:num]
