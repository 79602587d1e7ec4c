"""How a mention is meant: present or absent, certain or possible, of the patient, the past or the family.

What is said to be not assessable has the scope "unassessed": it is neither present nor absent.

The idea is that of NegEx (Chapman et al., J Biomed Inform 2001) and ConText (Harkema et al., J Biomed Inform 2009):
cue words speak of what stands before or after them, up to the end of a clause. The cues are rows of context.tsv
(cues.py), how far they reach is in cue_scope.py, signs and check boxes are in marks.py.
The only rule set of its kind in Eosin: scoring and linking read it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence, Set
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
    sections = sections_of(words.text, table)
    if found or sections:
        firsts = [c.first for c in found]
        begins = {s.first for s in spans}
        said = [_status(words, s, found, firsts, sections, begins, table) for s in spans]
    else:
        said = [PLAIN] * len(spans)
    return with_signs(words, spans, said)


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
            made = [c for c in (reach.of(kind, i, i + match[0] - 1) for kind in match[1]) if c is not None]
            for item in items:
                made = item.own(i, made)
            if match[1] != ("ignored",) and all(c.after and not reach.names(c) for c in made):
                continue  # "there is possible necrosis": nothing stands before "is possible", so it is no such cue
            free = i + match[0]
            found += made
    found += [c for item in items for c in item.cues()]
    if marked:
        found += doubt_marks(words, reach)
    return _cut(sorted(_without_denied_doubt(found, words), key=_first))


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


def _first(cue: Cue) -> int:
    return cue.first


def _longest(text: Words, i: int, inside: Mapping[int, int], table: Rules) -> tuple[int, tuple[str, ...]] | None:
    """Length and kinds of the longest cue at word i, over adverbs inside it: "cannot be reliably excluded"."""
    words, get = text.words, table.phrases.get
    lengths = table.lengths[words[i]]
    for n in lengths:
        kinds = get(tuple(words[i : i + n])) if i + n <= len(words) else None
        if kinds and not any(k in inside for k in range(i, i + n)):
            break
    else:
        n, kinds = 0, None
    longest = lengths[0]
    if n < longest and "ly" in text.text[text.ends[i] : text.ends[min(i + longest, len(words) - 1)]]:
        plain = [k for k in range(i, min(i + longest + 2, len(words))) if k == i or words[k][-2:] != "ly"]
        for m in lengths:
            at = plain[:m]
            other = get(tuple(words[k] for k in at)) if m > n and len(at) == m else None
            if other and not any(k in inside for k in at):
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


def _status(
    words: Words, span: Span, cues: Sequence[Cue], firsts: Sequence[int], sections: Sequence[Section],
    begins: Set[int], table: Rules,
) -> Status:  # fmt: skip
    """Doubt outweighs absence: "cannot be ruled out" is possible."""
    absent = possible = False
    scope: Scope = _section_scope(words.starts[span.first], sections) if sections else "patient"
    for i in range(bisect_right(firsts, span.first) - 1, -1, -1):
        cue = cues[i]
        if cue.first < span.first - MAX_REACH - NEAR:
            break
        if span.last > cue.last or _beside(words, span, cue, begins, table):
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
