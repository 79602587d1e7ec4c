"""How figures are named: "Fig. 3", "Figure 3-12", "Figs. 2-4 and 6b", "Abb. 2a", "Supplementary Figure S1", "Table 1".

A label's number is text: "3", "3-12" (chapter and figure), "S1" (supplement), "ED2" (extended data).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

LabelKind = Literal["figure", "table"]

_FIGURE = r"(?:Figures?|FIGURES?|Figs?\.?|FIGS?\.?|Abbildung(?:en)?|ABBILDUNG(?:EN)?|Abb\.|Tafeln?|Plates?|PLATES?)"
_TABLE = r"(?:Tables?|TABLES?|Tab\.|Tabellen?|TABELLE|Box|Tbl\.)"
_BEFORE = r"(?P<extra>(?:Supplement(?:ary|al)|SUPPLEMENT(?:ARY|AL)|Suppl?\.|Additional|Extended\s+Data|e(?=Fig))\s*)?"
_NUMBER = r"(?:[SAE]\s?)?\d{1,3}(?:[.\-\u2010-\u2013]\d{1,3}){0,2}|[IVXL]{1,6}(?![A-Za-z])"
_LETTERS = r"(?:\s?\(?[A-Za-z](?:\s?[\-\u2010-\u2014,]\s?[A-Za-z])*\)?(?![A-Za-z]))?"
_LABEL = re.compile(
    rf"{_BEFORE}(?:(?P<figure>{_FIGURE})|(?P<table>{_TABLE}))\s{{0,2}}(?P<number>{_NUMBER})"
    rf"(?P<more>(?:\s?(?:and|und|&|to|bis|[\-\u2010-\u2013,])\s?(?:{_NUMBER}))*)(?P<letters>{_LETTERS})"
)
_AFTER = re.compile(r"\s*(?P<mark>[.:|)\u2013\u2014]|\s-\s|$)\s*")
_VERB = re.compile(
    r"\s*(?:\(?[a-z]\)?\s)?(?:shows?|showed|illustrat|depict|demonstrat|presents?|summari[sz]|compar|displays?|is|are|was|were|and|or|in|of|"
    r"gives?|indicat|provid|plots?|lists?|reveal|suggest|also|as|for|from|to|with|but|we|has|have|can|"
    r"zeigt|zeigen|ist|sind|stellt|und|oder|veranschaulicht|gibt|in|aus|von|zu)\b"
)
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50}
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014", "-"))


@dataclass(frozen=True)
class Label:
    """The label at the beginning of a caption.

    Attributes:
        numbers: of the figures that the caption is of, one mostly. text: as written. end: where it ends.
    """

    kind: LabelKind
    numbers: tuple[str, ...]
    text: str
    end: int


@dataclass(frozen=True)
class Mention:
    """A place in a text that points to a figure or to a panel of it ("" : the whole)."""

    number: str
    panel: str
    start: int
    end: int


def caption_label(text: str, *, bold: bool = False) -> Label | None:
    """The label that a caption begins with, or None where this is running text.

    "Figure 3. Low power", "Fig. 3 Low power", "FIGURE 3 | Low" are captions; "Figure 3 shows" is not.

    Args:
        bold: whether the text begins in bold, as running text seldom does.
    """
    found = _LABEL.match(text)
    if found is None:
        return None
    rest = text[found.end() :]
    after = _AFTER.match(rest)
    marked = after is not None and after["mark"] != ")"
    if not marked and (
        _VERB.match(rest) or not (bold or re.match(r"\s+[\"'(\[\u201c\u201e]?[A-Z\u00c4\u00d6\u00dc0-9]", rest))
    ):
        return None
    if not bold and rest[:1] == "," or re.match(r"\.?\s*,", rest):
        return None
    end = found.end() + (after.end() if after is not None and marked else 0)
    return Label("table" if found["table"] else "figure", _numbers(found), text[: found.end()].strip(), end)


def _numbers(found: re.Match[str]) -> tuple[str, ...]:
    first = _number(found["number"], found["extra"])
    word = found["figure"] or found["table"]
    numbers = [first]
    for separator, other in re.findall(rf"(and|und|&|to|bis|[\-\u2010-\u2013,])\s?({_NUMBER})", found["more"] or ""):
        numbers += _spelt(numbers[-1], separator, _number(other, found["extra"]), plural=_is_plural(word))[1:]
    if _is_plural(word) and len(numbers) == 1 and re.fullmatch(r"\d+-\d+", first):
        low, high = (int(v) for v in first.split("-"))
        if low < high <= low + 30:
            numbers = [str(n) for n in range(low, high + 1)]
    return tuple(dict.fromkeys(numbers))


def _is_plural(word: str) -> bool:
    return word.rstrip(".").lower() in ("figs", "figures", "abbildungen", "tables", "tabellen", "plates", "tafeln")


def _number(text: str, extra: str | None) -> str:
    number = re.sub(r"\s", "", text.translate(_DASHES))
    if re.fullmatch(r"[IVXL]+", number):
        number = str(_roman(number))
    if not extra:
        return number
    if extra.strip().lower().startswith("extended"):
        return f"ED{number.lstrip('E')}"
    return number if number.startswith("S") else f"S{number}"


def _roman(text: str) -> int:
    values = [_ROMAN[c] for c in text]
    return sum(-v if i + 1 < len(values) and values[i + 1] > v else v for i, v in enumerate(values))


def _spelt(first: str, separator: str, last: str, *, plural: bool = True) -> list[str]:
    """Numbers from the first to the last where the separator says so, else both."""
    prefix = re.match(r"[A-Z]*", first)
    head = prefix.group() if prefix else ""
    low, high = first.removeprefix(head), last.removeprefix(head)
    ranged = separator.translate(_DASHES).strip() in ("-", "to", "bis") and low.isdigit() and high.isdigit()
    if ranged and int(low) < int(high) <= int(low) + 30:
        return [f"{head}{n}" for n in range(int(low), int(high) + 1)]
    return [first, last]


_WORD = re.compile(rf"(?<![A-Za-z]){_BEFORE}(?:(?P<figure>{_FIGURE})|(?P<table>{_TABLE}))\s{{0,2}}(?=[SAEIVXL\d])")
_ITEM = re.compile(
    r"\s*(?P<separator>,\s*(?:and|und|or|oder|&)|[,;/&]|and|und|or|oder|sowie|to|bis|through|[\-\u2010-\u2014])?\s*"
    r"(?:(?P<number>(?:[SAE]\s?)?\d{1,3}(?:\.\d{1,3})*|[IVXL]{1,6}(?![A-Za-z]))(?P<tail>(?:\s?[a-zA-Z](?![a-zA-Z]))?)"
    r"|(?P<letter>\(?[a-zA-Z]\)?(?![a-zA-Z'\u2019])))"
)
_IN_BRACKETS = re.compile(r"\s?\(([a-zA-Z](?:\s?[,\-\u2010-\u2014]\s?[a-zA-Z])*)\)")


def mentions(text: str, known: Collection[str] = ()) -> list[Mention]:
    """Figures that a text points to, with lists and ranges spelt out; tables are left out.

    Args:
        known: numbers of the figures of the document. They decide whether "Fig. 3-12" is the twelfth figure of chapter
            3 or a range, and whether "Fig. 2 a" names a panel.
    """
    found: list[Mention] = []
    for word in _WORD.finditer(text):
        if word["table"] is None:
            found += _Items(text, word, known).read()
    return found


class _Items:
    """Reads the numbers and letters that follow the word for figure."""

    def __init__(self, text: str, word: re.Match[str], known: Collection[str]) -> None:
        self._text, self._known, self._extra = text, known, word["extra"]
        self._plural = _is_plural(word["figure"])
        self._start, self._at = word.start(), word.end()
        self._found: list[tuple[str, str]] = []

    def read(self) -> list[Mention]:
        first = True
        while True:
            item = _ITEM.match(self._text, self._at)
            if item is None or (item["separator"] is None) != first:
                break
            if not (self._number(item) if item["number"] else self._letter(item)):
                break
            first = False
        return [Mention(n, p, self._start, self._at) for n, p in dict.fromkeys(self._found)]

    def _number(self, item: re.Match[str]) -> bool:
        separator = (item["separator"] or "").translate(_DASHES).strip()
        number, panel = _number(item["number"], self._extra), item["tail"].strip().lower()
        if item["tail"] == " a":  # "Fig. 2 a tumour": the article
            panel, self_end = "", item.end("number")
        else:
            self_end = item.end()
        if separator and not self._goes_on(item, number):
            return False
        if separator in ("-", "to", "bis", "through") and self._found:
            last, last_panel = self._found[-1]
            whole = f"{last}-{number}"
            if separator == "-" and not last_panel and (whole in self._known or self._is_chapter(last, number)):
                self._found[-1] = (whole, panel)
            elif last == number and last_panel and panel:
                self._found += [(number, c) for c in _between(last_panel, panel)]
            else:
                self._found += [(n, "") for n in _spelt(last, "-", number)[1:-1]] + [(number, panel)]
        else:
            self._found.append((number, panel))
        self._at = self_end
        self._brackets()
        return True

    def _is_chapter(self, first: str, last: str) -> bool:
        """Whether "3-12" is one figure: the word is singular, and no figures of these numbers are known."""
        if self._plural:
            return False
        return not (first in self._known and last in self._known) if self._known else not self._rises(first, last)

    def _rises(self, first: str, last: str) -> bool:
        return first.isdigit() and last.isdigit() and int(first) < int(last) <= int(first) + 8

    def _goes_on(self, item: re.Match[str], number: str) -> bool:
        """A number after a comma or "and" is one more figure; "Fig. 2, 15 cases" is not."""
        if not self._known or number in self._known or (item["separator"] or "").translate(_DASHES).strip() == "-":
            return True
        return self._plural and f"{number}" in self._known

    def _letter(self, item: re.Match[str]) -> bool:
        if not self._found:
            return False
        letter = item["letter"].strip("()").lower()
        number, last = self._found[-1]
        separator = (item["separator"] or "").translate(_DASHES).strip()
        spaced = self._text[item.end() :][:1]
        if separator in ("and", "und", "or", "oder", "&", ",", "sowie") or separator.startswith(","):
            if not last or (letter == "a" and spaced == " ") or (letter == "i" and spaced == " "):
                return False
            self._found.append((number, letter))
        elif separator in ("-", "to", "bis", "through") and last:
            self._found += [(number, c) for c in _between(last, letter)]
        else:
            return False
        self._at = item.end()
        return True

    def _brackets(self) -> None:
        """Panels in brackets behind a number: "Fig. 3(a)", "Fig. 3 (a-c)"."""
        found = _IN_BRACKETS.match(self._text, self._at)
        number, panel = self._found[-1]
        if found is None or panel:
            return
        letters = letters_of(found[1])
        self._found[-1:] = [(number, c) for c in letters]
        self._at = found.end()


def letters_of(text: str) -> list[str]:
    """Panels of "a-c, e": a, b, c, e."""
    letters: list[str] = []
    for separator, letter in re.findall(r"([,\-\u2010-\u2014]?)\s*([a-zA-Z])", text):
        if separator and separator != "," and letters:
            letters += _between(letters[-1], letter.lower())
        else:
            letters.append(letter.lower())
    return list(dict.fromkeys(letters))


def _between(first: str, last: str) -> list[str]:
    """Letters after the first up to the last; the last alone where they do not rise."""
    if len(first) == len(last) == 1 and ord(first) < ord(last):
        return [chr(c) for c in range(ord(first) + 1, ord(last) + 1)]
    return [last]
