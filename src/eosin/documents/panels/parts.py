"""The parts of a caption that speak of single panels: "(A) low power. (B) high power", "a, crypts; b, nuclei"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eosin.documents.captions.labels import caption_label, letters_of
from eosin.documents.references.sentences import sentence_spans

_GROUP = r"[A-Za-z](?:\s?[,\-\u2010-\u2014]\s?[A-Za-z]|\s?(?:and|und|&)\s?[A-Za-z])*"
_SPAN = r"(?:\s?[,\-\u2010-\u2014]\s?"
_BEGINS = r"(?:(?<=[.;:,]\s)|(?<=^))"
_STYLES = (
    re.compile(rf"\((?P<letters>{_GROUP})\)"),
    re.compile(rf"{_BEGINS}(?P<letters>[A-Za-z]{_SPAN}[A-Za-z])*)(?:\)|[,:.])(?=\s)"),
    re.compile(rf"{_BEGINS}(?P<letters>[A-Z]{_SPAN}[A-Z])*)(?=\s+[A-Z\u00c4\u00d6\u00dc][a-z])"),
    re.compile(rf"(?:(?<=[.;:]\s)|(?<=^))(?P<letters>[a-z]{_SPAN}[a-z])*)(?=\s+[A-Z\u00c4\u00d6\u00dc0-9])"),
)
_SIDES = {
    "left": 0, "right": 1, "top": 0, "bottom": 1, "upper": 0, "lower": 1, "above": 0, "below": 1,
    "links": 0, "rechts": 1, "oben": 0, "unten": 1,
}  # fmt: skip
_SIDE = re.compile(rf"\(?\b(?P<side>{'|'.join(_SIDES)})\b\)?", re.I)
_CORNER = re.compile(
    r"\(?\b(?P<row>top|bottom|upper|lower|oben|unten)[\s-](?P<column>left|right|links|rechts)\b\)?:?", re.I
)
_ACROSS = {"left", "right", "links", "rechts"}


@dataclass(frozen=True)
class Part:
    """What a caption says of one panel. letter: lower case, or a word of place."""

    letter: str
    text: str


def parts_of(caption: str) -> list[Part]:
    """Parts of a caption in the order of their letters; empty where it names fewer than two panels."""
    label = caption_label(caption, bold=True)
    text = caption[label.end :] if label is not None else caption
    best: list[Part] = []
    for style in _STYLES:
        found = _lettered(text, style)
        if len(found) > len(best):
            best = found
    return best if len(best) > 1 else _cornered(text) or _sided(text)


def _lettered(text: str, style: re.Pattern[str]) -> list[Part]:
    """Parts between marks of one style, where their letters rise from a."""
    marks = [(m.start(), m.end(), letters_of(re.sub(r"and|und|&", ",", m["letters"]))) for m in style.finditer(text)]
    kept: list[tuple[int, int, list[str]]] = []
    seen: list[str] = []
    for start, end, letters in marks:
        new = [c for c in letters if c not in seen]
        if new and (seen or new[0] == "a") and (not seen or ord(new[0]) - ord(max(seen)) in (1, 2) or len(letters) > 1):
            kept.append((start, end, new))
            seen += new
    if len(seen) < 2:
        return []
    trailing = _is_trailing(text, kept)
    parts = []
    for i, (start, end, letters) in enumerate(kept):
        if trailing:
            told = text[(kept[i - 1][1] if i else _sentence_start(text, start)) : start]
        else:
            told = text[end : kept[i + 1][0] if i + 1 < len(kept) else _end(text, kept)]
        parts += [Part(c, _clean(told)) for c in letters]
    return sorted(parts, key=lambda p: p.letter)


def _is_trailing(text: str, marks: list[tuple[int, int, list[str]]]) -> bool:
    """Whether letters stand behind what they name: "low power (A) and high power (B)."."""
    behind = sum(re.match(r"\s*(?:[,.;]|and\b|und\b|$)", text[end:]) is not None for _, end, _ in marks)
    return behind > 0.5 * len(marks) and re.search(r"[.:]\s*$", text[: marks[0][0]]) is None and marks[0][0] > 3


def _sentence_start(text: str, at: int) -> int:
    return max((s for s, _ in sentence_spans(text) if s <= at), default=0)


def _end(text: str, marks: list[tuple[int, int, list[str]]]) -> int:
    """Where the last part ends: after as many sentences as the others have at most."""
    most = 1
    for (_, end, _), (start, _, _) in zip(marks, marks[1:], strict=False):
        most = max(most, len(sentence_spans(text[end:start].strip())))
    last = marks[-1][1]
    spans = sentence_spans(text[last:])
    return last + (spans[min(most, len(spans)) - 1][1] if spans else 0)


def _clean(text: str) -> str:
    text = re.sub(r"^[\s,;:.)]+|[\s,;:.(]+$", "", text)
    return re.sub(r"^(?:and|und)\s+|\s*[,;]?\s*(?:and|und)$", "", text).strip()


def _cornered(text: str) -> list[Part]:
    """Four parts named by their corners, in reading order: "Low power (top left), high power (top right), ..."."""
    found = list(_CORNER.finditer(text))
    places = [(_SIDES[m["row"].lower()], _SIDES[m["column"].lower()]) for m in found]
    if len(found) != 4 or len(set(places)) != 4:
        return []
    ends = [m.end() for m in found]
    if found[0].group().startswith("("):
        starts = [_sentence_start(text, found[0].start()), *ends[:-1]]
        pieces = [text[a : m.start()] for a, m in zip(starts, found, strict=True)]
    else:
        spans = sentence_spans(text[ends[-1] :])
        stops = [*(m.start() for m in found[1:]), ends[-1] + (spans[0][1] if spans else 0)]
        pieces = [text[a:b] for a, b in zip(ends, stops, strict=True)]
    named = sorted(zip(places, found, pieces, strict=True), key=lambda part: part[0])
    return [Part(f"{m['row']} {m['column']}".lower(), _clean(told)) for _, m, told in named]


def _sided(text: str) -> list[Part]:
    """Two parts named by their sides: "Low power (left) and high power (right)"."""
    found = list(_SIDE.finditer(text))
    if len(found) != 2:
        return []
    first, second = found[0]["side"].lower(), found[1]["side"].lower()
    if (first in _ACROSS) != (second in _ACROSS) or {_SIDES[first], _SIDES[second]} != {0, 1}:
        return []
    if found[0].group().startswith("("):
        start = _sentence_start(text, found[0].start())
        pieces = [text[start : found[0].start()], text[found[0].end() : found[1].start()]]
    else:
        pieces = [text[found[0].end() : found[1].start()], text[found[1].end() :]]
    parts = [
        Part(m["side"].lower(), re.sub(r"^(?:and|und)\s", "", _clean(p))) for m, p in zip(found, pieces, strict=True)
    ]
    return sorted(parts, key=lambda p: _SIDES[p.letter])
