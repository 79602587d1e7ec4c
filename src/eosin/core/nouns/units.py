"""Positions and scales. The unit is in the type; this module alone converts between them (house law 5)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

Mpp = Annotated[float, Field(gt=0, lt=1000, description="microns per pixel")]


class _Box(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _not_empty(self) -> _Box:
        x0, y0, x1, y1 = (getattr(self, k) for k in ("x0", "y0", "x1", "y1"))
        if x1 <= x0 or y1 <= y0:
            raise ValueError(f"a box needs x1 > x0 and y1 > y0, found ({x0}, {y0}, {x1}, {y1})")
        return self


class BoxPixels(_Box):
    """A box in the pixels of one image file: x0, y0 inclusive; x1, y1 exclusive."""

    unit: Literal["px"] = "px"
    x0: int
    y0: int
    x1: int
    y1: int


class BoxLevel0(_Box):
    """A box in the pixels of level 0 of a slide: x0, y0 inclusive; x1, y1 exclusive."""

    unit: Literal["px_level0"] = "px_level0"
    x0: int
    y0: int
    x1: int
    y1: int


class BoxMicrons(_Box):
    """A box in microns from the top left corner of level 0."""

    unit: Literal["um"] = "um"
    x0: FiniteFloat
    y0: FiniteFloat
    x1: FiniteFloat
    y1: FiniteFloat


def to_level0(box: BoxLevel0 | BoxMicrons, mpp_level0: float) -> BoxLevel0:
    """Convert a box to level-0 pixels, rounded to the nearest pixel, never to an empty box.

    Args:
        box: the box to convert.
        mpp_level0: microns per pixel of level 0.
    """
    if isinstance(box, BoxLevel0):
        return box
    x0, y0 = round(box.x0 / mpp_level0), round(box.y0 / mpp_level0)
    x1, y1 = round(box.x1 / mpp_level0), round(box.y1 / mpp_level0)
    return BoxLevel0(x0=x0, y0=y0, x1=max(x1, x0 + 1), y1=max(y1, y0 + 1))


def to_microns(box: BoxLevel0 | BoxMicrons, mpp_level0: float) -> BoxMicrons:
    """Convert a box to microns.

    Args:
        box: the box to convert.
        mpp_level0: microns per pixel of level 0.
    """
    if isinstance(box, BoxMicrons):
        return box
    return BoxMicrons(x0=box.x0 * mpp_level0, y0=box.y0 * mpp_level0, x1=box.x1 * mpp_level0, y1=box.y1 * mpp_level0)
