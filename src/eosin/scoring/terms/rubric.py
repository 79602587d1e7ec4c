"""A whole reply on ten criteria by a judge, against the reference: for exams of open answers."""

from __future__ import annotations

from typing import Any

from eosin.core.nouns.outcome import Parsed, Scored, Unscored
from eosin.scoring.judge.rubric import RUBRIC_DIGEST, RUBRIC_VERSION, grade_by_rubric
from eosin.scoring.terms.base import NoGold, Resources, ScoreContext, Term, register


@register
class RubricTerm(Term):
    """Mean of ten grades 1..5 as 0..1. Without a judge, or where it gives no verdict, there is no score."""

    name = "rubric"

    def uses_server(self, resources: Resources) -> bool:
        return True

    def score(self, context: ScoreContext) -> Scored | Unscored:
        return Unscored("no judge given")

    async def ascore(self, context: ScoreContext) -> Scored | Unscored:
        judge, item = context.resources.judge, context.item
        if judge is None:
            return Unscored("no judge given")
        reference = item.answer_text if item.choices else item.reference.answer or item.answer
        if not reference or not reference.strip():
            return NoGold("no reference answer")
        if not item.reply.strip():
            return Scored(0.0, {"reason": "empty reply"})
        verdict = await grade_by_rubric(item.question, reference, item.reply, judge)
        if not isinstance(verdict, Parsed):
            return Unscored(f"judge: {verdict.reason}")
        return Scored(verdict.value.score, {**verdict.value.grades, "evidence": verdict.value.evidence[:200]})

    def described(self, resources: Resources) -> dict[str, Any]:
        judge = resources.judge.described() if resources.judge else "none"
        return super().described(resources) | {"rubric": RUBRIC_VERSION, "digest": RUBRIC_DIGEST, "judge": judge}
