"""Which of several meanings a name has in its text: by the words around it, by type, by an injected encoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from eosin.knowledge.linking.index import Found, Index, Meaning
from eosin.knowledge.linking.words import Words, words_of

MARGIN = 0.05
"""An encoder decides only where its best meaning is better than the next by this cosine."""
NEIGHBOURS = 60
"""Words to either side that speak for a meaning."""
_FIRST_TYPES = frozenset({"diagnosis", "finding", "marker", "stain", "cell", "organ", "tissue", "grade"})
_DEFINED = re.compile(r"[ \t\n]?\(([A-Z][A-Za-z]{1,6})\)")

Encode = Callable[[Sequence[str]], Any]


def choose(index: Index, words: Words, found: Sequence[Found], k: int, encode: Encode | None) -> Meaning:
    """The meaning that the text speaks for; unchanged, with its alternatives, where nothing decides."""
    first, last, meaning = found[k]
    around = set(words.words[max(0, first - NEIGHBOURS) : first]) | set(words.words[last + 1 : last + 1 + NEIGHBOURS])
    senses = index.senses.get(" ".join(words.words[first : last + 1]))
    if senses is not None:
        row = _by_near_words(senses, around)
    else:
        rows = (meaning.row, *meaning.others)
        row = _by_label(index, rows, around, set(words.words[first : last + 1]))
        row = _by_type(index, rows) if row is None else row
    if row is None and encode is not None:
        row = _by_encoder(index, (meaning.row, *meaning.others), words, first, encode)
    return Meaning(row) if row is not None else meaning


def _by_near_words(senses: Sequence[tuple[int, frozenset[str]]], around: set[str]) -> int | None:
    """The meaning with most of its words around; else the one that needs none."""
    scored = sorted(((len(near & around), -i, row) for i, (row, near) in enumerate(senses)), reverse=True)
    if scored[0][0] > 0 and (len(scored) == 1 or scored[0][0] > scored[1][0]):
        return scored[0][2]
    if scored[0][0] > 0:
        return None
    return next((row for row, near in senses if not near), None)


def _by_label(index: Index, rows: Sequence[int], around: set[str], own: set[str]) -> int | None:
    """The meaning whose own label's words stand around more than any other's."""
    counts = [len((set(words_of(index.labels[r])) - own) & around) for r in rows]
    best = max(counts)
    return rows[counts.index(best)] if best and counts.count(best) == 1 else None


def _by_type(index: Index, rows: Sequence[int]) -> int | None:
    """The only meaning of a type that reports speak of."""
    first = [r for r in rows if index.types[r] in _FIRST_TYPES]
    return first[0] if len(first) == 1 else None


def _by_encoder(index: Index, rows: Sequence[int], words: Words, first: int, encode: Encode) -> int | None:
    """The meaning whose label is nearest to the sentence, by cosine, where it is clearly the nearest."""
    start = max(0, words.starts[first] - 150)
    texts = [words.text[start : words.ends[first] + 150], *(index.labels[r] for r in rows)]
    vectors = np.asarray(encode(texts), dtype=np.float64)
    norms = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    cosines = vectors[1:] @ vectors[0] / norms[1:] / norms[0]
    order = np.argsort(-cosines)
    clear = bool(np.isfinite(cosines).all()) and (len(rows) == 1 or cosines[order[0]] - cosines[order[1]] >= MARGIN)
    return int(rows[int(order[0])]) if clear else None


def defined_abbreviations(words: Words, found: Sequence[Found]) -> Mapping[str, Meaning]:
    """Abbreviations that the text itself explains: "acute myeloid leukaemia (AML)". They hold in the whole text."""
    by_end = {words.ends[last]: (first, last, meaning) for first, last, meaning in found}
    own: dict[str, Meaning] = {}
    for match in _DEFINED.finditer(words.text):
        span = by_end.get(match.start())
        if span is None or span[2].others:
            continue
        initials = "".join(w[0] for w in words.words[span[0] : span[1] + 1])
        if len(initials) > 1 and initials == match[1].casefold():
            own[match[1]] = Meaning(span[2].row)
    return own
