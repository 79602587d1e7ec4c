"""How the reply reasons: by rules, by a judge's checklist, or by CLIP."""

from __future__ import annotations

from typing import Any, Literal

from eosin.core.errors import ImageError
from eosin.core.images import load_image
from eosin.core.nouns.outcome import Parsed, Scored, Unscored
from eosin.scoring.judge import checklist
from eosin.scoring.reading import events
from eosin.scoring.reading.events import found_against
from eosin.scoring.reading.text import sentences
from eosin.scoring.terms.base import NoGold, Resources, ScoreContext, Term, register
from eosin.scoring.terms.shape import beyond, repeated_share

By = Literal["auto", "rules", "judge"]
PENALTY = 0.4


def checklist_score(missing: int, errors: int, penalty: float = PENALTY) -> float:
    """PathVLM-R1's process reward: the mean of integrity and knowledge.

    integrity = max(0, 1 - penalty * missing parts of reasoning), knowledge = max(0, 1 - penalty * kinds of error),
    process = (integrity + knowledge) / 2 (arXiv 2504.09258).
    """
    return (max(0.0, 1 - penalty * missing) + max(0.0, 1 - penalty * errors)) / 2


@register
class ChecklistTerm(Term):
    """PathVLM-R1's six-event checklist, by a judge that sees the image, or by rules.

    Attributes:
        by: "judge", "rules", or "auto": a judge where one was injected. The record names which.
        penalty: what each missing part and each kind of error costs (published 0.4).
        sees_gold: whether the judge is shown the standard answer, as in the paper.
        fallback: when the judge fails: "unscored", or "paper": 0.5 if the answer is right, else 0.
    """

    name = "checklist"
    by: By = "auto"
    penalty: float = PENALTY
    sees_gold: bool = False
    fallback: Literal["unscored", "paper"] = "unscored"

    def uses_server(self, resources: Resources) -> bool:
        return self.by == "judge" or (self.by == "auto" and resources.judge is not None)

    def score(self, context: ScoreContext) -> Scored | Unscored:
        reason = events.no_reasoning(context)
        if reason:
            return Scored(0.0, {"by": "rules", "reason": reason})
        return self._value(events.rule_checklist(context), "rules")

    async def ascore(self, context: ScoreContext) -> Scored | Unscored:
        if not self.uses_server(context.resources):
            return self.score(context)
        if context.resources.judge is None:
            return Unscored("no judge given")
        reason = events.no_reasoning(context)
        if reason:
            return Scored(0.0, {"by": "rules", "reason": reason})
        verdict = await checklist.ask(context, context.resources.judge, sees_gold=self.sees_gold)
        if isinstance(verdict, Parsed):
            return self._value(verdict.value, context.resources.judge.model, beside=events.rule_checklist(context))
        if self.fallback == "paper":
            return self._paper_fallback(context, verdict.reason)
        return Unscored(f"judge: {verdict.reason}")

    def _value(self, found: events.Checklist, by: str, beside: events.Checklist | None = None) -> Scored:
        """The score of the events; `beside` are the rules' events for the same reply, kept for their agreement."""
        value = checklist_score(len(found.missing()), len(found.errors()), self.penalty)
        rules = {} if beside is None else {"rules": {name: event.happened for name, event in vars(beside).items()}}
        return Scored(value, {"by": by, **found.as_events(), **rules})

    def _paper_fallback(self, context: ScoreContext, reason: str) -> Scored:
        from eosin.scoring.terms.accuracy import AccuracyTerm

        right = AccuracyTerm(block="one").score(context)
        value = 0.5 if isinstance(right, Scored) and right.value == 1.0 else 0.0
        return Scored(value, {"by": "paper fallback", "reason": reason})

    def described(self, resources: Resources) -> dict[str, Any]:
        by = resources.judge.described() if self.uses_server(resources) and resources.judge is not None else "rules"
        return super().described(resources) | {"by": by}


@register
class ProcessTerm(Term):
    """Reasoning by rules, blind to the gold answer.

    The mean of: something seen is named (0 or 1); the share of the other options that are ruled out with a reason
    (closed questions); the hardened Dice of the findings with the gold findings (where the data has them); 0 for
    evidence where a stated finding, other than a gold one, speaks against the reply's own diagnosis by the tables or
    the graph (no such part where none does, so that naming what speaks for it earns nothing). Then times 1 minus the
    repeated share beyond what is ordinary. 0 where think is empty, copies the question, repeats itself, is a list of
    names, or contradicts the answer.
    """

    name = "process"

    def score(self, context: ScoreContext) -> Scored | Unscored:
        reason = events.no_reasoning(context)
        if reason:
            return Scored(0.0, {"reason": reason})
        found = events.rule_checklist(context)
        if found.contradiction.happened:
            return Scored(0.0, {"reason": "contradiction", "evidence": found.contradiction.evidence[:200]})
        parts = self._parts(context, found)
        repeated = repeated_share(context.block("think"))
        value = sum(parts.values()) / len(parts) * (1.0 - beyond(repeated))
        shown: dict[str, object] = {k: round(v, 4) for k, v in parts.items()}
        if "evidence" in parts:
            shown["against"] = found_against(context)
        return Scored(value, {**shown, "repeated": round(repeated, 4), "evidence": found.image_features.evidence[:200]})

    def _parts(self, context: ScoreContext, found: events.Checklist) -> dict[str, float]:
        parts = {"image_features": float(found.image_features.happened)}
        if len(context.item.choices) > 1:
            others = len(context.item.choices) - 1
            parts["elimination"] = min(1.0, len(events.eliminated(context)) / others)
        grounded = events.grounding(context) if context.item.entities else None
        if grounded is not None:
            parts["grounding"] = grounded
        if found_against(context):
            parts["evidence"] = 0.0
        return parts


@register
class ClipTerm(Term):
    """Mean cosine of each sentence of the findings (of think, without findings) with the image, by an injected CLIP.

    Attributes:
        floor, ceiling: cosines that become 0 and 1.
        max_sentences: only so many are looked at; more are refused, so that no one wins by volume.
    """

    name = "clip"
    floor: float = 0.0
    ceiling: float = 1.0
    max_sentences: int = 30

    def score(self, context: ScoreContext) -> Scored | Unscored:
        if context.resources.clip is None:
            return Unscored("no CLIP model given")
        if context.item.image is None:
            return NoGold("no image")
        if reason := context.unreadable(context.grammar.findings_tag, "think"):
            return Scored(0.0, {"unparsed": reason})
        lines = sentences(context.findings or context.block("think"))
        if not lines:
            return Scored(0.0, {"reason": "no findings"})
        if len(lines) > self.max_sentences:
            return Scored(0.0, {"reason": f"more than {self.max_sentences} sentences"})
        try:
            image = load_image(context.item.image)
        except ImageError as exc:
            return Unscored(exc.message)
        cosines = [float(c) for c in context.resources.clip(image, lines)]
        if len(cosines) != len(lines) or any(c != c for c in cosines):
            return Unscored("CLIP gave no number for some sentences")
        mean = sum(cosines) / len(cosines)
        value = min(1.0, max(0.0, (mean - self.floor) / (self.ceiling - self.floor)))
        return Scored(value, {"by": context.resources.clip_name, "cosines": [round(c, 4) for c in cosines]})
