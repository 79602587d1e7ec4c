"""Typed outcomes. Nothing becomes a number or disappears silently (house law 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Kept(Generic[T]):
    """An item that passed a step."""

    value: T


@dataclass(frozen=True)
class Dropped:
    """An item that a step set aside.

    Attributes:
        id: the item's id, so that it can be found again.
        reason: a short fixed phrase, fit for counting.
        detail: what exactly was seen in this item.
        step: the step that set it aside.

    Texts of damaged files may be no Unicode; what of them cannot be written stands here as an escape.
    """

    id: str
    reason: str
    detail: str = ""
    step: str = ""

    def __post_init__(self) -> None:
        for name in ("id", "detail"):
            text = getattr(self, name)
            if not text.isascii():
                object.__setattr__(self, name, text.encode("utf-8", "backslashreplace").decode("utf-8"))


@dataclass(frozen=True)
class Parsed(Generic[T]):
    """Text that obeyed its grammar."""

    value: T


@dataclass(frozen=True)
class Unparsed:
    """Text that did not obey its grammar, and why."""

    reason: str


@dataclass(frozen=True)
class Scored:
    """A score, with the events that led to it."""

    value: float
    events: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Unscored:
    """No score could be given. It is never replaced by a number."""

    reason: str


@dataclass(frozen=True)
class Filtered(Generic[T]):
    """What a step kept and what it set aside. `num_in` is the sum of both."""

    kept: tuple[T, ...]
    dropped: tuple[Dropped, ...]

    @property
    def num_in(self) -> int:
        return len(self.kept) + len(self.dropped)

    def reasons(self) -> dict[str, int]:
        """Count of every drop reason, most frequent first."""
        return dict(Counter(d.reason for d in self.dropped).most_common())


def filtered(outcomes: Iterable[Kept[T] | Dropped]) -> Filtered[T]:
    """Divide a stream of outcomes into what was kept and what was dropped."""
    kept: list[T] = []
    dropped: list[Dropped] = []
    for outcome in outcomes:
        if isinstance(outcome, Dropped):
            dropped.append(outcome)
        else:
            kept.append(outcome.value)
    return Filtered(tuple(kept), tuple(dropped))
