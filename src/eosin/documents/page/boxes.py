"""Boxes on a page, in points (1/72 inch) from the top left corner of the page as it is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A box in points: x to the right, y down."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        return max(0.0, self.width) * max(0.0, self.height)

    def meet(self, other: Box) -> Box | None:
        """What both boxes cover; None where they do not meet."""
        x0, y0, x1, y1 = (
            max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1),
        )  # fmt: skip
        return Box(x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def covered(self, other: Box) -> float:
        """Share of this box that the other covers, 0..1."""
        common = self.meet(other)
        return common.area / self.area if common is not None and self.area else 0.0

    def iou(self, other: Box) -> float:
        """Intersection over union, 0..1."""
        common = self.meet(other)
        shared = common.area if common is not None else 0.0
        both = self.area + other.area - shared
        return shared / both if both else 0.0

    def grown(self, by: float) -> Box:
        """The box with a margin on all four sides."""
        return Box(self.x0 - by, self.y0 - by, self.x1 + by, self.y1 + by)

    def overlap_x(self, other: Box) -> float:
        """Points that both have in common across the page; negative: the gap between them."""
        return min(self.x1, other.x1) - max(self.x0, other.x0)

    def overlap_y(self, other: Box) -> float:
        """Points that both have in common down the page; negative: the gap between them."""
        return min(self.y1, other.y1) - max(self.y0, other.y0)

    def rounded(self) -> list[float]:
        """[x0, y0, x1, y1] to a tenth of a point, for records."""
        return [round(v, 1) for v in (self.x0, self.y0, self.x1, self.y1)]


def around(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all of them. There must be one at least."""
    listed: Sequence[Box] = list(boxes)
    return Box(
        min(b.x0 for b in listed), min(b.y0 for b in listed), max(b.x1 for b in listed), max(b.y1 for b in listed)
    )
