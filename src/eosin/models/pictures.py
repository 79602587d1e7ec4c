"""Pictures as a processor will keep them: shrunk once, the same way in training, exams and serving."""

from __future__ import annotations

from typing import overload

from PIL import Image
from transformers import ProcessorMixin

from eosin.core.images import Picture
from eosin.core.nouns.bags import PatchBag


def max_pixels_of(processor: ProcessorMixin) -> int | None:
    """Area in pixels that a processor keeps of an image, or None where it does not say."""
    size = getattr(getattr(processor, "image_processor", None), "size", None) or {}
    try:
        return int(size["longest_edge"])
    except (KeyError, TypeError):
        return None


@overload
def fit(picture: Image.Image, max_pixels: int | None) -> Image.Image: ...
@overload
def fit(picture: PatchBag, max_pixels: int | None) -> PatchBag: ...
@overload
def fit(picture: Picture, max_pixels: int | None) -> Picture: ...
def fit(picture: Picture, max_pixels: int | None) -> Picture:
    """Shrink a picture to at most `max_pixels` of area, keeping its shape (bicubic, antialiased).

    A bag of patch features has no pixels and stays as it is.
    """
    if isinstance(picture, PatchBag):
        return picture
    area = picture.width * picture.height
    if max_pixels is None or area <= max_pixels:
        return picture
    scale = (max_pixels / area) ** 0.5
    size = (max(28, round(picture.width * scale)), max(28, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC)
