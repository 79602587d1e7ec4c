"""Pictures and drawings of a page become regions: strips and tiles joined, plots with the words at their axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from eosin.documents.page.boxes import Box, around
from eosin.documents.page.page import Block, Line, Page, Picture

MIN_SIDE_PT = 24.0
"""Smaller pictures are signs and letters."""
_CELL_PT = 2.0
_JOIN_PT = 4.0
_MIN_PATHS = 4
_NEAR_PT = 12.0


@dataclass(frozen=True)
class Region:
    """A place on a page that may be a figure or a part of one.

    Attributes:
        pictures: the rasters in it. drawings: how many painted paths lie in it.
        words: lines of text that belong to it (letters of panels, words at axes).
    """

    page: int
    box: Box
    pictures: tuple[Picture, ...] = ()
    drawings: int = 0
    words: tuple[Line, ...] = ()

    @property
    def is_raster(self) -> bool:
        """Whether pictures make up most of it."""
        return bool(self.pictures) and sum(p.box.area for p in self.pictures) > 0.5 * self.box.area


def regions_of(page: Page, furniture: Sequence[Box] = ()) -> list[Region]:
    """Regions of a page in reading order.

    Args:
        furniture: boxes of pictures that stand on many pages, such as a journal's sign.
    """
    if page.seen:
        return [Region(page.number, box, drawings=1) for box in page.seen]
    pictures = [p for p in page.pictures if not any(p.box.iou(f) > 0.8 for f in furniture)]
    drawings = [d for d in page.drawings if not _is_backdrop(d, page)]
    boxes = [p.box for p in pictures] + drawings
    if not boxes:
        return []
    groups = _grouped(boxes, page)
    found = []
    for group in groups:
        inside = [pictures[i] for i in group if i < len(pictures)]
        paths = [drawings[i - len(pictures)] for i in group if i >= len(pictures)]
        region = _region(page, inside, paths)
        if region is not None:
            found.append(region)
    return sorted(found, key=lambda r: (r.box.y0, r.box.x0))


def _is_backdrop(box: Box, page: Page) -> bool:
    """A frame or a tint behind running text."""
    letters = sum(len(line.text) for line in page.lines if line.box.covered(box) > 0.8)
    return letters > 400 and box.height > 30


def _grouped(boxes: Sequence[Box], page: Page) -> list[list[int]]:
    """Boxes that touch, or nearly: found on a grid of 2 pt, so that a plot of 100,000 paths takes no longer."""
    wide, high = (int(v / _CELL_PT) + 3 for v in page.size)
    grid = np.zeros((high, wide), bool)
    reach = _JOIN_PT / 2
    cells = []
    for box in boxes:
        x0, y0 = max(0, int((box.x0 - reach) / _CELL_PT)), max(0, int((box.y0 - reach) / _CELL_PT))
        x1, y1 = min(wide, int((box.x1 + reach) / _CELL_PT) + 1), min(high, int((box.y1 + reach) / _CELL_PT) + 1)
        grid[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
        cells.append((min(y0, high - 1), min(x0, wide - 1)))
    labels, _ = ndimage.label(grid, structure=np.ones((3, 3)))
    groups: dict[int, list[int]] = {}
    for i, (y, x) in enumerate(cells):
        groups.setdefault(int(labels[y, x]), []).append(i)
    return list(groups.values())


def _region(page: Page, pictures: list[Picture], paths: list[Box]) -> Region | None:
    """A region of a group; None where it is a rule, a sign or a frame of text."""
    if not pictures:
        if len(paths) < _MIN_PATHS or _is_rules(paths):
            return None
        box = around(paths)
        if min(box.width, box.height) < MIN_SIDE_PT:
            return None
        return Region(page.number, box, drawings=len(paths))
    seen = around(p.box for p in pictures)
    if min(seen.width, seen.height) < MIN_SIDE_PT and not paths:
        return None
    inner = [p for p in paths if p.covered(seen.grown(2)) > 0.9]
    outer = [p for p in paths if p not in inner]
    if len(outer) >= _MIN_PATHS and not _is_rules(outer):
        box = around([seen, *outer])
    else:
        box = seen
    if min(box.width, box.height) < MIN_SIDE_PT:
        return None
    return Region(page.number, box, tuple(pictures), len(paths))


def _is_rules(paths: Sequence[Box]) -> bool:
    """Whether all paths are level lines or rows of cells: rules of a page or of a table."""
    flat = sum(p.height < 2.5 for p in paths)
    upright = sum(p.width < 2.5 for p in paths)
    if flat + upright < len(paths):
        return False
    return upright == 0 or flat == 0


def with_words(region: Region, page: Page, captions: Sequence[Box]) -> Region:
    """The region with its words: lines inside it, short lines at its edges. Those widen a drawing, not a raster."""
    free = [line for line in page.lines if not any(line.box.covered(c) > 0.5 for c in captions)]
    for _ in range(1 if region.is_raster else 2):  # marks at an axis first, then its name
        words = [
            line for line in free if line.box.covered(region.box) > 0.6 or _stands_at(line, region, page)
        ]  # fmt: skip
        box = region.box if region.is_raster else around([region.box, *(w.box for w in words)])
        region = replace(region, words=tuple(words), box=box)
    return region


def _stands_at(line: Line, region: Region, page: Page) -> bool:
    """Whether a line is a word at the edge of a drawing or the letter of a panel, not of the running text."""
    if line.box.meet(region.box.grown(_NEAR_PT)) is None:
        return False
    short = len(line.text) <= 3 if region.is_raster else len(line.text) <= 40
    return short and not _in_paragraph(line, page.blocks)


def _in_paragraph(line: Line, blocks: Sequence[Block]) -> bool:
    for block in blocks:
        if line in block.lines:
            return len(block.lines) > 2 and sum(len(x.text) for x in block.lines) > 90
    return False


def furniture_of(pages: Sequence[Page]) -> list[Box]:
    """Boxes of pictures that stand at the same place on three pages or more, and on a fifth of them."""
    seen: list[tuple[Box, set[int]]] = []
    for page in pages:
        for picture in page.pictures:
            if picture.box.area > 0.15 * page.box.area:
                continue
            for box, numbers in seen:
                if box.iou(picture.box) > 0.9:
                    numbers.add(page.number)
                    break
            else:
                if len(seen) < 2000:
                    seen.append((picture.box, {page.number}))
    return [box for box, numbers in seen if len(numbers) >= max(3, 0.2 * len(pages))]
