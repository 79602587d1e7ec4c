"""JSON lines: one sample a line, encoded images as base64. Plain, greppable, larger than parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from eosin.core.formats.rows import STEP, Outcome, reason_of, whole_file
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample


def write_jsonl(samples: Iterable[Sample], path: Path) -> int:
    """Write samples; returns how many."""
    count = 0
    with whole_file(path) as handle:
        for sample in samples:
            handle.write(sample.model_dump_json().encode("utf-8") + b"\n")
            count += 1
    return count


def iter_jsonl(path: Path) -> Iterator[Outcome]:
    """Read line by line. A bad line is Dropped with the id `FILE:LINE`, or its own id where it has one."""
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield _read_line(line, f"{path.name}:{number}")


def _read_line(line: bytes, place: str) -> Outcome:
    try:
        return Kept(Sample.model_validate_json(line))
    except ValidationError as exc:
        try:
            row = json.loads(line)
        except ValueError as not_json:
            return Dropped(place, "not valid JSON", str(not_json), STEP)
        if not isinstance(row, dict):
            return Dropped(place, "not valid JSON", "the line is not an object", STEP)
        reason, detail = reason_of(exc)
        return Dropped(str(row.get("id") or place), reason, detail, STEP)
