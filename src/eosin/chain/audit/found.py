"""What an audit finds: faults that must be seen to, and notes that a reader should know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from eosin.core.nouns.sample import Sample

Level = Literal["fault", "note"]
MAX_EXAMPLES = 5


@dataclass(frozen=True)
class Found:
    """One thing that was found.

    Attributes:
        name: short and fixed, fit for counting and for tests.
        level: "fault" for what spoils training or an exam, "note" for what a reader should know.
        said: one or two sentences with the figures.
        count, of: how many of how many.
        examples: ids, or short texts.
        figures: numbers, JSON values only.
    """

    name: str
    level: Level
    said: str
    count: int
    of: int
    examples: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def hits_of(
    name: str, said: str, hits: Sequence[tuple[str, str]], of: int, *, level: Level = "fault", least: float = 0.0
) -> Iterable[Found]:
    """A thing that single samples have.

    Args:
        said: a sentence with {n} and {of}.
        hits: id and what was seen there.
        least: below this share of `of` nothing is reported.
    """
    if hits and len(hits) > least * of:
        shown = tuple(f"{id}: {seen}" if seen else id for id, seen in hits[:MAX_EXAMPLES])
        yield Found(name, level, said.format(n=f"{len(hits):,}", of=f"{of:,}"), len(hits), of, shown)


def texts_of(sample: Sample) -> dict[str, str]:
    """The texts that a model would learn to write, by their place."""
    found = {"findings": sample.findings, "reasoning": " ".join(sample.reasoning), "caption": sample.caption}
    if not sample.choices:
        found["answer"] = sample.answer
    return {place: text.strip() for place, text in found.items() if text and text.strip()}
