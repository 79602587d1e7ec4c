"""What steps set aside is kept on disk, and its counts add up."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, disk_errors
from eosin.core.formats.artifact import dropped_line, read_dropped
from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.core.nouns.sample import Sample
from eosin.core.store.artifacts import write_text_atomic

__all__ = ["StepCount", "count_step", "read_dropped", "write_dropped"]


@dataclass(frozen=True)
class StepCount:
    """Counts of one step; `num_in` is `num_kept` plus the sum of `reasons`."""

    step: str
    num_in: int
    num_kept: int
    reasons: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def count_step(step: str, num_in: int, result: Filtered[Sample]) -> StepCount:
    """Counts of a step. Raises EosinError where samples got lost or appeared."""
    if result.num_in != num_in:
        raise EosinError(
            f"The step {step} does not account for all samples; this is a fault in Eosin.",
            expected=f"{num_in} samples", found=f"{len(result.kept)} kept + {len(result.dropped)} dropped",
        )  # fmt: skip
    return StepCount(step, num_in, len(result.kept), result.reasons())


def write_dropped(path: str | os.PathLike[str], dropped: Iterable[Dropped]) -> int:
    """Write what was set aside as JSON lines: id, reason, detail, step. Returns how many."""
    path, listed = Path(path), list(dropped)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, "".join(dropped_line(d) for d in listed))
    return len(listed)
