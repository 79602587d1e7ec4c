"""An article with its picture files as a reading: a lone XML file, or the folder that PMC hands out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import decode, header_of, read_regular_file
from eosin.core.nouns.outcome import Dropped
from eosin.core.store.names import inside
from eosin.documents.item import STEP, About, Item, Reading
from eosin.documents.jats.article import Article, ArticleFigure, read_article
from eosin.documents.jats.licences import licence_name
from eosin.documents.jats.xml import MAX_BYTES, parsed

_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
_MAX_FILES = 5000
_PMC = re.compile(r"PMC\d+(?:\.\d+)?")


def read_jats(path: Path, name: str) -> Reading:
    """Read an article; the pictures are looked for in its own folder only.

    Raises:
        EosinError: its message is a short reason: not XML, entities declared, not an article.
    """
    root = parsed(read_regular_file(path, MAX_BYTES), str(path))
    article = read_article(root)
    told = metadata_of(path)
    about = _about(article, told, path, name)
    reading = Reading(about, iter(()), tables=article.num_tables)
    reading.items = _items(article, path.parent, name)
    return reading


def metadata_of(path: Path) -> dict[str, Any]:
    """What the metadata of PMC's cloud service say of an article: PMC<id>.<version>.json beside it or in `metadata`."""
    found = _PMC.search(path.stem) or _PMC.search(path.parent.name)
    if found is None:
        return {}
    name = f"{found.group()}.json"
    for folder in (path.parent, path.parent / "metadata", path.parent.parent / "metadata", path.parent.parent):
        file = folder / name
        if file.is_file():
            try:
                told = json.loads(read_regular_file(file, 2**24).decode("utf-8"))
            except (ValueError, RecursionError, ImageError):
                return {}
            return told if isinstance(told, dict) else {}
    return {}


def _about(article: Article, told: Mapping[str, Any], path: Path, name: str) -> About:
    pmc = _PMC.search(path.stem) or _PMC.search(path.parent.name)
    unit = article.ids.get("doi") or (pmc.group().split(".")[0] if pmc else "") or name
    about = About(name, path.name, "jats", unit, article.title[:300], article.licence, article.licence_text)
    code = told.get("license_code")
    if isinstance(code, str) and code.strip():
        named = licence_name(code) or code.strip()
        if article.licence != "unknown" and not article.licence.startswith(named):
            about.notes.append(f"licence of the metadata {named}, of the article {article.licence}")
        about.licence = (
            named if article.licence == "unknown" or not article.licence.startswith(named) else article.licence
        )
    about.retracted = article.retracted or ("metadata" if told.get("is_retracted") in (True, "true", "True", 1) else "")
    return about


def _items(article: Article, folder: Path, name: str) -> Iterator[Item]:
    files = _files_of(folder)
    for figure in article.figures:
        for i in range(max(1, len(figure.files))):
            yield _item(figure, i, files)


def _files_of(folder: Path) -> dict[str, list[Path]]:
    """Picture files of a folder by their stems, in lower case."""
    found: dict[str, list[Path]] = {}
    for i, path in enumerate(sorted(folder.rglob("*"))):
        if i >= _MAX_FILES:
            break
        if path.suffix.lower() in _SUFFIXES and inside(folder, str(path.relative_to(folder))) is not None:
            found.setdefault(path.stem.lower(), []).append(path)
            found.setdefault(path.name.lower(), []).append(path)
    return found


def _item(figure: ArticleFigure, i: int, files: Mapping[str, list[Path]]) -> Item:
    """A picture of a figure; where several stand under one caption, each is a figure that shares it."""
    several = len(figure.files) > 1
    number = f"{figure.number}_{i + 1}" if several else figure.number
    item = Item(
        number, figure.label, figure.caption, (number,), {"element": figure.id}, "jats",
        licence=figure.licence, permission=figure.permission, references=list(figure.references),
    )  # fmt: skip
    if figure.group:
        item.place["group_caption"] = figure.group
    if figure.supplement:
        item.notes.append("supplement")
    if several:
        item.place["file_of"] = [i + 1, len(figure.files)]
        item.notes.append("one of several pictures under one caption")
    forms = figure.files[i] if figure.files else ()
    path = _picture(forms, files)
    if path is None:
        told = ", ".join(forms)[:160] or "the figure names no file"
        item.why = Dropped(figure.label, "image file missing", told, STEP)
        return item
    item.place["file"] = path.name
    item.place["files"] = len(forms)
    try:
        item.image, item.encoded = load(read_regular_file(path), path.name)
    except ImageError as exc:
        item.why = Dropped(figure.label, exc.message, f"{path.name}; {exc.found or ''}".strip("; "), STEP)
    return item


def _picture(forms: Sequence[str], files: Mapping[str, list[Path]]) -> Path | None:
    """The best file of a picture: the first form that is there, in the format that keeps most."""
    order = {s: i for i, s in enumerate((".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"))}
    for told in forms:
        base = told.replace("\\", "/").rpartition("/")[2].lower()
        found = files.get(base) or files.get(base.rpartition(".")[0]) or []
        if found:
            return min(found, key=lambda p: order[p.suffix.lower()])
    return None


def load(data: bytes, name: str) -> tuple[Image.Image, bytes | None]:
    """A picture, and its own bytes where they can be kept: JPEG or PNG of eight bits, not turned, without masks.

    Raises:
        ImageError: as `core.images.decode`, and for animated pictures.
    """
    head = header_of(data)
    if head is not None and head.num_frames > 1 and head.kind in ("GIF", "WEBP", "PNG"):
        raise ImageError("image is animated", found=f"{head.num_frames} frames in {head.kind}")
    picture = decode(data, name, allow_gif=True)
    keep = head is not None and head.kind in ("JPEG", "PNG") and head.mode in ("RGB", "L") and not head.is_turned
    return picture, data if keep else None


def check_kind(path: Path) -> None:
    """Refuse an XML file that is no article before it is parsed whole.

    Raises:
        EosinError: no root of an article in its first part.
    """
    head = read_regular_file(path, MAX_BYTES)[:20_000]
    if not re.search(rb"<(?:article|book|book-part|pmc-articleset|OAI-PMH)\b", head):
        raise EosinError("not a JATS article", where=path)
