"""What reports write in figures: stages (pT2 N0 R0 Pn1), sums of a Gleason score (3+4=7), shared names (CK7 and 20).

The codes of stages and what their values say are rows of staging.tsv.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from eosin.knowledge.linking import tables
from eosin.knowledge.linking.cues import Status
from eosin.knowledge.linking.index import Found, Index, Meaning
from eosin.knowledge.linking.words import Words

_GLEASON = "Gleason score"
_SUM = re.compile(
    r"\s?:?\s?(?P<open>\()?(?P<a>[1-5]) ?\+ ?(?P<b>[1-5])(?:\s?=\s?(?P<sum>\d{1,2})(?!\d))?(?(open)\))|"
    r"\s?(?:of|is|was|:|=)\s?(?P<only>\d{1,2})(?![\d.%]|\s?[+/]\s?\d)"
)
_JOINT = re.compile(r"\s?(?:,|/|&|and|or|, ?and|, ?or)\s?")
_AFTER_NUMBER = frozenset({
    "and", "or", "are", "were", "is", "was", "positive", "negative", "both", "stain", "staining", "show", "not", "with",
    "in", "but", "expression", "immunostain", "immunohistochemistry", "po", "pos", "neg", "highlight", "label", "which",
    "immunoreactivity", "positivity", "to", "by", "as", "cocktail", "antibody", "marker", "ve",
})  # fmt: skip


class Coded(NamedTuple):
    """A mention that no name gave. `found` is its words and meaning; text[start:end] is where it stands."""

    found: Found
    start: int
    end: int
    says: str = ""

    def status(self, status: Status) -> Status:
        """The status with what the code's own value says: "N0" denies, "NX" is not assessed."""
        if self.says == "absent":
            return status._replace(polarity="absent", certainty="certain")
        if self.says == "present":
            return status._replace(polarity="present")
        return status._replace(scope="unassessed") if self.says == "unassessed" else status


class _Stage(NamedTuple):
    concept: str
    values: dict[str, str]


@functools.cache
def _stages() -> tuple[dict[str, _Stage], re.Pattern[str], re.Pattern[str]]:
    """Stages by their letters, the pattern of a chain of codes, and that of one code within it."""
    found: dict[str, _Stage] = {}
    for row in tables.read_table("staging"):
        tables.cited(row)
        said = {v: says for says in ("present", "absent", "unassessed") for v in row.many(says, ",")}
        found[row["code"]] = _Stage(tables.named(row["concept"], row, everything=True).id, said)
    codes = [f"{c}(?:{'|'.join(sorted(s.values, reverse=True))})" for c, s in found.items()]
    item = rf"[yrpca]{{0,3}}(?:{'|'.join(codes)})[a-d]?(?:mi|is)?(?:\((?:sn|m|mi|cy[+-]|i[+-]|mol[+-]|\d+)\))?"
    chain = re.compile(rf"(?<![A-Za-z0-9])(?:{item}[\s,;/|]{{0,3}}){{1,12}}(?![A-Za-z0-9])")
    letters = "|".join(sorted(found, key=len, reverse=True))
    values = "|".join(sorted({v for s in found.values() for v in s.values}, reverse=True))
    one = re.compile(rf"(?P<before>[yrpca]{{0,3}})(?P<code>{letters})(?P<value>{values})[a-d]?(?:mi|is)?(?:\([^)]*\))?")
    return found, chain, one


_PAIRS = ({"T", "N"}, {"T", "M"}, {"N", "M"}, {"L", "V"})
_HINT = re.compile(r"[TNMRLVn][0-4X]")
_CODE = re.compile(r"[TNMRLVP][0-4Xian]")
_RESECTION = re.compile(r"(?:resection|residual|margins?|status|classification)[^.\n]{0,12}$", re.IGNORECASE)


def coded(index: Index, words: Words, found: Sequence[Found]) -> list[Coded]:
    """Mentions that are written in figures, in order of their place."""
    made = stages(index, words) if _HINT.search(words.text) or "Tis" in words.text else []
    if "leason" in words.text:
        made += sums(index, words, found)
    made += shared(index, words, found)
    return made


def stages(index: Index, words: Words) -> list[Coded]:
    """Codes of the TNM system. A letter with a figure alone may be anything: L1 is a vertebra, R0 a ratio."""
    known, chain, one = _stages()
    listed = [(m, list(one.finditer(words.text, m.start(), m.end()))) for m in _chains(chain, words.text)]
    sure = any(_is_sure(items) for _, items in listed)
    made = []
    for match, items in listed:
        if not (_is_sure(items) or (sure and items[0]["code"] != "T") or _is_resection(words.text, match, items)):
            continue
        for item in items:
            stage = known[item["code"]]
            row = index.rows.get(stage.concept)
            if row is not None:
                first, last = bisect_right(words.starts, item.start()) - 1, bisect_left(words.starts, item.end()) - 1
                made.append(Coded((first, last, Meaning(row)), *item.span(), stage.values[item["value"]]))
    return made


