"""Which pictures the processor of a recipe's model refuses, known before any stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from eosin.core.settings.model import ComposedModel, HubModel, ModelSettings, SlideModel, TinyModel

ORDINARY_SIDE_PX = 56
ORDINARY_RATIO = 10
"""Shapes that every processor takes: sides of at least so many pixels, one at most so many times the other."""


def picture_refusals(model: ModelSettings) -> Callable[[int, int], str | None]:
    """What says whether the model's own processor refuses a picture of a width and height, and in which words.

    The processor is made, or loaded without the model's weights, when the first picture of an unusual shape comes.
    """

    if isinstance(model, ComposedModel):  # any picture becomes one square
        return lambda width, height: None

    @lru_cache(1)
    def ask() -> Callable[[int, int], str | None]:
        from eosin.models.pictures import refusals_of  # loads torch

        return refusals_of(_image_processor(model.base if isinstance(model, SlideModel) else model))

    return ordinary_or(lambda width, height: ask()(width, height))


def ordinary_or(refuses: Callable[[int, int], str | None]) -> Callable[[int, int], str | None]:
    """The same, which is not asked about ordinary shapes."""

    def told(width: int, height: int) -> str | None:
        short, long = sorted((width, height))
        return None if short >= ORDINARY_SIDE_PX and long <= ORDINARY_RATIO * short else refuses(width, height)

    return told


def _image_processor(model: TinyModel | HubModel) -> Any:
    if isinstance(model, TinyModel):
        from eosin.models.tiny import build_image_processor

        return build_image_processor(model)
    from eosin.models.pictures import load_image_processor

    return load_image_processor(model.name, model.revision, model.max_pixels)
