"""EPUB books and HTML pages as readings: every picture with caption, references and licence, one at a time."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import read_regular_file
from eosin.core.nouns.outcome import Dropped
from eosin.core.store.names import inside
from eosin.documents.item import STEP, About, Item, Reading
from eosin.documents.jats.licences import licence_name, permission_of
from eosin.documents.jats.reading import load
from eosin.documents.web.epub import Epub, resolved
from eosin.documents.web.figures import Shown, shown_on
from eosin.documents.web.flow import MAX_BYTES, Flow, read_flow

_RIGHTS = ("license", "dc.rights", "dcterms.rights", "dc.rights.license", "citation_license")
_NAMES = ("citation_doi", "dc.identifier", "prism.doi")
_DOI = re.compile(r"10\.\d{4,9}/\S+")
Fetch = Callable[[str, str], bytes]
"""The bytes of a picture, by the page and its link there; raises ImageError."""


def read_html(path: Path, name: str) -> Reading:
    """Read a page; its pictures are looked for in its own folder only.

    Raises:
        EosinError: its message is a short reason: empty, too large, no picture in it.
    """
    flow = read_flow(read_regular_file(path, MAX_BYTES), str(path))
    shown = _some(shown_on([(path.name, flow)]), path)
    about = About(name, path.name, "html", _unit(flow, name), flow.facts.get("title", "")[:300])
    _licensed(about, next((flow.facts[k] for k in _RIGHTS if k in flow.facts), ""))
    return _reading(about, shown, lambda page, source: _from_folder(path.parent, source))


@contextmanager
def opened_epub(path: Path, name: str) -> Iterator[Reading]:
    """Read a book. Pages that cannot be read are set aside.

    Raises:
        EosinError: its message is a short reason: not an EPUB, encrypted, too large, no picture in it.
    """
    with Epub(path) as book:
        told = book.told()
        pages: list[tuple[str, Flow]] = []
        dropped: list[Dropped] = []
        for page in told.pages:
            try:
                pages.append((page, read_flow(book.part(page), page)))
            except EosinError as exc:
                if exc.message == "document encrypted":
                    raise
                dropped.append(Dropped(f"{name}/{page[:200]}", exc.message, exc.found or "", STEP))
        about = About(name, path.name, "epub", told.identifier or name, told.title[:300])
        _licensed(about, told.rights)
        reading = _reading(about, _some(shown_on(pages), path), lambda page, source: _from_book(book, page, source))
        reading.dropped += dropped
        yield reading


def _some(shown: list[Shown], path: Path) -> list[Shown]:
    if not shown:
        raise EosinError("no picture in the document", where=path)
    return shown


def _unit(flow: Flow, name: str) -> str:
    told = next((flow.facts[k] for k in _NAMES if k in flow.facts), "")
    found = _DOI.search(told)
    return found.group() if found else told or name


def _licensed(about: About, rights: str) -> None:
    about.licence = licence_name(rights) or rights[:120] or "unknown"
    about.licence_text = rights[:600]


def _reading(about: About, shown: Sequence[Shown], fetch: Fetch) -> Reading:
    reading = Reading(about, iter(()), tables=sum(s.is_table for s in shown))
    reading.items = _items(about, shown, fetch, reading)
    return reading


def _items(about: About, shown: Sequence[Shown], fetch: Fetch, reading: Reading) -> Iterator[Item]:
    for one in shown:
        if one.is_table or not one.caption:
            why = "table as a picture" if one.is_table else "picture without a caption"
            reading.dropped.append(Dropped(f"{about.name}/{one.number}", why, one.sources[0][:160], STEP))
            continue
        for i, source in enumerate(one.sources):
            yield _item(one, i, source, fetch)


def _item(shown: Shown, i: int, source: str, fetch: Fetch) -> Item:
    """A picture of a figure; where several stand under one caption, each is a figure that shares it."""
    several = len(shown.sources) > 1
    number = f"{shown.number}_{i + 1}" if several else shown.number
    licence = licence_name(shown.caption) or ""
    item = Item(
        number, shown.label or shown.number, shown.caption, (number,), {"page_file": shown.page}, "web",
        licence=licence, permission="" if licence else permission_of(shown.caption), references=list(shown.references),
    )  # fmt: skip
    if several:
        item.place |= {"file_of": [i + 1, len(shown.sources)]}
        item.notes.append("one of several pictures under one caption")
    told = source[:60] if source.startswith("data:") else source[:160]
    item.place["file"] = told
    try:
        item.image, item.encoded = load(fetch(shown.page, source), told)
    except (ImageError, EosinError) as exc:
        item.why = Dropped(item.label, exc.message, f"{told}; {exc.found or ''}".strip("; "), STEP)
    return item


def _from_folder(folder: Path, source: str) -> bytes:
    """A picture in the page itself, or in a file beside it. A link to elsewhere is never followed."""
    if source.startswith("data:"):
        return _in_the_page(source)
    link = urlsplit(source)
    if link.scheme or link.netloc:
        raise ImageError("picture is elsewhere, and links are not followed", found=link.netloc or link.scheme)
    path = inside(folder, unquote(link.path))
    if path is None:
        raise ImageError("name leads out of the folder")
    return read_regular_file(path)


def _from_book(book: Epub, page: str, source: str) -> bytes:
    if source.startswith("data:"):
        return _in_the_page(source)
    name = resolved(page, source)
    if name is None:
        raise ImageError("picture is not in the book, and links are not followed", found=source[:80])
    return book.part(name)


def _in_the_page(source: str) -> bytes:
    """The bytes of a data URI (RFC 2397)."""
    head, comma, data = source.partition(",")
    try:
        plain = unquote_to_bytes(data)
        return base64.b64decode(plain, validate=False) if comma and head.endswith(";base64") else plain
    except (binascii.Error, ValueError) as exc:
        raise ImageError("image in the page damaged", found=str(exc)[:120]) from None
