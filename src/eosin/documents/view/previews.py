"""Small drawings of the pages of a PDF, for the page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eosin.core.errors import ImageError
from eosin.documents.page.page import Page
from eosin.documents.pdf.read import read_preview

MAX_PAGES = 400
"""Pages of one document that are drawn: those with figures or with something set aside come first."""


def draw_pages(document: Any, record: dict[str, Any], place: Path, width_px: int) -> list[dict[str, Any]]:
    """Draw the pages on which something was found or set aside into `place/pages`; returns number and file of each."""
    wanted = {n for f in record["figures"] for n in _pages_of(f)} | {a["page"] for a in record["aside"]}
    drawn: list[dict[str, Any]] = []
    (place / "pages").mkdir(exist_ok=True)
    for about in record["about"]["pages"]:
        number = about["number"]
        if number not in wanted or len(drawn) >= MAX_PAGES:
            continue
        page = Page(number, (about["width"], about["height"]), about["turn"])
        try:
            image = read_preview(document, page, width_px)
        except ImageError:
            continue
        if image is not None:
            name = f"pages/{number:05d}.jpg"
            image.save(place / name, "JPEG", quality=72)
            drawn.append({"number": number, "file": name, "px": list(image.size)})
    return drawn


def _pages_of(figure: dict[str, Any]) -> set[int]:
    place = figure["place"]
    pages = {place.get("page"), place.get("caption_page"), place.get("caption_goes_on", {}).get("page")}
    return {p for p in pages if isinstance(p, int)}
