"""Eyes and a language model become one LLaVA, with a processor: `from_pretrained` opens what is saved of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
)

from eosin.core.errors import EosinError
from eosin.core.settings.model import Projector
from eosin.models.composed.eyes import EyesConfig, channels_last, measure

IMAGE_TOKEN = "<|image|>"  # noqa: S105  (a token of text, no secret; prompts break "<|" in what users write)

# A language model's own template takes text; this turns lists of parts into text before it, with a token an image.
_PARTS_TO_TEXT = (
    "{%- set ns = namespace(seen=[]) -%}{%- for message in messages -%}{%- set all = namespace(text='') -%}"
    "{%- if message['content'] is string -%}{%- set all.text = message['content'] -%}{%- else -%}"
    "{%- for part in message['content'] -%}{%- if part['type'] == 'image' -%}{%- set all.text = all.text + '"
    + IMAGE_TOKEN
    + "\n' -%}{%- else -%}{%- set all.text = all.text + part['text'] -%}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- set ns.seen = ns.seen + [dict(message, content=all.text)] -%}{%- endfor -%}{%- set messages = ns.seen -%}"
)


@dataclass(frozen=True)
class FoundEyes:
    """Eyes with their weights, and how pictures are prepared for them.

    Attributes:
        config: what the network is; `measure` fills in its grid.
        network: with its weights.
        mean, std: normalisation of RGB in 0..1.
        interpolation: of the resizing to `config.input_px`.
    """

    config: EyesConfig
    network: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"


def compose(
    language: PreTrainedModel, tokenizer: Any, eyes: FoundEyes, settings: Projector, seed: int
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """One model of eyes, a new projector (seeded) and a language model, and its processor.

    The language model keeps its weights, its tokenizer and its own chat template; the vocabulary gets one token more,
    for images, and the embedding a row more where it has none to spare.

    Raises:
        EosinError: the grid of the eyes cannot give so many tokens; the language model has a form that LLaVA does not
            take.
    """
    config = _fitted(measure(eyes.config, eyes.network), settings)
    _check_language(language)
    torch.manual_seed(seed)
    token = _image_token(language, tokenizer)
    llava = LlavaConfig(
        vision_config=config, text_config=language.config, image_token_index=token, vision_feature_layer=-1,
        vision_feature_select_strategy="full", image_seq_length=config.tokens,
        tie_word_embeddings=bool(language.config.tie_word_embeddings),
    )  # fmt: skip
    model = LlavaForConditionalGeneration(llava).to(language.dtype)
    model.model.language_model.load_state_dict(language.base_model.state_dict())
    model.model.vision_tower.network.load_state_dict(eyes.network.state_dict())
    if not llava.tie_word_embeddings:
        model.lm_head.load_state_dict(language.get_output_embeddings().state_dict())
    model.tie_weights()
    _ends_as(model, language, tokenizer)
    channels_last(model)
    return model.eval(), _processor(tokenizer, eyes, config)


def _fitted(config: EyesConfig, settings: Projector) -> EyesConfig:
    """The config with as many tokens as the recipe asks for."""
    tokens = settings.tokens or config.grid_tokens
    if settings.kind == "resampler":
        if config.hidden_size % settings.heads:
            raise EosinError(
                f"The resampler's heads do not divide the width of the eyes, {config.hidden_size}.",
                found=str(settings.heads), where="model.projector.heads",
            )  # fmt: skip
        config.tokens, config.resampler_heads = tokens, settings.heads
        return config
    if tokens != config.grid_tokens and (tokens > config.grid_tokens or not _is_square(config.grid_tokens)):
        raise EosinError(
            f"The eyes {config.name} give {config.grid_tokens} features a picture.",
            expected="as many tokens, or a smaller square number", found=str(tokens), where="model.projector.tokens",
            next_step="leave tokens out, or take {kind: resampler, tokens: ...}",
        )  # fmt: skip
    config.tokens, config.resampler_heads = tokens, 0
    return config


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


def _check_language(language: Any) -> None:
    """LLaVA ties its head to `embed_tokens`, the name that decoders of today's families have."""
    if not hasattr(language.base_model, "embed_tokens"):
        raise EosinError(
            "This language model has a form that LLaVA does not take.",
            expected="a decoder with embed_tokens, as Llama, Qwen, Mistral, Gemma, Phi and their kin have",
            found=type(language).__name__, where="model.language",
        )  # fmt: skip


def _image_token(language: PreTrainedModel, tokenizer: Any) -> int:
    """Add the token of an image to the tokenizer, and give it a row of the embedding: the mean of all rows."""
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]}, replace_extra_special_tokens=False)
    token = int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
    table = language.get_input_embeddings()
    if token >= table.weight.shape[0]:  # type: ignore[union-attr,operator]
        rows = int(table.weight.shape[0])  # type: ignore[union-attr,arg-type,index]
        language.resize_token_embeddings(token + 1, mean_resizing=False)
        for part in (language.get_input_embeddings(), language.get_output_embeddings()):
            weight: Any = part.weight
            weight.data[rows:] = weight.data[:rows].mean(0)
    return token


def _ends_as(model: Any, language: Any, tokenizer: Any) -> None:
    """The composed model ends a reply and pads as its language model does."""
    model.generation_config = language.generation_config
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    if model.generation_config.eos_token_id is None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    tokenizer.padding_side = "left"


def _processor(tokenizer: Any, eyes: FoundEyes, config: EyesConfig) -> LlavaProcessor:
    """Pictures become squares of `input_px`, as the eyes were trained; an image becomes `tokens` tokens."""
    from PIL import Image

    side = {"height": config.input_px, "width": config.input_px}
    images = CLIPImageProcessor(
        size=side, crop_size=side, do_center_crop=False, image_mean=list(eyes.mean), image_std=list(eyes.std),
        resample=Image.Resampling[eyes.interpolation.upper()],
    )  # fmt: skip
    template = _PARTS_TO_TEXT + tokenizer.chat_template
    return LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=config.input_px, chat_template=template,
        num_additional_image_tokens=config.tokens - 1, vision_feature_select_strategy="full", image_token=IMAGE_TOKEN,
    )  # fmt: skip
