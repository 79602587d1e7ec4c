"""Where scoring's names come from: Eosin's own tables, a lexicon of the user, or a knowledge graph.

The linker itself, negation included, is `eosin.knowledge.linking.linker`; there is no other.
"""

from __future__ import annotations

import functools
from pathlib import Path

from eosin.core.errors import EosinError, disk_errors
from eosin.knowledge.graph.concepts import Concept, Synonym
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.linking.tables import read_lexicon
from eosin.knowledge.reasoning.check import Facts


def named(id: str, names: tuple[str, ...], type: str) -> Concept:
    """A concept from its names, the preferred one first."""
    return Concept(id, names[0], tuple(Synonym(n) for n in names[1:]), type)


def load_lexicon(path: Path) -> Linker:
    """A linker from a lexicon file of the user's own: kind, name, synonyms divided by "|", id; divided by tabs."""
    with disk_errors(path):
        try:
            text = path.read_text("utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            raise EosinError("The lexicon cannot be read.", expected="a UTF-8 file", where=path) from None
    return Linker.of(read_lexicon(text, path))


@functools.lru_cache(maxsize=4)
def open_knowledge(folder: str) -> tuple[Linker, Facts]:
    """The linker and the facts of a graph folder made by `eosin knowledge build`. The last few are kept.

    Raises:
        EosinError: there is no whole graph.
    """
    graph = Graph.open(Path(folder))
    return Linker.of(graph), Facts(graph, max_hops=1)


@functools.lru_cache(maxsize=4096)
def linker_of_names(names: tuple[tuple[str, str, str], ...]) -> Linker:
    """A small linker of (id, name, type), every name as it is written."""
    return Linker.of((named(id, (name,), type) for id, name, type in names), as_written=True)
