"""How a mention is meant: present or absent, certain or possible, of the patient, the past or the family.

What is said to be not assessable has the scope "unassessed": it is neither present nor absent.

The idea is that of NegEx (Chapman et al., J Biomed Inform 2001) and ConText (Harkema et al., J Biomed Inform 2009):
cue words speak of what stands before or after them, up to the end of a clause. The cues are rows of context.tsv.
The only rule set of its kind in Eosin: scoring and linking read it.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from eosin.core.errors import EosinError
from eosin.knowledge.linking.tables import Row, cited, read_table
from eosin.knowledge.linking.words import Words, words_of

Polarity = Literal["present", "absent"]
Certainty = Literal["certain", "possible"]
Scope = Literal["patient", "history", "family", "unassessed"]
Says = Literal["absent", "possible", "history", "family", "unassessed"]

MAX_REACH = 25
"""No cue reaches further than this many words."""
NEAR = 3
"""Reach of a "near" cue, in words."""
PLACES = frozenset({"organ", "tissue", "stain"})
"""Types that "of" and "by" put beside what a cue speaks of: "no carcinoma of the colon" denies no colon."""

_SENTENCE = re.compile(r"[.!?;:\n]")
_DETERMINERS = frozenset({"the", "a", "an", "thi", "these", "those", "both", "all", "any", "some", "it", "their"})


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
    words: str


class Section(NamedTuple):
    """A part of a report: from `start` on, mentions are of this scope unless a cue says otherwise."""

    start: int
    scope: Scope


@dataclass(frozen=True)
class Rules:
    """The table of cues, ready for use."""

    phrases: Mapping[tuple[str, ...], tuple[str, ...]]
    lengths: Mapping[str, tuple[int, ...]]
    stops: frozenset[str]
    verbs: frozenset[str]
    leads: frozenset[str]
    now: frozenset[str]
    prepositions: frozenset[str]
    abbreviations: frozenset[str]
    headings: Mapping[str, Scope]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Rules:
        """Index the rows of context.tsv.

        Raises:
            EosinError: an unknown kind, a row without a phrase or reference.
        """
        phrases: dict[tuple[str, ...], list[str]] = {}
        single: dict[str, set[str]] = {k: set() for k in ("stop", "verb", "lead", "now", "preposition", "abbreviation")}
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
                    single[kind].add(words[0] if len(words) == 1 else " ".join(words))
                elif kind.startswith("section-"):
                    headings[" ".join(words)] = _SECTION[kind]
                else:
                    phrases.setdefault(words, []).append(kind)
        return cls(
            {k: tuple(v) for k, v in phrases.items()}, _lengths(phrases), frozenset(single["stop"]),
            frozenset(single["verb"]), frozenset(single["lead"]), frozenset(single["now"]),
            frozenset(single["preposition"]), frozenset(single["abbreviation"]), headings,
        )  # fmt: skip


_KINDS = (
    "ignored", "absent-before", "absent-after", "absent-near", "absent-value", "absent-end", "possible-before",
    "possible-after", "possible-start", "possible-heading", "request", "history-before", "history-near",
    "family-before", "unassessed-after", "stop", "verb", "lead", "now", "preposition", "abbreviation",
    "section-history", "section-family", "section-patient",
)  # fmt: skip
_SECTION: Mapping[str, Scope] = {
    "section-history": "history", "section-family": "family", "section-patient": "patient",
}  # fmt: skip


def _lengths(phrases: Mapping[tuple[str, ...], object]) -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {}
    for phrase in phrases:
        found.setdefault(phrase[0], set()).add(len(phrase))
    return {w: tuple(sorted(n, reverse=True)) for w, n in found.items()}


@functools.cache
def rules() -> Rules:
    """The cues that come with Eosin."""
    return Rules.of(read_table("context"))


def statuses(words: Words, spans: Sequence[Span], cues: Rules | None = None) -> list[Status]:
    """What the text says of every span, in order. Linear in the length of the text.

    Args:
        spans: mentions in order, without overlap. Words inside a mention are no cues.
    """
    table = cues or rules()
    found = _cues_in(words, spans, table)
    sections = sections_of(words.text, table)
    if not found and not sections:
        return [PLAIN] * len(spans)
    firsts = [c.first for c in found]
    return [_status(words, s, found, firsts, sections, table) for s in spans]


def sections_of(text: str, table: Rules | None = None) -> list[Section]:
    """Sections of a report that begin with a heading and a colon, in order. Those of the patient end the others."""
    if ":" not in text:
        return []
    headings = (table or rules()).headings
    found = []
    for match in _HEADING.finditer(text):
        scope = headings.get(" ".join(words_of(match.group(1))))
        if scope is not None:
            found.append(Section(match.start(), scope))
    return found if any(s.scope != "patient" for s in found) else []


_HEADING = re.compile(r"(?:^|(?<=\n)|(?<=\. ))[ \t]*([A-Za-z][A-Za-z ]{2,38}?)[ \t]*:")


def _cues_in(words: Words, spans: Sequence[Span], table: Rules) -> list[Cue]:
    """Cues with their reach, by the first word that they speak of."""
    lengths = table.lengths
    starts = [i for i, w in enumerate(words.words) if w in lengths]
    if not starts:
        return []
    inside = {k: n for n, s in enumerate(spans) for k in range(s.first, s.last + 1)}
    reach = _Reach(words, spans, inside, table)
    found: list[Cue] = []
    free = 0
    for i in starts:
        match = _longest(words.words, i, inside, table) if i >= free else None
        if match is not None:
            made = [c for c in (reach.of(kind, i, i + match[0] - 1) for kind in match[1]) if c is not None]
            if match[1] != ("ignored",) and all(c.after and not reach.names(c) for c in made):
                continue  # "there is possible necrosis": nothing stands before "is possible", so it is no such cue
            free = i + match[0]
            found += made
    return _cut(sorted(_without_denied_doubt(found, words), key=_first))


def _first(cue: Cue) -> int:
    return cue.first


def _longest(words: list[str], i: int, inside: Mapping[int, int], table: Rules) -> tuple[int, tuple[str, ...]] | None:
    for n in table.lengths[words[i]]:
        kinds = table.phrases.get(tuple(words[i : i + n])) if i + n <= len(words) else None
        if kinds and not any(k in inside for k in range(i, i + n)):
            return n, kinds
    return None


def _without_denied_doubt(found: list[Cue], words: Words) -> list[Cue]:
    """Leave out a doubt that is itself denied: "no features to suggest carcinoma" is no doubt."""
    denials = {c.first: c.last for c in found if c.says == "absent" and not c.after}
    if not denials:
        return found
    return [c for c in found if c.says != "possible" or c.after or not _is_denied(c, denials, words)]


def _cut(found: list[Cue]) -> list[Cue]:
    """A denial or doubt in front ends where the next one begins: "possible granuloma and no mitosis"."""
    following: int | None = None
    for i in range(len(found) - 1, -1, -1):
        cue = found[i]
        if cue.after or cue.says not in ("absent", "possible"):
            continue
        if following is not None and cue.last >= following:
            found[i] = cue._replace(last=following - 1)
        following = cue.first
    return found


def _is_denied(doubt: Cue, denials: Mapping[int, int], words: Words) -> bool:
    """Whether a denial begins at most a few words before, reaches the doubt, and no comma lies between."""
    for first in range(max(1, doubt.first - NEAR - 2), doubt.first):
        if denials.get(first, -1) >= doubt.first - 1:
            return "," not in words.text[words.starts[first - 1] : words.starts[doubt.first - 1]]
    return False


@functools.cache
def _parts(kind: str) -> tuple[Says, str]:
    """What a kind of cue says, and where it looks."""
    said, _, side = kind.partition("-")
    return next(s for s in get_args(Says) if s == said), side


class _Reach:
    """How far each cue of one text reaches."""

    def __init__(self, words: Words, spans: Sequence[Span], inside: Mapping[int, int], table: Rules) -> None:
        self.words, self.spans, self.inside, self.table = words, spans, inside, table
        self.clause_ends = _clause_ends(words, table)

    def of(self, kind: str, first: int, last: int) -> Cue | None:
        """The cue at the words first..last, or None where it says nothing."""
        if kind == "ignored":
            return None
        text = " ".join(self.words.words[first : last + 1])
        if kind == "possible-start" and first != self._clause_start(first):
            return None
        if kind == "request":
            says: Says = "possible" if first == self._clause_start(first) else "absent"
            return Cue(says, last + 1, self._ahead(last, MAX_REACH, stop_at_place=True), False, text)
        said, side = _parts(kind)
        if said in ("absent", "possible", "unassessed") and self._is_value(first, last):
            return Cue(said, self._behind(first, self._clause_start(first - 1)), first - 1, True, text)
        if side == "value" or (side == "end" and last != self._clause_end(last)):
            return None
        if side in ("after", "end"):
            return Cue(said, self._behind(first, self._clause_start(first)), first - 1, True, text)
        words = 1 if kind == "absent-near" else NEAR if side == "near" else MAX_REACH
        past = said in ("history", "family")
        begin = last + 1 if side == "heading" and self._is_heading(last) else last
        return Cue(said, last + 1, self._ahead(begin, words, stop_at_place=not past, past=past), False, text)

    def _is_heading(self, last: int) -> bool:
        """Whether a colon follows, so that what stands behind it is spoken of too."""
        return last + 1 < len(self.words.words) and ":" in self.gap(last)

    def names(self, cue: Cue) -> bool:
        """Whether a mention lies in the reach of a cue."""
        return any(k in self.inside for k in range(cue.first, cue.last + 1))

    def _clause(self, word: int) -> int:
        """Number of the clause that a word is in."""
        return bisect_left(self.clause_ends, word)

    def _clause_start(self, word: int) -> int:
        at = self._clause(word)
        return self.clause_ends[at - 1] + 1 if at else 0

    def _clause_end(self, word: int) -> int:
        at = self._clause(word)
        return self.clause_ends[at] if at < len(self.clause_ends) else len(self.words.words) - 1

    def gap(self, k: int) -> str:
        """What stands between word k and the next one."""
        return self.words.text[self.words.ends[k] : self.words.starts[k + 1]]

    def _is_value(self, first: int, last: int) -> bool:
        """Whether the cue is the whole value of a field: "Perineural invasion: not identified"."""
        if first == 0 or ":" not in self.gap(first - 1) or "\n" in self.gap(first - 1):
            return False
        return last == self._clause_end(last) or self.gap(last)[:1] in (",", "(", "/")

    def _ahead(self, last: int, reach: int, *, stop_at_place: bool, past: bool = False) -> int:
        """Last word that a cue ending at `last` speaks of."""
        limit = min(self._clause_end(last + 1) if last + 1 < len(self.words.words) else last, last + reach)
        if last == self._clause_end(last):
            return last
        limit = self._list_end(last, limit)
        words, named = self.words.words, False
        for k in range(last + 1, limit + 1):
            word = words[k]
            if k in self.inside:
                named = True
            elif (past and word in self.table.now) or (stop_at_place and named and self._is_place(word, k)):
                return k - 1
        return limit

    def _is_place(self, word: str, k: int) -> bool:
        return word in self.table.prepositions and self.words.words[k + 1 : k + 2] != ["situ"]

    def _list_end(self, last: int, limit: int) -> int:
        """Where the list after a cue ends: at a comma or "and" behind which a clause with its own verb begins."""
        words, inside = self.words.words, self.inside
        for k in range(last, limit):
            if k in inside and inside[k] == inside.get(k + 1):
                continue
            gap = self.gap(k)
            if ")" in gap or "[" in gap:
                return k
            if "," in gap or words[k + 1] == "and":
                segment = self._segment(k + 1, limit)
                if "or" not in segment and "nor" not in segment and not self.table.verbs.isdisjoint(segment):
                    return k
        return limit

    def _segment(self, first: int, limit: int) -> list[str]:
        """Words from `first` to the next comma or the limit."""
        for m in range(first, limit):
            if "," in self.gap(m):
                return self.words.words[first : m + 1]
        return self.words.words[first : limit + 1]

    def _behind(self, first: int, start: int) -> int:
        """First word that a cue beginning at `first` speaks of, in a clause that begins at `start`: over "necrosis,
        atypia and mitoses are absent", but not over an earlier clause nor over a lead such as "given the glands, "."""
        if first == 0:
            return 0
        limit = max(start, first - MAX_REACH)
        words, inside, joined = self.words.words, self.inside, False
        for k in range(first - 1, limit, -1):
            if k in inside and inside[k] == inside.get(k - 1):
                continue
            gap = self.gap(k - 1)
            joined = joined or words[k] in ("and", "or", "nor")
            if "," in gap and (not joined or words[limit] in self.table.leads):
                return k
            if ("," in gap or "(" in gap or words[k] in ("and", "with")) and (
                "(" in gap or not self.table.verbs.isdisjoint(words[limit:k])
            ):
                return k
        return limit


