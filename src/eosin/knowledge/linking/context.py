"""How a mention is meant: present or absent, certain or possible, of the patient, the past or the family.

What is said to be not assessable has the scope "unassessed": it is neither present nor absent.

The idea is that of NegEx (Chapman et al., J Biomed Inform 2001) and ConText (Harkema et al., J Biomed Inform 2009):
cue words speak of what stands before or after them, up to the end of a clause. The cues are rows of context.tsv
(cues.py), how far they reach is in cue_scope.py, signs and check boxes are in marks.py.
The only rule set of its kind in Eosin: scoring and linking read it.
"""

from __future__ import annotations

import operator
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple

from eosin.knowledge.linking.cue_scope import MAX_REACH, NEAR, PLACES, CueScope
from eosin.knowledge.linking.cues import PLAIN, Cue, Rules, Scope, Span, Status, rules
from eosin.knowledge.linking.marks import boxed_items, doubt_marks, has_boxes, with_signs
from eosin.knowledge.linking.words import Words, words_of

_NOT = frozenset({"not", "cannot"})
"""Words of a doubt that denies by itself: "the absence of granulomas does not exclude sarcoidosis" is a doubt."""
_DETERMINERS = frozenset({"the", "a", "an", "thi", "these", "those", "both", "all", "any", "some", "it", "their"})


_WHAT_HAPPENS = frozenset({
    "invasion", "involvement", "loss", "extension", "infiltration", "injury", "damage", "vein", "vessel", "artery",
    "capsule", "sinus", "wall", "margin",
})  # fmt: skip
"""Words behind a place that what is said speaks of in its stead: "no renal vein invasion" denies no kidney."""


class Section(NamedTuple):
    """A part of a report: from `start` on, mentions are of this scope unless a cue says otherwise."""

    start: int
    scope: Scope


def statuses(words: Words, spans: Sequence[Span], cues: Rules | None = None) -> list[Status]:
    """What the text says of every span, in order. Linear in the length of the text.

    Args:
        spans: mentions in order, without overlap. Words inside a mention are no cues.
    """
    table = cues or rules()
    found = _cues_in(words, spans, table)
    said = _by_cues(words, spans, found, table) if found else {}
    sections = sections_of(words.text, table)
    made = [PLAIN] * len(spans)
    if sections:
        firsts = [words.starts[s.first] for s in spans]
        for section, end in zip(sections, [*(s.start for s in sections[1:]), len(words.text)], strict=True):
            begun, ended = bisect_left(firsts, section.start), bisect_left(firsts, end)
            made[begun:ended] = [Status(scope=section.scope)] * (ended - begun)
    for n, cues_of in said.items():
        made[n] = _status(spans[n], cues_of, made[n].scope)
    return with_signs(words, spans, made)


def sections_of(text: str, table: Rules | None = None) -> list[Section]:
    """Sections of a report that begin with a heading and a colon, in order. Those of the patient end the others."""
    headings = (table or rules()).headings
    found: list[Section] = []
    begin, colon = 0, text.find(":")
    while colon >= 0:
        line, sentence = text.rfind("\n", begin, colon), text.rfind(". ", begin, colon)
        at = max(line + 1, sentence + 2 if sentence >= 0 else 0)
        match = _HEADING.match(text, at, colon + 1) if at or not begin else None
        scope = headings.get(" ".join(words_of(match[1]))) if match is not None else None
        if scope is not None:
            found.append(Section(at, scope))
        begin = colon + 1
        colon = text.find(":", begin)
    return found if any(s.scope != "patient" for s in found) else []


_HEADING = re.compile(r"[ \t]*([A-Za-z][A-Za-z ]{2,38}?)[ \t]*:")
"""A heading, from the beginning of its line or sentence to its colon."""
_FIRST: Callable[[Cue], int] = operator.itemgetter(Cue._fields.index("first"))


