"""Cue words for absence and doubt, and how far each one reaches."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eosin.scoring.text import fold

Status = Literal["present", "absent", "possible"]
Words = Sequence[tuple[str, int, int]]

MAX_REACH = 25
"""No cue reaches further than this many words."""


@dataclass(frozen=True)
class Cue:
    """A cue and the words [first, last] that it speaks of."""

    status: Literal["absent", "possible", "ignored"]
    first: int
    last: int


def _phrases(block: str) -> dict[tuple[str, ...], str]:
    made: dict[tuple[str, ...], str] = {}
    for line in block.strip().splitlines():
        kind, _, rest = line.strip().partition(":")
        for phrase in rest.split(","):
            made[tuple(fold(w) for w in phrase.split())] = kind
    return made


# "before" cues speak of what follows, "after" cues of what precedes.
_CUES = _phrases("""
ignored: not only, no doubt, without doubt, no longer absent, not necessarily, no increase, not absent
ignored: not without, gram negative, not entirely, no further
absent-before: no, not, without, absent, absence of, lack, lack of, lacking, free of, negative for
absent-before: no evidence of, never, neither, nor, rule out, ruling out, excluding, deny, denies
absent-before: fail to show, devoid of, non, cannot see, not show, not see, rather than, instead of
absent-before: argue against, against, no sign of, inconsistent with
absent-after: absent, is absent, are absent, not seen, not identified, not present, not found, not detected
absent-after: ruled out, is not seen, are not seen, was not seen, is excluded, are excluded, excluded
absent-after: negative, is negative, are negative, not visible, not evident, unlikely, is unlikely
absent-after: are unlikely, not supported, not observed, is lacking, not prominent, is missing, are missing
absent-after: was absent, were absent, does not fit, do not fit, is wrong, was excluded
possible-before: possible, possibly, probable, probably, suspicious for, suggestive of, may, might, could
possible-before: cannot exclude, cannot rule out, can not exclude, can not rule out, question of, suspected
possible-before: consider, likely, perhaps, differential diagnosis include, not exclude, not rule out
possible-before: not excluded, unclear, uncertain, equivocal for
possible-after: cannot be excluded, cannot be ruled out, can not be excluded, can not be ruled out
possible-after: not excluded, not ruled out, is possible, are possible, is suspected, is questionable
possible-after: is uncertain, is likely, is not excluded
""")
_CUE_LENGTHS = {
    first: tuple(sorted({len(p) for p in _CUES if p[0] == first}, reverse=True)) for first in {p[0] for p in _CUES}
}
_STOPS = frozenset(
    {
        "but",
        "however",
        "although",
        "though",
        "except",
        "whereas",
        "while",
        "yet",
        "nevertheless",
        "despite",
        "because",
        "since",
    }
)
_VERBS = frozenset(
    map(fold, (
        "is", "are", "was", "were", "present", "seen", "shows", "shown", "noted", "prominent", "frequent", "contains",
        "have", "has", "appears", "numerous", "abundant", "found", "identified", "visible", "observed", "suggests",
        "supports", "favors", "indicates", "confirms", "with", "which", "positive", "therefore", "so", "thus",
    ))
)  # fmt: skip
_LEADS = frozenset({"given", "with", "in", "as", "since"})
_SENTENCE = re.compile(r"[.!?;:\n]")


def cues_in(words: Words, text: str, taken: Sequence[tuple[int, int]]) -> list[Cue]:
    """Cues of a text with their reach. Words inside a linked name (`taken`, as word numbers) are no cues."""
    inside = {k: number for number, (first, last) in enumerate(taken) for k in range(first, last + 1)}
    starts = [i for i, w in enumerate(words) if w[0] in _CUE_LENGTHS and i not in inside]
    if not starts:
        return []
    ends = _clause_ends(words, text)
    cues: list[Cue] = []
    free = 0
    for i in starts:
        match = _longest_cue(words, i, inside) if i >= free else None
        if match is not None:
            free = i + match[0]
            cues.extend(_reach(words, text, (i, free - 1), match[1], ends, inside))
    return sorted(cues, key=_first)


def _first(cue: Cue) -> int:
    return cue.first


def _longest_cue(words: Words, i: int, inside: dict[int, int]) -> tuple[int, list[str]] | None:
    for n in _CUE_LENGTHS[words[i][0]]:
        if i + n > len(words):
            continue
        kinds = _KINDS.get(tuple([w for w, _, _ in words[i : i + n]]))
        if kinds and not any(k in inside for k in range(i, i + n)):
            return n, kinds
    return None


def _both_ways() -> dict[tuple[str, ...], list[str]]:
    """A phrase such as "absent" can stand before or after what it speaks of."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for phrase, kind in _CUES.items():
        kinds.setdefault(phrase, []).append(kind)
    kinds[("absent",)] = ["absent-after", "absent-before"]
    return kinds


