"""Pictures as a processor will keep them: shrunk once, the same way in training, exams and serving."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, overload

from PIL import Image
from transformers import AutoProcessor, ProcessorMixin

from eosin.core.errors import EosinError
from eosin.core.foreign_code import NO_CODE, no_foreign_code
from eosin.core.images import Picture
from eosin.core.nouns.bags import PatchBag
from eosin.models.load import set_max_pixels


def max_pixels_of(processor: ProcessorMixin) -> int | None:
    """Area in pixels that a processor keeps of an image, or None where it does not say."""
    return max_pixels_of_images(getattr(processor, "image_processor", None))


def max_pixels_of_images(image_processor: Any) -> int | None:
    """The same for the part of a processor that takes images."""
    size = getattr(image_processor, "size", None) or {}
    try:
        return int(size["longest_edge"])
    except (KeyError, TypeError):
        return None


@overload
def shrink(picture: Image.Image, max_pixels: int | None) -> Image.Image: ...
@overload
def shrink(picture: PatchBag, max_pixels: int | None) -> PatchBag: ...
@overload
def shrink(picture: Picture, max_pixels: int | None) -> Picture: ...
def shrink(picture: Picture, max_pixels: int | None) -> Picture:
    """Shrink a picture to at most `max_pixels` of area, keeping its shape (bicubic, antialiased).

    A bag of patch features has no pixels and stays as it is.
    """
    if isinstance(picture, PatchBag):
        return picture
    size = _fitted(picture.width, picture.height, max_pixels)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def _fitted(width: int, height: int, max_pixels: int | None) -> tuple[int, int]:
    area = width * height
    if max_pixels is None or area <= max_pixels:
        return width, height
    scale = (max_pixels / area) ** 0.5
    return max(1, round(width * scale)), max(1, round(height * scale))


def refusals_of(image_processor: Any) -> Callable[[int, int], str | None]:
    """What says whether a model's own image processor refuses a picture of a width and height, and in which words.

    The processor is asked with an empty picture of that size, so that its bounds need not be known here.
    """
    if image_processor is None:  # a text-only model
        return lambda width, height: None
    max_pixels = max_pixels_of_images(image_processor)

    @lru_cache(4096)
    def refuses(width: int, height: int) -> str | None:
        picture = Image.new("RGB", _fitted(width, height, max_pixels))
        try:
            image_processor(images=[picture], return_tensors="pt")
        except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as exc:
            return str(exc)[:160] or type(exc).__name__
        return None

    return refuses


def load_image_processor(name: str, revision: str | None, max_pixels: int | None) -> Any:
    """The part of a model's processor that takes images, without its weights; None for a text-only model.

    Raises:
        EosinError: there is no such model here.
    """
    options = NO_CODE | ({"revision": revision} if revision else {})
    try:
        with no_foreign_code(name):
            processor = AutoProcessor.from_pretrained(name, **options)
    except OSError as exc:
        raise EosinError(
            "The processor of the model could not be loaded.", found=str(exc).splitlines()[0][:200], where=name,
            next_step="check the name; offline, give the folder of a downloaded model",
        ) from exc  # fmt: skip
    if max_pixels is not None:
        set_max_pixels(processor, max_pixels)
    return getattr(processor, "image_processor", None)
