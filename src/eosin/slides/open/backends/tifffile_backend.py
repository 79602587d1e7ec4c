"""TIFF that OpenSlide does not know, such as OME-TIFF, through tifffile."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np

from eosin.slides.open.backends.base import SlideError, SlideMetadata, scale_of
from eosin.slides.open.colours import PixelOptions, measured_range, stated_range, turn_of, unturned, why_not
from eosin.slides.open.native import NativeLevel, NativePixels, TiffFileHandle, check_whole, open_tiff

_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "nm": 1e-3, "Å": 1e-4}
_SIDE_NAMES = ("label", "macro", "thumbnail", "overview")


class TiffBackend:
    """The largest colour picture of a TIFF and its levels, read tile by tile."""

    def __init__(self, file: Path, options: PixelOptions | None = None) -> None:
        self._file = file
        self._options = options or PixelOptions()
        check_whole(file)
        self._tiff = open_tiff(file)
        try:
            series = main_series(self._tiff, file, self._options)
            self._handle = TiffFileHandle(file)
            pages = [_page_of(level, file) for level in series.levels]
            spread = self._range(pages)
            levels = [NativeLevel(self._handle, page, file, self._options, spread) for page in pages]
        except SlideError:
            self._tiff.close()
            raise
        except Exception as exc:  # damaged tags give many kinds of error
            self._tiff.close()
            raise SlideError("slide damaged", found=str(exc)[:200], where=file) from None
        try:
            self.metadata = self._facts(series, pages[0], levels)
        except Exception as exc:
            self.close()
            raise SlideError("slide damaged", found=str(exc)[:200], where=file) from None
        self._pixels = NativePixels(dict(enumerate(levels)), missing=255)

    def _range(self, pages: list[Any]) -> tuple[float, float] | None:
        """Values that become black and white, where there are more than 8 bits of them."""
        if np.dtype(pages[0].dtype) == np.uint8:
            return None
        if self._options.depth16 == "stated":
            return stated_range(pages[0])
        smallest = NativeLevel(self._handle, pages[-1], self._file)
        pieces = [smallest.raw(c, r) for r in range(smallest.rows) for c in range(smallest.columns)]
        return measured_range(np.concatenate([p.reshape(-1) for p in pieces]))

    def _facts(self, series: Any, page: Any, levels: list[NativeLevel]) -> SlideMetadata:
        self._sides = _side_series(self._tiff, series)
        mpp_xy, note = _scale(self._tiff, series)
        return SlideMetadata(
            reader="tifffile",
            vendor="ome-tiff" if self._tiff.is_ome else "tiff",
            level_sizes_px=tuple(level.size_px for level in levels),
            mpp_xy=mpp_xy,
            mpp_note=note,
            properties=_properties(self._tiff, series),
            associated=tuple(self._sides),
            icc=_icc(page),
            notes=(*_left_out(self._tiff, series, self._sides), *unturned(page)),
        )

    def native_level(self, level: int) -> NativeLevel:
        """The tiles of a level as they lie in the file."""
        return self._pixels.levels[level]

    def region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See Backend.region."""
        return self._pixels.region(level, x, y, width, height)

    def associated_image(self, name: str) -> np.ndarray:
        """See Backend.associated_image."""
        series = self._sides[name]
        pixels = np.asarray(series.asarray())
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        options = PixelOptions(grey=True, depth16="stated")
        return np.ascontiguousarray(turn_of(series.keyframe, options)(pixels))

    def close(self) -> None:
        """See Backend.close."""
        self._handle.close()
        self._tiff.close()


def main_series(tiff: Any, file: Path, options: PixelOptions | None = None) -> Any:
    """The largest picture of a file that can be read; label and macro images do not count.

    Raises:
        SlideError: there is none; it says what the largest one holds, and what would read it.
    """
    if not tiff.series:
        raise SlideError("slide without levels", where=file)
    pictures = [s for s in tiff.series if not _side_name(s)] or list(tiff.series)
    usable = [s for s in pictures if _is_picture(s) and _why_not(s, options) is None]
    if usable:
        return max(usable, key=lambda s: int(np.prod(s.shape)))
    largest = max(pictures, key=lambda s: int(np.prod(s.shape)))
    found = _why_not(largest, options) or (f"axes {largest.axes}", None)
    raise SlideError(
        "not a colour picture of 8 bits", expected="red, green, blue, 8 bits each",
        found=f"{found[0]}; {largest.axes} {tuple(largest.shape)} {largest.dtype}", where=file, next_step=found[1],
    )  # fmt: skip


def _why_not(series: Any, options: PixelOptions | None) -> tuple[str, str | None] | None:
    """Why a series is not read: stains in planes of their own are no colours, else what its pages say."""
    channels = dict(zip(series.axes, series.shape, strict=True)).get("C", 1)
    if channels > 1 and int(series.keyframe.samplesperpixel) == 1:
        return f"{channels} channels without a colour of their own", "these may be stains of fluorescence"
    return why_not(series.keyframe, options or PixelOptions())


