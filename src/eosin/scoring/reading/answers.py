"""Which option an answer block names. The strict reader decides the score; the tolerant one is reported beside it.

Strict: the block is a letter, an option's text, or a letter and the text of that same option, with nothing else
but a lead such as "Answer:". A list of letters is no answer. Tolerant: one clear option anywhere in the block.
Neither ever looks outside the text it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.scoring.reading.text import has_hidden, norm, plain, without_hidden

MAX_ANSWER_CHARS = 4000

_LEAD = re.compile(
    r"(?:(?:the|my)\s)?(?:(?:final|correct|best|right|most likely)\s)?(?:answer|option|choice)\b"
    r"(?:\s(?:is|option|letter))*\s?[:=]?\s?",
    re.IGNORECASE,
)
_LATEX = (
    re.compile(r"\\boxed\s?\{([^{}]*)\}"),
    re.compile(r"\\(?:text|textbf|mathrm|mathbf|rm|bf)\s?\{([^{}]*)\}"),
)
_LETTER = re.compile(r"(?P<open>[(\[{]?)(?P<letter>[A-Za-z])(?P<close>[)\]}]?)(?P<sign>[.:,)]|\s?-(?=\s)|)(?P<rest>.*)")
_TRAILING_LETTER = re.compile(r"(?P<text>.+?)\s?[(\[](?P<letter>[A-Za-z])[)\]]")
_LETTER_LIST = re.compile(
    r"[(\[]?[A-Z][)\]]?(?:(?:\s?(?:,|/|&|;|\+|\band\b|\bor\b)\s?|\s)?(?:and |or )?[(\[]?[A-Z][)\].]?)+"
)


@dataclass(frozen=True)
class Reading:
    """What an answer says: the option, and by what it was named."""

    letter: str
    by_letter: bool
    by_text: bool


def parse_answer(text: str, choices: Mapping[str, str], *, strict: bool = True) -> Parsed[str] | Unparsed:
    """The letter of the one option that the content of an answer block names.

    Args:
        text: the content of the answer block, without its tags.
        choices: letter to option text.
        strict: the strict reading; False gives the tolerant one.
    """
    reading = read_strict(text, choices) if strict else read_tolerant(text, choices)
    return reading if isinstance(reading, Unparsed) else Parsed(reading.value.letter)


def read_strict(text: str, choices: Mapping[str, str]) -> Parsed[Reading] | Unparsed:
    """The strict reading, with how the option was named."""
    if not choices:
        return Unparsed("no options")
    if len(text) > MAX_ANSWER_CHARS:
        return Unparsed("answer too long")
    if has_hidden(text):
        return Unparsed("hidden characters")
    return _read_led(_unwrap(text), choices)


def _read_led(text: str, choices: Mapping[str, str]) -> Parsed[Reading] | Unparsed:
    """Read the text as it is; where that fails and it has a lead such as "The answer is", without the lead."""
    reading = _read(text, choices)
    lead = _LEAD.match(text)
    if isinstance(reading, Parsed) or lead is None or lead.end() == len(text):
        return reading
    return _read(text[lead.end() :].strip("$*_\"' "), choices)


def _unwrap(text: str) -> str:
    """Take away LaTeX, markdown and quotes."""
    text = plain(text)
    for _ in range(3):
        for pattern in _LATEX:
            text = pattern.sub(r"\1", text)
    return text.replace("\\(", "").replace("\\)", "").strip("$*_\"' ")


def _read(text: str, choices: Mapping[str, str]) -> Parsed[Reading] | Unparsed:
    if not text.strip(" .,;:"):
        return Unparsed("empty answer")
    by_text = _letters_of_text(text, choices)
    letter = _bare_letter(text)
    if letter in choices and by_text and by_text != [letter]:
        return Unparsed("a letter that is also another option's text")
    if len(by_text) == 1:
        return Parsed(Reading(by_text[0], letter in choices, True))
    if len(by_text) > 1:
        return Unparsed("two options have this text")
    if letter is not None:
        if letter in choices:
            return Parsed(Reading(letter, True, False))
        return Unparsed("letter not among the options")
    if _is_letter_list(text, choices):
        return Unparsed("more than one option")
    return _read_letter_and_text(text, choices)


def _letters_of_text(text: str, choices: Mapping[str, str]) -> list[str]:
    wanted = norm(text)
    return [letter for letter, option in choices.items() if norm(option) == wanted]


def _bare_letter(text: str) -> str | None:
    letter = text.strip(" .,;:()[]{}")
    return letter.upper() if len(letter) == 1 and letter.isascii() and letter.isalpha() else None


def _is_letter_list(text: str, choices: Mapping[str, str]) -> bool:
    match = _LETTER_LIST.fullmatch(text.strip(" .;"))
    if match is None:
        return False
    letters = re.findall(r"\b[A-Z]\b", text) or list(re.sub(r"[^A-Z]", "", text))
    return len(letters) > 1 and all(c in choices for c in letters)


def _read_letter_and_text(text: str, choices: Mapping[str, str]) -> Parsed[Reading] | Unparsed:
    match = _LETTER.fullmatch(text)
    if match is not None:
        letter, rest = match["letter"].upper(), match["rest"]
        marked = bool(match["sign"] or match["close"])
        if marked or (rest.startswith(" ") and match["letter"].isupper()):
            return _agree(letter, rest, marked, choices)
    match = _TRAILING_LETTER.fullmatch(text.strip(" .;"))
    if match is not None:
        return _agree(match["letter"].upper(), match["text"], True, choices)
    return Unparsed(_why_no_option(text, choices))


def _agree(letter: str, rest: str, marked: bool, choices: Mapping[str, str]) -> Parsed[Reading] | Unparsed:
    if letter not in choices:
        if marked and _letters_of_text(_inner(rest), choices):
            return Unparsed("letter not among the options")
        return Unparsed(_why_no_option(f"{letter} {rest}", choices))
    if norm(_inner(rest)) == norm(choices[letter]):
        return Parsed(Reading(letter, True, True))
    if _count_named(rest, choices) > 1 or _names_second_letter(rest, choices):
        return Unparsed("more than one option")
    return Unparsed("letter and text disagree")


def _inner(rest: str) -> str:
    rest = rest.strip(" .:,;-*_\"'")
    return rest[1:-1] if rest[:1] + rest[-1:] in ("()", "[]", "{}") else rest


def _names_second_letter(rest: str, choices: Mapping[str, str]) -> bool:
    return any(m in choices for m in re.findall(r"(?:^|\s|\()([A-Z])(?=[.:)])", rest))


def _count_named(text: str, choices: Mapping[str, str]) -> int:
    """How many options' texts stand in the text, as whole words. A text within a longer named one counts once."""
    folded = norm(text)
    found = []
    for option in sorted((norm(c) for c in choices.values()), key=len, reverse=True):
        if option and _contains(folded, option):
            found.append(option)
            folded = folded.replace(option, "\n")
    return len(found)


