"""Is the answer right? 1 or 0, from the answer block alone."""

from __future__ import annotations

from typing import Literal

from eosin.core.nouns.outcome import Parsed, Scored, Unparsed, Unscored
from eosin.scoring.reading import answers, quantities, strict
from eosin.scoring.reading.text import has_hidden, norm
from eosin.scoring.terms.base import NoGold, ScoreContext, Term, register

AnswerBlock = Literal["readable", "one", "strict"]
Names = Literal["letter or text", "letter", "letter and text"]


@register
class AccuracyTerm(Term):
    """1 if the answer block names the gold answer and nothing else, else 0.

    Attributes:
        block: "readable" reads the answer wherever it can be told apart, so that a slip of form costs the format term
            alone; "one" needs exactly one closed answer block that stands in no other block, whatever stands around it
            (the papers' sets); "strict" reads it only where the whole reply obeys its grammar.
        names: what must name the option. PathVLM-R1 asks for "a clear letter and its content".
        rel_tol: relative tolerance of a number.
    """

    name = "accuracy"
    block: AnswerBlock = "readable"
    names: Names = "letter or text"
    rel_tol: float = 1e-9

    def score(self, context: ScoreContext) -> Scored | Unscored:
        gold = context.item.answer
        if gold is None or not gold.strip():
            return NoGold("no gold answer")
        text = answer_block(context, self.block)
        if isinstance(text, Unparsed):
            return Scored(0.0, {"unparsed": text.reason})
        if context.item.choices:
            return self._closed(context, gold, text.value)
        return self._open(context, gold, text.value)

    def _closed(self, context: ScoreContext, gold: str, text: str) -> Scored | Unscored:
        choices = context.item.choices
        wanted = answers.gold_letters(gold, choices)
        if wanted is None:
            return NoGold("the gold answer is not among the options")
        if len(wanted) > 1:
            several = answers.parse_answer_set(text, choices)
            if isinstance(several, Unparsed):
                return Scored(0.0, {"unparsed": several.reason})
            return Scored(float(several.value == wanted), {"parsed": ", ".join(sorted(several.value))})
        reading = context.reading(text)
        if isinstance(reading, Unparsed):
            return Scored(0.0, {"unparsed": reading.reason})
        said = reading.value
        if (self.names != "letter or text" and not said.by_letter) or (
            self.names == "letter and text" and not said.by_text
        ):
            return Scored(0.0, {"unparsed": f"not named by {self.names}"})
        return Scored(float({said.letter} == wanted), {"parsed": said.letter})

    def _open(self, context: ScoreContext, gold: str, text: str) -> Scored | Unscored:
        if not text:
            return Scored(0.0, {"unparsed": "empty answer"})
        if len(text) > strict.MAX_ANSWER_CHARS:
            return Scored(0.0, {"unparsed": "answer too long"})
        if has_hidden(text):
            return Scored(0.0, {"unparsed": "hidden characters"})
        if norm(text) == norm(gold):
            return Scored(1.0, {"parsed": norm(text)})
        truth = quantities.parse_yes_no(gold)
        if isinstance(truth, Parsed):
            said = quantities.parse_yes_no(text)
            return _compare(said, said == truth)
        number = quantities.parse_quantity(gold)
        if isinstance(number, Parsed):
            given = quantities.parse_quantity(text)
            same = isinstance(given, Parsed) and quantities.same_quantity(
                given.value, number.value, rel_tol=self.rel_tol
            )
            return _compare(given, same)
        return _same_diagnosis(context, gold, text)


def answer_block(context: ScoreContext, how: AnswerBlock) -> Parsed[str] | Unparsed:
    """The content of the answer block. It never falls back to the rest of the reply."""
    if isinstance(context.parsed, Parsed):
        return Parsed(context.parsed.value.answer)
    if how == "strict":
        return context.parsed
    if how == "readable":
        text = context.blocks.get("answer")
        return context.parsed if text is None else Parsed(text)
    return context.grammar.one_answer(context.item.reply)


def _compare(said: Parsed[bool] | Parsed[quantities.Quantity] | Unparsed, same: bool) -> Scored:
    if isinstance(said, Unparsed):
        return Scored(0.0, {"unparsed": said.reason})
    return Scored(float(same), {"parsed": str(said.value)})


def _same_diagnosis(context: ScoreContext, gold: str, text: str) -> Scored:
    """Open diagnosis: the answer names the gold's concepts with the same polarity, and no other."""
    wanted = {m.signed for m in context.mentions(gold)}
    said = {m.signed for m in context.mentions(text)}
    events: dict[str, object] = {"parsed": ", ".join(sorted(c for c, _ in said))}
    if not wanted:
        return Scored(0.0, {"unparsed": "not the gold text, and the gold is not in the lexicon"})
    if not said:
        return Scored(0.0, {"unparsed": "no known diagnosis"})
    return Scored(float(said == wanted and not any(m.possible for m in context.mentions(text))), events)
