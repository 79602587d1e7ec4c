"""Phrases that betray a text: where it was made from, what was left of its template, and words said over again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_LEAKS = re.compile(
    r"\b(?:the|this|that|its|provided|given|accompanying|original)\s+(?:figure\s+|image\s+|pathology\s+)?"
    r"(?:captions?|reports?|legend|ground[- ]truth|annotations?|metadata)\b"
    r"|\b(?:the|a)\s+(?:given|provided|correct|reference|gold|stated|known|expected)\s+(?:answer|label|diagnosis)\b"
    r"|\baccording to (?:the )?(?:caption|report|text|label|article|book|figure legend)\b"
    r"|\bas (?:described|stated|mentioned|noted|given) in the (?:caption|report|text|article|question|prompt)\b"
    r"|\bthe (?:author|authors|paper|article|textbook)\b",
    re.IGNORECASE,
)
# What a template, a page or a model leaves in a text.
_LEFT_OVERS: dict[str, tuple[str, ...]] = {
    "place to fill in": (
        r"\{\{?\s*[a-z_][\w .]{0,40}\s*\}?\}",
        r"\[(?:insert|your|name|todo|placeholder|image|caption|answer|diagnosis)\b[^\]]{0,60}\]",
        r"<(?:insert|placeholder|caption|report|option)\b[^>]{0,60}>", r"\b(?:lorem ipsum|todo|fixme|xxxx+)\b",
        r"\bstep \d+ of the (?:template|prompt)\b",
    ),
    "token of a model": (
        r"<\|[a-z_]{1,40}\|>", r"\[/?inst\]", r"</?s>", r"<(?:image|img|pad|unk|eos|bos)>",
        r"###\s*(?:instruction|response|human|assistant)",
    ),
    "talk of a language model": (
        r"\bas an? (?:ai|artificial intelligence|large language|language model|assistant)\b",
        r"\bi(?:'m| am) (?:sorry|unable|not able|an ai)\b",
        r"\bi can(?:not|'t) (?:assist|help|provide|see|view)\b", r"^(?:sure|certainly|of course)[,!.]",
        r"\bhere(?:'s| is) (?:the|a|an|your) (?:caption|description|rewritten|revised|answer|response)\b",
    ),
    "tag of a web page": (
        r"</?(?:p|br|div|span|sup|sub|a|i|b|em|strong|html|body|table|td|tr|italic|xref)\b[^>]{0,80}>",
        r"&(?:nbsp|amp|lt|gt|quot|#\d{2,5});",
    ),
    "talk of its source": (
        r"\bthe (?:given|provided|above|original|input) (?:caption|text|report|answer|description)\b",
        r"\b(?:based on|according to) the (?:caption|report|text provided)\b",
    ),
    "missing value": (
        r"^\W*(?:nan|null|none|n/?a|undefined|no caption|not available|unknown|figure|image|caption)?\W*$",
    ),
}  # fmt: skip
_COMPILED = {name: re.compile("|".join(ways), re.IGNORECASE) for name, ways in _LEFT_OVERS.items()}
IN_CAPTIONS = tuple(_LEFT_OVERS)
IN_CHAINS = ("place to fill in", "token of a model", "talk of a language model")
_BEGINS_AS_TALK = re.compile(r"^(?:sure|certainly|of course|here is|here's)\b[,!:]?", re.IGNORECASE | re.MULTILINE)
_WORD = re.compile(r"\w+")
_END = re.compile(r"[.!?:;)\]\"'\u201d\u2019\u2026%*\u3002>]\s*$|\b(?:etc|al)\s*$")
REPEAT_WORDS = 5
REPEAT_TIMES = 3
MIN_CUT_WORDS = 20


def leaks(text: str) -> str | None:
    """The first words that name what the text was written from (a caption, a report, a given answer), or None."""
    found = _LEAKS.search(text)
    return found.group() if found else None


def left_over(text: str, kinds: Sequence[str]) -> tuple[str, str] | None:
    """The first of these kinds of left-overs that a text holds, and its words; None for a clean one."""
    for kind in kinds:
        found = _COMPILED[kind].search(text)
        if found is not None:
            return kind, found.group(0)[:80]
    return None


def left_overs(text: str) -> str | None:
    """What of a template or of a model's own talk stands in a chain of reasoning; None where there is none."""
    found = left_over(text, IN_CHAINS)
    if found is not None:
        return found[1].strip()
    begins = _BEGINS_AS_TALK.search(text)
    return begins.group().strip() if begins else None


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
