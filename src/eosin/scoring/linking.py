"""Which concepts a text names: longest match on whole words, synonyms, negation and doubt.

A lexicon is a table from names to concepts. The text is cut into words once; at every word the longest name that
starts there wins. The cost is linear in the length of the text and does not depend on the size of the lexicon.
Negation follows the idea of NegEx (Chapman et al., J Biomed Inform 2001): cue words with a scope that ends at the
sentence, at "but", or where a new clause begins.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from eosin.core.errors import EosinError, disk_errors
from eosin.scoring.negation import Cue, cues_in, status_of
from eosin.scoring.text import placed_words, words_of

MAX_NAME_WORDS = 12
Signed = tuple[str, str]


@dataclass(frozen=True)
class Concept:
    """One meaning. `names[0]` is the preferred name.

    Attributes:
        id: a CURIE or any stable key.
        kind: finding, cell, tissue, organ, stain, marker, diagnosis, context (no slide shows it), outdated.
    """

    id: str
    names: tuple[str, ...]
    kind: str = "finding"


@dataclass(frozen=True)
class Mention:
    """A concept named at text[start:end].

    Attributes:
        present: False where the text says it is absent.
        possible: True where the text leaves it open.
    """

    concept: str
    start: int
    end: int
    present: bool = True
    possible: bool = False

    @property
    def signed(self) -> Signed:
        """Concept and polarity, which is what a match compares."""
        return self.concept, "present" if self.present else "absent"


@dataclass(frozen=True)
class Linker:
    """A lexicon ready for linking. Make one with `Linker.of`."""

    concepts: dict[str, Concept]
    by_name: dict[str, str] = field(repr=False)
    lengths: dict[str, tuple[int, ...]] = field(repr=False)
    ambiguous: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def of(cls, concepts: Iterable[Concept]) -> Linker:
        """Index concepts by their names. A name of two concepts belongs to the one that prefers it, else to none."""
        known: dict[str, Concept] = {}
        preferred: dict[str, set[str]] = {}
        others: dict[str, set[str]] = {}
        for concept in concepts:
            known[concept.id] = concept
            for i, name in enumerate(concept.names):
                words = words_of(name)
                if 0 < len(words) <= MAX_NAME_WORDS:
                    (preferred if i == 0 else others).setdefault(" ".join(words), set()).add(concept.id)
        by_name: dict[str, str] = {}
        ambiguous = set()
        for name in {**others, **preferred}:
            owners = preferred.get(name) or others[name]
            if len(owners) == 1:
                by_name[name] = next(iter(owners))
            else:
                ambiguous.add(name)
        return cls(known, by_name, _lengths(by_name), frozenset(ambiguous))

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Every concept that the text names, in order, with polarity and certainty."""
        words = placed_words(text)
        spans = self._spans(words, text)
        if not spans:
            return ()
        cues = cues_in(words, text, [(first, last) for first, last, _ in spans])
        return tuple(_mention(words, text, span, cues) for span in spans)

    def _spans(self, words: Sequence[tuple[str, int, int]], text: str) -> list[tuple[int, int, str]]:
        found = []
        free = 0
        lengths = self.lengths
        for i in [i for i, w in enumerate(words) if w[0] in lengths]:
            match = self._longest(words, i, text) if i >= free else None
            if match is not None:
                free = i + match[0]
                found.append((i, free - 1, match[1]))
        return found

    def _longest(self, words: Sequence[tuple[str, int, int]], i: int, text: str) -> tuple[int, str] | None:
        for n in self.lengths[words[i][0]]:
            if i + n > len(words):
                continue
            concept = self.by_name.get(" ".join([w for w, _, _ in words[i : i + n]]))
            if concept is not None and _unbroken(words, i, n, text):
                return n, concept
        return None

    def concept_of(self, name: str) -> str | None:
        """The concept of a whole name, or None."""
        key = " ".join(words_of(name))
        return self.by_name.get(key)

    def kind_of(self, concept: str) -> str:
        known = self.concepts.get(concept)
        return known.kind if known else "unknown"

    def name_of(self, concept: str) -> str:
        known = self.concepts.get(concept)
        return known.names[0] if known else concept


def _lengths(names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """First word -> numbers of words of the names that begin with it, longest first."""
    found: dict[str, set[int]] = {}
    for name in names:
        words = name.split(" ")
        found.setdefault(words[0], set()).add(len(words))
    return {w: tuple(sorted(n, reverse=True)) for w, n in found.items()}


def _unbroken(words: Sequence[tuple[str, int, int]], i: int, n: int, text: str) -> bool:
    """Whether only spaces, hyphens, slashes or apostrophes stand between the words of a name."""
    for k in range(i, i + n - 1):
        gap = text[words[k][2] : words[k + 1][1]]
        if len(gap) > 8 or gap.strip(" \t\n-\u2010\u2011\u2013/'\u2019_&."):
            return False
        if "." in gap and gap != ".":
            return False
    return True


def _mention(
    words: Sequence[tuple[str, int, int]], text: str, span: tuple[int, int, str], cues: Sequence[Cue]
) -> Mention:
    first, last, concept = span
    status = status_of(first, last, cues)
    return Mention(concept, words[first][1], words[last][2], status != "absent", status == "possible")


def read_lexicon(text: str, where: str | Path = "lexicon") -> list[Concept]:
    """Concepts of a table: kind, name, synonyms divided by "|"; optionally a fourth column with the concept's id."""
    concepts = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [c.strip() for c in line.split("\t")]
        if len(cells) < 2 or not cells[1]:
            raise EosinError(
                "A line of the lexicon cannot be read.",
                expected="kind <tab> name <tab> synonyms divided by |",
                found=line[:80],
                where=f"{where}:{number}",
            )
        synonyms = [s.strip() for s in cells[2].split("|")] if len(cells) > 2 else []
        name = cells[1]
        concepts.append(
            Concept(cells[3] if len(cells) > 3 and cells[3] else name, (name, *filter(None, synonyms)), cells[0])
        )
    return concepts


def load_lexicon(path: Path) -> Linker:
    """A linker from a lexicon file of the user's own."""
    with disk_errors(path):
        try:
            text = path.read_text("utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            raise EosinError("The lexicon cannot be read.", expected="a UTF-8 file", where=path) from None
    return Linker.of(read_lexicon(text, path))


@functools.lru_cache(maxsize=4096)
def linker_of_names(names: tuple[tuple[str, str, str], ...]) -> Linker:
    """A small linker of (id, name, kind)."""
    return Linker.of(Concept(id, (name,), kind) for id, name, kind in names)


@functools.cache
def builtin_linker() -> Linker:
    """The small pathology lexicon that comes with Eosin."""
    return Linker.of(builtin_concepts())


def builtin_concepts() -> list[Concept]:
    """The concepts of the built-in lexicon."""
    return read_lexicon(files("eosin.scoring").joinpath("lexicon.tsv").read_text("utf-8"), "lexicon.tsv")
