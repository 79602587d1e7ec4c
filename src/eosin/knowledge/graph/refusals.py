"""The list of what was not taken over. It stays small whatever a file holds, and its numbers stay true."""

from __future__ import annotations

from collections import Counter

from eosin.core.errors import EosinError
from eosin.knowledge.graph.concepts import Refusal

MAX_FAULTS = 100_000
"""A source with more faults is not what its kind says; the build stops even with keep_going."""
MAX_LISTED = 10_000
"""So many sound rows that were set aside are listed one by one for each source and reason; the others are counted."""


class Refusals:
    """Refused rows, one by one, and the number of those beyond the limits."""

    def __init__(self) -> None:
        self._listed: list[Refusal] = []
        self._seen: Counter[tuple[str, str, bool]] = Counter()
        self._faults: Counter[str] = Counter()
        self._more: Counter[tuple[str, str]] = Counter()

    def add(self, refusal: Refusal) -> None:
        """Take an entry.

        Raises:
            EosinError: the source has more than MAX_FAULTS faults.
        """
        key = (refusal.source, refusal.reason, refusal.fault)
        self._seen[key] += 1
        if refusal.fault:
            self._faults[refusal.source] += 1
            if self._faults[refusal.source] > MAX_FAULTS:
                raise EosinError(
                    f"This source has more than {MAX_FAULTS:,} faults.",
                    found=f"{refusal.reason}: {refusal.detail}",
                    where=f"{refusal.source}:{refusal.line}",
                    next_step="check that the file is of the kind that --source names",
                )
        elif self._seen[key] > MAX_LISTED:
            self._more[refusal.source, refusal.reason] += refusal.num
            return
        self._listed.append(refusal)

    def all(self) -> list[Refusal]:
        """Every entry; what lies beyond the limits as one entry for each source and reason."""
        more = [
            Refusal(reason, f"{num:,} more rows like these", source, 0, False, num)
            for (source, reason), num in self._more.items()
        ]
        return [*self._listed, *more]

    def num(self, fault: bool) -> int:
        """Number of rows: of faults, or of what was set aside."""
        return sum(r.num for r in self.all() if r.fault is fault)
