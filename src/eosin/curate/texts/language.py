"""The language of a written text, and whether two scripts are mixed in it, as some large models do."""

from __future__ import annotations

import unicodedata
from collections import Counter

from eosin.curate.quality.language import language_of as by_words

MIXED_SHARE = 0.05


def script_shares(text: str) -> dict[str, float]:
    """Share of the letters of each script, the commonest first. Greek letters are symbols (alpha, mu) and count not."""
    counts: Counter[str] = Counter()
    for char in text:
        if char.isascii():
            counts["LATIN"] += char.isalpha()
        elif char.isalpha():
            counts[unicodedata.name(char, "OTHER").split()[0]] += 1
    counts.pop("GREEK", None)
    for kana in ("HIRAGANA", "KATAKANA"):  # Japanese is written with Chinese signs too
        if kana in counts:
            counts["CJK"] += counts.pop(kana)
    total = sum(counts.values())
    return {script: n / total for script, n in counts.most_common() if n} if total else {}


def language_of(text: str) -> str | None:
    """The language's code; "mixed" where more than one letter of twenty is of a second script; None where unclear."""
    shares = list(script_shares(text).values())
    if len(shares) > 1 and shares[0] < 1 - MIXED_SHARE:
        return "mixed"
    return by_words(text)
