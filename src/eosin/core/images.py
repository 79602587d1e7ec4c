"""Image references become pixels here, and nowhere else. Bad images give an ImageError with a short reason."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from eosin.core.errors import ImageError
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef, SlideBag, SlideRegion

MIN_SIDE_PX = 8
MAX_SIDE_PX = 20_000
MAX_FILE_BYTES = 2**30
MAX_DECODED_BYTES = 2**30
"""Memory that the pixels of one picture may take while it is read, its copy in RGB included: 134 megapixels of RGB."""
KINDS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
"""The formats that are opened. Pillow knows more, and some of them start other programs."""

_BYTES_PER_PX = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
_DEPTHS = (8, 10, 12, 14, 16)
_BITS_TAG = 258
_MAX_SAMPLE_VALUE_TAGS = (281, 341)
_ROWS_PER_STRIP_TAG = 278
_STRIP_PX = 512

# Sizes are checked below. A filter set once: `warnings.catch_warnings` is not safe between threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

Picture = Image.Image | PatchBag


class RegionReader(Protocol):
    """Reads regions of slides, and bags of patch features. The slides room provides it (`slides.regions`)."""

    def __call__(self, ref: SlideRegion) -> Image.Image:
        """The RGB picture of a region."""
        ...

    def bag(self, ref: SlideBag) -> PatchBag:
        """The patches of a slide that a model is shown."""
        ...


def read_bytes(ref: ImageFile | ImageBytes) -> bytes:
    """The encoded bytes of an image reference."""
    if isinstance(ref, ImageBytes):
        return ref.data
    return read_regular_file(ref.path)


def read_regular_file(path: str | os.PathLike[str], max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a regular file. A pipe or a device is never read: it may have no end.

    Raises:
        ImageError: missing, a folder, no regular file, larger than `max_bytes`, or not readable.
    """
    where = str(path)[:200]
    try:
        # Without O_NONBLOCK the opening of a pipe waits for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("image file missing", where=where) from None
    except IsADirectoryError:
        raise ImageError("image path is a folder", where=where) from None
    except (OSError, ValueError) as exc:
        raise ImageError("image file not readable", found=str(exc)[:120], where=where) from None
    try:
        facts = os.fstat(handle)
        if stat.S_ISDIR(facts.st_mode):
            raise ImageError("image path is a folder", where=where)
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError("image path is no regular file", found="a pipe, a socket or a device", where=where)
        if facts.st_size > max_bytes:
            raise ImageError("image file too large", expected=f"at most {max_bytes:,} bytes",
                             found=f"{facts.st_size:,} bytes", where=where)  # fmt: skip
        with open(handle, "rb", closefd=False) as file:
            return file.read(facts.st_size)
    except OSError as exc:
        raise ImageError("image file not readable", found=str(exc)[:120], where=where) from None
    finally:
        os.close(handle)


@dataclass(frozen=True)
class ImageHeader:
    """What the first bytes of an image tell. `is_turned`: its EXIF orientation is not the plain one."""

    kind: str
    mode: str
    size: tuple[int, int]
    num_frames: int
    is_turned: bool


def header_of(data: bytes) -> ImageHeader | None:
    """The header of an image of a documented format or of a GIF, or None where it is none."""
    try:
        with Image.open(io.BytesIO(data), formats=(*KINDS, "GIF")) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
            return ImageHeader(str(image.format), image.mode, image.size, getattr(image, "n_frames", 1), turned)
    except Exception:  # decoders meet damaged files with many kinds of error
        return None


