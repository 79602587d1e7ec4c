"""JSON lines: one sample a line, encoded images as base64. Plain, greppable, larger than parquet."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from eosin.core.formats.rows import STEP, Outcome, file_errors, read_row, reason_of, row_id, whole_file
from eosin.core.formats.sharegpt import is_dialogue, sharegpt_row
from eosin.core.formats.trl import from_trl, taken
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


def iter_jsonl(
    path: Path, *, source: str | None = None, image_folders: Sequence[str | os.PathLike[str]] = ()
) -> Iterator[Outcome]:
    """Read line by line: samples, dialogues as LLaVA writes them, or prompts and completions as TRL does, a row a line.

    A bad line is Dropped with the id `FILE:LINE`, or its own id where it has one.

    Args:
        source, image_folders: as for `iter_sharegpt`, for lines that are dialogues.
    """
    with file_errors(path, "file"), path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip():
                yield _read_line(line, path, f"{path.name}:{number}", source or path.stem, image_folders)


def _read_line(
    line: bytes, path: Path, place: str, source: str, image_folders: Sequence[str | os.PathLike[str]]
) -> Outcome:
    try:
        return Kept(Sample.model_validate_json(line))
    except ValidationError as exc:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as not_json:
            return Dropped(place, "not valid JSON", str(not_json)[:200], STEP)
        if is_dialogue(row):
            return read_row(partial(sharegpt_row, row, path.parent, place, source, image_folders), row, place)
        if isinstance(row, dict) and isinstance(row.get("prompt"), list):
            return from_trl(
                row, place=place, source=source, take=partial(taken, folder=path.parent, others=image_folders)
            )
        if not isinstance(row, dict):
            return Dropped(place, "not valid JSON", "the line is not an object", STEP)
        reason, detail = reason_of(exc)
        return Dropped(row_id(row, place), reason, detail, STEP)