def _contains(text: str, part: str) -> bool:
    """Whether `part` stands in `text` between word boundaries."""
    start = text.find(part)
    while start >= 0:
        end = start + len(part)
        if not (text[start - 1 : start].isalnum() and part[0].isalnum()) and not (
            text[end : end + 1].isalnum() and part[-1].isalnum()
        ):
            return True
        start = text.find(part, start + 1)
    return False


def _why_no_option(text: str, choices: Mapping[str, str]) -> str:
    return "more than one option" if _count_named(text, choices) > 1 else "not one of the options"


_SAYS = re.compile(
    r"(?:answer|option|choice)\s?(?:is|:|=)?\s?(?:option\s?)?[*(\[$]*([A-Za-z])(?![A-Za-z0-9])", re.IGNORECASE
)
_MARKED = re.compile(r"(?<![A-Za-z0-9])\(?([A-Z])(?:[.):]|$)(?!\w)")
_DENIED = re.compile(r"\bnot\s(?:option\s|answer\s|choice\s)?\(?[A-Z](?![A-Za-z0-9'-])\)?", re.IGNORECASE)
_ALONE = re.compile(r"(?<![A-Za-z0-9'-])([B-Z])(?![A-Za-z0-9'-])")


def read_tolerant(text: str, choices: Mapping[str, str]) -> Parsed[Reading] | Unparsed:
    """One clear option anywhere in the text: after "answer is", as a marked letter, or by its text."""
    if not choices:
        return Unparsed("no options")
    if len(text) > 50 * MAX_ANSWER_CHARS:
        return Unparsed("answer too long")
    cleaned = _unwrap(without_hidden(text))
    strict = _read_led(cleaned, choices)
    if isinstance(strict, Parsed) or strict.reason == "more than one option":
        return strict
    cleaned = _DENIED.sub(" ", cleaned)
    for pattern in (_SAYS, _MARKED, _ALONE):
        letters = {m.upper() for m in pattern.findall(cleaned)} & set(choices)
        if len(letters) == 1:
            return Parsed(Reading(letters.pop(), True, False))
        if len(letters) > 1:
            return Unparsed("more than one option")
    named = _named_letters(cleaned, choices)
    if len(named) == 1:
        return Parsed(Reading(named[0], False, True))
    return Unparsed("more than one option" if named else strict.reason)


def _named_letters(text: str, choices: Mapping[str, str]) -> list[str]:
    folded = norm(text)
    found = []
    for letter, option in sorted(choices.items(), key=lambda c: len(c[1]), reverse=True):
        option = norm(option)
        if option and _contains(folded, option):
            found.append(letter)
            folded = folded.replace(option, "\n")
    return found


def parse_answer_set(text: str, choices: Mapping[str, str]) -> Parsed[frozenset[str]] | Unparsed:
    """The options that an answer to a question with several right options names: "A, C" or "A and C".

    Each part is read strictly; a part that is no option spoils the whole.
    """
    if has_hidden(text) or len(text) > MAX_ANSWER_CHARS:
        return Unparsed("hidden characters" if has_hidden(text) else "answer too long")
    cleaned = _unwrap(text)
    single = _read_led(cleaned, choices)
    if isinstance(single, Parsed):
        return Parsed(frozenset(single.value.letter))
    lead = _LEAD.match(cleaned)
    cleaned = cleaned[lead.end() :].strip() if lead else cleaned
    if re.fullmatch(r"[A-Z]{2,26}", cleaned):
        parts = list(cleaned)
    else:
        parts = [
            p for p in re.split(r"\s?[,;/&+]\s?(?:and\s)?|\s(?:and|or)\s|\s(?=\(?[A-Z][.):])", cleaned) if p.strip()
        ]
    letters = set()
    for part in parts:
        reading = _read(part.strip(), choices)
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
    by_text = _letters_of_text(answer, choices)
    return frozenset(by_text) if len(by_text) == 1 else None
