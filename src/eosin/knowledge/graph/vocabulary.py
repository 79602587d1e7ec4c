"""The vocabulary of relations: names, weights, signs, sentences, and what the sources call them (relations.tsv)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError

UNKNOWN_WEIGHT = 0.2
"""Weight of a predicate that the table does not know."""
_COLUMNS = ["name", "weight", "inverse_weight", "sign", "symmetric", "sentence", "inverse", "aliases", "note"]


@dataclass(frozen=True)
class Predicate:
    """One kind of relation.

    Attributes:
        name: a key such as located_in.
        weight: 0 to 1; what one step from subject to object says about a diagnosis.
        inverse_weight: the same for a step from object to subject.
        sign: 1 speaks for, -1 speaks against, 0 neither.
        symmetric: whether subject and object may change places.
        sentence: pattern with {s} and {o}, read from the subject.
        inverse: pattern with {s} and {o}, read from the object.
        aliases: names in sources; a leading ^ means with subject and object swapped.
    """

    name: str
    weight: float = UNKNOWN_WEIGHT
    inverse_weight: float = UNKNOWN_WEIGHT
    sign: int = 0
    symmetric: bool = False
    sentence: str = ""
    inverse: str = ""
    aliases: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """The predicate as JSON."""
        return {**asdict(self), "aliases": list(self.aliases)}


@dataclass(frozen=True)
class Vocabulary:
    """Predicates by name, and by what sources call them."""

    by_name: Mapping[str, Predicate]
    by_alias: Mapping[str, tuple[str, bool]]

    @classmethod
    def of(cls, predicates: Iterable[Predicate]) -> Vocabulary:
        """Index predicates. A name or alias of two predicates is an EosinError."""
        by_name: dict[str, Predicate] = {}
        by_alias: dict[str, tuple[str, bool]] = {}
        for p in predicates:
            by_name[p.name] = p
            for alias in (p.name, *p.aliases):
                key, swapped = alias.removeprefix("^").casefold(), alias.startswith("^")
                if by_alias.setdefault(key, (p.name, swapped)) != (p.name, swapped):
                    raise EosinError(
                        "Two relations claim the same alias.", found=f"{alias}: {p.name}, {by_alias[key][0]}"
                    )
        return cls(by_name, by_alias)

    @classmethod
    def of_record(cls, rows: Sequence[Mapping[str, Any]]) -> Vocabulary:
        """The vocabulary that a graph keeps."""
        return cls.of(Predicate(**{**row, "aliases": tuple(row["aliases"])}) for row in rows)

    def resolve(self, name: str) -> tuple[Predicate, bool]:
        """The predicate that a source means, and whether subject and object must be swapped.

        A name that the table lacks gives a new predicate under that name, with a low weight and a plain sentence.
        """
        key = name.strip().casefold()
        found = self.by_alias.get(key) or self.by_alias.get(key.replace(" ", "_"))
        if found:
            return self.by_name[found[0]], found[1]
        return unknown_predicate(name.strip()), False

    def __getitem__(self, name: str) -> Predicate:
        return self.by_name[name]

    def extended(self, more: Iterable[Predicate]) -> Vocabulary:
        """This vocabulary with further predicates; those it has already are left as they are."""
        return Vocabulary.of({**{p.name: p for p in more}, **self.by_name}.values())


def unknown_predicate(name: str, words: str | None = None) -> Predicate:
    """A predicate that relations.tsv does not know. `words` are the source's own for it."""
    plain = words or re.sub(r"[_:]+", " ", name)
    plain = plain.replace("{", "(").replace("}", ")")
    return Predicate(name, sentence=f"{{s}}: {plain}: {{o}}", inverse=f"{{s}}: {plain}: {{o}}")


def read_vocabulary(text: str, where: str | Path = "relations.tsv") -> Vocabulary:
    """Parse relations.tsv.

    Raises:
        EosinError: with file and line, where a row cannot be read.
    """
    predicates = []
    header = None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [c.strip() for c in line.rstrip("\r").split("\t")]
        if header is None:
            header = cells
            if header != _COLUMNS:
                raise EosinError("The header is not that of a vocabulary of relations.", expected=" ".join(_COLUMNS),
                                 found=" ".join(header), where=f"{where}:{number}")  # fmt: skip
            continue
        predicates.append(_predicate(cells, f"{where}:{number}"))
    return Vocabulary.of(predicates)


def _predicate(cells: list[str], where: str) -> Predicate:
    problem = EosinError(
        "A row of the vocabulary of relations cannot be read.",
        expected="weights above 0 and at most 1, sign -1, 0 or 1, sentences with {s} and {o}",
        found="  ".join(cells)[:160],
        where=where,
    )
    if len(cells) != len(_COLUMNS):
        raise problem
    row = dict(zip(_COLUMNS, cells, strict=True))
    try:
        weight, back, sign = float(row["weight"]), float(row["inverse_weight"]), int(row["sign"])
    except ValueError:
        raise problem from None
    sentences = (row["sentence"], row["inverse"])
    if not (0 < weight <= 1 and 0 < back <= 1 and sign in (-1, 0, 1)) or any(
        "{s}" not in s or "{o}" not in s for s in sentences
    ):
        raise problem
    aliases = tuple(a.strip() for a in row["aliases"].split(";") if a.strip())
    return Predicate(row["name"], weight, back, sign, row["symmetric"] == "yes", *sentences, aliases)


@functools.cache
def builtin_vocabulary() -> Vocabulary:
    """The vocabulary that comes with Eosin."""
    return read_vocabulary(files("eosin.knowledge").joinpath("relations.tsv").read_text("utf-8"))
