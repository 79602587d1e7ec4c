"""Pictures with captions: a table, webdataset tars, parquet, or a folder with a metadata file, as samples."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.formats.parquet import iter_rows
from eosin.core.formats.rows import BadRowError, Outcome, make_sample, read_row, unique
from eosin.core.formats.stream.tars import MAX_MEMBER, PICTURES, key_of, own_sample, told_in
from eosin.core.nouns.outcome import Dropped, Filtered, filtered
from eosin.core.nouns.prompt import CAPTION_PROMPT
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef, user_prompt
from eosin.core.settings.documents import CaptionsData
from eosin.core.store.artifacts import read_jsonl
from eosin.core.store.names import inside_any
from eosin.sources.card import Card, Collection
from eosin.sources.files import OUTSIDE, is_missing, outside_detail
from eosin.sources.table import read_cells, row_of

STEP = "source"
IMAGE_COLUMNS = ("file_name", "image", "image_path", "filepath", "file", "path", "img", "url")
CAPTION_COLUMNS = ("caption", "text", "title", "description")
MAX_MEMBERS = 10_000_000


def read_captions(settings: CaptionsData) -> Collection:
    """Samples of pictures with captions.

    Raises:
        EosinError: nothing there, no columns of picture and caption, or no usable row.
    """
    path = Path(settings.path).expanduser()
    samples = filtered(unique(iter_captions(path, settings)))
    if not samples.kept:
        raise EosinError("No picture with a caption could be read.", where=path,
                         found=", ".join(f"{n} x {r}" for r, n in samples.reasons().items()) or "no rows")  # fmt: skip
    card = Card(name=settings.name, licence=settings.licence, citation=settings.citation, homepage=settings.homepage,
                split_unit="article" if settings.group_column else "image")  # fmt: skip
    return Collection(card=card.counted(samples.kept), samples=Filtered(samples.kept, samples.dropped))


def iter_captions(path: Path, settings: CaptionsData) -> Iterator[Outcome]:
    """Samples of whatever stands at `path`, one at a time, and what cannot be used."""
    if path.is_dir():
        told = next((path / n for n in ("metadata.jsonl", "metadata.csv") if (path / n).is_file()), None)
        if told is not None:
            yield from iter_captions(told, settings)
            return
        files = sorted(p for p in path.rglob("*") if p.suffix in (".tar", ".parquet") and p.is_file())
        if not files:
            raise EosinError("This folder holds no captions.", where=path,
                             expected="metadata.csv, metadata.jsonl, .tar or .parquet files")  # fmt: skip
        for file in files:
            yield from iter_captions(file, settings)
    elif not path.is_file():
        raise EosinError("There is no such file or folder.", where=path, next_step="set data.path")
    elif path.suffix == ".tar":
        yield from _of_tar(path, settings)
    elif path.suffix == ".parquet":
        yield from _of_parquet(path, settings)
    else:
        yield from _of_table(path, settings)


def _of_table(path: Path, settings: CaptionsData) -> Iterator[Outcome]:
    if path.suffix == ".jsonl":
        for number, told in enumerate(read_jsonl(path), 1):
            yield _row(told, f"{path.name}:{number}", path, settings)
        return
    header, rows = read_cells(path)
    for number, cells in rows:
        row = row_of(header, cells, f"{path.name}:{number}")
        yield row if isinstance(row, Dropped) else _row(row, f"{path.name}:{number}", path, settings)


def _of_parquet(path: Path, settings: CaptionsData) -> Iterator[Outcome]:
    for place, row in iter_rows(path):
        yield row if isinstance(row, Dropped) else _row(row, place, path, settings)


def _row(row: Mapping[str, Any], place: str, path: Path, settings: CaptionsData) -> Outcome:
    return read_row(partial(_sample_of_row, row, place, path, settings), row, place, STEP)


def _sample_of_row(row: Mapping[str, Any], place: str, path: Path, settings: CaptionsData) -> Outcome:
    cell = _cell(row, settings.image_column, IMAGE_COLUMNS, "image")
    caption = _cell(row, settings.caption_column, CAPTION_COLUMNS, "caption")
    return _sample(place, _reference(cell, path, settings), caption, row, settings)


def _cell(row: Mapping[str, Any], column: str | None, usual: tuple[str, ...], what: str) -> Any:
    names = (column,) if column is not None else usual
    name = next((n for n in names if n in row), None)
    if name is None:
        raise BadRowError(f"no column of {what}", f"expected {', '.join(names)}; found {', '.join(row)}"[:200])
    return row[name]


def _reference(cell: Any, path: Path, settings: CaptionsData) -> ImageRef:
    if isinstance(cell, Mapping):
        if isinstance(cell.get("bytes"), bytes):
            return ImageBytes(data=cell["bytes"])
        cell = cell.get("path")
    if isinstance(cell, bytes):
        return ImageBytes(data=cell)
    if not isinstance(cell, str) or is_missing(cell):
        raise BadRowError("no image")
    if cell.startswith(("http://", "https://")):
        raise BadRowError("image is a link", "download the pictures first; Eosin follows no link of a data set")
    folder = Path(settings.images).expanduser() if settings.images else path.parent
    found = inside_any(folder, cell, settings.image_folders)
    if found is None:
        raise BadRowError(OUTSIDE, outside_detail(cell))
    return ImageFile(path=str(found))


def _sample(place: str, ref: ImageRef, caption: Any, row: Mapping[str, Any], settings: CaptionsData) -> Outcome:
    if not isinstance(caption, str) or is_missing(caption):
        raise BadRowError("no caption")
    origin: dict[str, Any] = {"source": settings.name, "licence": settings.licence}
    if settings.group_column is not None:
        group = row.get(settings.group_column)
        if not isinstance(group, str | int) or is_missing(str(group)):
            raise BadRowError("no group", settings.group_column)
        origin["article"] = str(group)
    elif isinstance(ref, ImageFile):  # captions of one picture stay together
        origin["case"] = f"image {Path(ref.path).name}"
    return make_sample(
        {"id": f"{settings.name}/{row.get('id') or place}", "images": (ref,), "messages": user_prompt(CAPTION_PROMPT),
         "caption": " ".join(caption.split()), "origin": origin},
        place,
    )  # fmt: skip


def _of_tar(path: Path, settings: CaptionsData) -> Iterator[Outcome]:
    """Pictures and texts of one key that follow each other, as webdataset lays them. Nothing goes to the disk."""
    key, held = "", dict[str, bytes]()
    try:
        with tarfile.open(path, "r|*") as tar:
            for count, member in enumerate(tar):
                if count >= MAX_MEMBERS:
                    yield Dropped(path.name, "tar too large", f"more than {MAX_MEMBERS:,} files", STEP)
                    break
                if not member.isfile() or member.size > MAX_MEMBER:
                    continue
                now, suffix = key_of(member.name)
                if now != key and held:
                    yield _of_key(path, key, held, settings)
                    held = {}
                key = now
                source = tar.extractfile(member)
                held[suffix] = source.read() if source is not None else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as exc:
        yield Dropped(path.name, "tar cut off or damaged", str(exc)[:120], STEP)
    if held:
        yield _of_key(path, key, held, settings)


def _of_key(path: Path, key: str, held: Mapping[str, bytes], settings: CaptionsData) -> Outcome:
    place = f"{path.stem}/{key}"

    def read() -> Outcome:
        image = next((held[s] for s in PICTURES if s in held), None)
        if image is None:
            raise BadRowError("no image", ", ".join(held)[:120])
        told = told_in(held)
        own = own_sample(told, held, place)
        if own is not None:
            return own
        text = held.get(".txt", held.get(".caption"))
        if text is not None:
            caption = text.decode("utf-8")
        else:
            caption = _cell(told, settings.caption_column, CAPTION_COLUMNS, "caption")
        return _sample(place, ImageBytes(data=image), caption, {**told, "id": place}, settings)

    return read_row(read, {"id": place}, place, STEP)
