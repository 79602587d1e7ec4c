"""Running text cut into sentences, each with its page, so that what points to a figure can be quoted with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from eosin.documents.page.page import Block, Page

_ABBREVIATIONS = (
    r"Figs?|FIGS?|Abb|Tab|Tbl|Suppl?|Refs?|Eqs?|No|Nr|Dr|Prof|St|vs|ca|approx|cf|al|e\.g|i\.e|z\.B|d\.h|bzw|usw|u\.a|etc|resp|refs?|incl|max|min|"
    r"sp|spp|vgl|Vgl|Lit|Bd|S|p|pp|Vol"
)
_END = re.compile(
    r"(?P<end>[.!?][\"\u201d')\]]?)\s+(?=[\"\u201c\u201e'(\[]?(?:[A-Z\u00c4\u00d6\u00dc0-9]|[x\u00d7]\s?\d))"
)
_ABBREVIATED = re.compile(rf"(?:\b(?:{_ABBREVIATIONS})|(?:^|[\s(])[A-Z])\.$")
MAX_LETTERS = 1500
"""A longer sentence is none: text of a table, or of a page without marks."""


@dataclass(frozen=True)
class Sentence:
    """A sentence with the page that it begins on and its place in the document's running text."""

    text: str
    page: int
    place: int


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of every sentence of a text. "Fig. 3" and "e.g. Fig. 2" end none."""
    found: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        piece = text[start : match.start() + 1]
        if match["end"][0] == "." and _ABBREVIATED.search(piece):
            continue
        found.append((start, match.end("end")))
        start = match.end()
    if text[start:].strip():
        found.append((start, len(text)))
    return found


def sentences_in(text: str) -> list[str]:
    """A text as sentences."""
    return [text[start:end].strip() for start, end in sentence_spans(text)]


def sentences_of(pages: Sequence[Page], leave_out: Iterable[Block]) -> list[Sentence]:
    """Sentences of a document's running text; a sentence that goes on over a column or a page is whole.

    Args:
        leave_out: blocks that are no running text: captions.
    """
    skipped = {id(b) for b in leave_out}
    found: list[Sentence] = []
    open_text, open_page = "", 0
    for page_number, block in _in_order(pages, skipped):
        text = block.text
        if open_text and not re.match(r"[a-z\u00e4\u00f6\u00fc0-9(,;]", text):
            found.append(Sentence(open_text, open_page, len(found)))
            open_text = ""
        if not open_text:
            open_page = page_number
        pieces = sentences_in(f"{open_text} {text}".strip())
        open_text = ""
        if pieces and not re.search(r"[.!?:][\"\u201d')\]]*$", pieces[-1]):
            open_text = pieces.pop()
        for piece in pieces:
            found.append(Sentence(piece, open_page, len(found)))
            open_page = page_number
    if open_text:
        found.append(Sentence(open_text, open_page, len(found)))
    return [s for s in found if len(s.text) <= MAX_LETTERS]


def _in_order(pages: Sequence[Page], skipped: set[int]) -> Iterator[tuple[int, Block]]:
    """Blocks in the order they are read: column after column between blocks that span the page."""
    for page in pages:
        for block in reading_order([b for b in page.blocks if id(b) not in skipped], page.size[0]):
            yield page.number, block


def reading_order(blocks: Sequence[Block], width: float) -> list[Block]:
    """Blocks of a page in reading order, for one column and two."""
    ordered: list[Block] = []
    waiting: list[Block] = []

    def flush() -> None:
        left = [b for b in waiting if (b.box.x0 + b.box.x1) / 2 < width / 2]
        right = [b for b in waiting if b not in left]
        narrow = all(b.box.x1 < 0.56 * width for b in left) and all(b.box.x0 > 0.44 * width for b in right)
        ordered.extend([*left, *right] if narrow else waiting)
        waiting.clear()

    for block in sorted(blocks, key=lambda b: (b.box.y0, b.box.x0)):
        if block.box.x0 < 0.42 * width and block.box.x1 > 0.58 * width:
            flush()
            ordered.append(block)
        else:
            waiting.append(block)
    flush()
    return ordered
