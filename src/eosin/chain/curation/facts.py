"""A data set in figures, gone through once: what there is of each kind, how long it is, and where answers stand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample

_BY = ("split", "source", "licence", "label", "organ", "stain", "modality", "answer", "options", "pictures", "unit")
_LENGTHS = ("question", "answer", "caption", "reasoning")
MOST_SHOWN = 12


@dataclass
class Facts:
    """Counts of samples. Lengths are in words, as counts of lengths, so that medians need no list of samples."""

    num: int = 0
    by: dict[str, Counter[str]] = field(default_factory=lambda: {k: Counter() for k in _BY})
    lengths: dict[str, Counter[int]] = field(default_factory=lambda: {k: Counter() for k in _LENGTHS})
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Kept[Sample] | Dropped) -> None:
        """Count one."""
        if isinstance(outcome, Dropped):
            self.reasons[outcome.reason] += 1
            return
        sample, origin = outcome.value, outcome.value.origin
        self.num += 1
        told = {
            "split": sample.split, "source": origin.source, "licence": origin.licence, "label": sample.label,
            "organ": origin.organ, "stain": origin.stain, "modality": origin.modality,
            "answer": sample.answer if sample.choices else None, "pictures": str(len(sample.images)),
            "options": str(len(sample.choices)) if sample.choices else None,
            "unit": (origin.group or "").partition(":")[0] or None,
        }  # fmt: skip
        for name, value in told.items():
            self.by[name][value or "none"] += 1
        said = {"question": sample.question, "answer": sample.answer_text, "caption": sample.caption,
                "reasoning": " ".join(sample.reasoning)}  # fmt: skip
        for name, text in said.items():
            if text:
                self.lengths[name][len(text.split())] += 1

    def rows(self) -> list[tuple[str, str]]:
        """What is said of the whole: a name and a text each. What nobody says anything of is left out."""
        rows = [
            ("samples", f"{self.num:,}"),
            ("set aside in reading", f"{self.reasons.total():,}{_list(self.reasons)}"),
        ]
        for name, counts in self.by.items():
            if set(counts) - {"none"}:
                rows.append((name, _list(counts).removeprefix(": ")))
        for name, lengths in self.lengths.items():
            if lengths:
                low, middle, high = (quantile(lengths, q) for q in (0.05, 0.5, 0.95))
                span = f"median {middle}; 5 % under {low}, 5 % over {high}"
                rows.append((f"{name}, words", f"{span}; {lengths.total():,} texts"))
        return rows

    def as_json(self) -> dict[str, Any]:
        return {
            "samples": self.num, "set_aside": dict(self.reasons.most_common()),
            "by": {k: dict(c.most_common()) for k, c in self.by.items()},
            "words": {
                k: {"texts": c.total(), "q05": quantile(c, 0.05), "median": quantile(c, 0.5), "q95": quantile(c, 0.95)}
                for k, c in self.lengths.items() if c
            },
        }  # fmt: skip


def facts_of(outcomes: Iterable[Kept[Sample] | Dropped]) -> Facts:
    """Go through a data set once."""
    facts = Facts()
    for outcome in outcomes:
        facts.add(outcome)
    return facts


def drawn(outcomes: Iterable[Kept[Sample] | Dropped], number: int, seed: int) -> tuple[Facts, list[Sample]]:
    """Figures, and so many samples drawn at random, in their order (reservoir sampling, Vitter 1985)."""
    facts, rng = Facts(), random.Random(f"show:{seed}")
    held: list[tuple[int, Sample]] = []
    for outcome in outcomes:
        facts.add(outcome)
        if isinstance(outcome, Dropped):
            continue
        at = len(held) if len(held) < number else rng.randrange(facts.num)
        if at < number:
            held[at : at + 1] = [(facts.num, outcome.value)]
    return facts, [sample for _, sample in sorted(held, key=lambda pair: pair[0])]


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The least value that at least this share of the values does not exceed."""
    total, passed = sum(counts.values()), 0
    for value in sorted(counts):
        passed += counts[value]
        if passed >= share * total:
            return value
    return 0


def _list(counts: Counter[str]) -> str:
    shown = ", ".join(f"{name} {n:,}" for name, n in counts.most_common(MOST_SHOWN))
    more = f" and {len(counts) - MOST_SHOWN} more" if len(counts) > MOST_SHOWN else ""
    return f": {shown}{more}" if shown else ""
