"""What stands in each split, counted from the sample files themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eosin.core.formats.stream.index import FILE as STREAM
from eosin.core.store.artifacts import read_object

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """Counts of one split. `groups` are the units (patient, case, slide) that may stand in one split only."""

    name: str
    num_samples: int
    labels: Counter[str]
    groups: frozenset[str]


def read_splits(root: Path, notes: list[str]) -> list[Split]:
    """Count samples, classes and groups of each split on disk. What cannot be read is noted."""
    splits = []
    for name in SPLITS:
        path = root / "samples" / f"{name}.parquet"
        if name == "train" and (root / "samples" / STREAM).is_file():
            told = read_object(root / "samples" / STREAM)  # groups of streamed samples were compared when it was made
            splits.append(Split(name, told["counts"]["train"], Counter(told["labels"]), frozenset()))
            continue
        if not path.is_file():
            notes.append(f"samples/{name}.parquet is missing.")
            continue
        try:
            with pq.ParquetFile(path) as file:
                columns = [c for c in ("id", "label", "group") if c in file.schema_arrow.names]
                table = file.read(columns=columns).to_pydict()
        except (pa.ArrowException, OSError, ValueError) as exc:
            notes.append(f"samples/{path.name} could not be read: {first_line(exc)}")
            continue
        splits.append(_split(name, table))
    return splits


def _split(name: str, table: dict[str, list[Any]]) -> Split:
    labels = Counter(str(v) for v in table.get("label", ()) if v is not None)
    groups = frozenset(str(v) for v in table.get("group", ()) if v is not None)
    return Split(name, len(table.get("id", ())), labels, groups)


def leaks(splits: list[Split]) -> list[str]:
    """A sentence for each pair of splits that share a group."""
    found = []
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            shared = sorted(one.groups & other.groups)
            if shared:
                found.append(
                    f"{len(shared)} of the split units stand in both {one.name} and {other.name}, "
                    f"for example {shared[0]}: the exam is not on new cases."
                )
    return found


def first_line(exc: Exception) -> str:
    """The first line of an error, short enough for a note."""
    return (str(exc).splitlines() or [type(exc).__name__])[0][:160]
