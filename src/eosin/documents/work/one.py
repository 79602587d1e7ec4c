"""One document: read, its figures written as files, and a record of everything that was found in it.

This runs in a child process; see `all`. The folder of a document appears when it is whole.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, ImageError, disk_errors
from eosin.core.images import encode_png
from eosin.core.nouns.outcome import Dropped
from eosin.core.store.artifacts import put_in_place, write_json
from eosin.core.store.names import file_name, unfinished
from eosin.documents.figures.figure import Found
from eosin.documents.item import STEP, Item, Reading
from eosin.documents.kinds.classify import Kind, kinds_of
from eosin.documents.page.page import Page
from eosin.documents.panels.divide import divide

RECORD = "document.json"
SCHEMA_VERSION = 1
MAX_FIGURES = 5000
MIN_SIDE_PX = 8
MAX_KINDS = 12
"""Panels of a figure by which its kind is told."""


def read_one(path: str, kind: str, key: str, folder: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read a document and write `folder`: `document.json`, `figures/`, `pages/`.

    Returns:
        Counts: {"key", "figures", "dropped", "pages"}.

    Raises:
        EosinError: its message is the reason for which the whole document is set aside.
    """
    place = Path(folder)
    temporary = unfinished(place)
    begun = time.monotonic()
    with disk_errors(place):
        temporary.mkdir(parents=True)
    try:
        with _reading(Path(path), kind, key, temporary, settings) as (reading, draw):
            record = _record(reading, temporary, key)
            if settings.get("previews", True):
                record["previews"] = draw(record, temporary)
        record["seconds"] = round(time.monotonic() - begun, 3)
        with disk_errors(place):
            write_json(temporary / RECORD, record)
            put_in_place(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {"key": key, "figures": len(record["figures"]), "dropped": len(record["dropped"]),
            "pages": len(record["about"]["pages"])}  # fmt: skip


@contextmanager
def _reading(
    path: Path, kind: str, key: str, scratch: Path, settings: Mapping[str, Any]
) -> Iterator[tuple[Reading, Any]]:
    """The reading of a document, and what draws its pages."""
    if kind == "jats":
        from eosin.documents.jats.reading import check_kind, read_jats

        check_kind(path)
        yield read_jats(path, key), lambda record, place: []
        return
    if kind in ("html", "epub"):
        from eosin.documents.web.reading import opened_epub, read_html

        with opened_epub(path, key) if kind == "epub" else nullcontext(read_html(path, key)) as reading:
            yield reading, lambda record, place: []
        return
    from eosin.documents.pdf.open import opened
    from eosin.documents.pdf.reading import read_pdf
    from eosin.documents.view.previews import draw_pages

    with opened(path) as document:
        scan, layout = _scan(document, str(settings.get("ocr", "none"))), _layout(document, path, settings)
        reading = read_pdf(document, path, key, scan, **layout)
        yield reading, lambda record, place: draw_pages(document, record, place, int(settings.get("preview_px", 720)))


def _scan(document: Any, engine: str) -> Any:
    """What reads pages without text; None where no engine is asked for."""
    if engine == "none":
        return None
    from eosin.documents.scans.named import engine_of
    from eosin.documents.scans.read import read_scan

    return lambda page: read_scan(document, page, engine_of(engine))


def _layout(document: Any, path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What finds the figures, where the rules do not."""
    if settings.get("backend", "rules") != "docling":
        return {}
    from eosin.documents.layout.docling import read_layout
    from eosin.documents.layout.found import figures_of_docling
    from eosin.documents.pdf.read import turned_further

    def layout(pages: list[Page], name: str) -> Found:
        told = read_layout(path, settings.get("docling_layout"))
        return figures_of_docling(told, pages, turned_further(document, pages), name)

    return {"layout": layout}


def _record(reading: Reading, place: Path, key: str) -> dict[str, Any]:
    """Write the figures of a reading, and say all that is known of them."""
    figures = []
    (place / "figures").mkdir()
    for i, item in enumerate(reading.items):
        if i >= MAX_FIGURES:
            reading.dropped.append(Dropped(key, "too many figures", f"more than {MAX_FIGURES}", STEP))
            break
        row = _figure(prepared(item), place, i)
        if row.get("image") is None:
            why = item.why or Dropped(item.label, "no picture", "", STEP)
            reading.dropped.append(Dropped(f"{key}/{item.label or item.number}", why.reason, why.detail, why.step))
        figures.append(row)
    dropped = [{"id": d.id, "reason": d.reason, "detail": d.detail, "step": d.step} for d in reading.dropped]
    return {"schema_version": SCHEMA_VERSION, "about": vars(reading.about), "figures": figures,
            "tables": reading.tables, "dropped": dropped, "aside": reading.aside}  # fmt: skip


def prepared(item: Item) -> Item:
    """The same figure with its panels and its kind: that of most of its panels where there are any."""
    item.panels = divide(item)
    if item.image is not None:
        boxes = [(p.box[0], p.box[1], p.box[2], p.box[3]) for p in item.panels] or [(0, 0, *item.image.size)]
        kinds = kinds_of([item.image.crop(b) for b in boxes[:MAX_KINDS]])
        item.kind = _most(kinds)
        for panel, kind in zip(item.panels, kinds, strict=False):
            panel.kind = kind.as_json()
    return item


def _most(kinds: list[Kind]) -> dict[str, Any]:
    """The kind with the largest sum of scores, and its share of them all."""
    sums: dict[str, float] = {}
    for kind in kinds:
        sums[kind.name] = sums.get(kind.name, 0.0) + kind.score
    name = max(sums, key=lambda n: sums[n])
    return {"name": name, "score": round(sums[name] / len(kinds), 4)}


def _figure(item: Item, place: Path, i: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": item.number, "numbers": list(item.numbers), "label": item.label, "caption": item.caption,
        "how": item.how, "place": item.place, "licence": item.licence, "permission": item.permission,
        "references": [r.as_json() for r in item.references], "words": [[t, b] for t, b in item.words],
        "notes": item.notes, "image": None, "kind": item.kind, "panels": [p.as_json() for p in item.panels],
    }  # fmt: skip
    if item.image is None:
        return row
    if min(item.image.size) < MIN_SIDE_PX:
        item.why = Dropped(item.label, "image too small", f"{item.image.width} x {item.image.height} px", STEP)
        return row
    data, suffix = _encoded(item)
    name = f"figures/{file_name(f'{i + 1:04d}-{item.number or i + 1}{suffix}')}"
    (place / name).write_bytes(data)
    row |= {"image": name, "px": list(item.image.size), "sha256": hashlib.sha256(data).hexdigest()}
    item.image = item.encoded = None
    return row


def _encoded(item: Item) -> tuple[bytes, str]:
    if item.encoded is not None:
        return item.encoded, ".jpg" if item.encoded[:2] == b"\xff\xd8" else ".png"
    assert item.image is not None
    return encode_png(item.image), ".png"


def unread(exc: EosinError | ImageError, key: str) -> Dropped:
    """A document that could not be read."""
    return Dropped(key, exc.message, exc.found or "", STEP)
