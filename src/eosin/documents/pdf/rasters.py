"""Pixels of a region of a PDF page: as stored where it is one picture, joined where it is stored in pieces, else drawn.

pdfium applies masks, colour spaces, palettes and depths; this module decides which way keeps the pixels that were
stored, and never makes more of them than a picture may have.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from eosin.core.errors import ImageError
from eosin.core.images import MAX_SIDE_PX
from eosin.documents.page.boxes import Box
from eosin.documents.page.page import Picture
from eosin.documents.pdf.frame import Frame
from eosin.documents.pdf.objects import Placed

MAX_PIXELS = 100_000_000
"""Pixels of one stored picture; more are refused by their number alone."""
MAX_DRAWN_PIXELS = 40_000_000
VECTOR_SCALE = 300 / 72
"""Pixels a point at which drawings are drawn: 300 an inch."""
_TOUCH_PT = 0.75


@dataclass(frozen=True)
class Raster:
    """Pixels of a region.

    Attributes:
        how: native, joined or drawn. scale: pixels a point. jpeg: the stored file, where it is one.
    """

    image: Image.Image
    how: str
    scale: float
    jpeg: bytes | None = None


def raster_of(
    page: Any, frame: Frame, region: Box, parts: Sequence[tuple[Picture, Placed]], *, overlaid: bool, extra_turn: int
) -> Raster:
    """The pixels of a region.

    Args:
        parts: the stored pictures in it, in the order they are painted.
        overlaid: whether text or drawings lie on them or beside them, so that the pictures alone are not all.
        extra_turn: quarter turns beyond the page's own.

    Raises:
        ImageError: a stored picture is too large, or nothing could be drawn.
    """
    for picture, _ in parts:
        if picture.px[0] * picture.px[1] > MAX_PIXELS or max(picture.px) > MAX_SIDE_PX * 2:
            raise ImageError(
                "image too large", expected=f"at most {MAX_PIXELS:,} pixels", found=f"{picture.px[0]} x {picture.px[1]}"
            )
    plain = not overlaid and all(p.upright and not p.clipped for p, _ in parts)
    if plain and len(parts) == 1:
        picture, item = parts[0]
        stored = _stored(item, page)
        if stored is not None:
            return Raster(stored, "native", round(picture.px[0] / picture.box.width, 4), _jpeg(item))
    if plain and len(parts) > 1:
        joined = _joined(page, region, parts)
        if joined is not None:
            return joined
    return _drawn(page, frame, region, parts, extra_turn)


def _stored(item: Placed, page: Any) -> Image.Image | None:
    """A picture as stored, its mask laid on white; None where pdfium does not give all of its pixels."""
    import pypdfium2 as pdfium
    import pypdfium2.raw as raw

    bitmap = raw.FPDFImageObj_GetBitmap(item.object)
    if not bitmap:
        return None
    held = pdfium.PdfBitmap.from_raw(bitmap)
    image = held.to_pil().copy()
    if _has_mask(item, page, raw):
        return None
    return image.convert("RGB")


def _jpeg(item: Placed) -> bytes | None:
    """The stored file of a picture whose only filter is JPEG's."""
    import pypdfium2.raw as raw

    if raw.FPDFImageObj_GetImageFilterCount(item.object) != 1:
        return None
    name = ctypes.create_string_buffer(32)
    raw.FPDFImageObj_GetImageFilter(item.object, 0, name, 32)
    if name.value != b"DCTDecode":
        return None
    length = raw.FPDFImageObj_GetImageDataRaw(item.object, None, 0)
    data = ctypes.create_string_buffer(length)
    raw.FPDFImageObj_GetImageDataRaw(item.object, data, length)
    return data.raw[:length]


def _has_mask(item: Placed, page: Any, raw: Any) -> bool:
    """Whether a picture lets the page shine through: its own bitmap does not show that, drawing it small does."""
    import pypdfium2 as pdfium

    bitmap = raw.FPDFImageObj_GetRenderedBitmap(page.pdf, page, item.object)
    if not bitmap:
        return bool(raw.FPDFPageObj_HasTransparency(item.object))
    shown = pdfium.PdfBitmap.from_raw(bitmap).to_pil()
    if shown.mode != "RGBA":
        return False
    alpha = np.asarray(shown.getchannel("A"))[2:-2, 2:-2]
    return bool(alpha.size) and float((alpha < 250).mean()) > 1e-3


def _joined(page: Any, region: Box, parts: Sequence[tuple[Picture, Placed]]) -> Raster | None:
    """Strips or tiles as one picture, pixel by pixel; None where they do not fit together."""
    scales = [p.px[0] / p.box.width for p, _ in parts] + [p.px[1] / p.box.height for p, _ in parts]
    scale = float(np.median(scales))
    if max(scales) > 1.02 * scale or min(scales) < 0.98 * scale:
        return None
    wide, high = round(region.width * scale), round(region.height * scale)
    if wide * high > MAX_PIXELS:
        return None
    canvas = Image.new("RGB", (wide, high), "white")
    filled = np.zeros((high, wide), bool)
    for picture, item in parts:
        stored = _stored(item, page)
        if stored is None:
            return None
        x, y = round((picture.box.x0 - region.x0) * scale), round((picture.box.y0 - region.y0) * scale)
        canvas.paste(stored, (x, y))
        filled[y : y + stored.height, x : x + stored.width] = True
    return Raster(canvas, "joined", round(scale, 4)) if filled.mean() > 0.99 else None


def _drawn(page: Any, frame: Frame, region: Box, parts: Sequence[tuple[Picture, Placed]], extra_turn: int) -> Raster:
    """The region as the page shows it, at the scale of its finest picture, or at 300 dots an inch."""
    scale = max([max(p.px) / max(p.box.width, p.box.height) for p, _ in parts if not p.clipped] or [VECTOR_SCALE])
    scale = min(max(scale, 1.0), 20.0)
    if not parts:
        scale = VECTOR_SCALE
    room = (MAX_DRAWN_PIXELS / max(region.area, 1.0)) ** 0.5
    scale = min(scale, room, MAX_SIDE_PX / max(region.width, region.height))
    image = draw(page, frame, region, scale, extra_turn)
    if min(image.size) < 8:
        raise ImageError("image too small", found=f"{image.width} x {image.height} px")
    return Raster(image, "drawn", round(scale, 4))


def draw(page: Any, frame: Frame, region: Box, scale: float, extra_turn: int = 0) -> Image.Image:
    """Draw a region of a page, in its reading direction.

    Args:
        scale: pixels a point.
    """
    width, height = frame.size
    crop = (
        max(0.0, region.x0), max(0.0, height - region.y1), max(0.0, width - region.x1), max(0.0, region.y0),
    )  # fmt: skip
    bitmap = page.render(scale=scale, rotation=90 * extra_turn % 360, crop=crop, may_draw_forms=False)
    return bitmap.to_pil().convert("RGB").copy()
