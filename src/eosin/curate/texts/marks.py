"""Phrases that betray a text: where it was made from, what was left of its template, and words said over again."""

from __future__ import annotations

import re
from collections import Counter

_LEAKS = re.compile(
    r"\b(?:the|this|that|its|provided|given|accompanying|original)\s+(?:figure\s+|image\s+|pathology\s+)?"
    r"(?:captions?|reports?|legend|ground[- ]truth|annotations?|metadata)\b"
    r"|\b(?:the|a)\s+(?:given|provided|correct|reference|gold|stated|known|expected)\s+(?:answer|label|diagnosis)\b"
    r"|\baccording to (?:the )?(?:caption|report|text|label|article|book|figure legend)\b"
    r"|\bas (?:described|stated|mentioned|noted|given) in the (?:caption|report|text|article|question|prompt)\b"
    r"|\bthe (?:author|authors|paper|article|textbook)\b",
    re.IGNORECASE,
)
_LEFT_OVERS = re.compile(
    r"\{\{?\s*[a-z_][\w .]*\}?\}|\[(?:insert|your|todo|placeholder|image|caption|answer|diagnosis)[^\]]*\]"
    r"|<(?:insert|placeholder|caption|report|image|option)[^>]*>|\bTODO\b|\bLorem ipsum\b"
    r"|\bas an? (?:AI|language model|assistant)\b|\bI(?:'m| am) (?:sorry|unable|an AI)\b"
    r"|\bI can(?:not|'t) (?:see|view|assist|help)\b"
    r"|\bstep \d+ of the (?:template|prompt)\b|^(?:sure|certainly|of course|here is|here's)\b[,!:]?",
    re.IGNORECASE | re.MULTILINE,
)
_WORD = re.compile(r"\w+")
_END = re.compile(r"[.!?:;)\]\"'\u201d\u2019\u2026%*\u3002>]\s*$|\b(?:etc|al)\s*$")
REPEAT_WORDS = 5
REPEAT_TIMES = 3
MIN_CUT_WORDS = 20


def leaks(text: str) -> str | None:
    """The first words that name what the text was written from (a caption, a report, a given answer), or None."""
    found = _LEAKS.search(text)
    return found.group() if found else None


def left_overs(text: str) -> str | None:
    """A place of a template that was never filled, or a model's talk of itself; None where there is none."""
    found = _LEFT_OVERS.search(text)
    return found.group().strip() if found else None


def repeated(text: str) -> str | None:
    """Five words that stand three times and make up a fifth of the text, or one sentence three times; else None."""
    words = _WORD.findall(text.casefold())
    grams = Counter(tuple(words[i : i + REPEAT_WORDS]) for i in range(len(words) - REPEAT_WORDS + 1))
    if not grams:
        return None
    most, times = grams.most_common(1)[0]
    if times >= REPEAT_TIMES and times * REPEAT_WORDS >= 0.2 * len(words):
        return " ".join(most)
    return None


def cut_off(text: str) -> str | None:
    """The last words of a text of at least twenty that ends in the middle of a sentence; None where it ends well."""
    words = text.split()
    if len(words) < MIN_CUT_WORDS or _END.search(text) or not any(w.endswith((".", "!", "?")) for w in words):
        return None
    return " ".join(words[-4:])
