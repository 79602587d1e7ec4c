"""A slide as zarr arrays, one a level, for tools that read zarr (dask, napari, xarray). Nothing is copied or decoded
before it is asked for.

Through tifffile, so for every file that is a TIFF underneath: svs, generic tiled TIFF, OME-TIFF, scn, bif, ndpi.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.backends.tifffile_backend import main_series
from eosin.slides.open.native import open_tiff

MISSING = 255  # a tile that a scanner left out is white, as everywhere in this room


class Levels(Protocol):
    """What of an open slide the view needs: its file, its levels, and its scale where it states one."""

    @property
    def path(self) -> Path: ...
    @property
    def level_sizes_px(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def level_downsamples(self) -> tuple[float, ...]: ...
    @property
    def has_mpp(self) -> bool: ...
    @property
    def mpp(self) -> float: ...


@dataclass(frozen=True)
class ZarrView:
    """The levels of a slide as lazy zarr arrays. Close it, or use it in a `with` block.

    Attributes:
        levels: zarr arrays uint8 (height, width, 3), largest first; read only. A chunk is a tile of the file.
        downsamples: of each level, as those of the slide.
        mpp: microns per pixel of each level; None where the slide does not state its scale.
    """

    levels: tuple[Any, ...]
    downsamples: tuple[float, ...]
    mpp: tuple[float, ...] | None
    _file: Any = field(repr=False)

    def close(self) -> None:
        """Give the file back; the arrays cannot be read any more."""
        self._file.close()

    def __enter__(self) -> ZarrView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def zarr_view(slide: Levels) -> ZarrView:
    """The levels of a slide as lazy zarr arrays.

    Raises:
        SlideError: zarr is not installed, the file is no TIFF, or tifffile sees other levels in it than the slide's
            reader.
    """
    try:
        import zarr
    except ImportError:
        raise SlideError("zarr is not installed", where=slide.path, next_step="pip install 'zarr>=3'") from None
    try:
        tiff = open_tiff(slide.path)
    except (SlideError, OSError) as exc:
        raise _no_view(slide, str(exc)) from None
    try:
        series = main_series(tiff, slide.path)
        _check(slide, series)
        levels = tuple(
            zarr.open_array(series.aszarr(level=number, fillvalue=MISSING), mode="r")
            for number in range(len(series.levels))
        )
    except BaseException:
        tiff.close()
        raise
    downs = slide.level_downsamples
    return ZarrView(levels, downs, tuple(slide.mpp * d for d in downs) if slide.has_mpp else None, tiff)


def _check(slide: Levels, series: Any) -> None:
    """Refuse what would not be the slide's own levels, pixel for pixel in place."""
    if series.axes != "YXS" or series.dtype != np.uint8:
        raise _no_view(slide, f"axes {series.axes}, {series.dtype}")
    sizes = tuple((int(level.shape[1]), int(level.shape[0])) for level in series.levels)
    if sizes != slide.level_sizes_px:
        raise _no_view(slide, f"levels {sizes}, the slide has {slide.level_sizes_px}")


def _no_view(slide: Levels, found: str) -> SlideError:
    return SlideError(
        "this slide has no zarr view",
        expected="a TIFF whose levels tifffile sees as the slide's reader does",
        found=found[:200],
        where=slide.path,
        next_step="read it with slide.read(box, mpp)",
    )
