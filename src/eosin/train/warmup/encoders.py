"""The encoders as the warm-up trains them: images through a vision tower, bags of patches through a slide tower."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from eosin.core.errors import EosinError
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.core.settings.recipe import check_settings
from eosin.core.settings.stages import WarmupStage
from eosin.models.load import slide_tower, vision_tower
from eosin.models.slide_encoder.rows import PatchPositions
from eosin.train.data.augment import AugmentSettings, augment_batch
from eosin.train.data.bag_augment import BagAugment, augment_bag
from eosin.train.data.rows import ImageCache
from eosin.train.stages.base import StageContext


class VisionEncoder(Protocol):
    """What the warm-up asks of a tower. `load` gives whatever `tokens` and `augmented` take."""

    tower: nn.Module
    width: int
    attends: bool  # whether tokens are weighed by attention; else their mean is judged

    def load(self, samples: Sequence[Sample], pictures: ImageCache) -> Any:
        """The first images of samples, ready for indexing by a tensor of places with `choose`."""
        ...

    def choose(self, data: Any, places: Tensor) -> Any: ...

    def augmented(self, batch: Any, generator: torch.Generator) -> Any:
        """A batch with the augmentation of the stage."""
        ...

    def tokens(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, D) float32 that the language model would read, and is_padding (B, T)."""
        ...


def encoder_of(settings: WarmupStage, ctx: StageContext, train: Sequence[Sample]) -> VisionEncoder:
    """The encoder that sees the first images of these samples.

    Raises:
        EosinError: slides and images mixed, or a model without the tower that is needed.
    """
    kinds = {isinstance(s.images[0], SlideBag) for s in train}
    if len(kinds) == 2:
        raise EosinError("A warm-up sees either slides or images.", where=f"stages.{ctx.name}",
                         next_step="make one warm-up stage of each")  # fmt: skip
    if kinds == {True}:
        return SlideEncoder(settings, ctx)
    if hasattr(getattr(vision_tower(ctx.loaded.model), "config", None), "spatial_merge_size"):
        return ImageEncoder(settings, ctx)
    return ProjectedEncoder(settings, ctx)


