"""Several replies an item, or several decoding seeds: mean, spread, pass@k, and the confidence that agreement gives."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.nouns.classes import normalised

Row = Mapping[str, Any]


@dataclass(frozen=True)
class OverDraws:
    """A score over decoding seeds.

    Attributes:
        mean: over seeds. sd: over seeds (n - 1); None for one.
        by_draw: score of every seed.
    """

    mean: float
    sd: float | None
    by_draw: tuple[float, ...]


def over_draws(scores: Sequence[float]) -> OverDraws:
    """Mean and standard deviation of one score a seed.

    Raises:
        EosinError: there is none.
    """
    if not len(scores):
        raise EosinError("There is nothing to score.", expected="at least one decoding seed", found="none")
    values = np.asarray(scores, dtype=np.float64)
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return OverDraws(float(values.mean()), sd, tuple(float(v) for v in values))


def pass_at_k(num_draws: int, num_right: int, k: int) -> float:
    """Chance that one of k replies is right, from c right ones of n: 1 - C(n - c, k) / C(n, k), without bias
    (Chen et al. 2021, arXiv 2107.03374, equation 1).

    Raises:
        EosinError: k beyond the number of draws, or counts that cannot be.
    """
    if not 1 <= k <= num_draws or not 0 <= num_right <= num_draws:
        raise EosinError("pass@k needs at least k draws.", expected=f"1 to {num_draws}", found=f"k = {k}")
    if num_draws - num_right < k:
        return 1.0
    missed = 1.0
    for i in range(num_draws - num_right + 1, num_draws + 1):
        missed *= 1.0 - k / i
    return 1.0 - missed


def rungs(num_draws: int) -> list[int]:
    """The k that are told: powers of two up to the number of draws, and that number."""
    return sorted({2**i for i in range(num_draws.bit_length()) if 2**i <= num_draws} | {num_draws})


@dataclass(frozen=True)
class Vote:
    """What the replies to one item agree on.

    Attributes:
        confidence: share of all replies that give the most frequent answer; unparsed ones count in the whole. 0 where
            none parsed.
        is_correct: whether that answer is right; the earlier one wins a tie.
        answer: as it was parsed; None where none was.
    """

    confidence: float
    is_correct: bool
    answer: str | None


def vote(rows: Sequence[Row]) -> Vote:
    """The vote of the replies to one item (self-consistency; Wang et al. 2022, arXiv 2203.11171)."""
    votes: dict[Hashable, list[Row]] = {}
    for row in rows:
        if row["parsed"] is not None:
            votes.setdefault(normalised(str(row["parsed"])), []).append(row)
    if not votes:
        return Vote(0.0, False, None)
    chosen = max(votes.values(), key=len)
    return Vote(len(chosen) / len(rows), bool(chosen[0]["correct"]), str(chosen[0]["parsed"]))
