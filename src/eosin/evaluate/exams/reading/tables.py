"""Rows of the tables that published sets come in: parquet, Arrow folders, JSON, JSON lines, csv and tsv."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.formats.parquet import iter_rows
from eosin.core.formats.rows import file_errors
from eosin.core.nouns.outcome import Dropped
from eosin.sources.table import read_cells

Row = tuple[str, "dict[str, Any] | Dropped"]
SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")


def rows_of(path: Path) -> Iterator[Row]:
    """Place and row of a file. What is no row is Dropped in its place.

    Raises:
        EosinError: the file as a whole cannot be read.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        yield from _arrow_rows(path)
    elif suffix == ".parquet":
        yield from iter_rows(path)
    elif suffix in (".csv", ".tsv"):
        yield from _cells(path)
    elif suffix == ".jsonl":
        for number, line in enumerate(_text(path).split("\n"), 1):
            if line.strip():
                yield _object(_parsed(line), f"{path.name}:{number}")
    else:
        yield from rows_of_json(read_json(path), path.name)


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        EosinError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as exc:
        raise EosinError("This file is not valid JSON.", found=str(exc)[:160], where=path) from None


def rows_of_json(value: Any, name: str) -> Iterator[Row]:
    """Rows of a list, or of a list below "data", "questions" or "annotations"."""
    if isinstance(value, dict):
        value = next((value[k] for k in ("data", "questions", "annotations") if isinstance(value.get(k), list)), value)
    if not isinstance(value, list):
        raise EosinError("This JSON file is no list of rows.", found=f"a JSON {type(value).__name__}", where=name)
    for number, row in enumerate(value, 1):
        yield _object(row, f"{name}:{number}")


def split_files(root: Path, split: Sequence[str], folders: Sequence[str] = ("", "data", "default")) -> list[Path]:
    """Files or Arrow folders of a split as Hugging Face names them: `test-00000-of-00003.parquet`,
    `test/0000.parquet`, `test.jsonl`, or a folder `test` that `save_to_disk` wrote. Files of one suffix only, in order.

    Args:
        split: names that the split goes by: ("validation", "val").
        folders: folders below root that are looked into.
    """
    for folder in folders:
        base = root / folder
        if not base.is_dir():
            continue
        for name in split:
            if (base / name / "state.json").is_file():
                return [base / name]
            for suffix in SUFFIXES:
                found = sorted(p for p in base.glob(f"{name}*{suffix}") if _is_part_of(p.stem, name))
                found += sorted((base / name).glob(f"*{suffix}")) if (base / name).is_dir() else []
                if found:
                    return found
    return []


def need_split(root: Path, split: Sequence[str], folders: Sequence[str] = ("", "data", "default")) -> list[Path]:
    """As `split_files`.

    Raises:
        EosinError: there is no file of this split.
    """
    found = split_files(root, split, folders)
    if not found:
        there = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))[:8]
        raise EosinError(
            f"This folder holds no file of the split {split[0]}.",
            expected=f"{split[0]}-*.parquet, {split[0]}.jsonl, .json, .csv, or a folder {split[0]}, here or in data/",
            found=", ".join(there) or "an empty folder", where=root,
        )  # fmt: skip
    return found


def _is_part_of(stem: str, split: str) -> bool:
    rest = stem[len(split) :]
    return not rest or not (rest[0].isalnum() or rest[0] == "_")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise EosinError("This file cannot be read.", found=str(exc)[:160], where=path) from None


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as exc:
        return f"no JSON: {exc}"[:120]


def _object(row: Any, place: str) -> Row:
    if isinstance(row, dict):
        return place, row
    return place, Dropped(place, "row is not an object", repr(row)[:120], "exam")


def _cells(path: Path) -> Iterator[Row]:
    header, rows = read_cells(path)
    for number, cells in rows:
        place = f"{path.name}:{number}"
        if len(cells) != len(header):
            yield place, Dropped(place, "row has another number of cells", f"{len(cells)} of {len(header)}", "exam")
        else:
            yield place, dict(zip(header, cells, strict=True))


def _arrow_rows(folder: Path) -> Iterator[Row]:
    """Rows of a folder that `Dataset.save_to_disk` wrote: its state names Arrow files of this folder."""
    import pyarrow as pa

    state = read_json(folder / "state.json")
    names = [f.get("filename") for f in state.get("_data_files", [])] if isinstance(state, dict) else []
    number = 0
    for name in names:
        path = folder / Path(str(name)).name
        with file_errors(path, "Arrow file"), pa.memory_map(str(path)) as handle:
            for batch in pa.ipc.open_stream(handle):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{folder.name}:{number}", row
