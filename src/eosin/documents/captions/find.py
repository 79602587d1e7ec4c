"""Captions of a document: blocks that begin with a label, followed over the end of a page where they go on there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from eosin.documents.captions.labels import Label, caption_label
from eosin.documents.page.boxes import Box
from eosin.documents.page.page import Block, Line, Page, joined


@dataclass
class Caption:
    """A caption with its place.

    Attributes:
        page: number of the page that it begins on. box: on that page. goes_on: page and box of what stands on the next.
        confidence: of OCR, the mean over its lines.
    """

    label: Label
    text: str
    page: int
    box: Box
    blocks: tuple[Block, ...]
    goes_on: tuple[int, Box] | None = None
    confidence: float = 1.0
    notes: list[str] = field(default_factory=list)


def captions_of(pages: Sequence[Page]) -> list[Caption]:
    """Captions of figures and of tables, in the order of the pages."""
    body = body_size(pages)
    found: list[Caption] = []
    for i, page in enumerate(pages):
        for k, block in enumerate(page.blocks):
            first = block.lines[0]
            label = caption_label(_start_of(block), bold=first.bold_start)
            if label is None or _is_listed(block, page):
                continue
            following = _following(block, k, page)
            lines = [line for b in (block, *following) for line in b.lines]
            caption = Caption(
                label, joined(lines), page.number, _around(lines), (block, *following),
                confidence=sum(line.confidence for line in lines) / len(lines),
            )  # fmt: skip
            if i + 1 < len(pages):
                _continue(caption, page, pages[i + 1], body)
            found.append(caption)
    return _without_text(found, body)


def _without_text(found: list[Caption], body: float) -> list[Caption]:
    """The same without running text that begins a column with "Fig. 4. ", where captions are set in another size."""

    def is_body(caption: Caption) -> bool:
        return abs(caption.blocks[0].size - body) < 0.03 * body

    if sum(map(is_body, found)) > 0.4 * len(found):
        return found
    return [c for c in found if not is_body(c)]


def _around(lines: Sequence[Line]) -> Box:
    return Block(tuple(lines)).box


def _start_of(block: Block) -> str:
    """The first line; with the second where the first is the label alone."""
    first = " ".join(block.lines[0].text.split())
    if len(block.lines) > 1 and len(first) < 14:
        return f"{first} {block.lines[1].text}".strip()
    return first


def _is_listed(block: Block, page: Page) -> bool:
    """Whether this is a line of a list of figures: dots or a wide gap, then a page number, several of them."""
    listed = [b for b in page.blocks if caption_label(b.lines[0].text) is not None]
    ends = [re.search(r"(?:\.{3,}|\s)\s*\d{1,4}$", b.lines[-1].text) is not None for b in listed]
    return len(listed) >= 5 and sum(ends) > 0.8 * len(listed)


def body_size(pages: Sequence[Page]) -> float:
    """The size that most letters of the document have."""
    sizes: Counter[float] = Counter()
    for page in pages:
        for block in page.blocks:
            sizes[round(block.size * 2) / 2] += sum(len(line.text) for line in block.lines)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _following(block: Block, at: int, page: Page) -> tuple[Block, ...]:
    """The block below a label that stands alone on its line ("Figure 3", then the text in a second block)."""
    text = " ".join(line.text for line in block.lines)
    label = caption_label(text, bold=True)
    if label is None or len(text) > label.end + 2:
        return ()
    for other in page.blocks[at + 1 :]:
        if other.box.overlap_x(block.box) > 0 and 0 <= other.box.y0 - block.box.y1 < 1.5 * block.size:
            return (other,) if caption_label(other.lines[0].text) is None else ()
    return ()


def _continue(caption: Caption, page: Page, after: Page, body: float) -> None:
    """Join what stands at the top of the next page where a caption runs out at the bottom of this one."""
    column = [b for b in page.blocks if b.box.overlap_x(caption.box) > 0.2 * caption.box.width]
    if any(b.box.y0 > caption.box.y1 - 1 for b in column) or caption.box.y1 < 0.75 * page.size[1]:
        return
    size = caption.blocks[-1].size
    ended = re.search(r"[.!?][)\]\"\u201d]?$", caption.text) is not None
    differs = bool(body) and abs(size - body) > 0.04 * body
    for block in after.blocks:
        if caption_label(block.lines[0].text, bold=block.lines[0].bold_start) is not None:
            return
        same = abs(block.size - size) < 0.03 * size
        if same and block.box.y0 < 0.2 * after.size[1] and (not ended or (differs and _is_alone(block, body))):
            lines = [line for b in caption.blocks for line in b.lines] + list(block.lines)
            caption.text = joined(lines)
            caption.goes_on = (after.number, block.box)
            return
        return


def _is_alone(block: Block, body: float) -> bool:
    return abs(block.size - body) > 0.04 * body
