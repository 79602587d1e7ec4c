"""Which option an answer block names. The strict reader decides the score; the tolerant one is reported beside it.

Neither ever looks outside the text it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.scoring.reading.strict import (
    LEAD,
    MAX_ANSWER_CHARS,
    letters_of_text,
    read_led,
    read_plain,
    read_strict,
    unwrap,
)
from eosin.scoring.reading.text import has_hidden
from eosin.scoring.reading.tolerant import read_tolerant


def parse_answer(text: str, choices: Mapping[str, str], *, strict: bool = True) -> Parsed[str] | Unparsed:
    """The letter of the one option that the content of an answer block names.

    Args:
        text: the content of the answer block, without its tags.
        choices: letter to option text.
        strict: the strict reading; False gives the tolerant one.
    """
    reading = read_strict(text, choices) if strict else read_tolerant(text, choices)
    return reading if isinstance(reading, Unparsed) else Parsed(reading.value.letter)


def parse_answer_set(text: str, choices: Mapping[str, str]) -> Parsed[frozenset[str]] | Unparsed:
    """The options that an answer to a question with several right options names: "A, C" or "A and C".

    Each part is read strictly; a part that is no option spoils the whole.
    """
    if has_hidden(text) or len(text) > MAX_ANSWER_CHARS:
        return Unparsed("hidden characters" if has_hidden(text) else "answer too long")
    cleaned = unwrap(text)
    single = read_led(cleaned, choices)
    if isinstance(single, Parsed):
        return Parsed(frozenset(single.value.letter))
    lead = LEAD.match(cleaned)
    cleaned = cleaned[lead.end() :].strip() if lead else cleaned
    if re.fullmatch(r"[A-Z]{2,26}", cleaned):
        parts = list(cleaned)
    else:
        parts = [
            p for p in re.split(r"\s?[,;/&+]\s?(?:and\s)?|\s(?:and|or)\s|\s(?=\(?[A-Z][.):])", cleaned) if p.strip()
        ]
    letters = set()
    for part in parts:
        reading = read_plain(part.strip(), choices)
        if isinstance(reading, Unparsed):
            return reading
        letters.add(reading.value.letter)
    if len(letters) != len(parts):
        return Unparsed("an option twice")
    return Parsed(frozenset(letters)) if letters else Unparsed("empty answer")


def gold_letters(answer: str, choices: Mapping[str, str]) -> frozenset[str] | None:
    """The right letters of a closed question: "B", "A, C" or "AC". None where the gold is no such thing."""
    parts = re.fullmatch(r"\s*[A-Z](?:\s*[,;]?\s*[A-Z])*\s*", answer)
    letters = frozenset(re.findall(r"[A-Z]", answer)) if parts else frozenset()
    if letters and letters <= set(choices):
        return letters
    by_text = letters_of_text(answer, choices)
    return frozenset(by_text) if len(by_text) == 1 else None
