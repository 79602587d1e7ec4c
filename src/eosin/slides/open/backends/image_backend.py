"""A plain picture as a slide of one level. Its scale is never in the file: the user states it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eosin.core.errors import ImageError
from eosin.core.images import decode, read_bytes
from eosin.core.nouns.sample import ImageFile
from eosin.slides.open.backends.base import SlideError, SlideMetadata


class ImageBackend:
    """PNG, JPEG, BMP, WebP or TIFF, held in memory: at most 20,000 px a side and 134 megapixels."""

    def __init__(self, file: Path) -> None:
        try:
            image = decode(read_bytes(ImageFile(path=str(file))), str(file))
        except ImageError as exc:
            raise SlideError(exc.message, expected=exc.expected, found=exc.found, where=file) from None
        self._pixels = np.asarray(image)
        self.metadata = SlideMetadata(
            reader="image",
            vendor=(file.suffix.lstrip(".") or "image").lower(),
            level_sizes_px=((image.width, image.height),),
            mpp_xy=None,
            mpp_note="a plain picture does not state it",
            properties={},
            icc=image.info.get("icc_profile"),
        )

    def region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See Backend.region."""
        return np.ascontiguousarray(self._pixels[y : y + height, x : x + width])

    def associated_image(self, name: str) -> np.ndarray:
        """A plain picture has none."""
        raise SlideError("no such image in this slide", found=name)

    def close(self) -> None:
        """Nothing is open."""
