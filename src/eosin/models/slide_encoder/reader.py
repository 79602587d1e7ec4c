"""The slide reader: Qwen2.5-VL with a second eye. Slides come in where images do.

A bag rides in `pixel_values` (see `bag_rows`) with one row (N, 1, 1) of `image_grid_thw`; an image never has height
and width 1. So trainers, `generate` and the shared-prefix path treat slides and images alike.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLPreTrainedModel,
    Qwen2_5_VLTextModel,
)

from eosin.core.errors import EosinError
from eosin.models.slide_encoder.rows import PatchPositions, SlideSpec, decoder_positions, positions_of
from eosin.models.slide_encoder.tower import SlideTokens, SlideTower

MODEL_TYPE = "eosin_slide_reader"


class SlideReaderConfig(Qwen2_5_VLConfig):  # type: ignore[misc]
    """Config of Qwen2.5-VL and `slide`, the fields of a `SlideSpec`."""

    model_type = MODEL_TYPE
    # TRL looks here for the class of a model that transformers itself does not name (the reference of a KL term).
    auto_map: ClassVar[dict[str, str]] = {}
    slide: dict | None = None

    @property
    def slide_spec(self) -> SlideSpec:
        """The slide part, checked."""
        if self.slide is None:
            raise EosinError("This config has no slide part.", where="config.json", found=self.model_type)
        return SlideSpec.of(self.slide)

    @property
    def sees_images(self) -> bool:
        """Whether the model has Qwen's eye for images too."""
        return self.slide_spec.image_columns > 0


def is_slide(grid: Tensor) -> Tensor:
    """(images,) True where a row of `image_grid_thw` (images, 3) is a slide."""
    return (grid[:, 1] == 1) & (grid[:, 2] == 1)


