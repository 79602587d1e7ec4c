"""What a budget has paid for, on disk: one line when a call is admitted, one when it has ended.

A process that is killed leaves the admissions of the calls that it had under way; the next one takes them to have cost
their worst case, so that a budget holds over any number of restarts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from eosin.core.errors import disk_errors

_COUNTED = ("prompt_tokens", "completion_tokens", "cost", "cost_assumed", "unreported")


class Ledger:
    """The calls of one server for one purpose. A line that a kill cut off is left out.

    Args:
        path: its file; it is made with the first call.

    Attributes:
        before: the counts of earlier processes, under the names of `Usage`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self.before = _restored(path)
        self._number = int(self.before["calls"])

    def admitted(self, worst: float, *, again: bool) -> int:
        """Note a call before it is sent; its number."""
        self._number += 1
        self._write({"call": self._number, "again": again, "worst": worst})
        return self._number

    def ended(self, number: int, counts: dict[str, Any]) -> None:
        """Note what a call came to."""
        self._write({"ended": number, **{k: v for k, v in counts.items() if v}})

    def _write(self, row: dict[str, Any]) -> None:
        with disk_errors(self._path):
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", encoding="ascii", newline="\n")
                if self._path.stat().st_size:
                    self._file.write("\n")  # a line that a kill cut off ends here
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()


def _restored(path: Path) -> dict[str, float]:
    """Sums of what stands in a ledger; a call that never ended counts with its worst case."""
    sums = dict.fromkeys(("calls", "retries", *_COUNTED), 0.0)
    under_way: dict[int, float] = {}
    for row in _rows(path):
        if "call" in row:
            sums["calls"] += 1
            sums["retries"] += bool(row.get("again"))
            under_way[row["call"]] = float(row.get("worst", 0.0))
        elif under_way.pop(row.get("ended", 0), None) is not None:
            for name in _COUNTED:
                sums[name] += row.get(name, 0)
    sums["cost_assumed"] += sum(under_way.values())
    sums["unreported"] += len(under_way)
    return {name: value if name.startswith("cost") else int(value) for name, value in sums.items()}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines."""
    if not path.exists():
        return
    with disk_errors(path), path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row
