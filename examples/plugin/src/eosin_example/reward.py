"""A reward: the reasoning is short."""

from __future__ import annotations

from eosin.core.nouns.outcome import Scored, Unscored
from eosin.scoring import ScoreContext, Term


class Brief(Term):
    """1 up to `max_words` words of reasoning, then falling to 0 at twice as many. An empty reasoning earns 0."""

    name = "brief"
    max_words: int = 80

    def score(self, context: ScoreContext) -> Scored | Unscored:
        words = len(context.block("think").split())
        over = max(0, words - self.max_words) / self.max_words
        return Scored(max(0.0, 1.0 - over) if words else 0.0, {"words": words})
