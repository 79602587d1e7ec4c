"""Which concepts a text names: longest match on whole words, with polarity, certainty and scope.

    linker = Linker.of(graph)            # or any concepts; Linker.builtin() needs no graph
    for m in linker.link("No evidence of high-grade dysplasia."):
        print(m.text, m.concept, m.polarity)

A text is cut into words once and walked through a trie of names; the cost is linear in the length of the text and does
not depend on the number of names. Research use only, not for diagnosis.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from eosin.knowledge.graph.concepts import Concept
from eosin.knowledge.linking import tables
from eosin.knowledge.linking.codes import Coded, coded, merged
from eosin.knowledge.linking.context import statuses
from eosin.knowledge.linking.cues import Certainty, Polarity, Scope, Span, Status
from eosin.knowledge.linking.index import Found, Index, Meaning, NameIndex
from eosin.knowledge.linking.marks import plain_boxes
from eosin.knowledge.linking.senses import choose, defined_abbreviations
from eosin.knowledge.linking.spelling import mended
from eosin.knowledge.linking.words import MAX_NAME_CHARS, Words, name_key, read_words

if TYPE_CHECKING:
    from rich.text import Text

    from eosin.knowledge.graph.graph import Graph

Encode = Callable[[Sequence[str]], Any]
Signed = tuple[str, str]
_NEW: Callable[..., Any] = tuple.__new__
"""Makes a named tuple of all its fields in half the time of its own constructor; only where there is one a mention."""
MAX_REMEMBERED = 4096
"""So many short texts a linker remembers: options, questions and answers come back for every reply of a group."""


class Mention(NamedTuple):
    """A concept named at text[start:end].

    Attributes:
        polarity: "absent" where the text denies it.
        certainty: "possible" where the text leaves it open.
        scope: whether it is said of the patient now, of the past, or of the family.
        alternatives: ids that the words could also mean, where neither type nor neighbours decided; `concept` is
            then only the first of them.
    """

    start: int
    end: int
    text: str
    concept: str
    label: str
    type: str
    polarity: Polarity = "present"
    certainty: Certainty = "certain"
    scope: Scope = "patient"
    alternatives: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        return self.polarity == "present"

    @property
    def possible(self) -> bool:
        return self.certainty == "possible"

    @property
    def signed(self) -> Signed:
        """Concept and polarity, which is what a match compares."""
        return self.concept, self.polarity

    def record(self) -> dict[str, Any]:
        """The mention as JSON. `alternatives` stands there only where the words are ambiguous."""
        row: dict[str, Any] = self._asdict()
        if not self.alternatives:
            del row["alternatives"]
        return row


class Linker:
    """Names ready for linking. Make one with `Linker.of` or `Linker.builtin`; it never changes."""

    def __init__(self, index: Index, encode: Encode | None = None) -> None:
        self._index = index
        self._encode = encode
        self._short: dict[str, tuple[Mention, ...]] = {}
        self._known = index.vocabulary()

    @classmethod
    def of(
        cls,
        source: Graph | Iterable[Concept],
        *,
        types: Collection[str] | None = None,
        with_tables: bool = True,
        as_written: bool = False,
        encode: Encode | None = None,
    ) -> Linker:
        """A linker of a graph's concepts, or of any concepts.

        Args:
            types: semantic types to look for; None for all.
            with_tables: put Eosin's own names in front of a graph's. Concepts given one by one stand alone.
            as_written: take every name, without noise control and without the rule for capitals.
            encode: a sentence encoder that decides between meanings which neither type nor neighbours decide.
        """
        index = NameIndex(types, as_written=as_written)
        if isinstance(source, Iterable):
            index.add_concepts(source)
        else:
            if with_tables:
                index.add_concepts(tables.concepts())
            index.add_graph(source)
        if with_tables and not as_written and not isinstance(source, Iterable):
            index.add_abbreviations()
            index.add_grades()
        return cls(index.done(), encode)

    @classmethod
    def builtin(cls) -> Linker:
        """The linker of Eosin's own tables. It is made once and needs no graph."""
        return _builtin()

    def __len__(self) -> int:
        return self._index.num_names

    def __contains__(self, concept: object) -> bool:
        return concept in self._index.rows

    def labels(self) -> Sequence[str]:
        """Preferred names of all concepts, Eosin's own first."""
        return self._index.labels

    def type_of(self, concept: str) -> str:
        """Semantic type of a concept, "unknown" for one that the linker does not have."""
        row = self._index.rows.get(concept)
        return self._index.types[row] if row is not None else "unknown"

    def label_of(self, concept: str) -> str:
        """Preferred name of a concept; its id for one that the linker does not have."""
        row = self._index.rows.get(concept)
        return self._index.labels[row] if row is not None else concept

    def concept_of(self, name: str) -> str | None:
        """The concept of a whole name; None where there is none or more than one."""
        meaning = self._index.meaning_of(name)
        return self._index.ids[meaning.row] if meaning is not None and not meaning.others else None

    def meanings_of(self, name: str) -> tuple[str, ...]:
        """All concepts that a whole name could mean, the likeliest first."""
        meaning = self._index.meaning_of(name)
        rows = () if meaning is None else dict.fromkeys((meaning.row, *meaning.others))
        return tuple(self._index.ids[r] for r in rows)

    def link(self, text: str) -> tuple[Mention, ...]:
        """Every concept that the text names, in order, without overlap. Short texts are remembered."""
        if len(text) >= MAX_NAME_CHARS:
            return self._link(text)
        found = self._short.get(text)
        if found is None:
            if len(self._short) >= MAX_REMEMBERED:
                self._short.clear()
            found = self._short[text] = self._link(text)
        return found

    def clear_cache(self) -> None:
        """Forget the remembered texts, so that a measurement begins anew."""
        self._short.clear()

    def _link(self, text: str) -> tuple[Mention, ...]:
        words = mended(read_words(plain_boxes(text)), self._known)
        found = self._index.spans(words)
        own = defined_abbreviations(words, found) if "(" in text else {}
        if own:
            found = self._index.spans(words, own)
        found = sorted([*found, *self._index.predicated(words, found)], key=itemgetter(0))
        codes = coded(self._index, words, found)
        if codes:
            found = merged(found, codes)
        if not found:
            return ()
        types = self._index.types
        chosen = [m if not m.others else self._chosen(words, found, k) for k, (_, _, m) in enumerate(found)]
        spans = [_NEW(Span, (first, last, types[m.row])) for (first, last, _), m in zip(found, chosen, strict=True)]
        made = self._mentions(words, spans, chosen, statuses(words, spans))
        return tuple(_as_coded(text, found, made, codes) if codes else made)

    def _chosen(self, words: Words, found: Sequence[Found], k: int) -> Meaning:
        return choose(self._index, words, found, k, self._encode)

    def _mentions(
        self, words: Words, spans: Sequence[Span], chosen: Sequence[Meaning], said: Sequence[Status]
    ) -> list[Mention]:
        text, starts, ends, ids, labels = words.text, words.starts, words.ends, self._index.ids, self._index.labels
        made = []
        for (first, last, type), (row, others, _), status in zip(spans, chosen, said, strict=True):
            start, end = starts[first], ends[last]
            alternatives = tuple(ids[r] for r in dict.fromkeys((row, *others))) if others else ()
            facts = (start, end, text[start:end], ids[row], labels[row], type, *status, alternatives)
            made.append(_NEW(Mention, facts))
        return made


