"""In which language a text is, by its commonest words and its script. Enough to tell a stray text from the others."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

MIN_WORDS = 6
_WORD = re.compile(r"[^\W\d_]+")
_COMMON = {
    "en": "the of and is are in with this that to by which no there from as on for or not shows seen an be it has have",
    "es": "el la los las de del que y en con se un una por para no es son muestra sin al como m\u00e1s su",
    "de": "der die das und ist sind mit von zu im ein eine nicht auf den dem des sich bei als keine zeigt wird",
    "fr": "le la les des du et est sont avec une un dans par pour sur au aux qui ne pas ce cette plus montre",
    "it": "il lo gli le di del della e \u00e8 sono con un una per non che nel nella si da al come mostra",
    "pt": "o os as da do das dos e em um uma com n\u00e3o que por para se na no s\u00e3o mostra ao mais",
}
COMMON = {name: frozenset(words.split()) for name, words in _COMMON.items()}
_SCRIPTS = ("LATIN", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "THAI")
MIXED_SHARE = 0.05


def script_shares(text: str) -> dict[str, float]:
    """Share of the letters of each script. Single Greek letters (alpha, mu) are symbols, and count as none."""
    counts: Counter[str] = Counter()
    for char in text:
        if char.isascii():
            counts["LATIN"] += char.isalpha()
        elif char.isalpha():
            name = unicodedata.name(char, "")
            counts[next((s for s in _SCRIPTS if name.startswith(s)), "OTHER" if "GREEK" not in name else "GREEK")] += 1
    counts.pop("GREEK", None)
    total = sum(counts.values())
    return {script: n / total for script, n in counts.most_common() if n} if total else {}


def language_of(text: str) -> str | None:
    """The language's code; a script's name in small letters; "mixed" for two scripts; None where it is not clear.

    Latin texts are told by common words: the language whose words are most, and at least an eighth of all.
    """
    shares = script_shares(text)
    if not shares:
        return None
    first, share = next(iter(shares.items()))
    if len(shares) > 1 and share < 1 - MIXED_SHARE:
        return "mixed"
    if first != "LATIN":
        return first.lower()
    words = _WORD.findall(text.casefold())
    if len(words) < MIN_WORDS:
        return None
    hits = {name: sum(w in common for w in words) for name, common in COMMON.items()}
    ranked = sorted(hits.items(), key=lambda kv: -kv[1])
    (best, most), (_, second) = ranked[0], ranked[1]
    return best if most >= len(words) / 8 and most > second else None
