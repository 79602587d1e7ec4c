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
_PENALTY = {"below": 0.0, "above": 0.0, "beside": 25.0}
_UNUSUAL = 60.0
_BLOCKED = 400.0
_FAR_PT = 260.0


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
    lower cost; tables keep captions above.
    """
    tries = [_assigned(pages, captions, regions, habit) for habit in ("below", "above")]
    cost, matches, alone = min(tries, key=lambda t: t[0])
    alone = _over_pages(pages, matches, alone)
    return matches, alone


def _assigned(
    pages: Sequence[Page], captions: Sequence[Caption], regions: Sequence[Region], habit: Side
) -> tuple[float, list[Match], list[Region]]:
    matches = [Match(c) for c in captions]
    by_page = {p.number: p for p in pages}
    total = 0.0
    alone: list[Region] = []
    for region in regions:
        page = by_page[region.page]
        offers = []
        for match in matches:
            if match.caption.page != region.page:
                continue
            side, cost = _cost(region, match.caption, page, captions, regions, habit)
            if cost < _FAR_PT:
                offers.append((cost, side, match))
        if not offers:
            alone.append(region)
            total += _FAR_PT
            continue
        cost, side, match = min(offers, key=lambda o: o[0])
        match.regions.append(region)
        match.how = match.how or side
        total += cost
    empty = sum(not m.regions for m in matches if m.caption.label.kind == "figure")
    return total + empty * _FAR_PT, matches, alone


def _cost(
    region: Region, caption: Caption, page: Page, captions: Sequence[Caption], regions: Sequence[Region], habit: Side
) -> tuple[Side, float]:
    """Side and cost in points of joining a region to a caption."""
    side, gap = _side(region.box, caption.box)
    cost = gap + _PENALTY[side]
    wanted = "above" if caption.label.kind == "table" else habit
    if side != wanted and side != "beside":
        cost += _UNUSUAL
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
