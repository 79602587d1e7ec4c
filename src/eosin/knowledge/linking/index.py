"""The trie of names behind the linker: which names are taken, whose they are, and where a text holds them."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eosin.knowledge.graph.concepts import SCOPES, Concept
from eosin.knowledge.linking import tables
from eosin.knowledge.linking.words import Words, in_capitals, is_acronym, name_key, words_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eosin.knowledge.graph.graph import Graph

MAX_NAME_WORDS = 12
MAX_RAW_WORDS = 4
RAW_RATIO = 8.0
"""A source with more exact synonyms a concept than this holds raw strings, and its synonyms are filtered."""
NOT_LINKED = frozenset({"process", "method", "exposure", "other"})
"""Semantic types of a graph that no report is read for; name them in `types` to have them."""
PREFERRED = ("EOSIN", "DOID", "MONDO", "NCIT", "MPATH", "CL", "UBERON", "ONCOTREE", "HP", "MC")
"""Of equal names in several ontologies, the one of the first prefix is taken."""

_COPULAS = frozenset({"is", "are", "was", "were", "appear", "look"})
_PREDICATE_WORDS = 6
_SAME_CLAUSE = re.compile(r",? ?|-")
_PLAIN = frozenset(["", " ", "-", "/"])
"""What mostly stands between the words of a name."""


class Meaning(NamedTuple):
    """What a name means: a concept's row, further rows where it is ambiguous, and whether it must stand in capitals."""

    row: int
    others: tuple[int, ...] = ()
    capitals: bool = False


Found = tuple[int, int, Meaning]
Senses = Mapping[str, tuple[tuple[int, frozenset[str]], ...]]


class Index:
    """Names as a trie over words. Read only; made by NameIndex.

    Attributes:
        ids, labels, types: of every concept, by row.
        rows: id -> row.
        senses: key of an abbreviation -> its meanings, each with the words that speak for it.
    """

    def __init__(
        self, ids: list[str], labels: list[str], types: list[str], trie: _Trie, senses: Senses, num_names: int
    ) -> None:
        self.ids, self.labels, self.types = ids, labels, types
        self.rows = dict(zip(ids, range(len(ids)), strict=True))
        self.senses = senses
        self.num_names = num_names
        self._trie = trie

    def meaning_of(self, name: str | Sequence[str]) -> Meaning | None:
        """The meaning of a whole name, or of its folded words."""
        return self._trie.get(words_of(name) if isinstance(name, str) else name)

    def vocabulary(self) -> frozenset[str]:
        """All words of all names."""
        return frozenset(word for node in self._trie.nodes if node for word in node)

    def spans(self, words: Words, own: Mapping[str, Meaning] | None = None) -> list[Found]:
        """First word, last word and meaning of every name in a text: longest first where two overlap, then leftmost.

        Args:
            own: abbreviations that the text itself defines.
        """
        longest = self._trie.longest
        hits = self._trie.beginnings(words.words)
        if own:
            hits = sorted({**dict.fromkeys(self._own_places(words, own), 0), **dict(hits)}.items())
        found: list[Found] = []
        reached = -1
        for i, node in hits:
            match = longest(words, i, node) if node else None
            if own:
                match = self._own(words, i, own) or match
            if match is None or match[0] <= reached:
                continue
            if i <= reached and not self._give_way(words, found, i, match[0]):
                continue
            found.append((i, *match))
            reached = match[0]
        return found

    def predicated(self, words: Words, found: Sequence[Found]) -> list[Found]:
        """Adjectives behind their noun: "the glands are crowded" names crowded glands, at the adjective.

        Both words must make a name when they are turned round, and the adjective must be no mention by itself.
        """
        listed, trie = words.words, self._trie
        made: list[Found] = []
        for k in [k for k, w in enumerate(listed) if w in _COPULAS and k]:
            noun = listed[k - 1]
            for j, word in enumerate(listed[k + 1 : k + 1 + _PREDICATE_WORDS], k + 1):
                following = trie.nodes[node] if (node := trie.root.get(word)) is not None else None
                meaning = trie.accept[following[noun]] if following is not None and noun in following else None
                if meaning is not None and not meaning.others and self._is_predicate(words, found, k, j):
                    made.append((j, j, meaning))
        return made

    @staticmethod
    def _is_predicate(words: Words, found: Sequence[Found], k: int, j: int) -> bool:
        """Whether word j stands in the clause of the copula k, is whole, and is in no mention."""
        return (
            all(_SAME_CLAUSE.fullmatch(gap) for gap in words.gaps[k:j])
            and _whole(words, j, j)
            and not any(first <= j <= last for first, last, _ in found)
        )

    def _give_way(self, words: Words, found: list[Found], i: int, last: int) -> bool:
        """Whether the match before gives way to a longer one that begins inside it; it is then cut short or dropped."""
        first, end, _ = found[-1]
        if last - i <= end - first:
            return False
        found.pop()
        node = self._trie.root.get(words.words[first])
        shorter = self._trie.longest(words, first, node, before=i) if node is not None else None
        if shorter is not None:
            found.append((first, *shorter))
        return True

    @staticmethod
    def _own_places(words: Words, own: Mapping[str, Meaning]) -> list[int]:
        keys = {name_key(k) for k in own}
        return [i for i, w in enumerate(words.words) if w in keys]

    @staticmethod
    def _own(words: Words, i: int, own: Mapping[str, Meaning]) -> tuple[int, Meaning] | None:
        raw = words.text[words.starts[i] : words.ends[i]]
        meaning = own.get(raw) or own.get(raw.removesuffix("s"))
        return (i, meaning) if meaning is not None and _whole(words, i, i) else None


