"""Parquet: the format between stages. Hugging Face `datasets` opens it and shows the images.

Columns: id, split, group, answer, label, `images` (list of {bytes, path}), and `sample`, the other fields as
JSON. A field stands in one place only, so that a changed column is a changed sample. `group` is for
reading along; it follows from the origin.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eosin.core.errors import EosinError
from eosin.core.formats.rows import STEP, Outcome, dump_without_bytes, make_sample, put_bytes_back, whole_file
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef, Sample

ROWS_PER_GROUP = 1000
BYTES_PER_GROUP = 32 * 2**20
COLUMNS = ("id", "split", "answer", "label")
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
    rest = dump_without_bytes(sample, exclude=COLUMNS)
    return {
        **{c: getattr(sample, c) for c in COLUMNS},
        "group": sample.origin.group,
        "images": [image_cell(ref) for ref in sample.images],
        "sample": json.dumps(rest, ensure_ascii=False),
    }


def write_rows(rows: Iterable[dict[str, Any]], path: Path, schema: pa.Schema) -> int:
    """Write rows in groups of at most 1,000 rows or about 32 MiB of images; returns how many."""
    compression = dict.fromkeys(_leaf_columns(schema), "zstd")
    compression[IMAGES_BYTES_COLUMN] = "none"  # PNG and JPEG do not shrink
    count = 0
    with whole_file(path) as handle:
        writer = pq.ParquetWriter(
            handle, schema, compression=compression, use_dictionary=["split", "label", "answer", "group"],
            write_statistics=["id", "split", "group", "label"],
        )  # fmt: skip
        with writer:
            for batch in _batches(rows):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                count += len(batch)
    return count


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
    """Open a parquet file, with a clear error for one that is none."""
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as exc:
        raise EosinError(
            "This parquet file cannot be opened.", found=str(exc)[:160], where=path,
            next_step="copy or make the file again; a file that was cut off has no footer",
        ) from None  # fmt: skip


def iter_parquet(path: Path) -> Iterator[Outcome]:
    """Read one row group at a time, so that memory stays bounded."""
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        missing = [c for c in ("id", "sample", "images") if c not in names]
        if missing:
            raise EosinError(
                "This parquet file holds no samples of Eosin.",
                expected="columns id, sample, images (or prompt, completion, images)",
                found=", ".join(names),
                where=path,
            )
        wanted = [c for c in (*COLUMNS, "images", "sample") if c in names]
        start = 0
        for group in range(file.num_row_groups):
            num_rows = file.metadata.row_group(group).num_rows
            places = [f"{path.name}:{start + i + 1}" for i in range(num_rows)]
            start += num_rows
            try:
                rows = file.read_row_group(group, columns=wanted).to_pylist()
            except (pa.ArrowException, OSError, ValueError) as exc:
                yield from (Dropped(place, "row group damaged", str(exc)[:160], STEP) for place in places)
                continue
            for row, place in zip(rows, places, strict=True):
                yield _read_row(row, place)


def _read_row(row: dict[str, Any], place: str) -> Outcome:
    name = str(row.get("id") or place)
    try:
        fields = json.loads(row["sample"])
        fields |= {c: row[c] for c in COLUMNS if c in row}
        fields = put_bytes_back(fields, [cell["bytes"] if cell else None for cell in row["images"] or ()])
    except (TypeError, ValueError, AttributeError, KeyError) as exc:
        return Dropped(name, "row damaged", f"{type(exc).__name__}: {exc}"[:200], STEP)
    return make_sample(fields, place)
