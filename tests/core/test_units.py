"""Boxes are never empty, and conversions are what the definition says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from eosin.core.nouns.units import BoxLevel0, BoxMicrons, BoxPixels, Mpp, to_level0, to_microns


def test_conversion_by_hand() -> None:
    box = BoxLevel0(x0=100, y0=200, x1=300, y1=600)
    assert to_microns(box, 0.5) == BoxMicrons(x0=50, y0=100, x1=150, y1=300)
    assert to_level0(BoxMicrons(x0=50, y0=100, x1=150, y1=300), 0.25) == BoxLevel0(x0=200, y0=400, x1=600, y1=1200)


def test_a_box_in_its_own_unit_is_itself() -> None:
    pixels, microns = BoxLevel0(x0=0, y0=0, x1=1, y1=1), BoxMicrons(x0=0, y0=0, x1=1, y1=1)
    assert to_level0(pixels, 0.5) is pixels
    assert to_microns(microns, 0.5) is microns


corners = st.integers(0, 200_000)
sides = st.integers(1, 50_000)


@given(corners, corners, sides, sides, st.floats(0.05, 20))
def test_level0_to_microns_and_back(x: int, y: int, w: int, h: int, mpp: float) -> None:
    box = BoxLevel0(x0=x, y0=y, x1=x + w, y1=y + h)
    assert to_level0(to_microns(box, mpp), mpp) == box


@given(st.floats(0, 1e5), st.floats(1e-6, 1), st.floats(0.05, 20))
def test_a_tiny_box_never_becomes_empty(x: float, side: float, mpp: float) -> None:
    far = x + side
    if far <= x:
        return
    box = to_level0(BoxMicrons(x0=x, y0=x, x1=far, y1=far), mpp)
    assert box.x1 > box.x0
    assert box.y1 > box.y0


@pytest.mark.parametrize("kind", [BoxPixels, BoxLevel0, BoxMicrons])
@pytest.mark.parametrize("bad", [(0, 0, 0, 5), (0, 0, 5, 0), (5, 0, 4, 9)])
def test_empty_and_turned_boxes_are_refused(kind: type, bad: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValidationError, match="x1 > x0"):
        kind(x0=bad[0], y0=bad[1], x1=bad[2], y1=bad[3])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_microns_must_be_numbers(value: float) -> None:
    with pytest.raises(ValidationError):
        BoxMicrons(x0=0, y0=0, x1=value, y1=1)


def test_units_are_not_mixed_up() -> None:
    with pytest.raises(ValidationError):
        BoxLevel0.model_validate(BoxMicrons(x0=0, y0=0, x1=1, y1=1).model_dump())
    with pytest.raises(ValidationError):
        BoxLevel0(x0=0.5, y0=0, x1=2, y1=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1000])
def test_microns_per_pixel_must_be_possible(value: float) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Mpp).validate_python(value)
