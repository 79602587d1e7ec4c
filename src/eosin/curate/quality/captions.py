"""What is wrong with a text, as a reason to drop it: too short, no letters, said again and again, left-overs."""

from __future__ import annotations

import re

from eosin.core.settings.curation.sifting import FilterStep
from eosin.curate.quality.language import language_of
from eosin.curate.texts.marks import IN_CAPTIONS, left_over

WORD = re.compile(r"\w+")


def caption_problem(text: str, settings: FilterStep) -> tuple[str, str] | None:
    """Reason and detail where a text says nothing; None for a good one. Checks stand in the order of their cost."""
    words = WORD.findall(text)
    if settings.min_words is not None and len(words) < settings.min_words:
        return "caption too short", f"{len(words)} words, at least {settings.min_words}"
    if settings.max_words is not None and len(words) > settings.max_words:
        return "caption too long", f"{len(words)} words, at most {settings.max_words}"
    if settings.min_letters is not None and (share := letters_share(text)) < settings.min_letters:
        return "few letters", f"{share:.2f} of its characters are letters, at least {settings.min_letters}"
    if settings.max_repetition is not None and (share := repetition(words)) > settings.max_repetition:
        return "repeats itself", f"{share:.2f} of its words were said before, at most {settings.max_repetition}"
    if settings.templates and (found := left_over(text, IN_CAPTIONS)) is not None:
        return f"left over: {found[0]}", found[1]
    if settings.languages and (language := language_of(text)) is not None and language not in settings.languages:
        return "other language", f"looks like {language}, not {', '.join(settings.languages)}"
    return None


def letters_share(text: str) -> float:
    """Share of letters among the characters that are no blanks; 0 for an empty text."""
    shown = len(text) - sum(map(str.isspace, text))
    return sum(map(str.isalpha, text)) / shown if shown else 0.0


def repetition(words: list[str], run: int = 3) -> float:
    """Share of words that stand in a run of `run` words which stood before; 0 for a text shorter than that."""
    if len(words) <= run:
        return 0.0
    low = [w.casefold() for w in words]
    seen: set[tuple[str, ...]] = set()
    again = [False] * len(low)
    for i in range(len(low) - run + 1):
        gram = tuple(low[i : i + run])
        if gram in seen:
            again[i : i + run] = [True] * run
        seen.add(gram)
    return sum(again) / len(low)
