"""A PDF page by page: its layout first, then the pixels of the regions that were found on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from eosin.core.errors import ImageError
from eosin.documents.page.boxes import Box
from eosin.documents.page.page import Page, Picture
from eosin.documents.pdf.frame import Frame
from eosin.documents.pdf.objects import Placed, drawings_of, pictures_of, placed_objects
from eosin.documents.pdf.rasters import MAX_PIXELS, Raster, draw, raster_of
from eosin.documents.pdf.text import lines_of, text_turn

MIN_LETTERS = 8
MAX_PAGE_PT = 20_000.0


def read_page(document: Any, number: int) -> Page:
    """Layout of a page.

    Args:
        document: of pypdfium2. number: from 1.

    Raises:
        ImageError: the page cannot be loaded, or has no size that a page can have.
    """
    with _Opened(document, number) as page:
        placed = list(placed_objects(page.page, page.raw))
        pictures = tuple(p for p, _ in pictures_of(placed, page.raw, page.frame))
        lines = lines_of(page.textpage, page.raw, page.frame)
        return Page(
            number=number, size=page.frame.size, turn=page.frame.turn, lines=lines, pictures=pictures,
            drawings=drawings_of(placed, page.raw, page.frame),
            has_text=sum(len(line.text) for line in lines) >= MIN_LETTERS,
        )  # fmt: skip


def turned_further(document: Any, pages: Sequence[Page]) -> dict[int, int]:
    """Quarter turns clockwise of each page beyond what its own entry says."""
    return {p.number: (p.turn - document[p.number - 1].get_rotation() // 90) % 4 for p in pages}


def read_raster(document: Any, page: Page, region: Box, pictures: tuple[Picture, ...], *, overlaid: bool) -> Raster:
    """Pixels of a region of a page that was read by `read_page`. See `rasters.raster_of`.

    Raises:
        ImageError: as there.
    """
    with _Opened(document, page.number, page.turn) as opened:
        found = pictures_of(list(placed_objects(opened.page, opened.raw)), opened.raw, opened.frame)
        wanted = {p.number for p in pictures}
        parts: list[tuple[Picture, Placed]] = [(p, item) for p, item in found if p.number in wanted]
        if any(p.px[0] * p.px[1] > MAX_PIXELS for p, _ in found if region.meet(p.box) is not None):
            raise ImageError("image too large", expected=f"at most {MAX_PIXELS:,} pixels")
        return raster_of(
            opened.page, opened.frame, region, parts, overlaid=overlaid, extra_turn=opened.extra_turn
        )  # fmt: skip


def read_turned(document: Any, page: Page, extra: int, scale: float) -> Image.Image:
    """The whole page, with quarter turns clockwise beyond those it has.

    Raises:
        ImageError: a picture on it is too large to be unpacked.
    """
    with _Opened(document, page.number, (page.turn + extra) % 4) as opened:
        _check_pictures(opened)
        return draw(opened.page, opened.frame, Box(0.0, 0.0, *opened.frame.size), scale, opened.extra_turn)


def _check_pictures(opened: _Opened) -> None:
    for picture, _ in pictures_of(list(placed_objects(opened.page, opened.raw)), opened.raw, opened.frame):
        if picture.px[0] * picture.px[1] > MAX_PIXELS:
            raise ImageError("image too large", expected=f"at most {MAX_PIXELS:,} pixels")


def read_preview(document: Any, page: Page, width_px: int) -> Image.Image | None:
    """The whole page, drawn small; None where a picture on it is too large to be unpacked."""
    with _Opened(document, page.number, page.turn) as opened:
        found = pictures_of(list(placed_objects(opened.page, opened.raw)), opened.raw, opened.frame)
        if any(p.px[0] * p.px[1] > MAX_PIXELS for p, _ in found):
            return None
        return draw(opened.page, opened.frame, page.box, width_px / page.size[0], opened.extra_turn)


class _Opened:
    """A page with its text and its frame, closed at the end."""

    def __init__(self, document: Any, number: int, turn: int | None = None) -> None:
        import pypdfium2.raw as raw

        self.raw, self._document, self._number, self._turn = raw, document, number, turn

    def __enter__(self) -> _Opened:
        try:
            self.page = self._document[self._number - 1]
            self.textpage = self.page.get_textpage()
        except Exception as exc:  # pdfium's own errors
            raise ImageError("page cannot be loaded", found=str(exc)[:120]) from None
        box = self.page.get_cropbox(fallback_ok=True)
        own = (self.page.get_rotation() // 90) % 4
        upright = text_turn(self.textpage, self.raw) if self._turn is None else self._turn
        self.extra_turn = (upright - own) % 4 if upright is not None else 0
        turn = (own + self.extra_turn) % 4
        self.frame = Frame(*self._visible(box), turn)
        if max(self.frame.size) > MAX_PAGE_PT or min(self.frame.size) < 1:
            raise ImageError("page size not possible", found=f"{self.frame.size[0]:.0f} x {self.frame.size[1]:.0f} pt")
        return self

    def _visible(self, box: tuple[float, ...]) -> tuple[float, float, float, float]:
        media = self.page.get_mediabox(fallback_ok=True)
        left, bottom, right, top = (
            max(box[0], media[0]), max(box[1], media[1]), min(box[2], media[2]), min(box[3], media[3]),
        )  # fmt: skip
        if right - left < 1 or top - bottom < 1:
            return (media[0], media[1], media[2], media[3])
        return left, bottom, right, top

    def __exit__(self, *_: object) -> None:
        self.textpage.close()
        self.page.close()
