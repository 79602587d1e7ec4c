"""Regions are joined to captions: which picture a caption speaks of, by nearness and by the habit of the document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eosin.documents.captions.find import Caption
from eosin.documents.figures.regions import Region
from eosin.documents.page.boxes import Box
from eosin.documents.page.page import Page

Side = str
"""Where a caption stands as seen from its figure: below, above, beside."""
_BESIDE = 25.0
_BLOCKED = 400.0
_FAR_PT = 260.0
_LAST_RESORT_PT = 70.0
_SMALL = 0.02
"""A picture of less of the page is not taken from the unusual side."""


@dataclass
class Match:
    """A caption with the regions that it speaks of. Without regions its figure was not found.

    Attributes:
        how: below, above, beside, next page (the caption follows on the next page), page before.
    """

    caption: Caption
    regions: list[Region] = field(default_factory=list)
    how: str = ""


def matched(
    pages: Sequence[Page], captions: Sequence[Caption], regions: Sequence[Region]
) -> tuple[list[Match], list[Region]]:
    """Every caption with its regions, and the regions that no caption speaks of.

    The habit of the document, captions below or above their figures, is whichever joins regions to captions at the
    lower cost; tables keep captions above. What is left is looked for on the next page and the one before, then on the
    unusual side.
    """
    tries = [_assigned(pages, captions, regions, habit) for habit in ("below", "above")]
    _, matches, alone = min(tries, key=lambda t: t[0])
    alone = _over_pages(pages, matches, alone)
    alone = _last_resort(pages, captions, matches, alone)
    return matches, alone


def _assigned(
    pages: Sequence[Page], captions: Sequence[Caption], regions: Sequence[Region], habit: Side
) -> tuple[float, list[Match], list[Region]]:
    """Every region joined to the nearest caption on its usual side or beside it; the cost of it all in points."""
    matches = [Match(c) for c in captions]
    by_page = {p.number: p for p in pages}
    costs: dict[int, list[tuple[float, Side, Region]]] = {}
    alone: list[Region] = []
    for region in regions:
        page = by_page[region.page]
        offers = []
        for k, match in enumerate(matches):
            side, cost = _cost(region, match.caption, page, captions)
            usual = ("above" if match.caption.label.kind == "table" else habit, "beside")
            if match.caption.page == region.page and side in usual and cost < _FAR_PT:
                offers.append((cost, k, side))
        if not offers:
            alone.append(region)
            continue
        cost, k, side = min(offers)
        costs.setdefault(k, []).append((cost, side, region))
    total = 0.0
    for k, offers_of in costs.items():
        nearest = min(offers_of, key=lambda o: o[0])
        for cost, side, region in offers_of:
            if side == nearest[1] and is_near(region, nearest[2], [r for _, _, r in offers_of]):
                matches[k].regions.append(region)
                total += cost
            else:
                alone.append(region)
        matches[k].how = nearest[1]
    empty = sum(not m.regions for m in matches if m.caption.label.kind == "figure")
    return total + (len(alone) + empty) * _FAR_PT, matches, alone


def is_near(region: Region, nearest: Region, others: Sequence[Region]) -> bool:
    """Whether a region is joined to the nearest one of its caption by gaps that panels have."""
    reached = [nearest]
    waiting = [r for r in others if r is not nearest]
    grown = True
    while grown:
        grown = False
        for other in list(waiting):
            if any(r.box.grown(_reach(r, other)).meet(other.box) is not None for r in reached):
                reached.append(other)
                waiting.remove(other)
                grown = True
    return region in reached


def _reach(a: Region, b: Region) -> float:
    """The widest gap in points that two panels of one figure have between them."""
    return 26.0 if a.is_raster and b.is_raster else 14.0


def _cost(region: Region, caption: Caption, page: Page, captions: Sequence[Caption]) -> tuple[Side, float]:
    """Side and cost in points of joining a region to a caption of the same page."""
    side, cost = _side(region.box, caption.box)
    if caption.page != region.page:
        return side, _BLOCKED
    cost += _BESIDE if side == "beside" else 0.0
    between = _between(region.box, caption.box, side)
    if between is not None and _is_blocked(between, region, caption, page, captions):
        cost += _BLOCKED
    if side != "beside" and region.box.overlap_x(caption.box) < 0.3 * min(region.box.width, caption.box.width):
        cost += 150.0
    return side, cost


def _side(region: Box, caption: Box) -> tuple[Side, float]:
    slack = 0.25 * min(region.height, caption.height)
    if caption.y0 >= region.y1 - slack:
        return "below", max(0.0, caption.y0 - region.y1)
    if caption.y1 <= region.y0 + slack:
        return "above", max(0.0, region.y0 - caption.y1)
    return "beside", max(0.0, -region.overlap_x(caption))


def _between(region: Box, caption: Box, side: Side) -> Box | None:
    """What lies between a region and a caption."""
    if side == "below":
        y0, y1 = region.y1, caption.y0
    elif side == "above":
        y0, y1 = caption.y1, region.y0
    else:
        x0, x1 = (region.x1, caption.x0) if caption.x0 > region.x0 else (caption.x1, region.x0)
        y0, y1 = max(region.y0, caption.y0), min(region.y1, caption.y1)
        return Box(x0, y0, x1, y1) if x1 > x0 + 1 and y1 > y0 + 1 else None
    x0, x1 = max(region.x0, caption.x0), min(region.x1, caption.x1)
    return Box(x0, y0, x1, y1) if x1 > x0 + 1 and y1 > y0 + 1 else None


def _is_blocked(between: Box, region: Region, caption: Caption, page: Page, captions: Sequence[Caption]) -> bool:
    """Whether running text or another caption stands between the two."""
    for other in captions:
        if (
            other is not caption
            and other.page == page.number
            and between.covered(other.box) + other.box.covered(between) > 0.5
        ):
            return True
    for block in page.blocks:
        if block in caption.blocks or any(line in region.words for line in block.lines):
            continue
        letters = sum(len(line.text) for line in block.lines)
        if letters > 80 and block.box.covered(between) > 0.5:
            return True
    return False


def _over_pages(pages: Sequence[Page], matches: Sequence[Match], alone: list[Region]) -> list[Region]:
    """Captions without a figure take the last lone figure of the page before, or the first of the page after."""
    sizes = {p.number: p.box for p in pages}
    for match in matches:
        caption = match.caption
        if match.regions or caption.label.kind == "table":
            continue
        height = sizes[caption.page].height
        for step, how in ((-1, "next page"), (1, "page before")):
            there = [
                r for r in alone
                if r.page == caption.page + step and r.box.area > 0.08 * sizes[r.page].area
                and all(m.caption.page != r.page or m.regions for m in matches)
            ]  # fmt: skip
            at_edge = caption.box.y0 < 0.45 * height if step < 0 else caption.box.y1 > 0.55 * height
            if there and at_edge:
                match.regions = there
                match.how = how
                alone = [r for r in alone if r not in there]
                break
    return alone


def _last_resort(
    pages: Sequence[Page], captions: Sequence[Caption], matches: Sequence[Match], alone: list[Region]
) -> list[Region]:
    """Captions without a figure take a near one from the unusual side."""
    by_page = {p.number: p for p in pages}
    for match in matches:
        if match.regions or match.caption.label.kind == "table":
            continue
        page = by_page[match.caption.page]
        offers = [
            (*_cost(r, match.caption, page, captions), r) for r in alone
            if r.page == page.number and r.box.area > _SMALL * page.box.area
        ]  # fmt: skip
        near = [(cost, side, r) for side, cost, r in offers if cost < _LAST_RESORT_PT]
        if near:
            _, match.how, region = min(near, key=lambda o: o[0])
            match.regions = [region]
            alone = [r for r in alone if r is not region]
    return alone
