"""Length, repetition and language: terms that look at the reply's surface."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from eosin.core.nouns.outcome import Parsed, Scored, Unscored
from eosin.knowledge.linking.words import words_of
from eosin.scoring.reading.text import foreign_share
from eosin.scoring.terms.base import ScoreContext, Term, register

FREE_SHARE = 0.15
"""Ordinary text repeats this much of itself, such as "is ruled out because of", without blame."""

_LONG_RUN = re.compile(r"(\S)\1{19,}")
_MAY_RUN = re.compile(r"(\S)\1{3}")
"""In every fifth character of a text with a long run."""


def soft_overlong(num_tokens: int, max_tokens: int, cache_tokens: int) -> float:
    """Soft overlong punishment of DAPO (arXiv 2503.14476, eq. 13), in -1..0.

    0 up to max - cache; falls linearly to -1 at max; -1 beyond.
    """
    if num_tokens <= max_tokens - cache_tokens:
        return 0.0
    if num_tokens <= max_tokens:
        return ((max_tokens - cache_tokens) - num_tokens) / cache_tokens
    return -1.0


def repetition_share(words: Sequence[str], n: int = 4) -> float:
    """Share of n-grams that are repetitions of an earlier one: 1 - distinct / total, 0..1."""
    total = len(words) - n + 1
    if total < 1:
        return 0.0
    return 1.0 - len(set(zip(*(words[i:] for i in range(n)), strict=False))) / total


def run_share(text: str) -> float:
    """Share of the text that is one character said 20 times or more in a row, 0..1."""
    if not _MAY_RUN.search(text[::5]):
        return 0.0
    return sum(m.end() - m.start() for m in _LONG_RUN.finditer(text)) / len(text)


@lru_cache(maxsize=32)
def repeated_share(text: str, n: int = 4) -> float:
    """The larger of the share of repeated n-grams and the share of long runs of one character. Several terms ask for
    the same block, so the last few are remembered."""
    return max(repetition_share(words_of(text), n), run_share(text))


def beyond(share: float, free: float = FREE_SHARE) -> float:
    """The part of a share beyond what is free, stretched to 0..1."""
    return max(0.0, share - free) / (1.0 - free)


@register
class OverlongTerm(Term):
    """The soft overlong punishment itself, in -1..0 (DAPO, eq. 13). RL adds it where its algorithm asks for it.

    Attributes:
        max_tokens: limit of a completion; None takes the run's own.
        cache_tokens: width of the slope; None means a fifth of max_tokens, as in DAPO (4,096 of 20,480).
    """

    name = "overlong"
    low = -1.0
    high = 0.0
    max_tokens: int | None = None
    cache_tokens: int | None = None

    def score(self, context: ScoreContext) -> Scored | Unscored:
        limit = self.max_tokens or context.resources.max_tokens
        if limit is None:
            return Unscored("no token limit given (max_tokens)")
        if context.item.num_tokens is None:
            return Unscored("num_tokens not given")
        cache = self.cache_tokens if self.cache_tokens is not None else max(1, limit // 5)
        punished = -1.0 if context.item.truncated else soft_overlong(context.item.num_tokens, limit, cache)
        return Scored(punished, {"num_tokens": context.item.num_tokens, "max_tokens": limit})


@register
class LengthTerm(OverlongTerm):
    """1 + the soft overlong punishment, so 0..1. A blank reply earns 0, so that silence is not the safe choice."""

    name = "length"
    low = 0.0
    high = 1.0

    def score(self, context: ScoreContext) -> Scored | Unscored:
        if not context.item.reply.strip() and (self.max_tokens or context.resources.max_tokens) is not None:
            return Scored(0.0, {"reason": "blank reply"})
        punished = super().score(context)
        return Scored(1.0 + punished.value, punished.events) if isinstance(punished, Scored) else punished


@register
class RepetitionTerm(Term):
    """1 minus the share of repeated n-grams or of long runs of one character, in the worst block.

    A reply that does not parse is looked at as a whole. A blank reply earns 0.

    Attributes:
        n: words of an n-gram.
        free: share that is not punished (ordinary text repeats itself a little).
    """

    name = "repetition"
    n: int = 4
    free: float = FREE_SHARE

    def score(self, context: ScoreContext) -> Scored | Unscored:
        if not context.item.reply.strip():
            return Scored(0.0, {"reason": "blank reply"})
        texts = context.blocks.values() if isinstance(context.parsed, Parsed) else [context.item.reply]
        share = max(repeated_share(text, self.n) for text in texts)
        return Scored(1.0 - beyond(share, self.free), {"repeated": round(share, 4)})


@register
class LanguageTerm(Term):
    """1 minus the share of letters in another script than the allowed ones. A blank reply earns 0.

    Attributes:
        scripts: first words of Unicode character names, such as LATIN or CYRILLIC.
    """

    name = "language"
    scripts: tuple[str, ...] = ("LATIN", "GREEK")

    def score(self, context: ScoreContext) -> Scored | Unscored:
        if not context.item.reply.strip():
            return Scored(0.0, {"reason": "blank reply"})
        share = foreign_share(context.item.reply, self.scripts)
        return Scored(1.0 - share, {"foreign": round(share, 4)})
