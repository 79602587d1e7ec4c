"""Which language a text is in, by its letters and its most frequent small words. Short texts are not guessed at."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_WORD = re.compile(r"[^\W\d_]+")
MIN_WORDS = 6
MIN_SHARE = 0.08
"""Small words make up 30 to 50 % of running text, and 10 to 30 % of captions. Below this nothing is said."""
_SMALL_WORDS = {
    "en": "the of and in is are with a an to by for was were from at that this these which on as or not has have "
          "shows showing be it no there their between into but",
    "es": "el la los las de del y en es son con un una por para que se al como no muestra muestran desde entre sin "
          "más o su sus fue este esta lo",
    "de": "der die das und in ist sind mit ein eine einer eines von zu auf für den dem des im nicht bei als auch zeigt "
          "sich aus oder wird werden an durch",
    "fr": "le la les de des du et en est sont avec un une par pour que qui dans sur au aux ne pas ce cette il se "
          "montre ou son sa plus",
    "it": "il lo la gli le di del della dei delle e in è sono con un una per che si nel nella al da non come mostra "
          "su o ma più dal",
    "pt": "o a os as de do da dos das e em é são com um uma por para que se no na nos nas ao não como mostra ou mais "
          "foi pelo pela",
    "nl": "de het een en van in is zijn met op te voor dat die niet aan door er bij ook als uit naar toont of "
          "wordt worden tot",
}  # fmt: skip
_WORDS = {code: frozenset(words.split()) for code, words in _SMALL_WORDS.items()}
_SCRIPTS = {"CYRILLIC": "ru", "CJK": "zh", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "ARABIC": "ar",
            "HEBREW": "he", "DEVANAGARI": "hi", "THAI": "th", "GREEK": "el"}  # fmt: skip


def language_of(text: str) -> str | None:
    """Code of the language (en, es, de, fr, it, pt, nl, or one by its script), or None where that cannot be told.

    A script counts where most letters are of it; Greek letters in an English sentence do not make it Greek.
    """
    part = text[:4000]
    script = _script(part)
    if script is not None:
        return script
    words = [w.casefold() for w in _WORD.findall(part)]
    if len(words) < MIN_WORDS:
        return None
    hits = {code: sum(w in small for w in words) for code, small in _WORDS.items()}
    (best, most), (_, second) = Counter(hits).most_common(2)
    if most < max(2, MIN_SHARE * len(words)) or most == second:
        return None
    return best


def _script(text: str) -> str | None:
    foreign = Counter[str]()
    letters = 0
    for sign in text:
        if not sign.isalpha():
            continue
        letters += 1
        if ord(sign) > 0x36F:
            name = unicodedata.name(sign, "").split(" ")[0]
            foreign[_SCRIPTS.get(name, name)] += 1
    if not foreign:
        return None
    if foreign["ja"]:  # Japanese is written with Chinese signs too
        foreign["ja"] += foreign.pop("zh", 0)
    code, count = foreign.most_common(1)[0]
    return code if count > letters / 2 and code.islower() else None
