"""How well linking works on sentences that were annotated by hand for this project (annotated/*.jsonl).

All sentences were written before the linker was run on them. Of the first two parts one ("tune") was looked at while
rules were mended, the other ("held") only at the end; the third ("fresh") was written later, longer and closer to
reports, and docs/knowledge.md keeps the figures of its first run; "reports" and "reports2" are in the style of synoptic
and free reports, each written before the linker was run on it. Those five are by the same hands as the rules. "blind"
was annotated by others, who had seen neither rules nor output; its first run is the figure to go by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any, Literal, get_args

from eosin.core.errors import EosinError
from eosin.knowledge.linking.linker import Linker, Mention
from eosin.knowledge.linking.words import name_key

Part = Literal["tune", "held", "fresh", "reports", "reports2", "blind"]
PARTS: tuple[Part, ...] = get_args(Part)
FILES = ("sentences.jsonl", "reports.jsonl", "blind.jsonl")


@dataclass(frozen=True)
class Annotated:
    """A sentence and what it says. `mentions` are as in the output of `link`, with `concept` the concept's name."""

    id: str
    part: Part
    text: str
    mentions: tuple[dict[str, Any], ...]


@dataclass
class Tally:
    """Counts over sentences. A span counts as found only with the very same start and end."""

    found: int = 0
    gold: int = 0
    said: int = 0
    concept: int = 0
    type: int = 0
    polarity: int = 0
    certainty: int = 0
    scope: int = 0
    misses: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        return self.found / self.said if self.said else 0.0

    @property
    def recall(self) -> float:
        return self.found / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """F1 of spans: 2 x found / (annotated + linked)."""
        return 2 * self.found / (self.gold + self.said) if self.gold + self.said else 0.0

    def share(self, name: str) -> float:
        """Share of the found spans whose concept, type, polarity, ... is right."""
        return float(getattr(self, name)) / self.found if self.found else 0.0

    def record(self) -> dict[str, float]:
        """The figures as JSON."""
        shares = {f"{n}_accuracy": self.share(n) for n in ("concept", "type", "polarity", "certainty", "scope")}
        return {"gold": self.gold, "linked": self.said, "found": self.found, "precision": self.precision,
                "recall": self.recall, "span_f1": self.f1, **shares}  # fmt: skip


@dataclass(frozen=True)
class Quality:
    """Figures of each part and of all."""

    parts: Mapping[Part, Tally]

    @cached_property
    def all(self) -> Tally:
        names = ("found", "gold", "said", "concept", "type", "polarity", "certainty", "scope")
        counts = {n: sum(getattr(t, n) for t in self.parts.values()) for n in names}
        return Tally(**counts, misses=[m for t in self.parts.values() for m in t.misses])

    def lines(self, *, misses: bool = True) -> list[str]:
        """A table for people, and every miss."""
        head = f"{'':8} {'mentions':>8} {'span P':>7} {'span R':>7} {'span F1':>8} {'concept':>8} {'polarity':>9}"
        head += f" {'certainty':>9} {'scope':>7}"
        rows = []
        for name, t in (*self.parts.items(), ("all", self.all)):
            cells = [t.precision, t.recall, t.f1, t.share("concept"), t.share("polarity"), t.share("certainty")]
            widths = (7, 7, 8, 8, 9, 9)
            numbers = " ".join(f"{c:>{w}.3f}" for c, w in zip(cells, widths, strict=True))
            rows.append(f"{name:8} {t.gold:>8} {numbers} {t.share('scope'):>7.3f}")
        return [head, *rows, *(self.all.misses if misses else [])]

    def record(self) -> dict[str, Any]:
        """The figures as JSON."""
        return {**{name: t.record() for name, t in self.parts.items()}, "all": self.all.record()}


def sentences() -> list[Annotated]:
    """The annotated sentences.

    Raises:
        EosinError: with the line, where a mention does not stand at its place.
    """
    return [a for name in FILES for a in _read(name)]


def _read(name: str) -> list[Annotated]:
    text = files("eosin.knowledge").joinpath("annotated", name).read_text("utf-8")
    found = []
    for number, line in enumerate(text.rstrip("\n").split("\n"), 1):  # not splitlines: U+2028 may stand in a string
        row = json.loads(line)
        for m in row["mentions"]:
            if row["text"][m["start"] : m["end"]] != m["text"]:
                where = f"{name}:{number}"
                raise EosinError("A mention does not stand at its place.", found=m["text"], where=where)
        found.append(Annotated(row["id"], row["part"], row["text"], tuple(row["mentions"])))
    return found


def measure(linker: Linker, annotated: Sequence[Annotated] | None = None) -> Quality:
    """Link every sentence and compare."""
    tallies: dict[Part, Tally] = {part: Tally() for part in PARTS}
    for sentence in sentences() if annotated is None else annotated:
        _compare(sentence, linker, tallies[sentence.part])
    return Quality(tallies)


def _compare(sentence: Annotated, linker: Linker, tally: Tally) -> None:
    said = {(m.start, m.end): m for m in linker.link(sentence.text)}
    gold = {(m["start"], m["end"]): m for m in sentence.mentions}
    tally.said += len(said)
    tally.gold += len(gold)
    tally.found += len(said.keys() & gold.keys())
    for span, wanted in gold.items():
        mention = said.get(span)
        if mention is None:
            tally.misses.append(f"{sentence.id} not found: {wanted['text']!r} in {sentence.text!r}")
            continue
        _compare_mention(sentence, mention, wanted, linker, tally)
    for span, mention in said.items():
        if span not in gold:
            tally.misses.append(f"{sentence.id} too much: {mention.text!r} ({mention.label}) in {sentence.text!r}")


def _compare_mention(sentence: Annotated, m: Mention, wanted: dict[str, Any], linker: Linker, tally: Tally) -> None:
    same = {
        "concept": not m.alternatives and _is_concept(m, str(wanted["concept"]), linker),
        "type": _type(m.type) == _type(wanted["type"]),
        "polarity": m.polarity == wanted["polarity"],
        "certainty": m.certainty == wanted["certainty"],
        "scope": m.scope == wanted["scope"],
    }
    for name, right in same.items():
        setattr(tally, name, getattr(tally, name) + right)
        if not right and name != "type":
            got = m.label + (" or others" if m.alternatives else "") if name == "concept" else getattr(m, name)
            tally.misses.append(f"{sentence.id} {name}: {m.text!r} is {got}, not {wanted[name]}, in {sentence.text!r}")


def _type(type: str) -> str:
    """Graphs call every anatomical structure an organ, and old names a diagnosis."""
    return {"tissue": "organ", "outdated": "diagnosis"}.get(type, type)


def _is_concept(m: Mention, name: str, linker: Linker) -> bool:
    """Whether the linked concept bears the annotated name: as its label, or as a name that leads to it alone."""
    return name_key(m.label) == name_key(name) or linker.concept_of(name) == m.concept
