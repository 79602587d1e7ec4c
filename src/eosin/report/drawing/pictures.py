"""Small copies of sample images, inlined as data URIs, within a budget for the whole page."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import decode
from eosin.report.records.splits import first_line

MAX_SIDE_PX = 256
MAX_PAGE_BYTES = 3_000_000
MAX_THUMBNAILS = 4
THUMBNAIL_PX = 160
PREVIEW_PX = 256
SEARCH_ORDER = ("test", "valid", "train")
_GOLD = ("reasoning", "findings", "label", "origin")


@dataclass
class Picture:
    """An inlined image, or why there is none.

    Attributes:
        uri: data URI, or None.
        size: width and height as stored, in pixels.
        gold: columns of the sample that the page shows beside it.
    """

    uri: str | None = None
    why_not: str = ""
    size: tuple[int, int] = (0, 0)
    gold: dict[str, Any] = field(default_factory=dict)


def data_uri(image: Image.Image, max_side_px: int = MAX_SIDE_PX) -> str:
    """An image as a JPEG data URI of at most `max_side_px` a side."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image, max_side_px)).decode("ascii")


def encode_jpeg(image: Image.Image, max_side_px: int) -> bytes:
    """An image as JPEG, its longer side at most `max_side_px`."""
    small = image.convert("RGB")
    small.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85, optimize=True)
    return buffer.getvalue()


def preview_path(root: Path, sample_id: str) -> Path:
    """Where the preview of a sample stands whose image lies in a slide; the chain writes it, as the report reads no
    slides. The name is a digest, as an id may hold any sign."""
    return root / "previews" / f"{hashlib.sha256(sample_id.encode()).hexdigest()[:24]}.jpg"


def load_pictures(root: Path, wanted: Iterable[str], notes: list[str]) -> dict[str, Picture]:
    """Pictures of the wanted sample ids, from samples/*.parquet of a run.

    Every wanted id has an entry. Images beyond the page's budget are left out, and `notes` says so.
    """
    order = list(dict.fromkeys(wanted))
    found: dict[str, dict[str, Any]] = {}
    for split in SEARCH_ORDER:
        missing = set(order) - set(found)
        path = root / "samples" / f"{split}.parquet"
        if missing and path.is_file():
            found |= _rows_of(path, missing, notes)
    pictures: dict[str, Picture] = {}
    spent = left_out = 0
    for sample_id in order:
        picture = _picture(found.get(sample_id), root)
        spent += len(picture.uri or "")
        if spent > MAX_PAGE_BYTES and picture.uri:
            picture = Picture(None, "left out to keep this page small", picture.size, picture.gold)
            left_out += 1
        pictures[sample_id] = picture
    if left_out:
        notes.append(f"{left_out} images were left out to keep this page small.")
    return pictures


def load_thumbnails(folder: Path, names: Iterable[str]) -> list[Picture]:
    """Small images that a stage wrote beside its rollouts; names that lead out of its folder are left out."""
    found = []
    for name in list(names)[:MAX_THUMBNAILS]:
        path = folder / name
        try:
            if not path.resolve().is_relative_to(folder.resolve()):
                continue
            image = decode(path.read_bytes(), name)
        except (EosinError, OSError) as exc:
            found.append(Picture(None, exc.message if isinstance(exc, EosinError) else "image file missing"))
            continue
        found.append(Picture(data_uri(image, THUMBNAIL_PX), size=image.size))
    return found


def _rows_of(path: Path, wanted: set[str], notes: list[str]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    try:
        with pq.ParquetFile(path) as file:
            names = [c for c in ("id", "images", "label", "sample") if c in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, columns=["id"]).column("id").to_pylist()
                places = [i for i, sample_id in enumerate(ids) if sample_id in wanted]
                if places:
                    taken = file.read_row_group(group, columns=names).take(places)
                    rows |= {row["id"]: row for row in taken.to_pylist()}
    except (pa.ArrowException, OSError, ValueError, KeyError) as exc:
        notes.append(f"samples/{path.name} could not be read: {first_line(exc)}")
    return rows


def _picture(row: dict[str, Any] | None, root: Path) -> Picture:
    if row is None:
        return Picture(None, "this sample is not on disk")
    gold = _gold(row)
    images = row.get("images")
    if not isinstance(images, list) or not images:
        return Picture(None, "this sample has no image", gold=gold)
    try:
        image = _image(images[0], root) if isinstance(images[0], dict) else _preview(str(row.get("id")), root)
    except (EosinError, OSError) as exc:
        why = exc.message if isinstance(exc, EosinError) else "image file could not be read"
        return Picture(None, why, gold=gold)
    return Picture(data_uri(image), size=image.size, gold=gold)


def _preview(sample_id: str, root: Path) -> Image.Image:
    place = preview_path(root, sample_id)
    if not place.is_file():
        raise ImageError("a region of a slide or a whole slide, without a preview", where=place)
    return decode(place.read_bytes(), str(place))


def _gold(row: dict[str, Any]) -> dict[str, Any]:
    """The gold columns of a sample; its `sample` column holds most of them as JSON."""
    try:
        fields = json.loads(row.get("sample") or "{}")
    except (TypeError, ValueError):
        fields = {}
    fields = {**row, **fields} if isinstance(fields, dict) else row
    return {k: fields.get(k) for k in _GOLD}


def _image(stored: dict[str, Any], root: Path) -> Image.Image:
    data = stored.get("bytes")
    if isinstance(data, bytes) and data:
        return decode(data)
    path = Path(str(stored.get("path") or ""))
    place = next((p for p in (path, root / "samples" / path) if p.is_file()), None)
    if place is None:
        raise ImageError("image file missing", where=path)
    return decode(place.read_bytes(), str(place))
