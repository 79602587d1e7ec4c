"""The table of cue words (context.tsv), read and made ready: denial, doubt, history and family, ends of clauses."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from eosin.core.errors import EosinError
from eosin.knowledge.linking.tables import Row, cited, read_table
from eosin.knowledge.linking.words import words_of

Polarity = Literal["present", "absent"]
Certainty = Literal["certain", "possible"]
Scope = Literal["patient", "history", "family", "unassessed"]
Says = Literal["absent", "possible", "history", "family", "unassessed"]


class Status(NamedTuple):
    """What the text says of one mention."""

    polarity: Polarity = "present"
    certainty: Certainty = "certain"
    scope: Scope = "patient"


PLAIN = Status()


class Span(NamedTuple):
    """A mention as word numbers, both included, and its semantic type."""

    first: int
    last: int
    type: str


class Cue(NamedTuple):
    """A cue that speaks of the words first..last. `after` is True where it stands behind them."""

    says: Says
    first: int
    last: int
    after: bool


@dataclass(frozen=True)
class Rules:
    """The table of cues by their words, ready for use. `single` holds the kinds that are plain sets of words."""

    phrases: Mapping[tuple[str, ...], tuple[str, ...]]
    lengths: Mapping[str, tuple[int, ...]]
    followers: Mapping[str, frozenset[str] | None]
    single: Mapping[str, frozenset[str]]
    headings: Mapping[str, Scope]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Rules:
        """Index the rows of context.tsv.

        Raises:
            EosinError: an unknown kind, a row without a phrase or reference.
        """
        phrases: dict[tuple[str, ...], list[str]] = {}
        single: dict[str, set[str]] = {k: set() for k in SINGLE}
        headings: dict[str, Scope] = {}
        for row in rows:
            cited(row)
            kind, listed = row["kind"], row.many("phrases", ",")
            if kind not in _KINDS or not listed:
                expected = ", ".join(_KINDS)
                raise EosinError("A row of cues cannot be read.", expected=expected, found=kind, where=row.where)
            for phrase in listed:
                words = tuple(words_of(phrase))
                if kind in single:
                    single[kind].add(" ".join(words))
                elif kind.startswith("section-"):
                    headings[" ".join(words)] = _SECTION[kind]
                elif kind not in phrases.setdefault(words, []):
                    phrases[words].append(kind)
        made = {k: frozenset(v) for k, v in single.items()}
        return cls({k: tuple(v) for k, v in phrases.items()}, _lengths(phrases), _followers(phrases), made, headings)


SINGLE = (
    "stop", "verb", "lead", "now", "preposition", "abbreviation", "numbered", "answer", "turn", "turn-end", "unit",
)  # fmt: skip
"""Kinds that are plain sets of words, and no cues by themselves."""
_SECTION: Mapping[str, Scope] = {
    "section-history": "history", "section-family": "family", "section-patient": "patient",
}  # fmt: skip
_KINDS = (
    "ignored", "absent-before", "absent-after", "absent-near", "absent-value", "absent-end", "absent-minus",
    "absent-count", "possible-before", "possible-after", "possible-start", "possible-value", "possible-end",
    "possible-heading", "request",
    "history-before", "history-near", "family-before", "unassessed-after", *SINGLE, *_SECTION,
)  # fmt: skip


def _lengths(phrases: Mapping[tuple[str, ...], object]) -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {}
    for phrase in phrases:
        found.setdefault(phrase[0], set()).add(len(phrase))
    return {w: tuple(sorted(n, reverse=True)) for w, n in found.items()}


def _followers(phrases: Mapping[tuple[str, ...], object]) -> dict[str, frozenset[str] | None]:
    """First word of a cue -> the words that may come second; None where the first word is a cue by itself."""
    alone = {p[0] for p in phrases if len(p) == 1}
    found: dict[str, set[str]] = {}
    for phrase in phrases:
        found.setdefault(phrase[0], set()).update(phrase[1:2])
    return {w: None if w in alone else frozenset(s) for w, s in found.items()}


@functools.cache
def rules() -> Rules:
    """The cues that come with Eosin."""
    return Rules.of(read_table("context"))


@functools.cache
def parts(kind: str) -> tuple[Says, str]:
    """What a kind of cue says, and where it looks."""
    said, _, side = kind.partition("-")
    return next(s for s in get_args(Says) if s == said), side