@dataclass(frozen=True)
class Patchify:
    """Pixels to the patches that Qwen2.5-VL's tower takes, as its image processor makes them.

    Attributes:
        side_px: side of the square images; a multiple of patch_size x merge_size.
    """

    side_px: int
    patch_size: int
    merge_size: int
    temporal: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, tower: Any, processor: Any) -> Patchify:
        """What a tower and its processor take; images are squares of the largest area the processor keeps."""
        config, images = tower.config, processor.image_processor
        unit = config.patch_size * config.spatial_merge_size
        side = int(math.isqrt(int(images.size["longest_edge"]))) // unit * unit
        return cls(side, config.patch_size, config.spatial_merge_size, config.temporal_patch_size,
                   tuple(images.image_mean), tuple(images.image_std))  # fmt: skip

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, H, W, 3) -> patches (B * grid^2, 3 * temporal * patch^2) and grid_thw (B, 3)."""
        num, grid, p, m = images.shape[0], self.side_px // self.patch_size, self.patch_size, self.merge_size
        mean, std = (torch.tensor(v, dtype=torch.float32) * 255 for v in (self.mean, self.std))
        x = (images.float() - mean.to(images.device)) / std.to(images.device)
        x = x.permute(0, 3, 1, 2).reshape(num, 3, grid // m, m, p, grid // m, m, p)
        x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)  # B, row, column, row in block, column in block, channel, y, x
        x = x.unsqueeze(6).expand(*x.shape[:6], self.temporal, p, p)
        thw = torch.tensor([[1, grid, grid]] * num, device=images.device)
        return x.reshape(num * grid * grid, 3 * self.temporal * p * p), thw


class _SquareImages:
    """Images as squares of one side, uint8 (N, side, side, 3), with the augmentation of the stage."""

    attends = False

    def __init__(self, settings: WarmupStage, ctx: StageContext, side_px: int) -> None:
        self._side_px = side_px
        self._device = ctx.loaded.model.device
        self._augment = AugmentSettings.none()
        if settings.augment:
            self._augment = check_settings(AugmentSettings, settings.options, f"stages.{ctx.name}.options")

    def load(self, samples: Sequence[Sample], pictures: ImageCache) -> Tensor:
        """uint8 (N, side, side, 3)."""
        size = (self._side_px, self._side_px)
        out = np.empty((len(samples), *size, 3), dtype=np.uint8)
        for i, sample in enumerate(samples):
            picture: Any = pictures.get(sample)[0]
            out[i] = np.asarray(picture if picture.size == size else picture.resize(size))
        return torch.from_numpy(out)

    def choose(self, data: Tensor, places: Tensor) -> Tensor:
        return data[places]

    def augmented(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        return augment_batch(batch, self._augment, generator)


class ProjectedEncoder(_SquareImages):
    """Square images through the eyes and the projector of a model of LLaVA's form."""

    def __init__(self, settings: WarmupStage, ctx: StageContext) -> None:
        model: Any = ctx.loaded.model
        inner: Any = getattr(model, "model", None)
        images = ctx.loaded.processor.image_processor
        eyes, projector = getattr(inner, "vision_tower", None), getattr(inner, "multi_modal_projector", None)
        side = dict(getattr(images, "crop_size", None) or images.size or {}).get("height")
        if eyes is None or projector is None or side is None:
            raise EosinError(
                "The warm-up knows towers of the Qwen2-VL family and models of LLaVA's form.",
                found=model.config.model_type, where=f"stages.{ctx.name}",
                next_step="take the warmup stage out of the recipe; weights that were trained need none",
            )  # fmt: skip
        super().__init__(settings, ctx, int(side))
        self.tower: nn.Module = nn.ModuleDict({"eyes": eyes, "projector": projector})
        self.width = int(model.config.text_config.hidden_size)
        self._look = inner.get_image_features
        self._dtype = model.dtype
        scale = getattr(images, "rescale_factor", None) or 1 / 255
        self._mean, self._std = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1) / scale for v in (images.image_mean, images.image_std)
        )

    def tokens(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        pixels = (batch.to(self._device).permute(0, 3, 1, 2).float() - self._mean) / self._std
        tokens = torch.stack(list(self._look(pixel_values=pixels.to(self._dtype)).pooler_output)).float()
        return tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


class ImageEncoder(_SquareImages):
    """Square images through a tower of the Qwen2-VL family."""

    def __init__(self, settings: WarmupStage, ctx: StageContext) -> None:
        tower: Any = vision_tower(ctx.loaded.model)
        self._patchify = Patchify.of(tower, ctx.loaded.processor)
        super().__init__(settings, ctx, self._patchify.side_px)
        self.tower: nn.Module = tower
        self.width = int(tower.config.out_hidden_size)
        self._dtype = tower.dtype

    def tokens(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        patches, grid = self._patchify(batch.to(self._device))
        merged = torch.as_tensor(self.tower(patches.to(self._dtype), grid_thw=grid).pooler_output)
        tokens = merged.reshape(len(batch), -1, merged.shape[-1]).float()
        return tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


class SlideEncoder:
    """Bags of patches through the slide tower of a slide reader."""

    attends = True

    def __init__(self, settings: WarmupStage, ctx: StageContext) -> None:
        tower = slide_tower(ctx.loaded.model)
        if tower is None:
            raise EosinError(
                "This model has no tower for slides.", expected="a slide reader", where=f"stages.{ctx.name}",
                next_step="model: {kind: slide, ...}",
            )  # fmt: skip
        self.tower: nn.Module = tower
        self.width = int(ctx.loaded.model.config.text_config.hidden_size)
        self._processor: Any = ctx.loaded.processor
        self._device = ctx.loaded.model.device
        self._augment = BagAugment.none()
        if settings.augment:
            self._augment = check_settings(BagAugment, settings.options, f"stages.{ctx.name}.options")

    def load(self, samples: Sequence[Sample], pictures: ImageCache) -> list[Any]:
        return [self._processor.shown(pictures.get(s)[0]).bag for s in samples]

    def choose(self, data: list[PatchBag], places: Tensor) -> list[PatchBag]:
        return [data[int(i)] for i in places]

    def augmented(self, batch: list[PatchBag], generator: torch.Generator) -> list[PatchBag]:
        rng = np.random.default_rng(int(torch.randint(0, 2**62, (1,), generator=generator)))
        return [augment_bag(bag, self._augment, rng) for bag in batch]

    def tokens(self, batch: list[PatchBag]) -> tuple[Tensor, Tensor]:
        bags = [
            (torch.from_numpy(b.features).to(self._device), PatchPositions(b.centres_um, b.tile_um, b.mpp))
            for b in batch
        ]
        found = [slide.tokens.float() for slide in self.tower(bags)]
        padded = nn.utils.rnn.pad_sequence(found, batch_first=True)
        sizes = torch.tensor([len(t) for t in found], device=padded.device)
        return padded, torch.arange(padded.shape[1], device=padded.device)[None] >= sizes[:, None]
