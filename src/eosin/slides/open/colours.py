"""Pixels as a TIFF holds them become red, green and blue: one place that says which kinds are read, and how.

| photometric | read as |
|---|---|
| RGB | itself; transparency is laid on white, other extra samples are left out |
| YCbCr in JPEG | what the decoder gives |
| CMYK | (255 - k)(255 - c) / 255, as libtiff shows it; other inks are refused |
| palette | the colours of its table |
| grey (white or black is zero) | only when asked for: three equal colours |
| raw YCbCr, CIELab, LogLuv, filter arrays, masks | refused by name |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eosin.core.errors import EosinError
from eosin.slides.open.backends.base import SlideError

Depth = Literal["stated", "measured"]
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
_JPEG, _JPEG_2000 = 7, (33003, 33005)
_ORIENTATION, _INK_SET = 274, 332
# Compressions whose decoders give RGB whatever the file says of YCbCr.
_GIVE_RGB = {_JPEG, 33003, 33005, 34712, 50001, 34927, 50002, 52546}
_NAMES = {4: "a mask", 6: "YCbCr without JPEG", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "a colour filter array",
          32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}  # fmt: skip
Turn = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PixelOptions:
    """What is read beside colour of 8 bits, when a user asks for it.

    Attributes:
        grey: pictures of one channel, as three equal colours.
        depth16: pictures of more than 8 bits: scaled by the range that the file states (its bits a sample, or its
            largest sample value), or by the range measured on its smallest level (0.1 to 99.9 % of all values).
    """

    grey: bool = False
    depth16: Depth | None = None


def asked(grey: bool, depth16: str | None) -> dict[str, object]:
    """These options as settings: only what was asked for, so that folders of before keep the settings they have.

    Raises:
        EosinError: a range that is neither stated nor measured.
    """
    if depth16 not in (None, "stated", "measured"):
        raise EosinError("There is no such range.", expected="stated or measured", found=depth16, where="--depth16")
    return {**({"grey": True} if grey else {}), **({"depth16": depth16} if depth16 else {})}


def kind_of(page: Any) -> str:
    """What a page holds, in words: "8-bit RGB", "16-bit grey"."""
    photometric = int(page.photometric)
    name = {RGB: "RGB", CMYK: "CMYK", PALETTE: "palette", WHITE_IS_ZERO: "grey", BLACK_IS_ZERO: "grey"}.get(photometric)
    if photometric == YCBCR:
        name = "YCbCr in JPEG" if int(page.compression) in _GIVE_RGB else _NAMES[YCBCR]
    samples = f", {page.samplesperpixel} channels" if name == "grey" and page.samplesperpixel > 1 else ""
    return f"{page.bitspersample}-bit {name or _NAMES.get(photometric, f'photometric {photometric}')}{samples}"


def why_not(page: Any, options: PixelOptions) -> tuple[str, str | None] | None:
    """Why a page is not read, with the next step; None where it is."""
    photometric, samples, bits = int(page.photometric), int(page.samplesperpixel), page.bitspersample
    dtype = np.dtype(page.dtype) if page.dtype is not None else None
    if dtype is None or dtype.kind not in "u":
        return f"values of type {page.dtype}", None
    if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and samples - _num_alpha(page) > 1:
        return f"{samples} channels without a colour of their own", "these may be stains of fluorescence"
    if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        if not options.grey:
            return "a grey picture", "--grey reads it as three equal colours (open_slide(path, grey=True))"
    elif photometric not in (RGB, PALETTE, CMYK) and not (photometric == YCBCR and int(page.compression) in _GIVE_RGB):
        return _NAMES.get(photometric, f"photometric {photometric}"), "convert it to RGB"
    if photometric == CMYK and int(page.tags.valueof(_INK_SET, 1) or 1) != 1:
        return "inks other than cyan, magenta, yellow and black", "convert it to RGB"
    if photometric == RGB and samples < 3 or photometric == CMYK and samples < 4:
        return f"{samples} channels", None
    if bits < 8 or bits > 16 or bits == 16 and dtype.itemsize != 2:
        return f"{bits} bits a channel", "convert it to 8 bits"
    if bits > 8 and photometric in (PALETTE, CMYK):
        return f"{bits} bits a channel", "convert it to 8 bits"
    if bits > 8 and options.depth16 is None:
        return f"{bits} bits a channel", "--depth16 stated, or measured (open_slide(path, depth16=...)), scales it to 8"
    return None


def refuse(page: Any, options: PixelOptions, file: Path) -> None:
    """Raise where a page is not read.

    Raises:
        SlideError: "not a colour picture of 8 bits".
    """
    found = why_not(page, options)
    if found is not None:
        raise SlideError("not a colour picture of 8 bits", expected="red, green, blue, 8 bits each", found=found[0],
                         where=file, next_step=found[1])  # fmt: skip


def not_for_openslide(page: Any) -> str | None:
    """What of a page OpenSlide shows in wrong colours or places, in words; None where it shows it right.

    libtiff, by which it decodes all but JPEG, takes a first extra sample of no stated kind for transparency whose
    colours are multiplied already, and turns every tile in itself as the page's orientation says.
    """
    extra = [int(e) for e in page.extrasamples or ()]
    if extra and extra[0] not in (1, 2):
        return "an extra channel of no stated kind, which OpenSlide takes for transparency"
    if orientation_of(page) != 1 and int(page.compression) not in (_JPEG, *_JPEG_2000):
        return "an orientation, by which OpenSlide turns every tile in itself"
    return None


def orientation_of(page: Any) -> int:
    """How a page says that it is to be turned, 1..8 as in EXIF; 1 where it says nothing of use."""
    value = page.tags.valueof(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def unturned(page: Any) -> tuple[str, ...]:
    """A note where a page asks to be turned: a slide is read as it is stored, and so are boxes on it."""
    found = orientation_of(page)
    return (f"its orientation tag says {found}: read as it is stored, not turned",) if found != 1 else ()


def turn_of(page: Any, options: PixelOptions, value_range: tuple[float, float] | None = None) -> Turn:
    """How decoded pieces (H, W, samples) of a page become uint8 (H, W, 3)."""
    photometric, samples = int(page.photometric), int(page.samplesperpixel)
    alpha = _alpha(page)

    def turn(pixels: np.ndarray) -> np.ndarray:
        if pixels.dtype != np.uint8:
            pixels = _to_8_bits(pixels, value_range or (0.0, float(2**page.bitspersample - 1)))
        if photometric == CMYK:
            rest = 255 - pixels[..., 3:4].astype(np.uint16)
            return (rest * (255 - pixels[..., :3].astype(np.uint16)) // 255).astype(np.uint8)
        if photometric == PALETTE:
            table = np.asarray(page.colormap)
            scale = 257 if table.max(initial=0) > 255 else 1
            return np.ascontiguousarray((table[:, pixels[..., 0]] // scale).astype(np.uint8).transpose(1, 2, 0))
        if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
            grey = 255 - pixels[..., :1] if photometric == WHITE_IS_ZERO else pixels[..., :1]
            return np.repeat(grey, 3, axis=-1)
        if alpha is not None and pixels.shape[-1] == samples:
            return _on_white(pixels[..., :3], pixels[..., alpha[0]], premultiplied=alpha[1])
        return pixels[..., :3]

    return turn


def measured_range(pixels: np.ndarray) -> tuple[float, float]:
    """Values between which 99.8 % of a picture lie."""
    low, high = np.percentile(pixels, (0.1, 99.9))
    return float(low), float(max(high, low + 1))


def stated_range(page: Any) -> tuple[float, float]:
    """The range that a page states: smallest and largest sample value, else its bits a sample."""
    low, high = page.tags.valueof(340), page.tags.valueof(341)
    low, high = (v[0] if isinstance(v, (tuple, list)) else v for v in (low, high))
    top = float(2**page.bitspersample - 1)
    return float(low or 0), float(high) if high is not None and 0 < float(high) <= top else top


def _to_8_bits(pixels: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    low, high = value_range
    scaled = (pixels.astype(np.float32) - low) * (255.0 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _on_white(colour: np.ndarray, alpha: np.ndarray, *, premultiplied: bool) -> np.ndarray:
    if alpha.min(initial=255) == 255:
        return colour
    a = alpha[..., None].astype(np.uint16)
    own = colour.astype(np.uint16) if premultiplied else (colour.astype(np.uint16) * a + 127) // 255
    return np.minimum(own + 255 - a, 255).astype(np.uint8)


def _num_alpha(page: Any) -> int:
    """Samples that are transparency; unspecified ones are channels."""
    return sum(int(kind) in (1, 2) for kind in page.extrasamples or ())


def _alpha(page: Any) -> tuple[int, bool] | None:
    """Which sample is transparency, and whether colours are multiplied by it already."""
    extra = [int(e) for e in page.extrasamples or ()]
    for i, kind in enumerate(extra):
        if kind in (1, 2):
            return int(page.samplesperpixel) - len(extra) + i, kind == 1
    return None