class _Trie:
    """Names by their words. A node is a number: `nodes[n]` leads from word to node, `accept[n]` is what ends there."""

    def __init__(self) -> None:
        self.root: dict[str, int] = {}
        self.nodes: list[dict[str, int] | None] = [self.root]
        self.accept: list[Meaning | None] = [None]

    def put(self, words: Sequence[str]) -> int:
        """The node of a name, made where it is new."""
        node = 0
        for word in words:
            following = self.nodes[node]
            if following is None:
                following = self.nodes[node] = {}
            node = following.get(word, 0)
            if not node:
                node = following[word] = len(self.nodes)
                self.nodes.append(None)
                self.accept.append(None)
        return node

    def beginnings(self, listed: Sequence[str]) -> list[tuple[int, int]]:
        """Words at which a name may begin, each with its node: a name of one word, or one whose second word follows."""
        get, nodes, accept = self.root.get, self.nodes, self.accept
        following = [*listed[1:], ""]
        return [
            (i, node)
            for i, node in enumerate(map(get, listed))
            if node is not None and (accept[node] is not None or following[i] in (nodes[node] or ()))
        ]

    def get(self, words: Sequence[str]) -> Meaning | None:
        node = 0
        for word in words:
            node = (self.nodes[node] or {}).get(word, 0)
            if not node:
                return None
        return self.accept[node]

    def longest(self, words: Words, i: int, node: int, before: int | None = None) -> tuple[int, Meaning] | None:
        """Last word and meaning of the longest name that begins at word i, at `node`; it must end before `before`."""
        listed, nodes, accept = words.words, self.nodes, self.accept
        end = len(listed) if before is None else before
        last, found, j = -1, None, i
        while True:
            meaning = accept[node]
            if meaning is not None:
                last, found = j, meaning
            following = nodes[node]
            j += 1
            if following is None or j >= end:
                break
            node = following.get(listed[j], 0)
            if not node:
                break
        if found is None:
            return None
        if _whole(words, i, last) and (not found.capitals or in_capitals(words, i, last)):
            return last, found
        return self.longest(words, i, self.root[listed[i]], before=last) if last > i else None


def _whole(words: Words, first: int, last: int) -> bool:
    """Whether the name stands on word boundaries, with only spaces, hyphens, slashes or apostrophes inside."""
    text, start, end = words.text, words.starts[first], words.ends[last]
    if text[end : end + 1].isalnum() or (start and text[start - 1].isalnum()):
        return False
    return (
        first == last
        or _PLAIN.issuperset(words.gaps[first:last])
        or all(_unbroken(words, k) for k in range(first, last))
    )


def _unbroken(words: Words, k: int) -> bool:
    """Whether what stands between word k and the next one may stand within a name."""
    gap = words.gaps[k]
    if gap in _PLAIN:
        return True
    if len(gap) > 8 or gap.strip(" \t\n\r\u00a0-\u2010\u2011\u2013/'\u2019_&.") or gap.count("\n") > 1:
        return False
    return "." not in gap or gap == "." or (gap == ". " and len(words.words[k]) == 1)


