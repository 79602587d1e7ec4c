"""Parquet: the format between stages. Hugging Face `datasets` opens it and shows the images.

Columns: id, split, group, answer, label, `images` (list of {bytes, path}), and `sample`, the other fields as
JSON. A field stands in one place only, so that a changed column is a changed sample. `group` is for
reading along; it follows from the origin.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eosin.core.errors import EosinError
from eosin.core.formats.rows import (
    STEP,
    Outcome,
    file_errors,
    json_without_bytes,
    make_sample,
    put_bytes_back,
    read_row,
    whole_file,
)
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef, Sample

ROWS_PER_GROUP = 1000
BYTES_PER_GROUP = 32 * 2**20
MAX_COLUMNS = 10_000
MAX_ROWS_OF_NOTHING = 100_000
"""A file may declare so many rows, or as many as it has bytes."""
BATCH_BYTES = 2**28
MAX_UNPACKED_BYTES = 2**28
"""A column of a row group may unpack to this, or to `MAX_RATIO` times what it holds."""
MAX_RATIO = 100
MAX_VALUES = 10**6
"""A column of a row group may hold this many values, or `MAX_VALUES_A_ROW` times its rows."""
MAX_VALUES_A_ROW = 1000
COLUMNS = ("id", "split", "answer", "label")
SAMPLE_COLUMNS = (*COLUMNS, "images", "sample")
"""What a sample is read from."""
IMAGES_TYPE = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
IMAGES_BYTES_COLUMN = "images.list.element.bytes"


def image_cell(ref: ImageRef) -> dict[str, Any] | None:
    """What `datasets` takes for an image: bytes or a path. A region of a slide or a bag of
    patches is no image that it could open: None."""
    if isinstance(ref, ImageBytes):
        return {"bytes": ref.data, "path": None}
    if isinstance(ref, ImageFile):
        return {"bytes": None, "path": ref.path}
    return None


def hugging_face_metadata(columns: Iterable[str]) -> dict[bytes, bytes]:
    """Schema metadata that makes `datasets` decode the column `images`."""
    features: dict[str, Any] = {c: {"dtype": "string", "_type": "Value"} for c in columns if c != "images"}
    features["images"] = {"feature": {"_type": "Image"}, "_type": "List"}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def _schema() -> pa.Schema:
    names = ("id", "split", "group", "answer", "label", "images", "sample")
    fields = [pa.field(n, IMAGES_TYPE if n == "images" else pa.string()) for n in names]
    return pa.schema(fields, metadata=hugging_face_metadata(names))


def _row(sample: Sample) -> dict[str, Any]:
    return {
        **{c: getattr(sample, c) for c in COLUMNS},
        "group": sample.origin.group,
        "images": [image_cell(ref) for ref in sample.images],
        "sample": json_without_bytes(sample, exclude=COLUMNS),
    }


def write_rows(rows: Iterable[dict[str, Any]], path: Path, schema: pa.Schema) -> int:
    """Write rows in groups of at most 1,000 rows or about 32 MiB of images; returns how many."""
    count = 0
    with whole_file(path) as handle, _writer(handle, schema) as writer:
        for batch in _batches(rows):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _writer(handle: Any, schema: pa.Schema) -> pq.ParquetWriter:
    compression = dict.fromkeys(_leaf_columns(schema), "zstd")
    compression[IMAGES_BYTES_COLUMN] = "none"  # PNG and JPEG do not shrink
    return pq.ParquetWriter(
        handle, schema, compression=compression, use_dictionary=["split", "label", "answer", "group"],
        write_statistics=["id", "split", "group", "label"],
    )  # fmt: skip


def copy_rows(source: Path, path: Path, keep: Sequence[bool]) -> None:
    """Write the wanted rows of a parquet file of samples as they stand, without making samples of them."""
    table = pq.read_table(source)
    with whole_file(path) as handle, _writer(handle, table.schema) as writer:
        writer.write_table(table.filter(pa.array(keep, pa.bool_())), row_group_size=ROWS_PER_GROUP)


def _leaf_columns(schema: pa.Schema) -> list[str]:
    leaves: list[str] = []
    for field in schema:
        if field.type == IMAGES_TYPE:
            leaves += [f"{field.name}.list.element.bytes", f"{field.name}.list.element.path"]
        elif not pa.types.is_nested(field.type):
            leaves.append(field.name)
    return leaves


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(cell["bytes"]) for cell in row["images"] or () if cell and cell["bytes"])
        if len(batch) >= ROWS_PER_GROUP or size >= BYTES_PER_GROUP:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def write_parquet(samples: Iterable[Sample], path: Path) -> int:
    """Write samples; returns how many."""
    return write_rows((_row(s) for s in samples), path, _schema())


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file, with a clear error for one that is none, or that declares more than it can hold."""
    with file_errors(path, "parquet file"):
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        num_bytes = path.stat().st_size
        if file.metadata.num_rows > max(MAX_ROWS_OF_NOTHING, num_bytes) or len(names) > MAX_COLUMNS:
            raise EosinError(
                "This parquet file declares more than it can hold.", where=path,
                found=f"{file.metadata.num_rows:,} rows of {len(names):,} columns in {num_bytes:,} bytes",
            )  # fmt: skip
        return file


def column_names(path: Path) -> list[str]:
    """Names of the columns of a parquet file."""
    with open_parquet(path) as file:
        return list(file.schema_arrow.names)


