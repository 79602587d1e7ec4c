"""What every reader gives: facts about the file, and pixels of one level."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from eosin.core.errors import EosinError

MAX_PRINT_MPP = 50.0  # a TIFF resolution coarser than this (508 dpi and less) is a print resolution, not a microscope's


class SlideError(EosinError):
    """A slide that cannot be used. Its message is short and fixed, so that it can serve as a drop reason."""


class RegionError(SlideError):
    """A part of a slide that cannot be decoded."""


@dataclass(frozen=True)
class SlideMetadata:
    """What a file says about itself.

    Attributes:
        reader: openslide, tifffile, wsidicom or image.
        vendor: the maker of the format, as far as known.
        level_sizes_px: width, height of each level, largest first.
        mpp_xy: microns per pixel of level 0 along x and y; None: the file does not say.
        mpp_note: why there is none, or where it comes from.
        properties: all that the reader reports, as text.
        associated: names of label, macro and thumbnail images.
        icc: the colour profile embedded in the file.
        notes: what the file holds beside it that is not read, in words.
    """

    reader: str
    vendor: str
    level_sizes_px: tuple[tuple[int, int], ...]
    mpp_xy: tuple[float, float] | None
    mpp_note: str
    properties: Mapping[str, str]
    associated: tuple[str, ...] = ()
    icc: bytes | None = None
    notes: tuple[str, ...] = ()


class Backend(Protocol):
    """An open file. All methods may be called from several threads at once."""

    metadata: SlideMetadata

    def region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Pixels of a level, uint8 (height, width, 3); the box lies inside the level. Unscanned parts are white.

        Raises:
            RegionError: a part of the box cannot be decoded.
        """
        ...

    def associated_image(self, name: str) -> np.ndarray:
        """A label, macro or thumbnail image, uint8 (height, width, 3)."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


def scale_of(x: object, y: object, *, print_limit: bool = False) -> tuple[tuple[float, float] | None, str]:
    """Microns per pixel from two values of unknown quality, or None and why.

    Args:
        x, y: numbers or text as found in the file; None: absent.
        print_limit: also refuse what can only be a print resolution.
    """
    if x is None or y is None:
        return None, "the file does not state it"
    try:
        pair = float(str(x).replace(",", ".")), float(str(y).replace(",", "."))
    except ValueError:
        return None, f"the file states {str(x)[:20]!r} x {str(y)[:20]!r}, which is not a number"
    if not all(math.isfinite(v) and 0 < v < 1000 for v in pair):
        return None, f"the file states {pair[0]:g} x {pair[1]:g} µm, which cannot be"
    if print_limit and max(pair) > MAX_PRINT_MPP:
        return None, f"the file states {pair[0]:.4g} x {pair[1]:.4g} µm, which is a print resolution"
    return pair, "stated in the file"


def has_pixels(backend: Backend) -> bool:
    """Whether one of some places of level 0 can be read: DICOM files without pixel data open all the same."""
    width, height = backend.metadata.level_sizes_px[0]
    for share in (0.5, 0.1, 0.9):
        with suppress(RegionError):
            backend.region(0, int(share * (width - 1)), int(share * (height - 1)), 1, 1)
            return True
    return False
