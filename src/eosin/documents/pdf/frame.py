"""From the coordinates of a PDF page to those of the page as it is read.

A PDF counts points from the bottom left corner of an unturned page. A page may be turned by its own entry, and its text
may lie on its side; both are undone by quarter turns. With the visible box (l, b, r, t) a point (x, y) becomes, for 0,
1, 2, 3 quarter turns clockwise: (x - l, t - y), (y - b, x - l), (r - x, y - b), (t - y, r - x).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eosin.documents.page.boxes import Box

Matrix = tuple[float, float, float, float, float, float]
IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Frame:
    """The visible box of a page in PDF points, and its quarter turns clockwise."""

    left: float
    bottom: float
    right: float
    top: float
    turn: int = 0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height as read, in points."""
        wide, high = self.right - self.left, self.top - self.bottom
        return (high, wide) if self.turn % 2 else (wide, high)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the PDF as (x, y) from the top left of the page as read."""
        if self.turn == 0:
            return x - self.left, self.top - y
        if self.turn == 1:
            return y - self.bottom, x - self.left
        if self.turn == 2:
            return self.right - x, y - self.bottom
        return self.top - y, self.right - x

    def box(self, left: float, bottom: float, right: float, top: float) -> Box:
        """A box of the PDF as read."""
        ax, ay = self.point(left, bottom)
        bx, by = self.point(right, top)
        return Box(min(ax, bx), min(ay, by), max(ax, bx), max(ay, by))


def combined(first: Matrix, then: Matrix) -> Matrix:
    """The matrix that applies `first`, then `then` (row vectors, as in a PDF)."""
    a, b, c, d, e, f = first
    g, h, i, j, k, m = then
    return (
        a * g + b * i, a * h + b * j, c * g + d * i, c * h + d * j, e * g + f * i + k, e * h + f * j + m,
    )  # fmt: skip


def moved(points: Iterable[tuple[float, float]], by: Matrix) -> list[tuple[float, float]]:
    """Points moved by a matrix."""
    a, b, c, d, e, f = by
    return [(a * x + c * y + e, b * x + d * y + f) for x, y in points]
