"""Readers of sources, one file a format. A reader yields rows and refusals, and never crashes on what it reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from eosin.core.errors import EosinError
from eosin.knowledge.sources.base import Row

READERS = {
    "obo": "obo", "owl": "owl", "obographs": "obographs", "oncotree": "oncotree", "primekg": "primekg", "tsv": "tsv",
    "kgx": "kgx", "sssom": "sssom", "pathoml": "pathoml", "umls": "umls", "tables": "tables",
}  # fmt: skip
"""Kind of source -> module of its reader. Each module has `read(path) -> Iterator[Row]`."""


@dataclass(frozen=True)
class SourceSpec:
    """A source as the user names it.

    Attributes:
        kind: a key of `READERS`.
        path: None for the built-in tables.
        name: short, unique within a graph.
        licence, version: what the user states, above what the file says.
    """

    kind: str
    path: Path | None
    name: str
    licence: str = ""
    version: str = ""


def parse_spec(text: str) -> SourceSpec:
    """A source from `KIND:FILE`.

    Raises:
        EosinError: no such kind, or no file given.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in READERS or kind == "tables" or not rest:
        raise EosinError(
            "This source cannot be understood.",
            expected="KIND:FILE with KIND one of " + ", ".join(k for k in READERS if k != "tables"),
            found=text,
            next_step="--source obo:doid.obo",
        )
    path = Path(rest)
    return SourceSpec(kind, path, path.name)


def reader_of(spec: SourceSpec) -> Iterator[Row]:
    """The rows of a source."""
    module = import_module(f"eosin.knowledge.sources.{READERS[spec.kind]}")
    if spec.path is None:
        return cast("Callable[[], Iterator[Row]]", module.read)()
    return cast("Callable[[Path], Iterator[Row]]", module.read)(spec.path)


_LICENCES = re.compile(
    r"\b(CC0(?: 1\.0)?|CC[ -]BY(?:-(?:SA|NC|ND))*(?: \d\.\d)?|Apache-2\.0|Apache License|MIT|BSD-\d-Clause)\b",
    re.IGNORECASE,
)


def licence_near(path: Path) -> str:
    """The licence that a SOURCE.txt beside the file states, or ""."""
    note = path.parent / "SOURCE.txt"
    if not note.is_file():
        return ""
    found = _LICENCES.search(note.read_text("utf-8", "replace"))
    return found.group(1) if found else ""
