"""Typing errors in long words of the tables: "carcinmoa", "lymphovasular", "no evidnce of".

A word that no name and no cue knows is read as the one known word that a single slip makes of it: a letter left out,
put in, doubled or exchanged, or two neighbours swapped. Short words are left as they are, and so are real words that
happen to lie that near ("spelled" in noise.tsv).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from eosin.knowledge.linking import tables
from eosin.knowledge.linking.cues import rules
from eosin.knowledge.linking.words import Words, words_of

MIN_LETTERS = 7
"""Shorter words are not mended; a slip may turn them into another word too easily."""
MAX_LETTERS = 40
"""Longer ones are no words."""


def mended(words: Words, known: frozenset[str]) -> Words:
    """The words of a text with typing errors mended; the same object where there are none.

    Args:
        known: words of the linker's own names, which are right as they are.
    """
    unknown = set(words.words).difference(_right_words()).difference(known)
    wrong = [w for w in unknown if len(w) >= MIN_LETTERS and _is_letters(w)]
    found = {w: right for w in wrong if (right := meant(w)) is not None}
    return words._replace(words=[found.get(w, w) for w in words.words]) if found else words


def _is_letters(word: str) -> bool:
    return len(word) <= MAX_LETTERS and word.isascii() and word.isalpha()


@functools.lru_cache(maxsize=65536)
def meant(word: str) -> str | None:
    """The only word of the tables that one slip makes of a folded word; None where there is none, or more than one."""
    right, near = _targets()
    if word in right or word in _real():
        return None
    found = {t for cut in _cuts(word) for t in near.get(cut, ()) if _is_slip(word, t)}
    return found.pop() if len(found) == 1 else None


def _cuts(word: str) -> Iterable[str]:
    """The word, and the word without each of its letters but the first."""
    yield word
    for k in range(1, len(word)):
        yield word[:k] + word[k + 1 :]


def _is_slip(word: str, target: str) -> bool:
    """Whether two words differ by one letter more, fewer, other, or by two neighbours swapped. The first and the last
    letter must be the same, as another ending is another form of the word: "eosinophilia" is no "eosinophilic"."""
    if word[0] != target[0] or (word[-1] != target[-1] and sorted(word[-2:]) != sorted(target[-2:])):
        return False
    if len(word) == len(target):
        differ = [k for k in range(len(word)) if word[k] != target[k]]
        if len(differ) == 2:
            a, b = differ
            return b == a + 1 and word[a] == target[b] and word[b] == target[a]
        return len(differ) == 1
    longer, shorter = (word, target) if len(word) > len(target) else (target, word)
    return len(longer) - len(shorter) == 1 and any(c == shorter for c in _cuts(longer))


@functools.cache
def _right_words() -> frozenset[str]:
    """All words of the tables' names and cues, which are right as they are."""
    return _targets()[0] | _real()


@functools.cache
def _targets() -> tuple[frozenset[str], dict[str, tuple[str, ...]]]:
    """All words of the tables' names and cues, and the long ones by what each is without one letter."""
    right = {w for c in tables.concepts() for name in (c.label, *(s.text for s in c.synonyms)) for w in words_of(name)}
    right |= {w for phrase in rules().phrases for w in phrase}
    right |= {w for listed in rules().single.values() for phrase in listed for w in phrase.split()}
    near: dict[str, set[str]] = {}
    for target in right:
        if len(target) >= MIN_LETTERS and _is_letters(target):
            for cut in _cuts(target):
                near.setdefault(cut, set()).add(target)
    return frozenset(right), {cut: tuple(sorted(targets)) for cut, targets in near.items()}


@functools.cache
def _real() -> frozenset[str]:
    """Real words that lie one letter from a word of the tables."""
    rows = tables.read_table("noise")
    return frozenset(w for r in rows if r["kind"] == "spelled" for part in r.many("words", ",") for w in words_of(part))