_KINDS = _both_ways()


def _clause_ends(words: Words, text: str) -> list[int]:
    """Numbers of the words after which a sentence or clause ends, in order."""
    ends = []
    for k in range(len(words) - 1):
        following, start, _ = words[k + 1]
        gap = text[words[k][2] : start]
        if following in _STOPS or (gap != " " and _ends_sentence(gap)):
            ends.append(k)
    ends.append(len(words) - 1)
    return ends


def _ends_sentence(gap: str) -> bool:
    """A point within a word (CAM5.2) is no end; a point with a space, or a line, is."""
    return bool(_SENTENCE.search(gap)) and (len(gap) > 1 or gap in ";:\n!?")


def _reach(
    words: Words, text: str, cue: tuple[int, int], kinds: list[str], ends: list[int], inside: dict[int, int]
) -> list[Cue]:
    first, last = cue
    made = []
    for kind in kinds:
        if kind == "ignored":
            continue
        status: Literal["absent", "possible"] = "absent" if kind.startswith("absent") else "possible"
        at = bisect_right(ends, last - 1)
        clause_end = ends[at] if at < len(ends) else len(words) - 1
        if kind.endswith("before"):
            reach = 1 if words[last][0] == "non" else MAX_REACH
            stop = _list_end(words, text, last, min(clause_end, last + reach), inside)
            made.append(Cue(status, last + 1, stop))
        else:
            start = ends[at - 1] + 1 if at > 0 else 0
            begin = _list_start(words, text, first, max(start, first - MAX_REACH), inside)
            made.append(Cue(status, begin, first - 1))
    return made


def _list_end(words: Words, text: str, last: int, limit: int, inside: dict[int, int]) -> int:
    """Where the list after a cue ends: at a comma or "and" behind which a new clause with its own verb begins."""
    for k in range(last, limit):
        if k in inside and inside[k] == inside.get(k + 1):
            continue
        gap = text[words[k][2] : words[k + 1][1]]
        if "," in gap or ")" in gap or words[k + 1][0] == "and":
            segment = []
            for m in range(k + 1, limit + 1):
                segment.append(words[m][0])
                if m < limit and "," in text[words[m][2] : words[m + 1][1]]:
                    break
            if ")" in gap or ("or" not in segment and "nor" not in segment and _VERBS & set(segment)):
                return k
    return limit


def _list_start(words: Words, text: str, first: int, limit: int, inside: dict[int, int]) -> int:
    """Where the list before a cue begins: "necrosis, atypia and mitoses are absent", but not over an earlier clause
    nor over a lead such as "given the glands, "."""
    joined = False
    for k in range(first - 1, limit, -1):
        if k in inside and inside[k] == inside.get(k - 1):
            continue
        gap = text[words[k - 1][2] : words[k][1]]
        joined = joined or words[k][0] in ("and", "or", "nor")
        if "," in gap and (not joined or words[limit][0] in _LEADS):
            return k
        boundary = "," in gap or "(" in gap or words[k][0] in ("and", "with")
        if boundary and ("(" in gap or _VERBS & {words[m][0] for m in range(limit, k)}):
            return k
    return limit


def status_of(first: int, last: int, cues: Sequence[Cue]) -> Status:
    """What the cues say of the words [first, last]. Doubt outweighs absence: "cannot be ruled out" is possible.

    `cues` are in order of their first word; as none reaches further than MAX_REACH words, few are looked at.
    """
    status: Status = "present"
    for i in range(bisect_right(cues, first, key=_first) - 1, -1, -1):
        cue = cues[i]
        if cue.first < first - MAX_REACH:
            break
        if last <= cue.last:
            if cue.status == "possible":
                return "possible"
            status = "absent"
    return status