class NameIndex:
    """Collects names in order of trust and makes an Index.

    A name that stands for two concepts belongs to the one that prefers it (as its label); of labels alike, to the first
    source; else it is ambiguous.
    """

    def __init__(self, types: Collection[str] | None, *, as_written: bool = False) -> None:
        self._wanted = frozenset(types) if types is not None else None
        self._as_written = as_written
        self._ids: list[str] = []
        self._labels: list[str] = []
        self._types: list[str] = []
        self._rows: dict[str, int] = {}
        self._trie = _Trie()
        self._tiers: dict[int, int] = {}
        self._senses: dict[str, tuple[tuple[int, frozenset[str]], ...]] = {}

    def done(self) -> Index:
        num = sum(m is not None for m in self._trie.accept)
        return Index(self._ids, self._labels, self._types, self._trie, self._senses, num)

    def _row(self, id: str, label: str, type: str) -> int:
        row = self._rows.get(id)
        if row is None:
            row = self._rows[id] = len(self._ids)
            self._ids.append(id)
            self._labels.append(label)
            self._types.append(type)
        return row

    def _takes(self, type: str) -> bool:
        return self._wanted is None or type in self._wanted

    def add_concepts(self, concepts: Iterable[Concept]) -> None:
        """Concepts whose names are trusted: labels first, then their synonyms."""
        listed = [c for c in concepts if self._takes(c.type)]
        rows = [self._row(c.id, c.label, c.type) for c in listed]
        for concept, row in zip(listed, rows, strict=True):
            self._add(concept.label, row, 0)
        for concept, row in zip(listed, rows, strict=True):
            for synonym in concept.synonyms:
                if synonym.scope != "broad":
                    self._add(synonym.text, row, 1)

    def _add(self, name: str, row: int, tier: int) -> None:
        words = words_of(name)
        if 0 < len(words) <= MAX_NAME_WORDS:
            self._put(words, row, tier, not self._as_written and is_acronym(name))

    def _put(self, words: Sequence[str], row: int, tier: int, capitals: bool) -> None:
        node = self._trie.put(words)
        held = self._trie.accept[node]
        if held is None:
            self._trie.accept[node] = Meaning(row, (), capitals)
            self._tiers[node] = tier
            return
        mine = held.row == row or row in held.others
        if not mine and self._tiers[node] == tier and not self._alike(held.row, row):
            held = held._replace(others=(*held.others, row))
        if (mine or held.others) and held.capitals and not capitals:
            held = held._replace(capitals=False)
        self._trie.accept[node] = held

    def _alike(self, a: int, b: int) -> bool:
        """Whether two concepts bear one label, so that they are taken for one meaning."""
        return name_key(self._labels[a]) == name_key(self._labels[b])

    def add_abbreviations(self) -> None:
        """The abbreviations of abbreviations.tsv, before all other names alike."""
        senses: dict[str, list[tuple[int, frozenset[str]]]] = {}
        for row in tables.read_table("abbreviations"):
            concept = tables.named(row["concept"], row, everything=True)
            if self._takes(concept.type):
                near = frozenset(w for part in row.many("near") for w in words_of(part))
                senses.setdefault(row["short"], []).append((self._row(concept.id, concept.label, concept.type), near))
        self._add_senses(senses)

    def add_grades(self) -> None:
        """Names that two grading systems have in common are decided by the words of the column "near"."""
        senses: dict[str, list[tuple[int, frozenset[str]]]] = {}
        for row in tables.read_table("grading"):
            near = frozenset(w for part in row.many("near") for w in words_of(part))
            for name, id in tables.names_of_grade(row) if near else ():
                listed = senses.setdefault(name_key(name), [])
                if id in self._rows and (self._rows[id], near) not in listed:
                    listed.append((self._rows[id], near))
        self._add_senses({short: meanings for short, meanings in senses.items() if len(meanings) > 1})

    def _add_senses(self, senses: Mapping[str, Sequence[tuple[int, frozenset[str]]]]) -> None:
        for short, meanings in senses.items():
            words = words_of(short)
            sure = len(meanings) == 1 and not meanings[0][1]
            others = () if sure else tuple(r for r, _ in meanings[1:]) or (meanings[0][0],)
            self._trie.accept[self._trie.put(words)] = Meaning(meanings[0][0], others, is_acronym(short))
            if not sure:
                self._senses[" ".join(words)] = tuple(meanings)

    def add_graph(self, graph: Graph) -> None:
        """Names of a graph behind those already there, with noise control."""
        names = graph.names_table()
        texts = names.column("text").to_pylist()
        scopes = np.asarray(names.column("scope").to_numpy())
        owners = np.asarray(names.column("concept").to_numpy())
        sources = np.asarray(names.column("source").to_numpy())
        types = graph.types_column().to_pylist()
        ids = list(graph.ids())
        raw = raw_sources(scopes, owners, sources)
        order = _order(scopes, owners, ids, np.isin(sources, list(raw)))
        labels = {int(owners[k]): texts[k] for k in np.flatnonzero(scopes == 0)}
        self._add_ordered(order, texts, scopes, owners, [int(s) in raw for s in sources], (ids, labels, types))

    def _add_ordered(
        self, order: NDArray[np.int64], texts: Sequence[str], scopes: NDArray[np.int64], owners: NDArray[np.int64],
        raw: Sequence[bool], concepts: tuple[Sequence[str], Mapping[int, str], Sequence[str]],
    ) -> None:  # fmt: skip
        ids, labels, types = concepts
        for k in order:
            owner, scope = int(owners[k]), SCOPES[int(scopes[k])]
            type = types[owner]
            if scope == "broad" or not self._takes(type) or (self._wanted is None and type in NOT_LINKED):
                continue
            label = labels.get(owner, ids[owner])
            for name in variants(texts[k]) if scope == "label" else (texts[k],):
                words = words_of(name)
                if is_noise(name, words, scope, label if raw[k] and scope != "label" else None):
                    continue
                row = self._row(ids[owner], label, type)
                self._put(words, row, _tier(scope, raw[k]), is_acronym(name))


