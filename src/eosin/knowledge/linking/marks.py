"""Signs that say how a mention is meant: CK7+, CK20-, EMA+/-, "?carcinoma", and check boxes."""

from __future__ import annotations

import dataclasses
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from eosin.knowledge.linking.cue_scope import MAX_REACH, NEAR, CueScope
from eosin.knowledge.linking.cues import Cue, Span, Status
from eosin.knowledge.linking.words import Words

_MINUS = "-\u2212\u2013"
_TRACE = re.compile(r"(?: TPS| CPS| IHC| index| score| expression| staining)?[ \t]*:?[ \t]*\(?< ?1 ?%")
"""Less than one cell in a hundred counts as negative, but for a marker that is read as an index."""
_LOOK = 14
_INDEXES = frozenset({"ki", "mib", "phh", "phosphohistone"})
_ANY = re.compile(r"[+?\u00b1<\u2212\u2013]|-(?!\w)")
_SIGN = re.compile(
    rf"(?P<space>[ \t]*:?[ \t]*)(?P<open>[(\[]?)[ ]?(?P<sign>\+ ?/ ?[{_MINUS}]|[{_MINUS}] ?/ ?\+|\u00b1|\?|[{_MINUS}])"
    r"(?P<close> ?[)\]])?(?P<end>\s*(?:$|[\n,;.)/|]))?(?P<more>\w)?"
)
_DOUBT = re.compile(r"\?{1,3} ?(?=[^\W\d_])|(?:\+ ?/ ?[-\u2212\u2013]|\u00b1) ?(?=[^\W\d_])")
_IN_FRONT = frozenset(" \t\n([/,;:?")
_QUESTION = re.compile(r"(?<=[\w)])\?(?=\s|$)")
_EMPTY = r"\[[ _]{0,3}\]|\([ _]{1,3}\)|[\u2610\u25a1\u25cb\u274f\u2717\u2718]"
_TICKED = r"\[ ?[xXvV*\u2713\u2714\u221a] ?\]|\( ?[xX\u2713\u2714] ?\)|[\u2611\u2612\u2713\u2714\u25a0\u2705]"
_BOX = re.compile(f"(?P<empty>{_EMPTY})|(?P<ticked>{_TICKED})")
_BOX_BEGINS = re.compile(r"[\[(\u2610\u25a1\u25cb\u274f\u2717\u2718\u2611\u2612\u2713\u2714\u25a0\u2705]")
OPEN_BOX, TICKED_BOX = "\x01", "\x02"
"""What every check box is written as before a text is cut into words."""


def with_signs(words: Words, spans: Sequence[Span], said: list[Status]) -> list[Status]:
    """The statuses with the signs that stand behind mentions; a hyphen within a word is no sign. Changes `said`."""
    ends: list[int] = []
    for match in _ANY.finditer(words.text):
        ends = ends or [words.ends[s.last] for s in spans]
        k = bisect_right(ends, match.start()) - 1
        for n in (k, k - 1):  # "PD-L1 TPS <1%" speaks of both
            if n >= 0 and match.start() - ends[n] < _LOOK:
                said[n] = signed(words, spans[n], said[n])
    return said


def signed(words: Words, span: Span, status: Status) -> Status:
    """The status of a mention with the sign behind it: CK20-, CD3 (-), EMA+/-, "metastasis (?)", "necrosis: -"."""
    end = words.ends[span.last]
    if status.polarity == "absent":
        return status
    if span.type in ("marker", "grade") and _TRACE.match(words.text, end) and words.words[span.first] not in _INDEXES:
        return status._replace(polarity="absent")
    found = _SIGN.match(words.text, end)
    if found is None:
        return status
    sign, marker = found["sign"], span.type == "marker"
    closed = bool(found["open"] and found["close"]) or found["end"] is not None
    if sign not in _MINUS:
        mine = closed or (marker and not found["space"])
        return status._replace(certainty="possible") if mine and (sign != "?" or found["close"]) else status
    attached = marker and not found["space"] and (found["end"] is not None or not found["more"])
    spaced = bool(found["space"]) and found["end"] is not None
    if ((found["open"] and found["close"]) or attached or spaced) and status.certainty == "certain":
        return status._replace(polarity="absent")
    return status


def doubt_marks(words: Words, reach: CueScope) -> list[Cue]:
    """Doubts that are written as a sign: "?carcinoma", "inflammation +/- fibrosis", "is this lymphoma?"."""
    found = []
    for match in _DOUBT.finditer(words.text):
        at, mark = match.start(), match[0][0]
        if at and (words.text[at - 1] not in _IN_FRONT if mark == "?" else words.text[at - 1] != " "):
            continue  # "necrosis? Atypia" asks for what stands before
        first = bisect_left(words.starts, match.end())
        num = MAX_REACH if mark == "?" else NEAR
        found.append(Cue("possible", first, reach.ahead(first, num, across=True), False))
    for match in _QUESTION.finditer(words.text):
        last = bisect_left(words.starts, match.start()) - 1
        following = words.words[last + 1 : last + 2]
        if last >= 0 and not (following and following[0] in reach.answers):
            found.append(Cue("possible", reach.clause_start(last), last, True))
    return found