def _as_coded(text: str, found: Sequence[Found], made: list[Mention], codes: Sequence[Coded]) -> list[Mention]:
    """The mentions, those of a code with its own place and sign."""
    by_words = {id(c.found): c for c in codes}
    for k, f in enumerate(found):
        code = by_words.get(id(f))
        if code is not None:
            m = made[k]
            status = code.status(Status(m.polarity, m.certainty, m.scope))
            made[k] = m._replace(start=code.start, end=code.end, text=text[code.start : code.end], **status._asdict())
    return made


@functools.cache
def _builtin() -> Linker:
    index = NameIndex(None)
    index.add_concepts(tables.concepts())
    index.add_abbreviations()
    index.add_grades()
    return Linker(index.done())


def to_json(text: str, mentions: Sequence[Mention]) -> str:
    """One line of JSON: {"text", "mentions": [{"start", "end", "text", "concept", "label", "type", ...}]}."""
    return json.dumps({"text": text, "mentions": [m.record() for m in mentions]}, ensure_ascii=False)


_COLOURS: Mapping[str, str] = {
    "diagnosis": "bold magenta", "finding": "cyan", "cell": "green", "tissue": "blue", "organ": "blue",
    "marker": "yellow", "stain": "yellow", "grade": "bright_red", "context": "white", "outdated": "white",
}  # fmt: skip


def coloured(text: str, mentions: Sequence[Mention]) -> Text:
    """The text with its mentions in the colour of their type: absent ones struck out, possible ones in italics, those
    of the past or the family dim, ambiguous ones underlined."""
    from rich.text import Text

    shown = Text()
    at = 0
    for m in mentions:
        shown.append(text[at : m.start])
        style = _COLOURS.get(m.type, "bright_black")
        style += " strike" if m.polarity == "absent" else ""
        style += " italic" if m.certainty == "possible" else ""
        style += " dim" if m.scope != "patient" else ""
        style += " underline" if m.alternatives else ""
        shown.append(text[m.start : m.end], style=style)
        at = m.end
    shown.append(text[at:])
    return shown


def same_name(a: str, b: str) -> bool:
    """Whether two names are one but for spelling, number and hyphens."""
    return name_key(a) == name_key(b)