_TIERS = {"label": 2, "exact": 3, "narrow": 4, "related": 5}


def _tier(scope: str, raw: bool) -> int:
    return 6 if raw and scope != "label" else _TIERS[scope]


def _order(
    scopes: NDArray[np.int64], owners: NDArray[np.int64], ids: Sequence[str], raw: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Rows of the names: labels before synonyms, raw synonyms last, preferred ontologies first within each."""
    rank = {p: i for i, p in enumerate(PREFERRED)}
    by_concept = np.array([rank.get(i.partition(":")[0], len(rank)) for i in ids], dtype=np.int64)
    tiers = np.where(raw & (scopes > 0), 9, scopes)
    return np.lexsort((np.arange(len(scopes)), by_concept[owners], tiers))


def raw_sources(scopes: NDArray[np.int64], owners: NDArray[np.int64], sources: NDArray[np.int64]) -> frozenset[int]:
    """Sources whose exact synonyms are so many that they must be raw strings."""
    exact = scopes == 1
    found = set()
    for source in np.unique(sources[exact]):
        mine = exact & (sources == source)
        if mine.sum() > RAW_RATIO * len(np.unique(owners[mine])):
            found.add(int(source))
    return frozenset(found)


def variants(label: str) -> tuple[str, ...]:
    """A label, and what it says turned round: "carcinoma, squamous cell" is also "squamous cell carcinoma"."""
    head, comma, rest = label.partition(", ")
    if not comma or "," in rest or " and " in label or " or " in label or "(" in label:
        return (label,)
    return (label, f"{rest} {head}")


@functools.cache
def _noise() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    found: dict[str, set[str]] = {"general": set(), "qualifier": set(), "status": set(), "spelled": set()}
    for row in tables.read_table("noise"):
        found[row["kind"]] |= {" ".join(words_of(w)) for w in row.many("words", ",")}
    return frozenset(found["general"]), frozenset(found["qualifier"]), frozenset(found["status"])


def is_noise(name: str, words: Sequence[str], scope: str, raw_of: str | None) -> bool:
    """Whether a name of an ontology is of no use: too long or short, only numbers, only general words; for a raw string
    also signs, qualifiers, or nothing in common with its concept's label (`raw_of`)."""
    general, qualifiers, status = _noise()
    if not 0 < len(words) <= MAX_NAME_WORDS or words[-1] in status:
        return True
    if not any(w.isalpha() and len(w) > 1 for w in words):
        return True
    if general.issuperset(words) or (len(name) < 3 or (len(name) == 3 and not name.isupper() and len(words) == 1)):
        return name.casefold() not in _SHORT
    if scope == "related" and len(words) < 2:
        return True
    if raw_of is None:
        return False
    signs = any(not (c.isalnum() or c in " -'") for c in name)
    if signs or len(words) > MAX_RAW_WORDS or not qualifiers.isdisjoint(words):
        return True
    return set(words).isdisjoint(words_of(raw_of)) or any(len(w) < 3 for w in words)


_SHORT = frozenset({"eye", "ear", "lip", "fat", "toe", "rib", "hip", "jaw", "gum", "pus"})
