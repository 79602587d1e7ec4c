"""From a reply to a graded row: strict parse for the score, tolerant parse beside it, never instead of it."""

from __future__ import annotations

from typing import Any

from eosin.core.nouns.classes import Classes, normalised
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.nouns.reply import Grammar, Reply
from eosin.core.nouns.sample import Sample
from eosin.engines.base import Generation
from eosin.evaluate.exam.items import group_of
from eosin.evaluate.statistics.entity_scores import entity_row
from eosin.scoring.reading.answers import parse_answer


def read_answer(reply: str, sample: Sample, grammar: Grammar, *, strict: bool = True) -> Parsed[str] | Unparsed:
    """The answer that a reply gives.

    Args:
        strict: the reply must obey the grammar, and the answer block must name one option; else what a
            lenient reader would take.

    Returns:
        Parsed letter of an option; Parsed text where the sample has no options; Unparsed with its reason.
    """
    blocks: Parsed[Reply] | Unparsed = grammar.parse(reply) if strict else grammar.parse_tolerant(reply)
    if isinstance(blocks, Unparsed):
        return blocks
    text = blocks.value.answer
    if sample.choices:
        return parse_answer(text, {c.letter: c.text for c in sample.choices}, strict=strict)
    return Parsed(text) if text.strip() else Unparsed("empty answer")


def is_right(parsed: Parsed[str] | Unparsed, sample: Sample) -> bool:
    """Whether a parsed answer is the sample's: the same letter, or the same text by exact match."""
    if isinstance(parsed, Unparsed) or sample.answer is None:
        return False
    if sample.choices:
        return parsed.value == sample.answer
    return normalised(parsed.value) == normalised(sample.answer)


def answer_words(parsed: str | None, sample: Sample) -> str | None:
    """A parsed answer in words: the option's text for a letter."""
    if parsed is None:
        return None
    return next((c.text for c in sample.choices if c.letter == parsed), parsed)


def groups_of(sample: Sample) -> dict[str, str]:
    """What figures are also given by (`groups.GROUPED_BY`), where the sample states it: organ, stain and modality of
    its origin, `subset` and `kind` of its further columns."""
    origin = {name: getattr(sample.origin, name) for name in ("organ", "stain", "modality")}
    further = {name: sample.extra.get(name) for name in ("subset", "kind")}
    return {name: str(value) for name, value in (origin | further).items() if isinstance(value, str) and value.strip()}


def grade(generation: Generation, sample: Sample, grammar: Grammar, classes: Classes) -> dict[str, Any]:
    """One row of predictions.jsonl.

    Args:
        sample: the sample as it was asked (options shuffled, where a probe shuffles them).
    """
    strict = read_answer(generation.text, sample, grammar)
    tolerant = read_answer(generation.text, sample, grammar, strict=False)
    parsed = strict.value if isinstance(strict, Parsed) else None
    said = answer_words(parsed, sample)
    return {
        "id": sample.id,
        "group": group_of(sample),
        "label": classes.gold(sample),
        "predicted_label": None if said is None else classes.name(said),
        "question": sample.question,
        "choices": {c.letter: c.text for c in sample.choices},
        "answer": sample.answer,
        "reply": generation.text,
        "parsed": parsed,
        "unparsed_reason": strict.reason if isinstance(strict, Unparsed) else None,
        "tolerant": tolerant.value if isinstance(tolerant, Parsed) else None,
        "correct": is_right(strict, sample),
        "tolerant_correct": is_right(tolerant, sample),
        "num_tokens": generation.num_tokens,
        "truncated": generation.truncated,
        **groups_of(sample),
        **entity_row(generation.text, sample, grammar),
    }
