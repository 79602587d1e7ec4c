"""A page of pictures becomes a page with lines: turned upright, read by OCR, its figures found by their ink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from eosin.documents.captions.labels import caption_label
from eosin.documents.page.boxes import Box, around
from eosin.documents.page.page import Line, Page, Picture
from eosin.documents.pdf.read import read_turned
from eosin.documents.scans.engine import MIN_CONFIDENCE, Reads, Word

SCALE = 150 / 72
"""Pixels a point at which pages are read: 150 an inch."""
_INK = 232
_CLOSE_PT = 5.0
_MIN_SHARE = 0.01
"""A figure takes so much of its page at least."""
_MIN_SIDE_PT = 8.0
_EDGE_PT = 8.0
_PANEL_GAP_PT = 45.0
_LONG = 40
"""Two lines of so many letters are running text; one is the title of a panel."""
_TALL = 1.3
_WHOLE = 0.9
"""Pictures that cover so much of a page are the page itself, or its background."""
_MUCH_TEXT = 300


def read_scan(document: Any, page: Page, reads: Reads) -> Page:
    """The page with lines of text and boxes of figures, in the direction in which its words can be read.

    Lines that run down the page say that it lies on its side; of the two ways to stand, the one whose words are read
    with more confidence is taken.
    """
    turned: dict[int, tuple[Image.Image, list[Word]]] = {}

    def at(extra: int) -> list[Word]:
        if extra not in turned:
            image = read_turned(document, page, extra, SCALE)
            turned[extra] = (image, reads(np.asarray(image)))
        return turned[extra][1]

    first = 1 if _lies(at(0)) else 0
    extra = first if _sure(at(first)) >= 0.93 else max((first, first + 2), key=lambda e: _sure(at(e)))
    image, words = turned[extra]
    kept = [w for w in words if w.confidence >= MIN_CONFIDENCE and w.text.strip()]
    size = (page.size[1], page.size[0]) if extra % 2 else page.size
    scale = image.width / size[0]
    lines = _lines(kept, scale)
    return Page(
        number=page.number, size=size, turn=(page.turn + extra) % 4, lines=lines, pictures=page.pictures,
        seen=figures_in(np.asarray(image.convert("RGB")), kept, scale), has_text=bool(lines),
    )  # fmt: skip


def is_whole_page(page: Page) -> bool:
    """Whether the pictures of a page with text cover it: a scan with a text layer, or a page with a background."""
    return page.has_text and bool(page.pictures) and _share(page.pictures, page) > _WHOLE


def with_ink(document: Any, page: Page) -> Page:
    """A page that is a picture with text on it, with boxes of what is no text, as `read_scan` finds them.

    A picture that fills its page stays as it is stored; so do pictures on a background. Where nothing is found by ink,
    a picture as large as the page is a background, and left out where much text stands on it.
    """
    image = read_turned(document, page, 0, SCALE)
    words = [Word(x.text, Box(*(v * SCALE for v in (x.box.x0, x.box.y0, x.box.x1, x.box.y1))), 1.0) for x in page.lines]
    seen = figures_in(np.asarray(image), words, SCALE)
    others = tuple(p for p in page.pictures if p.box.area < _WHOLE * page.box.area)
    large = any(p.box.area > _MIN_SHARE * page.box.area for p in others)
    if large and _share(others, page) < _WHOLE and all(_is_one_of(b, others) for b in seen):
        return replace(page, pictures=others)
    if seen:
        return page if len(seen) == 1 and _is_one_of(seen[0], page.pictures) else replace(page, seen=seen)
    much = sum(len(line.text) for line in page.lines) > _MUCH_TEXT
    return replace(page, pictures=()) if much else page


def _is_one_of(box: Box, pictures: Sequence[Picture]) -> bool:
    return any(box.iou(p.box) > _WHOLE for p in pictures)


def _share(pictures: Sequence[Picture], page: Page) -> float:
    """Share of a page that pictures cover together."""
    cells = np.zeros((100, 100), bool)
    wide, high = page.size
    for p in pictures:
        x0, x1 = (round(100 * v / wide) for v in (p.box.x0, p.box.x1))
        y0, y1 = (round(100 * v / high) for v in (p.box.y0, p.box.y1))
        cells[max(0, y0) : y1, max(0, x0) : x1] = True
    return float(cells.mean())


def _lies(words: list[Word]) -> bool:
    """Whether most of the text runs down the page."""
    tall = sum(w.box.height for w in words if w.box.height > _TALL * w.box.width)
    wide = sum(w.box.width for w in words if w.box.width > _TALL * w.box.height)
    return tall > wide


def _sure(words: list[Word]) -> float:
    """Mean confidence by letter."""
    letters = sum(len(w.text) for w in words)
    return sum(w.confidence * len(w.text) for w in words) / letters if letters else 0.0


def _lines(words: list[Word], scale: float) -> tuple[Line, ...]:
    """Words as lines in points. Heights of boxes vary with their letters: like heights become one size.

    That size is the one that most letters have, so that the many short words of a plot, a little smaller, do not give
    the low lines of a paragraph another size than the high ones.
    """
    heights = sorted((w.box.height, len(w.text.strip())) for w in words)
    lines = []
    for word in words:
        size = _middle([h for h in heights if 0.72 * word.box.height <= h[0] <= 1.4 * word.box.height]) / scale
        box = Box(word.box.x0 / scale, word.box.y0 / scale, word.box.x1 / scale, word.box.y1 / scale)
        middle = (box.y0 + box.y1) / 2
        line = Box(box.x0, middle - size / 2, box.x1, middle + size / 2)
        lines.append(Line(word.text.strip(), line, round(size, 2), confidence=round(word.confidence, 4)))
    return tuple(sorted(lines, key=lambda x: (x.box.y0, x.box.x0)))


def _middle(heights: list[tuple[float, int]]) -> float:
    """Median of heights (height, letters) in rising order, each counted as often as it has letters."""
    half, passed = sum(letters for _, letters in heights) / 2, 0
    for height, letters in heights:
        passed += letters
        if passed > half:
            return height
    return heights[-1][0]


def figures_in(rgb: NDArray[np.uint8], words: list[Word], scale: float) -> tuple[Box, ...]:
    """Boxes in points of what is inked and no text.

    Args:
        rgb: (H, W, 3) the page. words: what was read on it.
    """
    ink = (rgb.min(2) < _INK) | (rgb.max(2).astype(int) - rgb.min(2) > 24)
    for word in words:
        if len(word.text) > 12:  # short words may be letters of panels and marks of axes
            b = word.box.grown(2)
            ink[max(0, int(b.y0)) : int(b.y1) + 1, max(0, int(b.x0)) : int(b.x1) + 1] = False
    reach = max(1, round(_CLOSE_PT * scale / 2))
    small = ink[::2, ::2]
    joined = ndimage.binary_dilation(small, iterations=max(1, reach // 2))
    labels, _ = ndimage.label(joined)
    found = []
    high, wide = rgb.shape[0] / scale, rgb.shape[1] / scale
    for y, x in ndimage.find_objects(labels):
        box = Box(2 * x.start / scale, 2 * y.start / scale, 2 * x.stop / scale, 2 * y.stop / scale)
        side = min(box.width, box.height)
        at_edge = box.x0 < _EDGE_PT and box.x1 > wide - _EDGE_PT  # a bar across the page
        if (
            side > _MIN_SIDE_PT
            and box.area < 0.95 * high * wide
            and max(box.width, box.height) < 14 * side
            and not at_edge
        ):
            found.append(box.grown(-_CLOSE_PT / 2))
    whole = _merged(found, [w for w in words if len(w.text) > 12], scale)
    return tuple(b for b in whole if b.area > _MIN_SHARE * high * wide)


def _merged(boxes: list[Box], words: list[Word], scale: float) -> list[Box]:
    """Boxes that stand near to each other without a line of text between them, as panels of a figure do, made one."""
    lines = [(Box(*(v / scale for v in (w.box.x0, w.box.y0, w.box.x1, w.box.y1))), w.text) for w in words]
    waiting, whole = list(boxes), []
    while waiting:
        box = waiting.pop()
        for other in waiting:
            if box.grown(_PANEL_GAP_PT).meet(other) is not None and _may_join(box, other, lines):
                waiting.remove(other)
                waiting.append(around([box, other]))
                break
        else:
            whole.append(box)
    return whole


def _may_join(a: Box, b: Box, lines: list[tuple[Box, str]]) -> bool:
    """Whether two boxes may be one figure: no paragraph or caption lies between them, and none has its own caption."""
    both = around([a, b])
    between = [x for line, x in lines if line.covered(both) > 0.5 and max(line.covered(a), line.covered(b)) < 0.5]
    if sum(len(x) > _LONG for x in between) > 1 or any(caption_label(x) is not None for x in between):
        return False
    heads = [line for line, text in lines if caption_label(text) is not None and 0 <= line.y0 - both.y1 < 60]
    return not (any(h.overlap_x(a) > 0 >= h.overlap_x(b) for h in heads)
                and any(h.overlap_x(b) > 0 >= h.overlap_x(a) for h in heads))  # fmt: skip