def _chains(chain: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Every chain of codes, in order. The whole pattern is tried only at a code letter and what may precede it."""
    end = 0
    for code in _CODE.finditer(text):
        tried = (chain.match(text, at) for at in range(max(end, code.start() - 3), code.start() + 1))
        match = next((m for m in tried if m is not None), None)
        if match is not None:
            end = match.end()
            yield match


def _is_sure(items: Sequence[re.Match[str]]) -> bool:
    codes = {i["code"] for i in items}
    return (
        "Pn" in codes
        or any(codes >= pair for pair in _PAIRS)
        or any("p" in i["before"] and i["code"] in "TNM" for i in items)
    )


def _is_resection(text: str, match: re.Match[str], items: Sequence[re.Match[str]]) -> bool:
    """Whether "R0" alone stands beside a word of resection."""
    if items[0]["code"] != "R":
        return False
    after = text[match.end() : match.end() + 12].lstrip(" -(").casefold()
    return after.startswith("resect") or _RESECTION.search(text, max(0, match.start() - 30), match.start()) is not None


def sums(index: Index, words: Words, found: Sequence[Found]) -> list[Coded]:
    """ "Gleason 3+4=7" is Gleason score 7. A sum that is not that of its parts leaves the bare score."""
    system = index.rows.get(tables.own_id(_GLEASON))
    made = []
    for first, last, meaning in found:
        match = _SUM.match(words.text, words.ends[last]) if meaning.row == system else None
        if match is None:
            continue
        total = int(match["only"]) if match["only"] else int(match["a"]) + int(match["b"])
        row = index.rows.get(tables.own_id(tables.level_label(_GLEASON, str(total))))
        if row is not None and (match["sum"] is None or int(match["sum"]) == total):
            to = bisect_left(words.starts, match.end()) - 1
            made.append(Coded((first, to, Meaning(row)), words.starts[first], match.end()))
    return made


def shared(index: Index, words: Words, found: Sequence[Found]) -> list[Coded]:
    """Markers that share a name: "cytokeratin 7 and 20", "CKs 7, 19 and 20", "CD3, 5 and 20"."""
    made: list[Coded] = []
    listed = words.words
    for first, last, meaning in found:
        if not listed[last].isdigit() or index.types[meaning.row] != "marker":
            continue
        following = listed[last + 1 : last + 3]
        if not following:
            continue
        if following[0].isdigit() or (following[0] in ("and", "or") and following[-1].isdigit()):
            head = next((k for k in range(first, last + 1) if listed[k].isdigit()), first)
            made += _sharing(index, words, listed[first:head], last)
    return made


def _sharing(index: Index, words: Words, head: Sequence[str], last: int) -> list[Coded]:
    made = []
    while head:
        k = last + 2 if words.words[last + 1 : last + 2] in (["and"], ["or"]) else last + 1
        if k >= len(words.words) or not _JOINT.fullmatch(words.text, words.ends[last], words.starts[k]):
            break
        end = next((e for e in (k + 1, k) if _is_name(index, words, head, k, e)), None)
        if end is None:
            break
        meaning = index.meaning_of([*head, *words.words[k : end + 1]])
        assert meaning is not None
        made.append(Coded((k, end, Meaning(meaning.row)), words.starts[k], words.ends[end]))
        last = end
    return made


def _is_name(index: Index, words: Words, head: Sequence[str], first: int, last: int) -> bool:
    """Whether the head with the figures first..last is a marker, and what follows does not count something."""
    if last >= len(words.words) or (last > first and words.text[words.ends[first]] not in "/."):
        return False
    meaning = index.meaning_of([*head, *words.words[first : last + 1]])
    if meaning is None or meaning.others or index.types[meaning.row] != "marker":
        return False
    end = words.ends[last]
    if words.text[end : end + 1].isalnum() or words.text[end : end + 2].lstrip()[:1] == "%":
        return False
    gap = words.text[end : words.starts[last + 1]] if last + 1 < len(words.words) else "."
    return gap != " " or words.words[last + 1] in _AFTER_NUMBER


def merged(found: Sequence[Found], made: Sequence[Coded]) -> list[Found]:
    """Both kinds in order; a name gives way to a code that it overlaps with."""
    firsts = [f[0] for f in found]
    gone = set()
    for code in made:
        k = bisect_right(firsts, code.found[1]) - 1
        while k >= 0 and found[k][1] >= code.found[0]:
            gone.add(k)
            k -= 1
    kept = [f for k, f in enumerate(found) if k not in gone]
    return sorted([*kept, *(c.found for c in made)], key=itemgetter(0))
