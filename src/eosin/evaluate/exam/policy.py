"""The input policy: what a model is shown of the pictures of a question."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from eosin.core.errors import ImageError
from eosin.core.images import MIN_SIDE_PX, Picture, check_size
from eosin.core.nouns.sample import ImagePart, ImageRef, Message, SlideRegion
from eosin.core.settings.exam import InputPolicy


def shown_images(
    messages: tuple[Message, ...], refs: Sequence[ImageRef], num: int | None
) -> tuple[tuple[Message, ...], Sequence[ImageRef]]:
    """Messages and pictures of a question that shows at most `num` pictures, the first ones."""
    if num is None or len(refs) <= num:
        return messages, refs
    kept = tuple(
        Message(role=m.role, parts=tuple(p for p in m.parts if not (isinstance(p, ImagePart) and p.index >= num)))
        for m in messages
    )
    return kept, refs[:num]


def fit(picture: Picture, ref: ImageRef, stored_mpp: float | None, policy: InputPolicy) -> Picture:
    """A picture as the policy shows it. A bag of patches has its own scale and stays as it is.

    Args:
        stored_mpp: microns per pixel of the picture as it is stored.

    Raises:
        ImageError: another scale is asked for and the picture's own is not known; too little would be left.
    """
    if not isinstance(picture, Image.Image):
        return picture
    if policy.mpp is not None:
        own = ref.mpp if isinstance(ref, SlideRegion) and ref.mpp is not None else stored_mpp
        if own is None:
            raise ImageError("microns per pixel not known", expected=f"a picture that can be shown at {policy.mpp:g}")
        picture = _scaled(picture, own / policy.mpp)
    if policy.patch_px is not None:
        picture = _middle(picture, policy.patch_px)
    if policy.max_pixels is not None and picture.width * picture.height > policy.max_pixels:
        picture = _scaled(picture, math.sqrt(policy.max_pixels / (picture.width * picture.height)), down=True)
    return picture


def _scaled(picture: Image.Image, factor: float, *, down: bool = False) -> Image.Image:
    """A picture whose sides are `factor` times as long; rounded down where the area must not grow."""
    whole = math.floor if down else round
    size = (max(MIN_SIDE_PX, whole(picture.width * factor)), max(MIN_SIDE_PX, whole(picture.height * factor)))
    check_size(*size)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _middle(picture: Image.Image, side: int) -> Image.Image:
    """The middle of a picture; all of a side that is shorter."""
    width, height = min(side, picture.width), min(side, picture.height)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))
