"""TIFF that OpenSlide does not know, such as OME-TIFF, through tifffile."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np

from eosin.slides.open.backends.base import Facts, SlideError, scale_of
from eosin.slides.open.native import NativeLevel, NativePixels, TiffFileHandle, check_whole, open_tiff

_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "nm": 1e-3, "Å": 1e-4}
_SIDE_NAMES = ("label", "macro", "thumbnail", "overview")


class TiffBackend:
    """The largest colour picture of a TIFF and its levels, read tile by tile."""

    def __init__(self, file: Path) -> None:
        self._file = file
        check_whole(file)
        self._tiff = open_tiff(file)
        try:
            series = main_series(self._tiff, file)
            self._handle = TiffFileHandle(file)
            pages = [_page_of(level, file) for level in series.levels]
            levels = [NativeLevel(self._handle, page, file) for page in pages]
        except SlideError:
            self._tiff.close()
            raise
        except Exception as exc:  # damaged tags give many kinds of error
            self._tiff.close()
            raise SlideError("slide damaged", found=str(exc)[:200], where=file) from None
        try:
            self.facts = self._facts(series, pages[0], levels)
        except Exception as exc:
            self.close()
            raise SlideError("slide damaged", found=str(exc)[:200], where=file) from None
        self._pixels = NativePixels(dict(enumerate(levels)), missing=255)

    def _facts(self, series: Any, page: Any, levels: list[NativeLevel]) -> Facts:
        self._sides = _side_series(self._tiff, series)
        mpp_xy, note = _scale(self._tiff, series)
        return Facts(
            reader="tifffile",
            vendor="ome-tiff" if self._tiff.is_ome else "tiff",
            level_sizes_px=tuple(level.size_px for level in levels),
            mpp_xy=mpp_xy,
            mpp_note=note,
            properties=_properties(self._tiff, series),
            associated=tuple(self._sides),
            icc=_icc(page),
        )

    def native_level(self, level: int) -> NativeLevel:
        """The tiles of a level as they lie in the file."""
        return self._pixels.levels[level]

    def region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See Backend.region."""
        return self._pixels.region(level, x, y, width, height)

    def associated_image(self, name: str) -> np.ndarray:
        """See Backend.associated_image."""
        pixels = np.asarray(self._sides[name].asarray())
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=-1)
        return np.ascontiguousarray(pixels[..., :3].astype(np.uint8))

    def close(self) -> None:
        """See Backend.close."""
        self._handle.close()
        self._tiff.close()


def main_series(tiff: Any, file: Path) -> Any:
    if not tiff.series:
        raise SlideError("slide without levels", where=file)
    colour = [s for s in tiff.series if _is_colour(s) and not _side_name(s)]
    if not colour:
        seen = "; ".join(f"{s.axes} {tuple(s.shape)} {s.dtype}" for s in tiff.series[:3])
        raise SlideError("not a colour picture of 8 bits", expected="red, green, blue, 8 bits each", found=seen,
                         where=file)  # fmt: skip
    return max(colour, key=lambda s: int(np.prod(s.shape)))


def _is_colour(series: Any) -> bool:
    if series.dtype != np.uint8 or len(series.shape) != 3:
        return False
    samples = series.axes.replace("C", "S").find("S")
    return samples >= 0 and series.shape[samples] in (3, 4) and {"Y", "X"} <= set(series.axes)


def _side_name(series: Any) -> str | None:
    name = str(series.name or "").lower()
    return next((n for n in _SIDE_NAMES if n in name), None)


def _side_series(tiff: Any, main: Any) -> dict[str, Any]:
    return {name: s for s in tiff.series if s is not main and (name := _side_name(s)) is not None}


def _page_of(level: Any, file: Path) -> Any:
    """The one page that holds a level."""
    if len(level.pages) != 1 or level.pages[0] is None:
        raise SlideError("slide in separate planes", expected="colours of a level in one page",
                         found=f"{len(level.pages)} pages", where=file)  # fmt: skip
    page = level.pages[0]
    return page.aspage() if hasattr(page, "aspage") else page


def _scale(tiff: Any, series: Any) -> tuple[tuple[float, float] | None, str]:
    if tiff.is_ome and tiff.ome_metadata:
        found = _ome_scale(tiff.ome_metadata, next(i for i, s in enumerate(tiff.series) if s is series))
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


def _ome_scale(text: str, index: int) -> tuple[float, float] | None:
    """Physical size of a pixel of image number `index` in microns; None where it is absent or no number."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return None
    pixels = [p for p in root.iter() if p.tag.endswith("}Pixels") or p.tag == "Pixels"]
    if not pixels:
        return None
    chosen = pixels[index] if index < len(pixels) else pixels[0]
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
