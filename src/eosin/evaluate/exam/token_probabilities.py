"""How probable each option was at the place where a reply names one, from a server's token probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from eosin.core.nouns.sample import Sample

Tokens = Sequence[tuple[str, Sequence[tuple[str, float]]]]
_AROUND = " \t\r\n\"'`*_()[]{}<>.:,;"
_OPENINGS = ("<answer>", "answer is", "answer:", "**answer**")


def token_probabilities(tokens: Tokens, sample: Sample, parsed: str | None) -> dict[str, float] | None:
    """Probabilities of the options by letter, which add up to 1, where the answer begins.

    The place is the first token of the answer that begins the named option, by its letter or by its text, and no other
    option. What else was likely there counts for the option that it begins; what begins none, or several, counts for
    none. An option that is not among the likely tokens has probability 0.

    Args:
        parsed: letter of the option that the reply names.

    Returns:
        None where the sample has no options, the reply names none, or the place is not clear.
    """
    if parsed is None or not sample.choices:
        return None
    options = {c.letter: c.text for c in sample.choices}
    for token, likely in tokens[_answer_starts(tokens) :]:
        if not token.strip(_AROUND):
            continue
        if option_begun(token, options) != parsed:
            return None
        mass = dict.fromkeys(options, 0.0)
        for other, logprob in likely:
            letter = option_begun(other, options)
            if letter is not None:
                mass[letter] += math.exp(logprob)
        total = sum(mass.values())
        return {letter: value / total for letter, value in mass.items()} if total > 0 else None
    return None


def option_begun(token: str, options: Mapping[str, str]) -> str | None:
    """The one option that a token begins: its letter as a capital, or the start of its text alone."""
    core = token.strip(_AROUND)
    if not core:
        return None
    if core in options:
        return core
    begun = [letter for letter, text in options.items() if text.strip().casefold().startswith(core.casefold())]
    return begun[0] if len(begun) == 1 and len(core) > 1 else None


def _answer_starts(tokens: Tokens) -> int:
    """Place of the first token behind the words that open an answer, or behind thinking; else the first of all."""
    text, places = "", []
    for token, _ in tokens:
        places.append(len(text))
        text += token
    folded = text.casefold() if len(text.casefold()) == len(text) else text
    start = max((folded.rfind(o) + len(o) for o in (*_OPENINGS, "</think>") if o in folded), default=0)
    return next((i for i, place in enumerate(places) if place >= start), len(tokens))
