"""The processor of the slide reader: texts, PIL images and bags of patches -> tensors."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, Qwen2_5_VLProcessor

from eosin.core.errors import EosinError, ImageError
from eosin.core.nouns.bags import PatchBag
from eosin.models.slide_encoder.pool import Pooled, pool
from eosin.models.slide_encoder.reader import SlideReaderConfig
from eosin.models.slide_encoder.rows import SlideSpec, check_bag, rows_of

log = logging.getLogger("eosin.slides")


@dataclass
class SlideCounts:
    """What a processor has read: slides, their patches, the rows and tokens that they became."""

    slides: int = 0
    patches: int = 0
    rows: int = 0
    tokens: int = 0
    pooled_slides: int = 0


class SlideReaderProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
    """Takes PIL images and `PatchBag`s, mixed, wherever processors take images.

    Args:
        slide: the fields of the model's `SlideSpec`.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        video_processor: Any = None,
        chat_template: Any = None,
        slide: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if slide is None:
            raise EosinError("This processor has no slide part.", where="processor_config.json")
        self.slide = dict(slide)
        self.slide_spec = SlideSpec.of(slide)
        self.counts = SlideCounts()
        super().__init__(image_processor, tokenizer, video_processor, chat_template=chat_template, **kwargs)

    def __call__(self, images: Any = None, text: Any = None, videos: Any = None, **kwargs: Any) -> Any:
        """Token ids, masks and types; with images also `pixel_values` (rows, width) and `image_grid_thw` (images, 3).

        Args:
            images: one picture, or lists of pictures, nested or not: PIL images and bags.
            text: one text or a list; every <|image_pad|> stands for the next picture.

        Raises:
            ImageError: a bag or image that the model cannot read, named.
        """
        if videos is not None:
            raise EosinError("The slide reader reads images and slides, no videos.")
        pictures = _flat(images)
        options = kwargs.pop("images_kwargs", None) or {}
        if not pictures:
            return super().__call__(text=text, **kwargs)
        pixels, grids, sizes = self._encode(pictures, options)
        if text is None:
            return _Fields(pixel_values=pixels, image_grid_thw=grids)
        texts = [text] if isinstance(text, str) else list(text)
        fields = super().__call__(text=self._spread(texts, sizes), **kwargs)
        fields["pixel_values"], fields["image_grid_thw"] = pixels, grids
        return fields

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """As the parent's. A bag goes through in a wrapper: from 5.24 on transformers takes dataclasses apart."""
        return super().apply_chat_template(_wrapped(conversation), *args, **kwargs)

    def validate_inputs(self, images: Any = None, text: Any = None, **kwargs: Any) -> None:
        """Placeholders were counted where they were spread."""

    def _encode(self, pictures: list[Any], options: Mapping[str, Any]) -> tuple[Tensor, Tensor, list[int]]:
        """Rows of all pictures, their grids, and how many tokens each takes."""
        own = [p for p in pictures if not isinstance(p, PatchBag)]
        images = iter(self._image_rows(own, options))
        rows, grids, sizes = [], [], []
        for picture in pictures:
            if isinstance(picture, PatchBag):
                made = torch.from_numpy(rows_of(self.shown(picture).bag, self.slide_spec))
                grid = torch.tensor([len(made), 1, 1])
                sizes.append(self.slide_spec.tokens_of(len(made)))
                self._count(picture, len(made))
            else:
                made, grid = next(images)
                sizes.append(int(grid.prod()) // self.image_processor.merge_size**2)
            rows.append(made)
            grids.append(grid)
        return torch.cat(rows), torch.stack(grids), sizes

    def shown(self, bag: PatchBag) -> Pooled:
        """What the model is shown of a bag: itself, or its clusters where the model pools by k-means.

        Raises:
            ImageError: the bag cannot be read by this model.
        """
        check_bag(bag, self.slide_spec)
        return pool(bag, self.slide_spec)

    def num_tokens(self, bag: PatchBag) -> int:
        """Tokens that a bag takes in a prompt."""
        return self.slide_spec.tokens_of(len(self.shown(bag).bag))

    def _count(self, bag: PatchBag, num_rows: int) -> None:
        counts, tokens = self.counts, self.slide_spec.tokens_of(num_rows)
        counts.slides += 1
        counts.patches += len(bag)
        counts.rows += num_rows
        counts.tokens += tokens
        counts.pooled_slides += tokens - self.slide_spec.has_magnification < len(bag)
        log.debug("slide %s: %d patches, %d rows, %d tokens", bag.name, len(bag), num_rows, tokens)

    def _image_rows(self, images: list[Image.Image], options: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
        if not images:
            return []
        spec = self.slide_spec
        if not spec.image_columns:
            raise ImageError(
                "this model reads slides only, and was given an image", next_step="build it with sees_images: true"
            )
        done = self.image_processor(images=images, return_tensors="pt", **options)
        pixels, grids = done["pixel_values"].float(), done["image_grid_thw"]
        wide = torch.nn.functional.pad(pixels, (0, spec.row_width - pixels.shape[1]))
        return list(zip(torch.split(wide, grids.prod(-1).tolist()), grids, strict=True))

    def _spread(self, texts: list[str], sizes: list[int]) -> list[str]:
        """Texts with as many image tokens for every picture as it takes."""
        wanted = sum(t.count(self.image_token) for t in texts)
        if wanted != len(sizes):
            raise EosinError("The texts do not ask for as many pictures as there are.", expected=str(wanted),
                             found=str(len(sizes)))  # fmt: skip
        left = iter(sizes)
        return [re.sub(re.escape(self.image_token), lambda _: self.image_token * next(left), t) for t in texts]


class _Wrapped:
    """A bag on its way through a chat template."""

    def __init__(self, bag: PatchBag) -> None:
        self.bag = bag


def _wrapped(value: Any) -> Any:
    """Messages with every bag in a wrapper; lists and mappings are copied, all else is the same object."""
    if isinstance(value, PatchBag):
        return _Wrapped(value)
    if isinstance(value, Mapping):
        return {key: _wrapped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_wrapped(item) for item in value]
    return value


class _Fields(dict):  # type: ignore[type-arg]
    """Fields without a text."""


def _flat(images: Any) -> list[Any]:
    """Pictures in order, whatever the nesting."""
    if images is None:
        return []
    if isinstance(images, (list, tuple)):
        return [p for own in images for p in _flat(own)]
    if isinstance(images, _Wrapped):
        return [images.bag]
    if isinstance(images, np.ndarray):
        return [Image.fromarray(images)]
    return [images]


AutoProcessor.register(SlideReaderConfig, SlideReaderProcessor)
