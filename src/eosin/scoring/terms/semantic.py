"""Does the answer mean what the reference means? By a judge, by a sentence encoder, or by words."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np

from eosin.core.nouns.outcome import Parsed, Scored, Unparsed, Unscored
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.linking.words import read_words
from eosin.scoring.judge import checklist
from eosin.scoring.reading.strict import MAX_ANSWER_CHARS
from eosin.scoring.reading.text import has_hidden
from eosin.scoring.terms.accuracy import AnswerBlock, answer_block
from eosin.scoring.terms.base import NoGold, Resources, ScoreContext, Term, register

_EMPTY_WORDS = frozenset({"a", "an", "the", "of", "in", "is", "are", "with", "and", "or", "to", "by", "this", "it"})


def concept_tokens(text: str, linker: Linker) -> Counter[str]:
    """Words of a text with every lexicon name replaced by its concept and polarity, without empty words."""
    mentions = linker.link(text)
    tokens = [f"{m.concept}/{m.polarity}" for m in mentions]
    spans = iter(mentions)
    current = next(spans, None)
    for word, start, end in read_words(text).placed():
        while current is not None and current.end <= start:
            current = next(spans, None)
        inside = current is not None and current.start <= start and end <= current.end
        if not inside and word not in _EMPTY_WORDS:
            tokens.append(word)
    return Counter(tokens)


def token_f1(answer: str, reference: str, linker: Linker) -> float:
    """F1 of synonym-normalised tokens, counted with multiplicity: 2 |A n R| / (|A| + |R|)."""
    a, r = concept_tokens(answer, linker), concept_tokens(reference, linker)
    total = sum(a.values()) + sum(r.values())
    return 2 * sum((a & r).values()) / total if total else 0.0


@register
class SemanticTerm(Term):
    """The answer block against the reference answer, 0..1.

    Attributes:
        by: "auto" takes a judge, else an encoder, else token F1; the record names which.
        floor: similarity that counts as nothing (encoder and token F1); above it the rest is stretched to 0..1.
        on_error: when the judge fails: "unscored", or "zero" as PathReasoner-R1 does.
        block: see the accuracy term.
    """

    name = "semantic"
    by: Literal["auto", "judge", "encoder", "token_f1"] = "auto"
    floor: float = 0.3
    on_error: Literal["unscored", "zero"] = "unscored"
    block: AnswerBlock = "readable"

    def means(self, resources: Resources) -> str:
        """Which of the three is used with these resources."""
        if self.by != "auto":
            return self.by
        return "judge" if resources.judge is not None else "encoder" if resources.encode is not None else "token_f1"

    def uses_server(self, resources: Resources) -> bool:
        return self.means(resources) == "judge"

    def uses_encoder(self, resources: Resources) -> bool:
        return self.means(resources) == "encoder"

    def score(self, context: ScoreContext) -> Scored | Unscored:
        pair = self._pair(context)
        if not isinstance(pair, tuple):
            return pair
        answer, reference = pair
        if _several_answers(context, answer, reference):
            return Scored(0.0, {"by": "rules", "reason": "several answers at once"})
        means = self.means(context.resources)
        if means == "token_f1":
            value = token_f1(answer, reference, context.resources.links)
        elif context.resources.encode is None:
            return Unscored("no sentence encoder given")
        else:
            value = _cosine(np.asarray(context.resources.encode([answer, reference]), dtype=np.float64))
            means = f"encoder {context.resources.encode_name}"
            if value != value:
                return Unscored("the encoder gave no number")
        return Scored(max(0.0, value - self.floor) / (1.0 - self.floor), {"by": means, "similarity": round(value, 4)})

    async def ascore(self, context: ScoreContext) -> Scored | Unscored:
        if not self.uses_server(context.resources):
            return self.score(context)
        judge = context.resources.judge
        if judge is None:
            return Unscored("no judge given")
        pair = self._pair(context)
        if not isinstance(pair, tuple):
            return pair
        verdict = await checklist.grade(context.item.question, pair[1], pair[0], judge)
        if isinstance(verdict, Parsed):
            return Scored(verdict.value.grade, {"by": judge.model, "evidence": verdict.value.evidence[:200]})
        if self.on_error == "zero":
            return Scored(0.0, {"by": judge.model, "error counted as 0": verdict.reason})
        return Unscored(f"judge: {verdict.reason}")

    def _pair(self, context: ScoreContext) -> tuple[str, str] | Scored | Unscored:
        """Answer and reference in words, or the outcome where there is nothing to compare."""
        item = context.item
        reference = item.answer_text if item.choices else item.reference.answer or item.answer
        if not reference or not reference.strip():
            return NoGold("no reference answer")
        block = answer_block(context, self.block)
        if isinstance(block, Unparsed):
            return Scored(0.0, {"unparsed": block.reason})
        fault = _unreadable(block.value)
        if fault:
            return Scored(0.0, {"unparsed": fault})
        if not item.choices:
            return block.value, reference
        option = context.reading(block.value)
        if isinstance(option, Parsed):
            return item.choices[option.value.letter], reference
        if option.reason != "not one of the options":
            return Scored(0.0, {"unparsed": option.reason})
        return block.value, reference

    def described(self, resources: Resources) -> dict[str, Any]:
        means = self.means(resources)
        named = {"judge": resources.judge.described() if resources.judge else "none", "encoder": resources.encode_name}
        return super().described(resources) | {"by": means, "means": named.get(means, means)}


def _unreadable(text: str) -> str | None:
    if not text:
        return "empty answer"
    if len(text) > MAX_ANSWER_CHARS:
        return "answer too long"
    return "hidden characters" if has_hidden(text) else None


def _several_answers(context: ScoreContext, answer: str, reference: str) -> bool:
    """Whether the answer also names another concept of the kind that the reference names: "A or B" is no answer."""
    wanted = {m.concept for m in context.mentions(reference)}
    kinds = {context.kind_of(c) for c in wanted}
    said = {m.concept for m in context.mentions(answer) if m.present}
    return bool(said & wanted) and any(context.kind_of(c) in kinds for c in said - wanted)


def _cosine(pair: np.ndarray) -> float:
    a, b = pair
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / scale, 0.0, 1.0)) if scale > 0 else float("nan")
