"""Colour profiles: from the scanner's colours to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from eosin.slides.open.backends.base import SlideError


@lru_cache(maxsize=8)
def _transform(profile: bytes) -> Any:
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        intent = ImageCms.Intent(ImageCms.getDefaultIntent(source))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB", renderingIntent=intent)
    except (ImageCms.PyCMSError, OSError, ValueError) as exc:
        raise SlideError("colour profile not usable", found=str(exc)[:120]) from None


def to_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """Pixels (height, width, 3) uint8 in the profile's space, as sRGB.

    Raises:
        SlideError: the profile cannot be used.
    """
    from PIL import ImageCms

    changed = ImageCms.applyTransform(Image.fromarray(pixels), _transform(profile))
    assert changed is not None
    return np.asarray(changed)