def _clause_ends(words: Words, table: Rules) -> list[int]:
    """Numbers of the words after which a sentence or clause ends, in order."""
    text, listed, starts, ends = words.text, words.words, words.starts, words.ends
    found = []
    for k in range(len(listed) - 1):
        following = listed[k + 1]
        if following in table.stops:
            if listed[k] != "to":  # "findings to indicate malignancy" goes on
                found.append(k)
            continue
        if starts[k + 1] - ends[k] == 1 and text[ends[k]] in " -/,'":
            continue
        gap = text[ends[k] : starts[k + 1]]
        if _SENTENCE.search(gap) and (len(gap) > 1 or gap in ";:\n!?") and not _is_abbreviation(gap, listed[k], table):
            found.append(k)
    found.append(len(listed) - 1)
    return found


def _is_abbreviation(gap: str, word: str, table: Rules) -> bool:
    """The point of "H. pylori" or "vs." ends no sentence."""
    return gap in (". ", ".") and (word in table.abbreviations or (len(word) == 1 and word.isalpha()))


def _status(
    words: Words, span: Span, cues: Sequence[Cue], firsts: Sequence[int], sections: Sequence[Section], table: Rules
) -> Status:
    """Doubt outweighs absence: "cannot be ruled out" is possible."""
    absent = possible = False
    scope: Scope = _section_scope(words.starts[span.first], sections) if sections else "patient"
    for i in range(bisect_right(firsts, span.first) - 1, -1, -1):
        cue = cues[i]
        if cue.first < span.first - MAX_REACH - NEAR:
            break
        if span.last > cue.last or _beside(words.words, span, cue, table):
            continue
        if cue.says == "absent":
            absent = absent or not (span.type == "stain" and cue.after)
        elif cue.says == "possible":
            possible = True
        elif scope != "family":
            scope = cue.says
    if possible:
        return Status("present", "possible", scope)
    return Status("absent" if absent else "present", "certain", scope)


def _section_scope(position: int, sections: Sequence[Section]) -> Scope:
    at = bisect_right(sections, (position, "\uffff")) - 1
    return sections[at].scope if at >= 0 else "patient"


def _beside(words: Sequence[str], span: Span, cue: Cue, table: Rules) -> bool:
    """Whether the mention only says where: "of the colon" beside what the cue speaks of."""
    if cue.says in ("history", "family"):
        return False
    k = span.first - 1
    while k >= cue.first and k >= span.first - 3 and words[k] in _DETERMINERS:
        k -= 1
    if k <= cue.first:
        return False
    if cue.after and words[k] in table.prepositions:
        return True
    return words[k] in ("of", "by") and span.type in PLACES