def _cues_in(words: Words, spans: Sequence[Span], table: Rules) -> list[Cue]:
    """Cues with their reach, by the first word that they speak of."""
    starts = _beginnings(words.words, table)
    marked = "?" in words.text or "+/" in words.text or "\u00b1" in words.text
    boxed = has_boxes(words.text)
    if not starts and not marked and not boxed:
        return []
    inside = {k: n for n, s in enumerate(spans) for k in range(s.first, s.last + 1)}
    reach = CueScope(words, spans, inside, table)
    found: list[Cue] = []
    free = 0
    items = boxed_items(words, reach) if boxed else []
    for i in starts:
        match = _longest(words, i, inside, table) if i >= free else None
        if match is not None:
            last = i + match[0] - 1
            made = [c for kind in match[1] if (c := reach.of(kind, i, last)) is not None]
            for item in items:
                made = item.own(i, made)
            if match[1] != ("ignored",) and all(c.after and not reach.names(c) for c in made):
                continue  # "there is possible necrosis": nothing stands before "is possible", so it is no such cue
            free = i + match[0]
            found += made
    found += [c for item in items for c in item.cues()]
    if marked:
        found += doubt_marks(words, reach)
    return _cut(sorted(_without_denied_doubt(found, words), key=_FIRST))


def _beginnings(listed: list[str], table: Rules) -> list[int]:
    """Words at which a cue may begin: a cue by itself, or followed by its second word or an adverb."""
    followers = table.followers
    found = []
    for i in [k for k, w in enumerate(listed) if w in followers]:
        second = followers[listed[i]]
        if second is None:
            found.append(i)
            continue
        following = listed[i + 1] if i + 1 < len(listed) else ""
        if following in second or following[-2:] == "ly":
            found.append(i)
    return found


def _longest(text: Words, i: int, inside: Mapping[int, int], table: Rules) -> tuple[int, tuple[str, ...]] | None:
    """Length and kinds of the longest cue at word i, over adverbs inside it: "cannot be reliably excluded"."""
    words, get, free = text.words, table.phrases.get, inside.keys().isdisjoint
    lengths = table.lengths[words[i]]
    for n in lengths:
        kinds = get(tuple(words[i : i + n])) if i + n <= len(words) else None
        if kinds and free(range(i, i + n)):
            break
    else:
        n, kinds = 0, None
    longest = lengths[0]
    if n < longest and "ly" in text.text[text.ends[i] : text.ends[min(i + longest, len(words) - 1)]]:
        plain = [k for k in range(i, min(i + longest + 2, len(words))) if k == i or words[k][-2:] != "ly"]
        for m in lengths:
            at = plain[:m]
            other = get(tuple(words[k] for k in at)) if m > n and len(at) == m else None
            if other and free(at):
                return at[-1] - i + 1, other
    return (n, kinds) if kinds else None


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
        if denials.get(first, -1) >= doubt.first - 1 and _NOT.isdisjoint(words.words[first : doubt.first]):
            return "," not in words.text[words.starts[first - 1] : words.starts[doubt.first - 1]]
    return False


def _by_cues(words: Words, spans: Sequence[Span], cues: Sequence[Cue], table: Rules) -> dict[int, list[Cue]]:
    """The cues that speak of each span, nearest first, by the span's number."""
    firsts = [s.first for s in spans]
    begins = set(firsts)
    found: dict[int, list[Cue]] = {}
    for cue in reversed(cues):
        last = cue.last
        for n in range(bisect_left(firsts, cue.first), bisect_right(firsts, min(last, cue.first + MAX_REACH + NEAR))):
            if spans[n].last <= last and not _beside(words, spans[n], cue, begins, table):
                found.setdefault(n, []).append(cue)
    return found


def _status(span: Span, cues: Sequence[Cue], scope: Scope) -> Status:
    """What the cues of a span say, nearest first. Doubt outweighs absence: "cannot be ruled out" is possible."""
    absent = possible = False
    for cue in cues:
        if cue.says == "absent":
            absent = absent or not (span.type == "stain" and cue.after)
        elif cue.says == "possible":
            possible = True
        elif scope != "family":
            scope = cue.says
    if possible:
        return Status("present", "possible", scope)
    return Status("absent" if absent else "present", "certain", scope)


def _beside(text: Words, span: Span, cue: Cue, begins: Set[int], table: Rules) -> bool:
    """Whether the mention only says where: "of the colon" beside what the cue speaks of, "seminal vesicle invasion"."""
    if cue.says in ("history", "family"):
        return False
    words = text.words
    following = span.last + 1
    is_first = span.type in ("organ", "tissue") and following <= cue.last and text.text[text.ends[span.last]] == " "
    if is_first and (following in begins or words[following] in _WHAT_HAPPENS):
        return True
    k = span.first - 1
    while k >= cue.first and k >= span.first - 3 and words[k] in _DETERMINERS:
        k -= 1
    if k <= cue.first:
        return False
    if cue.after and words[k] in table.single["preposition"]:
        return True
    return words[k] in ("of", "by") and span.type in PLACES
