"""Figures of a document: captions, regions and what was set aside, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from eosin.core.nouns.outcome import Dropped
from eosin.documents.captions.blocks import with_blocks
from eosin.documents.captions.find import Caption, captions_of
from eosin.documents.figures.match import Match, matched
from eosin.documents.figures.regions import Region, furniture_of, regions_of, with_words
from eosin.documents.page.boxes import Box, around
from eosin.documents.page.page import Block, Line, Page, Picture

STEP = "figures"


@dataclass(frozen=True)
class Figure:
    """A figure with its caption.

    Attributes:
        numbers: of its label, one mostly. label: as written.
        page, box: where its picture stands. caption_page, caption_box: where its caption begins.
        parts: boxes of the regions that were joined to it. words: text in it and at its edges.
        overlaid: whether text or drawings are part of it, so that its stored pictures alone are not the figure.
        how: how the caption was found: below, above, beside, next page, page before.
        notes: what a reader of the record should know.
    """

    numbers: tuple[str, ...]
    label: str
    caption: str
    page: int
    box: Box
    caption_page: int
    caption_box: Box
    goes_on: tuple[int, Box] | None = None
    parts: tuple[Box, ...] = ()
    pictures: tuple[Picture, ...] = ()
    words: tuple[Line, ...] = ()
    overlaid: bool = False
    how: str = ""
    confidence: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def number(self) -> str:
        return self.numbers[0]


@dataclass
class Found:
    """What a document holds. Every region of every page is in a figure or among those set aside.

    Attributes:
        dropped: what was set aside and has no place on a page. caption_blocks: of captions that another backend found.
    """

    pages: list[Page]
    figures: list[Figure] = field(default_factory=list)
    tables: list[Caption] = field(default_factory=list)
    set_aside: list[tuple[Region | Caption, Dropped]] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    caption_blocks: list[Block] = field(default_factory=list)


def figures_of(pages: Sequence[Page], document: str) -> Found:
    """Figures of a document from the layout of its pages.

    Args:
        document: its name, for what is set aside.
    """
    ready = with_blocks(pages)
    captions = captions_of(ready)
    regions = _regions(ready, captions)
    return collected(ready, *matched(ready, captions, regions), document)


def collected(pages: Sequence[Page], matches: Sequence[Match], alone: Sequence[Region], document: str) -> Found:
    """Figures of captions whose regions are known, and what of them is set aside.

    Args:
        pages: with blocks. alone: regions that no caption speaks of.
    """
    found = Found(list(pages))
    for match in _same_figures(matches):
        _add(found, match, document)
    for region in alone:
        name = f"{document}/page {region.page}"
        found.set_aside.append((region, Dropped(name, "no caption", _where(region.box), STEP)))
    return found


def _regions(pages: Sequence[Page], captions: Sequence[Caption]) -> list[Region]:
    furniture = furniture_of(pages)
    found = []
    for page in pages:
        boxes = [c.box for c in captions if c.page == page.number]
        found += [with_words(r, page, boxes) for r in regions_of(page, furniture)]
    return found


def _where(box: Box) -> str:
    return "box " + ", ".join(f"{v:g}" for v in box.rounded()) + " pt"


def _same_figures(matches: Sequence[Match]) -> list[Match]:
    """Captions of one figure in two languages, or of a figure that goes on: joined where one of them has no picture."""
    kept: list[Match] = []
    for match in matches:
        twin = next(
            (m for m in kept if m.caption.label.numbers == match.caption.label.numbers
             and m.caption.label.kind == match.caption.label.kind and m.caption.page == match.caption.page
             and not (m.regions and match.regions)),
            None,
        )  # fmt: skip
        if twin is None:
            kept.append(match)
            continue
        twin.caption.text = f"{twin.caption.text}\n{match.caption.text}"
        twin.caption.notes.append("several captions")
        if match.regions:
            twin.regions, twin.how = match.regions, match.how
    return kept


def _add(found: Found, match: Match, document: str) -> None:
    caption = match.caption
    name = f"{document}/{caption.label.text}"
    if caption.label.kind == "table":
        found.tables.append(caption)
        for region in match.regions:
            found.set_aside.append((region, Dropped(f"{name}", "a table", _where(region.box), STEP)))
        return
    if not match.regions:
        detail = f"page {caption.page}"
        found.set_aside.append((caption, Dropped(name, "caption without a picture", detail, STEP)))
        return
    pages = {r.page for r in match.regions}
    for number in sorted(pages):
        regions = [r for r in match.regions if r.page == number]
        found.figures += _figures(match, regions)


def _figures(match: Match, regions: Sequence[Region]) -> list[Figure]:
    """One figure of all regions; one each where the caption names as many figures as there are regions."""
    numbers = match.caption.label.numbers
    whole = _figure(match, regions)
    if len(numbers) > 1 and len(numbers) == len(regions):
        ordered = sorted(regions, key=lambda r: (round(r.box.y0 / 40), r.box.x0))
        shared = ("shared caption",)
        return [
            replace(_figure(match, [r]), numbers=(n,), notes=shared) for n, r in zip(numbers, ordered, strict=True)
        ]  # fmt: skip
    return [whole]


def _figure(match: Match, regions: Sequence[Region]) -> Figure:
    caption = match.caption
    pictures = tuple(p for r in regions for p in r.pictures)
    words = tuple(w for r in regions for w in r.words)
    box = around(r.box for r in regions)
    raster = all(r.is_raster for r in regions)
    if raster:  # letters of panels that stand beside their pictures belong to the figure
        box = around([box, *(w.box for w in words if w.box.covered(box) < 0.6)])
    overlaid = bool(words) or any(r.drawings for r in regions)
    return Figure(
        numbers=caption.label.numbers, label=caption.label.text, caption=caption.text, page=regions[0].page, box=box,
        caption_page=caption.page, caption_box=caption.box, goes_on=caption.goes_on,
        parts=tuple(r.box for r in regions), pictures=pictures, words=words, overlaid=overlaid, how=match.how,
        confidence=caption.confidence, notes=tuple(caption.notes),
    )  # fmt: skip
