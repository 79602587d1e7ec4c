"""Image references become pixels here, and nowhere else. Bad images give an ImageError with a short reason."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from eosin.core.errors import ImageError
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef, SlideBag, SlideRegion

MIN_SIDE_PX = 8
MAX_SIDE_PX = 20_000

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
    try:
        return Path(ref.path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("image file missing", where=ref.path) from None
    except IsADirectoryError:
        raise ImageError("image path is a folder", where=ref.path) from None
    except (OSError, ValueError) as exc:
        raise ImageError("image file not readable", found=str(exc)[:120], where=ref.path[:200]) from None


def decode(data: bytes, where: str | None = None) -> Image.Image:
    """Decode an image to RGB, wholly, so that a truncated file fails here and not in a training step.

    Sixteen-bit grey is scaled to eight bits. What is transparent becomes white, as glass is on a slide.

    Raises:
        ImageError: empty, unreadable, truncated, smaller than 8 px or larger than 20,000 px a side or
            about 179 megapixels, or with pixels that are no 8- or 16-bit numbers.
    """
    if not data:
        raise ImageError("image file empty", where=where)
    try:
        image = Image.open(io.BytesIO(data))
        check_size(image.width, image.height, where)
        image.load()
        return _to_rgb(image, where)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image", where=where) from None
    except Image.DecompressionBombError as exc:
        raise ImageError("image too large", found=str(exc)[:120], where=where) from None
    except Exception as exc:  # decoders meet damaged files with many kinds of error
        raise ImageError("image truncated or damaged", found=str(exc)[:120], where=where) from None


def _to_rgb(image: Image.Image, where: str | None) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.convert("RGB")
    if image.mode == "F":
        raise ImageError("image depth not supported", found="floating-point pixels", where=where)
    if image.mode.startswith("I"):  # Pillow's own conversion would cut everything above 255 to white
        wide = np.asarray(image)
        return Image.fromarray((np.clip(wide, 0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
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
    if isinstance(ref, SlideBag):
        raise ImageError("a bag of patch features has no pixels", where=ref.path)
    where = ref.path if isinstance(ref, ImageFile) else None
    return decode(read_bytes(ref), where)


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