def decode(data: bytes, where: str | None = None, *, allow_gif: bool = False) -> Image.Image:
    """Decode an image to RGB, wholly, so that a truncated file fails here and not in a training step.

    PNG, JPEG, TIFF, BMP and WebP. The picture is turned as its EXIF orientation says, as browsers and `transformers`
    do. Grey of more than eight bits is scaled to eight: by the largest value or the 10 to 14 bits that a TIFF states,
    else by the least of 8, 10, 12, 14 and 16 bits that holds all its values. What is transparent becomes white,
    as glass is on a slide.

    Args:
        allow_gif: take the first frame of a GIF too, in which old articles have figures.

    Raises:
        ImageError: empty, of another format, unreadable, truncated, smaller than 8 px or larger than 20,000 px a side,
            or more than 1 GiB of pixels with their copy (134 megapixels of colour); pixels whose range is not clear.
    """
    if not data:
        raise ImageError("image file empty", where=where)
    try:
        with Image.open(io.BytesIO(data), formats=(*KINDS, "GIF") if allow_gif else KINDS) as image:
            check_size(image.width, image.height, where)
            _check_memory(image, where)
            deep = _is_deep(image)
            image.load()
            return _to_rgb(_turned(image), deep, where)
    except ImageError:
        raise
    except UnidentifiedImageError:
        if data[:4] in (b"II*\0", b"MM\0*") and len(data) > 1000:
            raise ImageError("not an image", found="a TIFF of a layout that is not supported", where=where) from None
        raise ImageError("not an image", expected=", ".join(KINDS), where=where) from None
    except Image.DecompressionBombError as exc:
        raise ImageError("image too large", found=str(exc)[:120], where=where) from None
    except Exception as exc:  # decoders meet damaged files with many kinds of error
        raise ImageError("image truncated or damaged", found=str(exc)[:120], where=where) from None


def size_of(ref: ImageFile | ImageBytes) -> tuple[int, int]:
    """Width and height by the header alone, before the picture is turned.

    Raises:
        ImageError: it cannot be opened.
    """
    data = read_bytes(ref)
    try:
        with Image.open(io.BytesIO(data), formats=KINDS) as image:
            return image.size
    except Exception as exc:  # as in `decode`
        where = ref.path if isinstance(ref, ImageFile) else None
        raise ImageError("not an image", found=str(exc)[:120], where=where) from None


def _check_memory(image: Image.Image, where: str | None) -> None:
    """Refuse by the header alone what would take more memory than a picture may."""
    pixels = image.width * image.height
    num_bytes = pixels * (_BYTES_PER_PX.get(image.mode, 4) + 4)  # as it stands, and one copy in RGB
    if image.format == "TIFF":  # a strip is unpacked whole
        rows = getattr(image, "tag_v2", {}).get(_ROWS_PER_STRIP_TAG, image.height)
        num_bytes += image.width * min(rows, image.height) * 4 if isinstance(rows, int) else pixels * 4
    if num_bytes > MAX_DECODED_BYTES:
        raise ImageError(
            "image too large", expected=f"at most {MAX_DECODED_BYTES:,} bytes of pixels",
            found=f"{image.width} x {image.height} px of mode {image.mode}, {num_bytes:,} bytes", where=where,
        )  # fmt: skip


def _turned(image: Image.Image) -> Image.Image:
    """The picture as its EXIF orientation says. EXIF that cannot be read turns nothing."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the parser of a damaged block throws many kinds of error; browsers pass over it too
        return image
    method = _TURNS.get(orientation) if isinstance(orientation, int) else None
    if method is None:
        return image
    turned = image.transpose(method)
    turned.info = dict(image.info)
    return turned


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _to_rgb(image: Image.Image, deep: bool, where: str | None) -> Image.Image:
    if image.mode == "F":
        raise ImageError("image depth not supported", found="floating-point pixels", where=where)
    if image.mode == "LAB":
        raise ImageError("image colours not supported", found="CIELAB", where=where)
    if image.mode.startswith("I"):  # Pillow's own conversion would cut everything above 255 to white
        return _eight_bits(image, where)
    if deep:
        _check_deep_colour(image, where)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.convert("RGB")
    if image.has_transparency_data:
        return _on_white(image)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Laid on white, in strips: a copy of the whole picture with its transparency would be one too many."""
    flat = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP_PX):
        clear = image.crop((0, top, image.width, min(top + _STRIP_PX, image.height))).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB"), (0, top))
    return flat


