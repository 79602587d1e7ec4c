"""How far each cue of one text reaches: ends of clauses and lists, fields and their values, counts, headings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from eosin.knowledge.linking.cues import Cue, Rules, Says, Span, parts
from eosin.knowledge.linking.words import Words

MAX_REACH = 25
"""No cue reaches further than this many words."""
NEAR = 3
"""Reach of a "near" cue, in words."""
PLACES = frozenset({"organ", "tissue", "stain"})
"""Types that "of" and "by" put beside what a cue speaks of: "no carcinoma of the colon" denies no colon."""

_SENTENCE = re.compile(r"[.!?;:\n\x01\x02]")
_WITHIN = frozenset(["", *" -/,'.", ", "])
"""Gaps that end no clause, most gaps of any text."""
_FIELD = re.compile(r"[:=\t|?(\[]|\.{2,}|[ \t][-\u2013\u2014][ \t]?|->|\u2192")
"""What stands between the name of a field and its value: "Necrosis: no", "Necrosis - no", "Necrosis (no)"."""
_AFTER_VALUE = re.compile(r"\s*[,(/)\]|;\t\n]")
_COUNTED = frozenset({"of", "the", "out", "all", "these", "examined", "sampled", "submitted"})
_FILLERS = frozenset({"all", "both", "is", "are", "was", "were", "each", "again"})
_ASKING = frozenset({"please", "kindly"})
_ASIDE = frozenset({"rather", "instead"})
_LISTED = frozenset({"and", "or", "nor", "also", "both"})


class CueScope:
    """How far each cue of one text reaches."""

    def __init__(self, words: Words, spans: Sequence[Span], inside: Mapping[int, int], table: Rules) -> None:
        self.words, self.spans, self.inside, self.gaps = words, spans, inside, words.gaps
        self.verbs, self.leads, self.now = table.single["verb"], table.single["lead"], table.single["now"]
        self.prepositions, self.answers = table.single["preposition"], table.single["answer"]
        self.turns, self.turn_ends, self.units = table.single["turn"], table.single["turn-end"], table.single["unit"]
        self.numbered = table.single["numbered"]
        self._starts, self._ends = _bounds(clause_ends(words, inside, table))
        self._has_fields = ":" in words.text

    def of(self, kind: str, first: int, last: int) -> Cue | None:
        """The cue at the words first..last, or None where it says nothing."""
        if kind == "ignored":
            return None
        if kind == "possible-start" and first != self.clause_start(first):
            return None
        if kind == "request":
            begin = first - 1 if first and self.words.words[first - 1] in _ASKING else first
            says: Says = "possible" if begin == self.clause_start(first) else "absent"
            return Cue(says, last + 1, self.ahead(last + 1, MAX_REACH), False)
        said, side = parts(kind)
        if side == "count":
            return self._count(first)
        if (side == "minus" and not self._has_minus(first)) or self._is_number_word(first):
            return None
        if said in ("absent", "possible", "unassessed"):
            begin = self._before_fillers(first)
            if self._is_value(begin, last):
                start = self._field_of_stain(self.clause_start(begin - 1), begin)
                return Cue(said, self._behind(begin, start), begin - 1, True)
            heading = self._heading_end(first, last) if self._has_fields and said != "unassessed" else None
            if heading is not None and side in ("after", "before", "heading", "minus"):
                end = self.ahead(heading + 1, MAX_REACH, across=True)
                return Cue(said, last + 1, end, False)
        return self._sided(said, side, first, last)

    def _sided(self, said: Says, side: str, first: int, last: int) -> Cue | None:
        """A cue that is neither a value nor a heading, by the side that it looks to."""
        if side == "value" or (side == "end" and last != self.clause_end(last)):
            return None
        if side in ("after", "end", "minus") and not (side == "minus" and last > first):
            start = self.clause_start(first)
            return Cue(said, self._behind(first, self._field_of_stain(start, first)), first - 1, True)
        num = 1 if side == "near" and said == "absent" else NEAR if side == "near" else MAX_REACH
        past = said in ("history", "family")
        return Cue(said, last + 1, self.ahead(last + 1, num, past=past), False)

    def _has_minus(self, first: int) -> bool:
        """Whether the word is that of "-ve"."""
        return self.words.text[self.words.starts[first] - 1 : self.words.starts[first]] in ("-", "\u2212", "\u2013")

    def _before_fillers(self, first: int) -> int:
        """The first word of a value with what stands in front of it: "all negative", "are focally positive"."""
        words = self.words.words
        while (
            first > 1
            and (words[first - 1] in _FILLERS or words[first - 1][-2:] == "ly")
            and self.gaps[first - 1] == " "
        ):
            first -= 1
        return first

    def _field_of_stain(self, start: int, first: int) -> int:
        """Where "Amyloid: Congo red negative" begins: a stain alone speaks of the field before it."""
        n = self.inside.get(start)
        if not start or n is None or self.spans[n].type != "stain" or self.spans[n].last != first - 1:
            return start
        before = self.inside.get(start - 1)
        is_field = ":" in self.gaps[start - 1] and before is not None
        return self.clause_start(start - 1) if is_field else start

    def _is_number_word(self, first: int) -> bool:
        """Whether the word is that of "No. 3"."""
        if self.words.words[first] not in self.numbered or first == self.clause_end(first):
            return False
        return self.gaps[first] in (". ", ".") and self.words.words[first + 1].isdigit()

    def names(self, cue: Cue) -> bool:
        """Whether a mention lies in the reach of a cue."""
        return any(k in self.inside for k in range(cue.first, cue.last + 1))

    def clause_start(self, word: int) -> int:
        """First word of the clause that a word is in."""
        return self._starts[word] if word >= 0 else 0

    def clause_end(self, word: int) -> int:
        """Last word of the clause that a word is in."""
        return self._ends[word] if word >= 0 else self._ends[0]

    def _is_value(self, first: int, last: int) -> bool:
        """Whether the cue is the whole value of a field: "Perineural invasion: not identified", "Necrosis (no)", or an
        answer right behind a name, "necrosis no, granuloma yes"."""
        if first == 0:
            return False
        before = self.gaps[first - 1]
        is_end = last == self.clause_end(last)
        is_next = first - 1 in self.inside and self.clause_start(first) < first and "," not in before
        if is_next and self.words.words[first] in self.answers:
            return is_end or _AFTER_VALUE.match(self.gaps[last]) is not None
        if not _FIELD.search(before) or ("\n" in before and not before.lstrip(" \t").startswith((":", "?"))):
            return False
        if "(" in before and first - 1 not in self.inside:
            return False
        return is_end or self.gaps[last].lstrip(" ")[:1] in (",", "(", "/", ")", "]", "|")

    def _heading_end(self, first: int, last: int) -> int | None:
        """Last word of the heading that the cue makes, "Negative for the following:", or None."""
        end = self.clause_end(last)
        if end > last + NEAR or end + 1 >= len(self.words.words) or ":" not in self.gaps[end]:
            return None
        if end > last == first and self.words.words[first] in ("no", "not"):
            return None
        start = self.clause_start(first)
        if start < first and end == last and self.gaps[first - 1].strip()[-1:] in (",", ";", "/", "("):
            return end
        if any(k in self.inside for k in range(start, end + 1)):
            return None
        return end

    def ahead(self, first: int, reach: int, *, across: bool = False, past: bool = False) -> int:
        """Last word that a cue speaks of which ends before the word `first`.

        Args:
            across: over the end of the clause that the cue is in, as a heading does.
            past: the cue is of the past or the family: a place does not end it, "now" does.
        """
        words, named = self.words.words, False
        if first >= len(words) or (first - 1 == self.clause_end(first - 1) and first and not across):
            return first - 1
        limit = self._list_end(first - 1, min(self.clause_end(first), first - 1 + reach))
        for k in range(first, limit + 1):
            if k in self.inside:
                named = True
            elif (past and words[k] in self.now) or (not past and named and self._is_place(words[k], k)):
                return k - 1
        return limit

    def _is_place(self, word: str, k: int) -> bool:
        return word in self.prepositions and self.words.words[k + 1 : k + 2] != ["situ"]

    def _list_end(self, last: int, limit: int) -> int:
        """Where the list after a cue ends: at a comma or "and" behind which a clause with its own verb begins, or where
        the text turns to what is there: "no tumour, only fibrosis", "no carcinoma, dysplasia only"."""
        words, inside = self.words.words, self.inside
        for k in range(max(last, 0), limit):
            if k in inside and inside[k] == inside.get(k + 1):
                continue
            gap = self.gaps[k]
            if ")" in gap or "[" in gap or (words[k + 1] in self.turns and k + 1 not in inside and k > last):
                return k
            if "," in gap or words[k + 1] == "and":
                segment = self._segment(k + 1, limit)
                if k > last and self._is_graded(k + 1, k + len(segment)):
                    return k
                if k > last and (segment[-1] in self.turn_ends or not _ASIDE.isdisjoint(segment[1:])):
                    return k
                if "or" not in segment and "nor" not in segment and not self.verbs.isdisjoint(segment):
                    return self._before_with(k, segment)
        return limit

    def _is_graded(self, first: int, last: int) -> bool:
        """Whether the words give a grade or a count, so that something is there: "no necrosis, mitoses 2/10"."""
        for k in range(first, last + 1):
            n = self.inside.get(k)
            if n is None:
                continue
            following = self.words.words[k + 1] if k + 1 < len(self.words.words) and self.inside.get(k + 1) != n else ""
            if self.spans[n].type == "grade" or (following.isdigit() and following != "0" and self.gaps[k] == " "):
                return True
        return False

    def _before_with(self, k: int, segment: Sequence[str]) -> int:
        """Where a list ends whose last part goes on: at word k, or before "with": "MLH1 and PMS2 with intact MSH2"."""
        at = next(j for j, w in enumerate(segment) if w in self.verbs)
        return k + at if segment[at] == "with" and at and k + at in self.inside else k

    def _segment(self, first: int, limit: int) -> list[str]:
        """Words from `first` to the next comma or the limit."""
        for m in range(first, limit):
            if "," in self.gaps[m]:
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
            gap = self.gaps[k - 1]
            joined = joined or words[k] in ("and", "or", "nor")
            if "+" in gap:
                return k
            if "," in gap and self._is_bare_list(k, limit):
                continue
            if "," in gap and (not joined or words[limit] in self.leads):
                return k
            if ("," in gap or "(" in gap or words[k] in ("and", "with")) and (
                "(" in gap or not self.verbs.isdisjoint(words[limit if "," in gap else self._part_start(k, limit) : k])
            ):
                return k
        return limit

    def _part_start(self, k: int, limit: int) -> int:
        """The first word behind the last comma before word k, or the limit."""
        return next((j for j in range(k - 1, limit, -1) if "," in self.gaps[j - 1]), limit)

    def _is_bare_list(self, k: int, limit: int) -> bool:
        """Whether the comma before word k divides two markers of a list without any other word: "TTF-1, napsin A"."""
        if not self._is_marker(k) or not self._is_marker(k - 1):
            return False
        before = self.spans[self.inside[k - 1]].first
        if before <= limit:
            return True
        return self.words.words[before - 1] in _LISTED or not self.gaps[before - 1].isspace()

    def _is_marker(self, k: int) -> bool:
        return k in self.inside and self.spans[self.inside[k]].type == "marker"

    def _count(self, first: int) -> Cue | None:
        """A count of nothing: "0/12 nodes with metastasis", "ER 0%", "0 mitoses", "metastasis: 0/14"."""
        before = self.words.text[max(0, self.words.starts[first] - 2) : self.words.starts[first]]
        if before[:1].isdigit() and before[1:] in (".", ",", "/", "-", "+"):
            return None  # 1.0, 3-0
        last = self._count_end(first)
        if last is None:
            near = first + 1 in self.inside and self.gaps[first] == " " and not self._is_kept(first + 1)
            if self._is_value(first, first):
                return Cue("absent", self._behind(first, self.clause_start(first - 1)), first - 1, True)
            return Cue("absent", first + 1, first + 1, False) if near else None
        if first and (self._is_finding(first - 1) or self.words.words[first - 1] in self.prepositions):
            return Cue("absent", self._behind(first, self.clause_start(first - 1)), first - 1, True)
        return Cue("absent", last + 1, self.ahead(last + 1, MAX_REACH), False)

    def _count_end(self, first: int) -> int | None:
        """Last word of a count and of what was counted, "0/12 lymph nodes"; None where it is none."""
        words, last = self.words.words, first
        sign = self.gaps[first].strip(" ")
        following = words[first + 1 : first + 4]
        is_part = sign[:1] == "/" and bool(following) and following[0].isdigit()
        if is_part or (sign == "" and following[:1] == ["of"]):
            last = first + 1
        elif sign == "" and following[:2] == ["out", "of"]:
            last = first + 2
        elif sign[:1] != "%":
            return None
        while last + 1 < len(words) and last != self.clause_end(last) and self._is_counted(last + 1):
            last += 1
        return last

    def _is_counted(self, k: int) -> bool:
        word = self.words.words[k]
        if k in self.inside:
            return self._is_kept(k)
        return word.isdigit() or word in _COUNTED or word in self.units

    def _is_kept(self, k: int) -> bool:
        """Whether word k is of a place or a cell: it is what was counted, and not what was looked for."""
        return self.spans[self.inside[k]].type in PLACES or self.spans[self.inside[k]].type == "cell"

    def _is_finding(self, k: int) -> bool:
        return k in self.inside and not self._is_kept(k)


def _bounds(ends: Sequence[int]) -> tuple[list[int], list[int]]:
    """First and last word of the clause of every word."""
    starts: list[int] = []
    lasts: list[int] = []
    for end in ends:
        size = end + 1 - len(starts)
        starts += [len(starts)] * size
        lasts += [end] * size
    return starts, lasts


def clause_ends(words: Words, inside: Mapping[int, int], table: Rules) -> list[int]:
    """Numbers of the words after which a sentence or clause ends, in order. No clause ends within a mention."""
    listed, gaps, stops = words.words, words.gaps, table.single["stop"]
    last = len(listed) - 1
    begun = [k for k, w in enumerate(listed) if w in stops]
    found = {k - 1 for k in begun if k and listed[k - 1] != "to"}  # "findings to indicate malignancy" goes on
    for k in [k for k, gap in enumerate(gaps) if gap not in _WITHIN and _SENTENCE.search(gap)]:
        if k == last or listed[k + 1] in stops or (k in inside and inside[k] == inside.get(k + 1)):
            continue
        is_answer = k > 0 and ":" in gaps[k - 1]
        if is_answer or not _is_abbreviation(gaps[k], listed[k], words.text[words.starts[k + 1]], table):
            found.add(k)
    return [*sorted(found), last]


def _is_abbreviation(gap: str, word: str, following: str, table: Rules) -> bool:
    """The point of "vs.", of "No. 3" and of "E. coli" ends no sentence; that of "Necrosis: No." and "Type B. Necrosis"
    does."""
    if gap not in (". ", "."):
        return False
    if word in table.single["numbered"]:
        return following.isdigit()
    if len(word) == 1 and word.isalpha() and word not in table.single["abbreviation"]:
        return following.islower()
    return word in table.single["abbreviation"]
