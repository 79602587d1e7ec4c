"""Text as the rules read it: one Unicode form, hidden characters found.

Words are those of `eosin.knowledge.linking.words`.
Everything here is linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

MAX_REPLY_CHARS = 2_000_000
"""A longer reply is not read at all. No model of ours can write one in a single completion."""

MAX_BLOCK_CHARS = 100_000
"""A longer block (some 25,000 tokens) is no reading, and no names are looked for in it."""

# Format characters, controls, fillers and variation selectors: nothing a reader sees.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000e0000-\U000e0fff\ud800-\udfff]"
)
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−﹘﹣－", "-"))
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00b4": "'", "`": "'"})


_CJK = str.maketrans({"\u3002": ".", "\u3001": ",", "\u3010": "[", "\u3011": "]", "\u300c": '"', "\u300d": '"'})


def has_hidden(text: str) -> bool:
    """Whether the text holds characters that no reader sees (controls, zero-width, direction marks)."""
    return _HIDDEN.search(text) is not None


def without_hidden(text: str) -> str:
    """The text as a reader sees it."""
    return _HIDDEN.sub("", text)


def plain(text: str) -> str:
    """Compatibility form (full-width letters become plain ones), one dash, one quote, single spaces. Stops, commas and
    brackets of Chinese and Japanese become plain ones too."""
    text = unicodedata.normalize("NFKC", text).translate(_DASHES).translate(_QUOTES).translate(_CJK)
    return " ".join(text.split())


def norm(text: str) -> str:
    """What two option texts are compared by. Signs such as + - < % are kept: CD20+ is not CD20-."""
    return plain(without_hidden(text)).casefold().strip(" .;,:*_\"'")


_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")


def sentences(text: str) -> list[str]:
    """Sentences and lines of a text, without empty ones."""
    return [s.strip() for s in _SENTENCE_END.split(text) if s.strip()]


def foreign_share(text: str, scripts: tuple[str, ...] = ("LATIN", "GREEK")) -> float:
    """Share of the letters that are of none of the scripts, 0..1.

    Greek is in because of alpha, beta, kappa; units and signs are no letters.
    """
    letters = foreign = 0
    for char, n in Counter(text).items():
        if not char.isalpha():
            continue
        letters += n
        if not char.isascii() and not unicodedata.name(char, "").startswith(scripts + _LETTERLIKE):
            foreign += n
    return foreign / letters if letters else 0.0


_LETTERLIKE = ("MICRO SIGN", "MATHEMATICAL", "SUPERSCRIPT", "MODIFIER", "FEMININE", "MASCULINE", "FULLWIDTH LATIN")