class SlideReaderModel(Qwen2_5_VLModel):  # type: ignore[misc]
    """The backbone: both eyes and the decoder."""

    config: SlideReaderConfig
    config_class = SlideReaderConfig

    def __init__(self, config: SlideReaderConfig) -> None:
        Qwen2_5_VLPreTrainedModel.__init__(self, config)
        kind = Qwen2_5_VisionTransformerPretrainedModel
        self.visual = kind._from_config(config.vision_config) if config.sees_images else None
        self.language_model = Qwen2_5_VLTextModel._from_config(config.text_config)
        self.slide_tower = SlideTower(config.slide_spec, config.text_config.hidden_size)
        self.rope_deltas: Tensor | None = None
        self.post_init()

    # -- what the eyes see -------------------------------------------------------------------------------------------

    def get_image_features(
        self, pixel_values: Tensor, image_grid_thw: Tensor, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Tokens of every image and slide, in order: `pooler_output` is a tuple of (tokens, width)."""
        rows = torch.split(pixel_values, image_grid_thw.prod(-1).tolist())
        flags = is_slide(image_grid_thw).tolist()
        slides = iter(self.slide_tower([self.bag_of(own) for own, flag in zip(rows, flags, strict=True) if flag]))
        images = iter(self._images([r for r, flag in zip(rows, flags, strict=True) if not flag], image_grid_thw))
        found = tuple(next(slides).tokens if flag else next(images) for flag in flags)
        return BaseModelOutputWithPooling(pooler_output=found)

    def bag_of(self, rows: Tensor) -> tuple[Tensor, PatchPositions]:
        """Features (N, dimension), with gradient where `rows` (N, width) has it, and places of one slide."""
        places = positions_of(rows.detach()[:, -16:].double().cpu().numpy())
        return rows[:, : self.slide_tower.spec.dimension], places

    def _images(self, rows: list[Tensor], grid: Tensor) -> tuple[Tensor, ...]:
        if not rows:
            return ()
        if self.visual is None:
            raise EosinError("This model has no eye for images, only for slides.", next_step="give it bags of patches")
        own = grid[~is_slide(grid)]
        pixels = torch.cat(rows)[:, : self.slide_tower.spec.image_columns].type(self.visual.dtype)
        merged = self.visual(pixels, grid_thw=own).pooler_output
        sizes = (own.prod(-1) // self.visual.spatial_merge_size**2).tolist()
        found: tuple[Tensor, ...] = torch.split(merged, sizes)
        return found

    # -- where tokens stand ------------------------------------------------------------------------------------------

    def get_rope_index(
        self,
        input_ids: Tensor,
        mm_token_type_ids: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        video_grid_thw: Tensor | None = None,
        second_per_grid_ts: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Positions (3, B, T) and what generation adds to its count, (B, 1).

        As Qwen2.5-VL's for text and images. A slide's tokens stay at one time and stand at their rows and columns of
        tiles; text goes on after the largest.
        """
        if video_grid_thw is not None:
            raise EosinError("The slide reader reads images and slides, no videos.")
        positions = torch.zeros(3, *input_ids.shape, dtype=torch.long, device=input_ids.device)
        deltas = []
        images = iter(self._image_positions(image_grid_thw, pixel_values))
        for b, ids in enumerate(input_ids):
            real = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask[b].bool()
            own = self._row_positions(ids[real].tolist(), images).to(ids.device)
            positions[:, b, real] = own
            deltas.append(int(own.max()) + 1 - own.shape[1])
        if next(images, None) is not None:
            raise _other_tokens()
        return positions, torch.tensor(deltas, device=input_ids.device)[:, None]

    def _image_positions(self, grids: Tensor | None, pixel_values: Tensor | None) -> list[Tensor]:
        """Positions from 0 of each image's or slide's tokens, (3, tokens)."""
        if grids is None:
            return []
        merge, spec, found, start = self.config.vision_config.spatial_merge_size, self.slide_tower.spec, [], 0
        for num, height, width in grids.tolist():
            if (height, width) != (1, 1):
                axes = [torch.arange(n) for n in (num, height // merge, width // merge)]
                found.append(torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1))
            else:
                if pixel_values is None:
                    raise EosinError("The places of a slide's patches stand in pixel_values, which were not given.")
                rows = pixel_values[start : start + num, -16:]
                places = positions_of(rows.detach().double().cpu().numpy())
                found.append(torch.from_numpy(decoder_positions(places, spec)))
            start += num * height * width
        return found

    def _row_positions(self, ids: list[int], images: Any) -> Tensor:
        """Positions (3, T) of one sequence without padding; takes its images from the iterator."""
        image_id = self.config.image_token_id
        parts: list[Tensor] = []
        place = at = 0
        while at < len(ids):
            if ids[at] == image_id:
                own = next(images, None)
                if own is None or ids[at : at + own.shape[1]] != [image_id] * own.shape[1]:
                    raise _other_tokens()
                parts.append(own + place)
            else:
                end = next((i for i in range(at, len(ids)) if ids[i] == image_id), len(ids))
                parts.append(torch.arange(end - at).expand(3, -1) + place)
            at += parts[-1].shape[1]
            # Qwen2.5-VL goes on after the larger side of an image; so does a slide.
            place = int(parts[-1].max()) + 1
        return torch.cat(parts, 1)

    def forward(self, input_ids: Tensor | None = None, position_ids: Tensor | None = None, **kwargs: Any) -> Any:
        """As Qwen2.5-VL's; positions of slides need the places, which the parent's does not look for."""
        cache = kwargs.get("past_key_values")
        is_start = cache is None or cache.get_seq_length() == 0
        pixels = kwargs.get("pixel_values")
        if position_ids is None and input_ids is not None and pixels is not None and is_start:
            mask = kwargs.get("attention_mask")
            position_ids, self.rope_deltas = self.get_rope_index(
                input_ids, image_grid_thw=kwargs.get("image_grid_thw"), pixel_values=pixels,
                attention_mask=mask if isinstance(mask, Tensor) and mask.ndim == 2 else None,
            )  # fmt: skip
        return super().forward(input_ids=input_ids, position_ids=position_ids, **kwargs)


def _other_tokens() -> EosinError:
    return EosinError(
        "The prompt's image tokens are not those of its images and slides.",
        found="a prompt that was cut off within a slide, or pictures of another prompt",
        next_step="raise the stage's max_tokens, or pool the slide's tokens (model.tower.pooling)",
    )


class SlideReader(Qwen2_5_VLForConditionalGeneration):  # type: ignore[misc]
    """Backbone and head. Loads by `AutoModelForImageTextToText.from_pretrained` once this module is imported."""

    config: SlideReaderConfig
    config_class = SlideReaderConfig
    decoder_class = Qwen2_5_VLTextModel

    def __init__(self, config: SlideReaderConfig) -> None:
        Qwen2_5_VLPreTrainedModel.__init__(self, config)
        self.model = SlideReaderModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    @property
    def slide_tower(self) -> SlideTower:
        """The tower with its projector."""
        tower: SlideTower = self.model.slide_tower
        return tower

    def slide_tokens(self, pixel_values: Tensor, image_grid_thw: Tensor) -> list[SlideTokens]:
        """Tokens and order of every slide of a batch; images are passed over."""
        rows = torch.split(pixel_values, image_grid_thw.prod(-1).tolist())
        flags = is_slide(image_grid_thw).tolist()
        found: list[SlideTokens] = self.slide_tower(
            [self.model.bag_of(own) for own, flag in zip(rows, flags, strict=True) if flag]
        )
        return found


AutoConfig.register(MODEL_TYPE, SlideReaderConfig)
AutoModelForImageTextToText.register(SlideReaderConfig, SlideReader)
AutoModelForCausalLM.register(SlideReaderConfig, SlideReader)