Row = tuple[str, "dict[str, Any] | Dropped"]


def iter_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Places and rows of a parquet file, a batch in memory at a time. What cannot be read is Dropped in its place.

    A row group that declares to unpack to far more than it holds is set aside before it is read.
    """
    with open_parquet(path) as file:
        start, num_bytes, weight = 0, path.stat().st_size, 0
        for group in range(file.num_row_groups):
            facts = file.metadata.row_group(group)
            due, done, reason = max(0, facts.num_rows), 0, _too_much(facts)
            if not reason:
                batches = _batches_of(file, group, facts, columns)
                while done < due:
                    rows, reason = _next_rows(batches)
                    weight += sum(_weight(row) for row in rows)
                    if weight > max(MAX_UNPACKED_BYTES, MAX_RATIO * num_bytes):
                        raise EosinError(
                            "This parquet file unpacks to far more than it holds.", where=path,
                            found=f"{num_bytes:,} bytes, and {weight:,} in its first {start + done:,} rows",
                        )  # fmt: skip
                    for row in rows[: due - done]:
                        done += 1
                        place = f"{path.name}:{start + done}"
                        yield place, row if isinstance(row, dict) else Dropped(place, "row damaged", row, STEP)
                    if reason:
                        break
            for i in range(done, due):
                place = f"{path.name}:{start + i + 1}"
                yield place, Dropped(place, *(reason or ("row group damaged", "it ends early")), STEP)
            start += due
            if start > num_bytes:
                break


def _too_much(facts: pq.RowGroupMetaData) -> tuple[str, str] | None:
    """Reason and detail where a row group declares to unpack to far more than it holds."""
    for i in range(facts.num_columns):
        column = facts.column(i)
        packed, unpacked = max(1, column.total_compressed_size), column.total_uncompressed_size
        if unpacked > MAX_UNPACKED_BYTES and unpacked > MAX_RATIO * packed:
            return "row group unpacks to too much", f"{column.path_in_schema}: {packed:,} to {unpacked:,} bytes"
        if column.num_values > max(MAX_VALUES, MAX_VALUES_A_ROW * facts.num_rows):
            return "row group unpacks to too much", f"{column.path_in_schema}: {column.num_values:,} values"
    return None


def _batches_of(
    file: pq.ParquetFile, group: int, facts: pq.RowGroupMetaData, columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    """A dictionary holds a value once, however often it is used: the more it may hold, the fewer rows at a time."""
    sizes = [c.total_uncompressed_size for i in range(facts.num_columns)
             if (c := facts.column(i)).has_dictionary_page]  # fmt: skip
    rows = BATCH_BYTES // max(1, *sizes, 1)
    yield from file.iter_batches(
        batch_size=min(ROWS_PER_GROUP, max(1, rows)), row_groups=[group], columns=list(columns) if columns else None
    )


def _next_rows(batches: Iterator[pa.RecordBatch]) -> tuple[list[dict[str, Any] | str], tuple[str, str] | None]:
    """Rows of the next batch, a text for a row that cannot be read; and reason and detail where the group is at its
    end or damaged. This is the one place where what Arrow throws becomes an outcome."""
    try:
        batch = next(batches, None)
    except MemoryError:
        raise
    except Exception as exc:  # Arrow throws errors of its own, of Python, and of the operating system
        return [], ("row group damaged", f"{type(exc).__name__}: {exc}"[:160])
    if batch is None or batch.num_rows == 0:
        return [], ("row group damaged", "it ends early")
    try:
        return list(batch.to_pylist()), None
    except Exception:  # one bad value: the rows beside it are read one by one
        return [_one_row(batch, i) for i in range(batch.num_rows)], None


def _weight(value: Any) -> int:
    """Bytes and letters that a value holds."""
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, dict):
        return sum(_weight(v) for v in value.values())
    return sum(_weight(v) for v in value) if isinstance(value, list) else 0


def _one_row(batch: pa.RecordBatch, index: int) -> dict[str, Any] | str:
    try:
        row: dict[str, Any] = batch.slice(index, 1).to_pylist()[0]
        return row
    except Exception as exc:  # bytes that are no UTF-8, times out of range
        return f"{type(exc).__name__}: {exc}"[:160]


def iter_parquet(path: Path) -> Iterator[Outcome]:
    """Read one row group at a time, so that memory stays bounded."""
    names = column_names(path)
    missing = [c for c in ("id", "sample", "images") if c not in names]
    if missing:
        raise EosinError(
            "This parquet file holds no samples of Eosin.",
            expected="columns id, sample, images (or prompt, completion, images)",
            found=", ".join(names)[:400],
            where=path,
        )
    for place, row in iter_rows(path, [c for c in SAMPLE_COLUMNS if c in names]):
        yield row if isinstance(row, Dropped) else sample_of_row(row, place)


def sample_of_row(row: dict[str, Any], place: str) -> Outcome:
    """The sample that a row holds, or why it is none."""
    return read_row(partial(_read_row, row, place), row, place)


def _read_row(row: dict[str, Any], place: str) -> Outcome:
    fields = json.loads(row["sample"])
    fields |= {c: row[c] for c in COLUMNS if c in row}
    fields = put_bytes_back(fields, [cell["bytes"] if cell else None for cell in row["images"] or ()])
    return make_sample(fields, place)
