"""The tolerant reading of an answer, reported beside the strict one and never instead of it: one clear option anywhere.

Texts of options are found first, the longest first, so that "no necrosis" is not the absence of the option "necrosis",
and the B of "hepatitis B" names no option. What the text rules out is taken away ("not B", "C rather than B", "A is
wrong", "no adenocarcinoma"). Then, in this order: the letter after "the answer is"; a single letter that stands alone
or is marked; the single option whose text is left. Two of them are no answer, and neither are a letter and another
option's text.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.scoring.reading.strict import MAX_ANSWER_CHARS, Reading, contains, contradicts, read_led, unwrap
from eosin.scoring.reading.text import norm, without_hidden

_OPEN, _CLOSE = "\ue000", "\ue001"
"""Private characters around the letter of an option whose text stood there."""
_X = r"(?:\(?[A-Z](?![A-Za-z0-9'-])\)?|\ue000[A-Z]\ue001)"
_AND = r"(?:\s(?:and|or|nor)\s)"
_NAMED = rf"(?:(?:the|an?)\s)?(?:(?:option|answer|choice)\s)?{_X}(?:{_AND}{_X})*"
_BEFORE = re.compile(
    r"(?:\b(?:not|no|nor|neither|without|except|excluding|excludes?|rather than|instead of|anything but|rules? out|"
    r"ruled out|eliminates?|absence of|unlike)|n't)\s" + _NAMED,
    re.IGNORECASE,
)  # fmt: skip
_AFTER = re.compile(
    rf"{_X}(?:{_AND}{_X})*\s(?:is|are|was|were|can be|may be)\s(?:(?:not|un)\s?(?:correct|right|likely|the\sanswer|it)|"
    r"wrong|incorrect|false|ruled out|excluded|eliminated)"
)
_STRUCK = re.compile(r"~~.+?~~")
_NOT_APPLICABLE = re.compile(r"(?<![A-Za-z])[Nn]/[Aa](?![A-Za-z])")
_SAYS = re.compile(
    r"(?:answer|option|choice)\b\s?(?:(?:is|must be|should be|would be|:|=)\s?:?\s?)?(?:option\s?)?[*(\[$\"]*"
    r"([A-Za-z])(?![A-Za-z0-9'/])(\s[A-Za-z\ue002])?",
    re.IGNORECASE,
)
_MARKED = re.compile(r"(?<![A-Za-z0-9/])\(?([A-Z])(?:[.):]|$)(?!\w)")
_ALONE = re.compile(r"(?<![A-Za-z0-9'-])([B-Z])(?![A-Za-z0-9'-])(\s[a-z])?")
_PRONOUN = re.compile(r"I\s[a-z]")
_A_BESIDE = re.compile(r"\bA\)?\s?(?:,|/|&|and|or)\s?\(?[B-Z]\b|\b[B-Z]\)?\s?(?:,|/|&|and|or)\s?\(?A\b(?!\s[a-z])")
"""An A that stands in a list with another letter is no article."""
_FENCE = re.compile(r"^\s*```[a-z]*\s*(.*?)\s*```\s*$", re.DOTALL)
_KEYS = {"answer", "final answer", "final_answer", "finalanswer", "choice", "option", "letter", "prediction"}
_LOOSE = re.compile(r"[\"']?(?:final_?\s?)?answer[\"']?\s*:\s*[\"']?([^\"',}\n]+)", re.IGNORECASE)


def read_tolerant(text: str, choices: Mapping[str, str]) -> Parsed[Reading] | Unparsed:
    """One clear option anywhere in the text: by its letter or by its text."""
    if not choices:
        return Unparsed("no options")
    if len(text) > 50 * MAX_ANSWER_CHARS:
        return Unparsed("answer too long")
    said = _from_json(without_hidden(text))
    if isinstance(said, Unparsed):
        return said
    cleaned = unwrap(said)
    strict = read_led(cleaned, choices)
    if isinstance(strict, Parsed):
        return strict
    if contradicts(cleaned, choices):
        return Unparsed("letter and text disagree")
    marked = _marked_texts(cleaned, choices)
    left = _without_denied(_NOT_APPLICABLE.sub(" ", _STRUCK.sub(" ", marked)))
    if left == marked and strict.reason == "more than one option" and not _PRONOUN.match(cleaned):
        return strict
    named = list(dict.fromkeys(re.findall(f"{_OPEN}([A-Z]){_CLOSE}", left)))
    if len(named) > 1:
        return Unparsed("more than one option")
    return _by_letter_or_text(re.sub(f"{_OPEN}[A-Z]{_CLOSE}", "\ue002", left), named, choices, strict)


def _by_letter_or_text(
    text: str, named: list[str], choices: Mapping[str, str], strict: Unparsed
) -> Parsed[Reading] | Unparsed:
    """The letter that the text says or shows, else the option that it names."""
    said = {m[1].upper() for m in _SAYS.finditer(text) if not _is_article(m)} & set(choices)
    shown = set(_MARKED.findall(text)) | {m[1] for m in _ALONE.finditer(text) if not (m[1] == "I" and m[2])}
    shown |= {"A"} if _A_BESIDE.search(text) else set()
    for letters in (said, shown & set(choices)):
        if len(letters) > 1:
            return Unparsed("more than one option")
        if letters and letters is not said and named and set(named) != letters:
            return Unparsed("letter and text disagree")
        if letters:
            return Parsed(Reading(letters.pop(), True, False))
    if named:
        return Parsed(Reading(named[0], False, True))
    return strict


def _is_article(match: re.Match[str]) -> bool:
    """ "The answer is a malignant lesion" names no letter."""
    return match[1] == "a" and match[2] is not None


def _without_denied(text: str) -> str:
    for pattern in (_BEFORE, _AFTER):
        text = pattern.sub(" ", text)
    return text


def _marked_texts(text: str, choices: Mapping[str, str]) -> str:
    """The text with each option's text replaced by its letter between private characters, the longest first.

    Options of a single letter are left to the letters.
    """
    for letter, option in sorted(choices.items(), key=lambda c: len(c[1]), reverse=True):
        wanted = norm(option)
        if not wanted or (len(wanted) == 1 and wanted.isalpha()) or not contains(text.casefold(), wanted):
            continue
        pattern = rf"(?<![^\W_]){re.escape(wanted)}(?![^\W_])" if wanted[0].isalnum() else re.escape(wanted)
        if not wanted[-1].isalnum():
            pattern = pattern.removesuffix(r"(?![^\W_])")
        text = re.sub(pattern, f"{_OPEN}{letter}{_CLOSE}", text, flags=re.IGNORECASE)
    return text


def _from_json(text: str) -> str | Unparsed:
    """The answer of a JSON object; any other text as it is. An object without one answer is unreadable."""
    fence = _FENCE.match(text)
    body = (fence.group(1) if fence else text).strip()
    if not body.startswith("{"):
        return body if fence else text
    value: Any = None
    for parse in (json.loads, ast.literal_eval):  # literals only: nothing is run
        try:
            value = parse(body)
            break
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    if not isinstance(value, dict):
        loose = _LOOSE.search(body)
        return loose.group(1).strip() if loose else text
    told = [v for k, v in value.items() if str(k).strip().casefold() in _KEYS]
    if len(told) != 1 or not isinstance(told[0], str) or not told[0].strip():
        return Unparsed("no answer in the JSON")
    return told[0]
