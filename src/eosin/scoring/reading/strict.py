"""The strict reading of an answer, which decides the score.

The block is a letter, an option's text, or a letter and the text of that same option, with nothing else but a lead such
as "Answer:". A list of letters is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.scoring.reading.text import has_hidden, norm, plain

MAX_ANSWER_CHARS = 4000

LEAD = re.compile(
    r"(?:(?:the|my)\s)?(?:(?:final|correct|best|right|most likely)\s)?(?:answer|option|choice)\b"
    r"(?:\s(?:is|option|letter))*\s?[:=]?\s?",
    re.IGNORECASE,
)
_LATEX = (
    re.compile(r"\\boxed\s?\{([^{}]*)\}"),
    re.compile(r"\\(?:text|textbf|mathrm|mathbf|rm|bf)\s?\{([^{}]*)\}"),
)
_PAIRS = ((re.compile(r"\$([^$]*)\$"), r"\1"), (re.compile(r"(\*\*|__)(.+?)\1"), r"\2"))
"""Dollar signs around a formula and Markdown's bold, anywhere in the text."""
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


def read_strict(text: str, choices: Mapping[str, str]) -> Parsed[Reading] | Unparsed:
    """The strict reading, with how the option was named."""
    if not choices:
        return Unparsed("no options")
    if len(text) > MAX_ANSWER_CHARS:
        return Unparsed("answer too long")
    if has_hidden(text):
        return Unparsed("hidden characters")
    return read_led(unwrap(text), choices)


def read_led(text: str, choices: Mapping[str, str]) -> Parsed[Reading] | Unparsed:
    """Read the text as it is; where that fails and it has a lead such as "The answer is", without the lead."""
    reading = read_plain(text, choices)
    lead = LEAD.match(text)
    if isinstance(reading, Parsed) or lead is None or lead.end() == len(text):
        return reading
    return read_plain(text[lead.end() :].strip("$*_\"' "), choices)


def unwrap(text: str) -> str:
    """Take away LaTeX, markdown and quotes."""
    text = plain(text)
    for _ in range(3):
        for pattern in _LATEX:
            text = pattern.sub(r"\1", text)
    for sign in ("\\(", "\\)", "\\[", "\\]"):
        text = text.replace(sign, "")
    for pattern, group in _PAIRS:
        text = pattern.sub(group, text)
    return text.strip("$*_\"' ")


def read_plain(text: str, choices: Mapping[str, str]) -> Parsed[Reading] | Unparsed:
    if not text.strip(" .,;:"):
        return Unparsed("empty answer")
    by_text = letters_of_text(text, choices)
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
    last = _TRAILING_LETTER.fullmatch(text.strip(" .;"))
    if last is not None and norm(last["text"]) == norm(choices.get(last["letter"].upper(), "")):
        return Parsed(Reading(last["letter"].upper(), True, True))
    if _is_letter_list(text, choices):
        return Unparsed("more than one option")
    return _read_letter_and_text(text, choices)


def letters_of_text(text: str, choices: Mapping[str, str]) -> list[str]:
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
        if marked and letters_of_text(_inner(rest), choices):
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
        if option and contains(folded, option):
            found.append(option)
            folded = folded.replace(option, "\n")
    return len(found)


def contains(text: str, part: str) -> bool:
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


def contradicts(text: str, choices: Mapping[str, str]) -> bool:
    """Whether a text is a letter with the whole text of another option: "B. adenocarcinoma" where B is adenoma."""
    cleaned = unwrap(text)
    lead = LEAD.match(cleaned)
    for said in (cleaned, cleaned[lead.end() :] if lead else cleaned):
        leading, trailing = _LETTER.fullmatch(said), _TRAILING_LETTER.fullmatch(said.strip(" .;"))
        for match, rest in ((leading, "rest"), (trailing, "text")):
            if match is None:
                continue
            if rest == "rest" and match["letter"] in "Aa" and not (match["sign"] or match["close"]):
                continue  # "a carcinoma" has an article
            named = letters_of_text(_inner(match[rest]), choices)
            if named and match["letter"].upper() not in named:
                return True
    return False
