"""A PDF as a reading: what it says of itself, and its figures one at a time with their pixels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import decode, header_of
from eosin.core.nouns.outcome import Dropped
from eosin.documents.captions.find import body_size, captions_of
from eosin.documents.figures.figure import STEP, Figure, Found, figures_of
from eosin.documents.item import About, Item, Reading
from eosin.documents.jats.licences import own_licence, permission_of
from eosin.documents.page.page import Page
from eosin.documents.pdf.read import read_page, read_raster
from eosin.documents.references.references import references_to
from eosin.documents.references.sentences import sentences_of
from eosin.documents.scans.read import is_whole_page, with_ink

MAX_PAGES = 20_000
_DOI = re.compile(r"\b10\.\d{4,9}/[^\s\"<>|]{3,80}[A-Za-z0-9]")


Scan = Callable[[Page], Page]
Layout = Callable[[list[Page], str], Found]


def read_pdf(document: Any, path: Path, name: str, scan: Scan | None = None, layout: Layout = figures_of) -> Reading:
    """Read the layout of all pages; pixels are read when `items` runs.

    Args:
        document: of pypdfium2. name: key of the results. scan: reads a page that has no text layer.
        layout: finds figures on the pages; the rules of `figures/`, or another backend.

    Raises:
        EosinError: no page has a text layer, or there are too many pages.
    """
    if len(document) > MAX_PAGES:
        raise EosinError("too many pages", expected=f"at most {MAX_PAGES:,}", found=str(len(document)), where=path)
    dropped: list[Dropped] = []
    pages = [_looked_at(document, p, scan, layout, name, dropped) for p in _pages(document, name, dropped)]
    if not any(p.has_text for p in pages):
        found = "no words that OCR could read" if scan else f"eosin documents '{path.name}' --ocr rapidocr reads it"
        raise EosinError(NO_TEXT, found=f"{len(pages)} pages of pictures; {found}", where=path)
    return reading_of(document, pages, path, name, dropped, layout)


NO_TEXT = "no text layer"


def _pages(document: Any, name: str, dropped: list[Dropped]) -> Iterator[Page]:
    for number in range(1, len(document) + 1):
        try:
            yield read_page(document, number)
        except ImageError as exc:
            dropped.append(Dropped(f"{name}/page {number}", exc.message, exc.found or "", STEP))


def _looked_at(document: Any, page: Page, scan: Scan | None, layout: Layout, name: str, dropped: list[Dropped]) -> Page:
    """A page that is a picture, read by OCR where it has no text, and with what is no text on it where it has."""
    if not page.has_text:
        return scan(page) if scan and page.pictures else page
    if layout is not figures_of or not is_whole_page(page):
        return page
    try:
        return with_ink(document, page)
    except ImageError as exc:
        dropped.append(Dropped(f"{name}/page {page.number}", exc.message, exc.found or "", STEP))
        return replace(page, pictures=())


def reading_of(
    document: Any, pages: list[Page], path: Path, name: str, dropped: list[Dropped], layout: Layout = figures_of
) -> Reading:
    """A reading from pages whose text is known, by its layer or by OCR."""
    found = layout(pages, name)
    about = _about(found, path, name)
    reading = Reading(about, iter(()), dropped, tables=len(found.tables))
    for thing, why in found.set_aside:
        reading.dropped.append(why)
        page = thing.page
        reading.aside.append({"page": page, "box": thing.box.rounded(), "reason": why.reason})
    reading.dropped += found.dropped
    bare = [p.number for p in found.pages if not p.has_text and p.pictures]
    for number in bare:
        reading.dropped.append(
            Dropped(f"{name}/page {number}", NO_TEXT, "a page of pictures; --ocr rapidocr reads it", STEP)
        )
    reading.items = _items(document, found)
    return reading


def _items(document: Any, found: Found) -> Iterator[Item]:
    captions = [b for c in captions_of(found.pages) for b in c.blocks] + found.caption_blocks
    captions += [b for f in found.figures if f.goes_on for p in found.pages if p.number == f.goes_on[0]
                 for b in p.blocks if b.box == f.goes_on[1]]  # fmt: skip
    known = {n: f.page for f in found.figures for n in f.numbers}
    references = references_to(sentences_of(found.pages, captions), known)
    by_number = {p.number: p for p in found.pages}
    seen: set[str] = set()
    for figure in found.figures:
        item = _item(figure, by_number[figure.page])
        item.references = [r for n in figure.numbers for r in references[n]]
        if item.number in seen:
            item.notes.append("the number stands twice in this document")
        seen.add(item.number)
        _with_pixels(item, document, figure, by_number[figure.page])
        yield item


def _item(figure: Figure, page: Page) -> Item:
    place: dict[str, Any] = {
        "page": figure.page, "box_pt": figure.box.rounded(), "parts_pt": [b.rounded() for b in figure.parts],
        "caption_page": figure.caption_page, "caption_box_pt": figure.caption_box.rounded(),
    }  # fmt: skip
    if figure.goes_on is not None:
        place["caption_goes_on"] = {"page": figure.goes_on[0], "box_pt": figure.goes_on[1].rounded()}
    if figure.confidence < 1:
        place["ocr_confidence"] = round(figure.confidence, 3)
    return Item(
        figure.number, figure.label, figure.caption, figure.numbers, place, figure.how,
        permission=permission_of(figure.caption), notes=list(figure.notes),
    )  # fmt: skip


def _with_pixels(item: Item, document: Any, figure: Figure, page: Page) -> None:
    try:
        raster = read_raster(document, page, figure.box, figure.pictures, overlaid=figure.overlaid)
    except ImageError as exc:
        item.why = Dropped(item.label, exc.message, exc.found or "", STEP)
        return
    item.image = raster.image
    item.place |= {"pixels": raster.how, "px_per_pt": raster.scale}
    item.encoded = _same(raster.jpeg, raster.image)
    for word in figure.words:
        box = [word.box.x0 - figure.box.x0, word.box.y0 - figure.box.y0,
               word.box.x1 - figure.box.x0, word.box.y1 - figure.box.y0]  # fmt: skip
        item.words.append((word.text, [round(v * raster.scale, 1) for v in box]))


def _same(jpeg: bytes | None, image: Image.Image) -> bytes | None:
    """The stored JPEG, where any reader of JPEG shows the same picture."""
    if jpeg is None:
        return None
    head = header_of(jpeg)
    if head is None or (head.kind, head.size) != ("JPEG", image.size) or head.is_turned:
        return None
    if head.mode not in ("RGB", "L"):
        return None
    try:
        small = decode(jpeg).resize((64, 64), Image.Resampling.BOX)
    except ImageError:  # a damaged stream that pdfium mends
        return None
    mine = image.resize((64, 64), Image.Resampling.BOX)
    far = max(abs(a - b) for a, b in zip(small.tobytes(), mine.tobytes(), strict=True))
    return jpeg if far <= 4 else None


def _about(found: Found, path: Path, name: str) -> About:
    pages = [{"number": p.number, "width": round(p.size[0], 1), "height": round(p.size[1], 1), "turn": p.turn}
             for p in found.pages]  # fmt: skip
    edge = " ".join(line.text for p in found.pages[:2] for line in p.lines)
    doi = _DOI.search(edge)
    about = About(name, path.name, "pdf", doi.group().rstrip(".") if doi else name, pages=pages)
    about.title = _title(found.pages)
    captions = {id(b) for c in captions_of(found.pages) for b in c.blocks}
    for page in [*found.pages[:2], *found.pages[-2:]]:
        texts = [b.text for b in page.blocks if id(b) not in captions]
        stated = next((s for t in texts if (s := own_licence(t, named=True))), None) or own_licence(" ".join(texts))
        if stated is not None:
            about.licence, about.licence_text = stated
            return about
    return about


def _title(pages: list[Page]) -> str:
    """The largest text in the upper half of the first page, where it is larger than the running text."""
    if not pages or not pages[0].blocks:
        return ""
    upper = [b for b in pages[0].blocks if b.box.y0 < 0.5 * pages[0].size[1] and len(b.text) > 8]
    largest = max(upper, key=lambda b: b.size, default=None)
    return largest.text[:300] if largest is not None and largest.size > 1.15 * body_size(pages) else ""
