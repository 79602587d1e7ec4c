"""Image references become pixels here, and nowhere else. Bad images give an ImageError with a short reason."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from eosin.core.errors import ImageError
from eosin.core.sample import ImageBytes, ImageFile, ImageRef, SlideRegion

MIN_SIDE_PX = 8
MAX_SIDE_PX = 20_000

RegionReader = Callable[[SlideRegion], Image.Image]


def read_bytes(ref: ImageFile | ImageBytes) -> bytes:
    """The encoded bytes of an image reference."""
    if isinstance(ref, ImageBytes):
        return ref.data
    try:
        return Path(ref.path).read_bytes()
    except FileNotFoundError:
        raise ImageError("image file missing", where=ref.path) from None
    except IsADirectoryError:
        raise ImageError("image path is a folder", where=ref.path) from None
    except PermissionError:
        raise ImageError("image file not readable", where=ref.path) from None


def decode(data: bytes, where: str | None = None) -> Image.Image:
    """Decode an image to RGB, wholly, so that a truncated file fails here and not in a training step.

    Raises:
        ImageError: empty, unreadable, truncated, smaller than 8 px or larger than 20,000 px a side.
    """
    if not data:
        raise ImageError("image file empty", where=where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            check_size(image.width, image.height, where)
            image.load()
    except UnidentifiedImageError:
        raise ImageError("not an image", where=where) from None
    except Image.DecompressionBombError:
        raise ImageError("image too large", expected=f"at most {MAX_SIDE_PX} px a side", where=where) from None
    except (OSError, ValueError, SyntaxError, EOFError) as exc:
        raise ImageError("image truncated or damaged", found=str(exc)[:120], where=where) from None
    return image.convert("RGB")


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
    where = ref.path if isinstance(ref, ImageFile) else None
    return decode(read_bytes(ref), where)


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
