"""A page as its readers leave it: lines of text, pictures and drawings, with their boxes."""

from __future__ import annotations

from dataclasses import dataclass, field

from eosin.documents.page.boxes import Box, around


@dataclass(frozen=True)
class Line:
    """A run of text on one line of one column.

    Attributes:
        text: without a line break at its end. A word that was divided at the end of the line ends in a soft hyphen.
        size: height of its letters' boxes in points, which goes with the size of the font.
        bold_start: whether its first letter is bold. confidence: of OCR, 0..1; 1 for a text layer.
    """

    text: str
    box: Box
    size: float
    bold_start: bool = False
    confidence: float = 1.0


@dataclass(frozen=True)
class Block:
    """Lines that belong together: a paragraph, a heading, a caption."""

    lines: tuple[Line, ...]

    @property
    def box(self) -> Box:
        return around(line.box for line in self.lines)

    @property
    def size(self) -> float:
        """Median size of its lines."""
        sizes = sorted(line.size for line in self.lines)
        return sizes[len(sizes) // 2]

    @property
    def text(self) -> str:
        return joined(self.lines)


SOFT_HYPHEN = "\u00ad"


def joined(lines: tuple[Line, ...] | list[Line]) -> str:
    """Lines as running text: divided words whole again, other lines parted by a space."""
    text = ""
    for line in lines:
        piece = " ".join(line.text.split())
        if text.endswith(SOFT_HYPHEN):
            text = text[:-1] + piece
        else:
            text = f"{text} {piece}" if text and piece else text + piece
    return text.rstrip(SOFT_HYPHEN).strip()


@dataclass(frozen=True)
class Picture:
    """A raster on a page.

    Attributes:
        number: its place among the pictures of the page, by which its pixels are asked for.
        box: what of it can be seen. px: width and height as stored.
        clipped: whether the page shows a part of it only. upright: whether its sides lie along the page's.
    """

    number: int
    box: Box
    px: tuple[int, int]
    clipped: bool = False
    upright: bool = True


@dataclass(frozen=True)
class Page:
    """A page in its reading direction.

    Attributes:
        number: from 1. size: width and height in points, as it is read. turn: quarter turns clockwise that were made
            so that its text stands upright, the page's own rotation included.
        drawings: boxes of vector paths. has_text: whether there is a text layer to speak of.
        seen: boxes of figures that were found by their ink, on a page that is one picture.
    """

    number: int
    size: tuple[float, float]
    turn: int = 0
    lines: tuple[Line, ...] = ()
    pictures: tuple[Picture, ...] = ()
    drawings: tuple[Box, ...] = ()
    has_text: bool = True
    seen: tuple[Box, ...] = ()
    blocks: tuple[Block, ...] = field(default=(), repr=False)

    @property
    def box(self) -> Box:
        return Box(0.0, 0.0, *self.size)