def _is_picture(series: Any) -> bool:
    """Whether a series is planes of height, width and perhaps colours, each in a page of its own."""
    axes = series.axes.replace("C", "S")
    num = math.prod(n for a, n in zip(axes, series.shape, strict=True) if a not in "YXS")
    return {"Y", "X"} <= set(axes) and min(series.shape, default=0) > 0 and len(series.pages) == num


def _side_name(series: Any) -> str | None:
    """Label, macro or thumbnail, by a word of its own in the name: "CD68 macrophages" and "labelled" are none."""
    name = str(series.name or "").lower()
    return next((n for n in _SIDE_NAMES if re.search(rf"(?<![a-z]){n}(?![a-z])", name)), None)


def _left_out(tiff: Any, main: Any, sides: dict[str, Any]) -> tuple[str, ...]:
    """What else the file holds, in words: nobody should think that all of it was read."""
    others = [s for s in tiff.series if s is not main and not any(s is side for side in sides.values())]
    alike = [s for s in others if tuple(s.shape) == tuple(main.shape)]
    alone = (f"{len(main.pages) - 1} more pages like the first in this file not read",) if len(main.pages) > 1 else ()
    if not others:
        return alone
    first = others[0]
    return (
        *alone,
        f"{len(others)} more picture{'s' if len(others) > 1 else ''} in this file not read"
        f" ({len(alike)} of the same size; the first is {first.axes} {tuple(first.shape)} {first.dtype})",
    )


def _side_series(tiff: Any, main: Any) -> dict[str, Any]:
    return {name: s for s in tiff.series if s is not main and (name := _side_name(s)) is not None}


def _page_of(level: Any, file: Path) -> Any:
    """The page that holds a level: the first, where there are several alike (focal planes, sections)."""
    if not len(level.pages) or level.pages[0] is None:
        raise SlideError("slide without levels", found="a level without pages", where=file)
    page = level.pages[0]
    return page.aspage() if hasattr(page, "aspage") else page


def _scale(tiff: Any, series: Any) -> tuple[tuple[float, float] | None, str]:
    if tiff.is_ome and tiff.ome_metadata:
        found = _ome_scale(tiff.ome_metadata, series)
        if found is not None:
            return scale_of(*found)
    page = series.keyframe
    match = re.search(r"MPP\s*=\s*([0-9.,]+)", str(page.description or ""))
    if match:
        return scale_of(match.group(1), match.group(1))
    unit = {2: 25_400.0, 3: 10_000.0}.get(int(page.tags.valueof(296, 2) or 2))
    values = [page.tags.valueof(tag) for tag in (282, 283)]
    if unit is None or any(not v or not v[0] for v in values):
        return None, "the file does not state it"
    x, y = (unit * v[1] / v[0] for v in values)
    return scale_of(x, y, print_limit=True)


def _ome_scale(text: str, series: Any) -> tuple[float, float] | None:
    """Physical size of a pixel of a series in microns; None where it is absent, no number, or cannot be told.

    The image is found by its size and name: its number is of no use where images of other files stand before it.
    """
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return None
    size = {a: str(n) for a, n in zip(series.axes, series.shape, strict=True)}
    images = [i for i in root.iter() if i.tag.rpartition("}")[2] == "Image"]
    pairs = [(i, p) for i in images for p in i if p.tag.rpartition("}")[2] == "Pixels"]
    fitting = [(i, p) for i, p in pairs if (p.get("SizeX"), p.get("SizeY")) == (size.get("X"), size.get("Y"))]
    named = [(i, p) for i, p in fitting if series.name and i.get("Name") == series.name]
    scales = {_pixel_size(p) for _, p in named or fitting}
    return scales.pop() if len(scales) == 1 else None


def _pixel_size(chosen: Any) -> tuple[float, float] | None:
    found = []
    for axis in "XY":
        factor = _UM.get(chosen.get(f"PhysicalSize{axis}Unit", "µm"))
        try:
            found.append(float(chosen.get(f"PhysicalSize{axis}", "")) * (factor or float("nan")))
        except ValueError:
            return None
    return found[0], found[1]


def _properties(tiff: Any, series: Any) -> dict[str, str]:
    page = series.keyframe
    known = {"tiff.ImageDescription": page.description, "tiff.Software": page.software,
             "tiff.Compression": _name(page.compression), "tiff.Photometric": _name(page.photometric)}  # fmt: skip
    if tiff.is_ome:
        known["ome.xml"] = tiff.ome_metadata
    return {k: str(v) for k, v in known.items() if v}


def _name(value: Any) -> str:
    return str(getattr(value, "name", value))


def _icc(page: Any) -> bytes | None:
    profile = page.tags.valueof(34675)
    return bytes(profile) if profile else None