def has_boxes(text: str) -> bool:
    """Whether a text, as `plain_boxes` gives it, holds check boxes."""
    return OPEN_BOX in text or TICKED_BOX in text


def plain_boxes(text: str) -> str:
    """The text with every check box as one sign and blanks, of the same length: "[x] no" keeps its place."""
    if OPEN_BOX in text or TICKED_BOX in text:
        text = text.replace(OPEN_BOX, " ").replace(TICKED_BOX, " ")
    if "[" not in text and "( )" not in text and text.isascii():
        return text
    found = list(_boxes(text))
    if not any(m["ticked"] or m["empty"].strip("[]()_ ") for m in found) and len(found) < 2:
        return text
    parts, at = [], 0
    for m in found:
        parts += [text[at : m.start()], (TICKED_BOX if m["ticked"] else OPEN_BOX).ljust(len(m[0]))]
        at = m.end()
    return "".join([*parts, text[at:]])


def _boxes(text: str) -> Iterator[re.Match[str]]:
    """Every check box, in order. Only where a box can begin is the whole pattern tried."""
    end = 0
    for sign in _BOX_BEGINS.finditer(text):
        match = _BOX.match(text, sign.start()) if sign.start() >= end else None
        if match is not None:
            end = match.end()
            yield match


@dataclass
class Boxed:
    """The words first..last of one choice, and the words of the field that it is a choice of.

    An empty box denies what it names; a ticked one that names nothing, "[x] absent", is the value of its field.
    """

    ticked: bool
    first: int
    last: int
    names: bool
    field: tuple[int, int] | None
    values: list[Cue] = dataclasses.field(default_factory=list)

    def own(self, word: int, made: list[Cue]) -> list[Cue]:
        """What is left of the cues made at a word: those inside an empty box or a value say nothing by themselves."""
        if not self.first <= word <= self.last or (self.ticked and self.names):
            return made
        if self.ticked and self.field is not None:
            said = next((c.says for c in made if c.says in ("absent", "possible", "unassessed")), None)
            if said is not None:
                self.values.append(Cue(said, *self.field, True))
        return []

    def cues(self) -> list[Cue]:
        """What the box itself says."""
        if not self.ticked and self.names:
            return [Cue("absent", self.first, self.last, False)]
        return self.values


# Fields with boxes of their own stand in lines, or beside each other: "A: [ ] no [x] yes; B: [x] no [ ] yes".
_FIELD_ENDS = re.compile(r"[\n;.]")
_ANY_BOX = re.compile(f"[{OPEN_BOX}{TICKED_BOX}]")


def _boxed_lines(text: str) -> Iterator[tuple[int, int, list[re.Match[str]]]]:
    """Begin and end of every line or field that holds check boxes, and its boxes. A point ends one before a space."""
    ends = [m.end() for m in _FIELD_ENDS.finditer(text) if m[0] != "." or text[m.end() : m.end() + 1].isspace()]
    edges = [0, *ends, len(text)]
    for k, boxes in groupby(_ANY_BOX.finditer(text), lambda m: bisect_right(edges, m.start())):
        yield edges[k - 1], edges[k], list(boxes)


def boxed_items(words: Words, reach: CueScope) -> list[Boxed]:
    """The choices of all check boxes, in order. In a field that ends with a box they stand behind their choices."""
    found: list[Boxed] = []
    before = 0
    head: tuple[int, int] | None = None
    for at, end, boxes in _boxed_lines(words.text):
        first, stop = bisect_left(words.starts, at), bisect_left(words.starts, end)
        if first > before:
            head = (reach.clause_start(first - 1), first - 1)
        before = stop
        cuts = [bisect_left(words.starts, box.start()) for box in boxes]
        if cuts[-1] == stop:
            begin = _after_colon(words, first, cuts[0])
            own = (first, begin - 1) if begin > first else head
            edges = [begin, *cuts]
        else:
            own = (reach.clause_start(cuts[0] - 1), cuts[0] - 1) if cuts[0] > first else head
            edges = [*cuts, stop]
        head = own
        for box, a, b in zip(boxes, edges, edges[1:], strict=False):
            if b > a:
                names = any(k in reach.inside for k in range(a, b))
                found.append(Boxed(box[0] == TICKED_BOX, a, b - 1, names, own))
    return found


def _after_colon(words: Words, first: int, stop: int) -> int:
    """The first word behind the last colon before `stop`."""
    for k in range(stop - 1, first, -1):
        if ":" in words.gaps[k - 1]:
            return k
    return first