def _eight_bits(image: Image.Image, where: str | None) -> Image.Image:
    """Grey of 16 or 32 bits, scaled by the range of its values."""
    wide = np.asarray(image)
    low, high = int(wide.min()), int(wide.max())
    tags = getattr(image, "tag_v2", {})
    told = [_number(tags.get(t)) for t in _MAX_SAMPLE_VALUE_TAGS]
    bits = _number(tags.get(_BITS_TAG))
    if isinstance(bits, int) and bits in _DEPTHS[:-1]:  # 16 is what every writer states, whatever the values are
        told.append(2**bits - 1)
    stated = next((v for v in told if isinstance(v, int) and v >= max(high, 1)), 0)
    top = stated or next((2**bits - 1 for bits in _DEPTHS if high < 2**bits), 0)
    if low < 0 or top == 0 or (0 < high < 16 and not stated):
        raise ImageError(
            "image depth not clear", expected="values of a known depth, or 8 bits a pixel",
            found=f"pixels of {low} to {high} in mode {image.mode}", where=where,
        )  # fmt: skip
    # 257 * 255 is 65,535, so that full depth is cut as before.
    table = (wide // 257) if top == 65535 else np.rint(wide * (255.0 / top))
    return Image.fromarray(table.astype(np.uint8)).convert("RGB")


def _number(value: object) -> object:
    return value[0] if isinstance(value, tuple) and value else value


def _is_deep(image: Image.Image) -> bool:
    """Whether the file holds 16 bits a colour; known before the pixels are read only."""
    return any("16" in str(tile[3]).partition(",")[0] for tile in getattr(image, "tile", ()))


def _check_deep_colour(image: Image.Image, where: str | None) -> None:
    """Of colours of 16 bits Pillow keeps the upper eight. Values of 14 bits or less would be nearly black."""
    colours = image.getbands()
    high = max(int(image.getchannel(c).getextrema()[1]) for c in colours if c not in "AX")  # type: ignore[arg-type]
    if high < 64:
        raise ImageError(
            "image depth not clear", expected="colours that use their 16 bits, or 8 bits a colour",
            found=f"16-bit colours of at most {high * 256 + 255}", where=where,
        )  # fmt: skip


def check_size(width: int, height: int, where: str | None = None) -> None:
    """Refuse sizes that cannot be a tile."""
    found = f"{width} x {height} px"
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError("image too small", expected=f"at least {MIN_SIDE_PX} px a side", found=found, where=where)
    if max(width, height) > MAX_SIDE_PX:
        raise ImageError("image too large", expected=f"at most {MAX_SIDE_PX} px a side", found=found, where=where)


def load_image(ref: ImageRef, read_region: RegionReader | None = None) -> Image.Image:
    """An RGB image of a reference.

    Args:
        read_region: how slide regions are read; the slides room provides it.
    """
    if isinstance(ref, SlideRegion):
        if read_region is None:
            raise ImageError("slide regions need a slide reader", where=ref.path)
        return read_region(ref)
    if isinstance(ref, SlideBag):
        raise ImageError("a bag of patch features has no pixels", where=ref.path)
    return load_encoded(ref)[0]


def load_encoded(ref: ImageFile | ImageBytes) -> tuple[Image.Image, bytes]:
    """An RGB image, and the encoded bytes that it was decoded from."""
    data = read_bytes(ref)
    return decode(data, ref.path if isinstance(ref, ImageFile) else None), data


def load_picture(ref: ImageRef, read_region: RegionReader | None = None) -> Picture:
    """What a model is shown for a reference: an RGB image, or the bag of patches of a slide.

    Raises:
        ImageError: it cannot be read or used.
    """
    if not isinstance(ref, SlideBag):
        return load_image(ref, read_region)
    if read_region is None:
        raise ImageError("bags of patch features need a slide reader", where=ref.path)
    return read_region.bag(ref)


def open_own(data: bytes) -> Image.Image:
    """A picture that Eosin itself has just made, lazily, as Pillow opens it. For files of others there is `decode`."""
    return Image.open(io.BytesIO(data), formats=KINDS)


def digest_of(encoded: list[bytes]) -> str:
    """sha256 over several encoded images, in order."""
    total = hashlib.sha256()
    for data in encoded:
        total.update(hashlib.sha256(data).digest())
    return total.hexdigest()


def encode_png(image: Image.Image) -> bytes:
    """PNG bytes of an image."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
