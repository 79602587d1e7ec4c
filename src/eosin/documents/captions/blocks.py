"""Lines become blocks: paragraphs, headings and captions, column by column, whatever their order in the file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from eosin.documents.captions.labels import caption_label
from eosin.documents.page.boxes import Box
from eosin.documents.page.page import SOFT_HYPHEN, Block, Line, Page

_SAME_SIZE = 1.15
_MIN_REPEATS = 3


def with_blocks(pages: Sequence[Page]) -> list[Page]:
    """The same pages with blocks; running heads and page numbers are left out of them."""
    heads = running_heads(pages)
    return [
        replace(p, blocks=tuple(blocks_of([line for line in p.lines if _key(line, p) not in heads]))) for p in pages
    ]


def running_heads(pages: Sequence[Page]) -> set[tuple[str, int, int]]:
    """Lines near the top or bottom edge that stand on several pages at the same place, but for their numbers."""
    counts: Counter[tuple[str, int, int]] = Counter()
    for page in pages:
        counts.update({key for line in page.lines if (key := _key(line, page)) is not None})
    least = max(_MIN_REPEATS, 0.15 * len(pages))
    return {key for key, n in counts.items() if n >= least}


def _key(line: Line, page: Page) -> tuple[str, int, int] | None:
    """What a running head is known by: its words without numbers, and its height on the page."""
    height = page.size[1]
    if not (line.box.y1 < 0.12 * height or line.box.y0 > 0.9 * height):
        return None
    words = re.sub(r"[\d\W]+", " ", line.text).strip().casefold()
    return (words, round(line.box.y0 / 6), 0)


def blocks_of(lines: Sequence[Line]) -> list[Block]:
    """Blocks of a page: each line is joined to the nearest line below it of its own column, size and spacing."""
    listed = sorted(lines, key=lambda line: (line.box.y0, line.box.x0))
    below: dict[int, int] = {}
    taken: set[int] = set()
    for i, line in enumerate(listed):
        j = _next_line(i, line, listed)
        if j is not None and j not in taken:
            below[i] = j
            taken.add(j)
    blocks = []
    for i in range(len(listed)):
        if i in taken:
            continue
        chain = [i]
        while chain[-1] in below:
            chain.append(below[chain[-1]])
        blocks += _divided([listed[k] for k in chain])
    return sorted(blocks, key=lambda b: (b.box.y0, b.box.x0))


def _next_line(i: int, line: Line, listed: Sequence[Line]) -> int | None:
    for j in range(i + 1, len(listed)):
        other = listed[j]
        if other.box.y0 - line.box.y0 > 1.9 * line.size:
            return None
        if other.box.y0 - line.box.y0 < 0.4 * min(line.size, other.size):
            continue  # beside it
        if line.box.overlap_x(other.box) > 0.3 * min(line.box.width, other.box.width):
            return j if _belongs(line, other) else None
    return None


def _belongs(line: Line, other: Line) -> bool:
    gap = other.box.y0 - line.box.y1
    ratio = max(line.size, other.size) / max(min(line.size, other.size), 0.1)
    return gap < 0.35 * line.size and ratio < _SAME_SIZE


def _divided(lines: list[Line]) -> list[Block]:
    """A run of lines, cut where a caption begins in it and where the spacing widens."""
    parts: list[list[Line]] = [[]]
    pitch = _pitch(lines)
    for i, line in enumerate(lines):
        if i and (_begins_caption(lines, i) or _widens(lines, i, pitch)):
            parts.append([])
        parts[-1].append(line)
    return [Block(tuple(part)) for part in parts if part]


def _pitch(lines: Sequence[Line]) -> float:
    steps = sorted(b.box.y0 - a.box.y0 for a, b in zip(lines, lines[1:], strict=False))
    return steps[len(steps) // 2] if steps else 0.0


def _widens(lines: Sequence[Line], i: int, pitch: float) -> bool:
    return len(lines) > 3 and lines[i].box.y0 - lines[i - 1].box.y0 > 1.3 * pitch


def _begins_caption(lines: Sequence[Line], i: int) -> bool:
    """Whether a line within a run begins a caption: it says so, and the line before it ends a paragraph."""
    line, before = lines[i], lines[i - 1]
    if caption_label(line.text, bold=line.bold_start) is None or before.text.endswith(SOFT_HYPHEN):
        return False
    ended = re.search(r"[.!?:)\]\u201d\"]\s*$", before.text) is not None
    short = before.box.x1 < max(x.box.x1 for x in lines) - 2 * line.size
    return (
        line.bold_start
        and not before.bold_start
        or (ended and short)
        or (ended and caption_label(lines[0].text) is not None)
    )


def column_of(block: Block, page: Page) -> Box:
    """The strip of the page that a block stands in: its column, or the whole width."""
    wide = page.size[0]
    if block.box.width > 0.55 * wide:
        return Box(0.0, 0.0, *page.size)
    middle = (block.box.x0 + block.box.x1) / 2
    return Box(0.0, 0.0, wide / 2, page.size[1]) if middle < wide / 2 else Box(wide / 2, 0.0, wide, page.size[1])
