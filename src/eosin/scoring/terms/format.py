"""Does the reply obey its grammar? PathVLM-R1, Patho-R1 and PathReasoner-R1 all give 1 or 0 for this."""

from __future__ import annotations

import re
from typing import Literal

from eosin.core.nouns.outcome import Scored, Unparsed, Unscored
from eosin.scoring.terms.base import ScoreContext, Term, register

_STEP = re.compile(r"(?m)^[ \t]*(\d{1,3})\.[ \t]")


@register
class FormatTerm(Term):
    """1 if the reply is exactly one block of each tag, in order, with nothing outside; else 0.

    Attributes:
        min_steps: with a grammar of numbered steps, how many there must be at least.
        where: "whole" is the grammar; "anywhere" is satisfied with the blocks one after the other somewhere in the
            reply, as the released code of PathReasoner-R1 is.
        allow_empty: whether blocks other than the answer may be empty.
    """

    name = "format"
    min_steps: int = 1
    allow_empty: bool = True
    where: Literal["whole", "anywhere"] = "whole"

    def score(self, context: ScoreContext) -> Scored | Unscored:
        reason = self._fault(context)
        return Scored(0.0, {"reason": reason}) if reason else Scored(1.0)

    def _fault(self, context: ScoreContext) -> str | None:
        if self.where == "anywhere":
            return None if context.grammar.is_somewhere(context.item.reply) else "no such blocks one after the other"
        if isinstance(context.parsed, Unparsed):
            return context.parsed.reason
        reply = context.parsed.value
        if not reply.answer:
            return "empty <answer>"
        if not self.allow_empty:
            for tag, text in reply.blocks.items():
                if not text:
                    return f"empty <{tag}>"
        if context.grammar.numbered_steps and "think" in reply.blocks:
            return _step_fault(reply.think, self.min_steps)
        return None


def _step_fault(think: str, min_steps: int) -> str | None:
    numbers = [int(n) for n in _STEP.findall(think)]
    if len(numbers) < min_steps:
        return "steps missing"
    if numbers != list(range(1, len(numbers) + 1)):
        return "steps not numbered 1, 2, 3"
    if not re.match(r"1\.[ \t]", think.lstrip()):
        return "text before the first step"
    return None
