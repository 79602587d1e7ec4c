"""Slide readers: a small one from nothing, or one around any decoder of the Qwen2.5 family with its weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2ForCausalLM,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from eosin.core.errors import EosinError
from eosin.core.foreign_code import NO_CODE, no_foreign_code
from eosin.core.settings.model import HubModel, SlideModel, TinyModel
from eosin.models.load import default_dtype, device, load_whole, set_max_pixels
from eosin.models.slide_encoder.processor import SlideReaderProcessor
from eosin.models.slide_encoder.reader import SlideReader, SlideReaderConfig
from eosin.models.slide_encoder.rows import SlideSpec
from eosin.models.slide_encoder.tower import SlideTower
from eosin.models.template import CHAT_TEMPLATE, END_OF_TEXT, IMAGE, TURN_END, VIDEO, VISION_END, VISION_START
from eosin.models.tiny import build_config, build_processor, train_tokenizer

IMAGE_COLUMNS_OF_PATCH = 3 * 2  # colours x frames of a patch of Qwen2.5-VL, times its side squared


def build_slide_reader(
    corpus: Iterable[str],
    settings: SlideModel,
    seed: int,
    *,
    dimension: int | None = None,
    encoder: str | None = None,
) -> tuple[SlideReader, SlideReaderProcessor]:
    """A slide reader and its processor.

    Args:
        corpus: texts for the tokenizer of the small model; not read where the base is a hub model.
        seed: of the new weights: all of the small model, the slide tower of a composed one.
        dimension, encoder: of the data's features, where the settings leave them open.
    """
    size = settings.dimension or dimension
    if size is None:
        raise EosinError(
            "The size of the patch features is not known.", where="model.dimension",
            next_step="state it in the recipe, or give data with features",
        )  # fmt: skip
    if isinstance(settings.base, HubModel):
        return _compose(settings.base, settings, seed, size, encoder)
    return _small(corpus, settings.base, settings, seed, size, encoder)


def spec_of(settings: SlideModel, dimension: int, encoder: str | None, image_columns: int, seed: int) -> SlideSpec:
    """The slide part of config and processor."""
    tower, sizes = settings.tower, settings.tower.sizes()
    return SlideSpec(
        dimension=dimension, encoder=settings.encoder or encoder, tile_um=settings.tile_um, mpp=settings.mpp,
        max_patches=tower.max_patches, over_max=tower.over_max, pooling=tower.pooling, num_tokens=tower.num_tokens,
        seed=seed, order=tower.order, has_places=tower.has_places, has_magnification=tower.has_magnification,
        image_columns=image_columns, dropout=tower.dropout, embed_dropout=tower.embed_dropout,
        drop_path=tower.drop_path, sub_norm=tower.sub_norm, standardise=tower.standardise,
        pairs=tuple(zip(sizes["segments"], sizes["dilations"], strict=True)),
        **{name: sizes[name] for name in ("width", "layers", "heads", "ffn")},
    )  # fmt: skip


def _small(
    corpus: Iterable[str], base: TinyModel, settings: SlideModel, seed: int, dimension: int, encoder: str | None
) -> tuple[SlideReader, SlideReaderProcessor]:
    tokenizer = train_tokenizer(corpus, base.vocab_size)
    plain = build_config(tokenizer, base)
    columns = IMAGE_COLUMNS_OF_PATCH * base.vision.patch_size**2 if settings.sees_images else 0
    spec = spec_of(settings, dimension, encoder, columns, seed)
    config = config_of(plain, spec, max_positions=max(4096, 2 * settings.tower.max_patches))
    torch.manual_seed(seed)
    model = SlideReader(config)
    model.slide_tower.scale_new_weights()
    _generation_ids(model)
    own = build_processor(tokenizer, base)
    processor = SlideReaderProcessor(
        own.image_processor, tokenizer, own.video_processor, chat_template=CHAT_TEMPLATE, slide=spec.as_dict()
    )
    return model, processor


def config_of(plain: Any, spec: SlideSpec, max_positions: int | None = None) -> SlideReaderConfig:
    """The config of a Qwen2.5-VL with a slide part."""
    values = plain.to_dict()
    values.pop("model_type", None)
    values.pop("architectures", None)
    config = SlideReaderConfig(**values, slide=spec.as_dict())
    if max_positions is not None:
        config.text_config.max_position_embeddings = max_positions
    return config


def _generation_ids(model: PreTrainedModel) -> None:
    text, generation = model.config.text_config, model.generation_config
    generation.eos_token_id = text.eos_token_id
    generation.pad_token_id = text.pad_token_id
    generation.bos_token_id = text.bos_token_id


# -- around a model that exists ---------------------------------------------------------------------------------------


def _compose(
    base: HubModel, settings: SlideModel, seed: int, dimension: int, encoder: str | None
) -> tuple[SlideReader, SlideReaderProcessor]:
    options: dict[str, Any] = NO_CODE | ({"revision": base.revision} if base.revision else {})
    try:
        with no_foreign_code(base.name):
            kind = AutoConfig.from_pretrained(base.name, **options).model_type
        if kind == "qwen2_5_vl":
            return _around_vl(base, settings, seed, dimension, encoder, options)
        if kind == "qwen2":
            return _around_text(base, settings, seed, dimension, encoder, options)
    except OSError as exc:
        raise EosinError(
            "The base of the slide reader could not be loaded.", found=str(exc).splitlines()[0][:200],
            where=f"model.base.name: {base.name}", next_step="check the name; offline, give the folder of a model",
        ) from exc  # fmt: skip
    raise EosinError(
        "The slide reader is built around models of the Qwen2.5 family.", expected="qwen2_5_vl or qwen2", found=kind,
        where=f"model.base.name: {base.name}",
    )  # fmt: skip


def _around_vl(
    base: HubModel, settings: SlideModel, seed: int, dimension: int, encoder: str | None, options: dict[str, Any]
) -> tuple[SlideReader, SlideReaderProcessor]:
    dtype = default_dtype(device())
    plain = load_whole(Qwen2_5_VLForConditionalGeneration, base.name, dtype=dtype, **options)
    own = AutoProcessor.from_pretrained(base.name, **options)
    columns = IMAGE_COLUMNS_OF_PATCH * plain.config.vision_config.patch_size**2 if settings.sees_images else 0
    spec = spec_of(settings, dimension, encoder, columns, seed)
    visual = plain.model.visual if settings.sees_images else None
    model = _assemble(config_of(plain.config, spec), plain.model.language_model, visual, plain.lm_head, seed)
    model.generation_config = plain.generation_config
    if base.max_pixels is not None:
        set_max_pixels(own, base.max_pixels)
    processor = SlideReaderProcessor(
        own.image_processor, own.tokenizer, own.video_processor, chat_template=own.chat_template, slide=spec.as_dict()
    )
    return model, processor


def _around_text(
    base: HubModel, settings: SlideModel, seed: int, dimension: int, encoder: str | None, options: dict[str, Any]
) -> tuple[SlideReader, SlideReaderProcessor]:
    plain = load_whole(Qwen2ForCausalLM, base.name, dtype=default_dtype(device()), **options)
    tokenizer = AutoTokenizer.from_pretrained(base.name, **options)
    wanted = [VISION_START, VISION_END, IMAGE, VIDEO]
    tokenizer.add_special_tokens({"additional_special_tokens": [t for t in wanted if t not in tokenizer.get_vocab()]})
    if len(tokenizer) > plain.config.vocab_size:
        plain.resize_token_embeddings(len(tokenizer))
    spec = spec_of(settings, dimension, encoder, 0, seed)
    text = text_config_of(plain.config)
    ids = {t: tokenizer.convert_tokens_to_ids(t) for t in (*wanted, END_OF_TEXT, TURN_END)}
    config = SlideReaderConfig(
        text_config=text, image_token_id=ids[IMAGE], video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START], vision_end_token_id=ids[VISION_END], slide=spec.as_dict(),
        tie_word_embeddings=plain.config.tie_word_embeddings,
    )  # fmt: skip
    decoder = SlideReader.decoder_class._from_config(config.text_config, dtype=plain.dtype)
    decoder.load_state_dict(plain.model.state_dict(), strict=True)
    model = _assemble(config, decoder, None, plain.lm_head, seed)
    model.generation_config = plain.generation_config
    processor = SlideReaderProcessor(
        Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor(), chat_template=CHAT_TEMPLATE, slide=spec.as_dict()
    )
    return model, processor


def text_config_of(plain: Any) -> dict[str, Any]:
    """A text-only Qwen2.5's config as that of a Qwen2.5-VL decoder: the same rotary angles, shared out to three axes.

    While the three positions of a token are equal, as those of text are, M-RoPE is plain rotary embedding.
    """
    values = plain.to_dict()
    for name in ("model_type", "architectures", "transformers_version", "_name_or_path"):
        values.pop(name, None)
    half = (getattr(plain, "head_dim", None) or plain.hidden_size // plain.num_attention_heads) // 2
    side = 3 * half // 8  # Qwen2.5-VL's own shares: 16, 24, 24 of 64
    rope = dict(values.get("rope_parameters") or {})
    values["rope_parameters"] = {**rope, "mrope_section": [half - 2 * side, side, side]}
    return values


def _assemble(config: SlideReaderConfig, decoder: Any, visual: Any, head: Any, seed: int) -> SlideReader:
    """A slide reader that takes over loaded modules, without a second copy of them in memory."""
    with torch.device("meta"):
        model = SlideReader(config)
    torch.manual_seed(seed)
    tower = SlideTower(config.slide_spec, config.text_config.hidden_size)
    for module in tower.modules():
        model._init_weights(module)
    tower.scale_new_weights()
    model.model.language_model, model.model.visual, model.lm_head = decoder, visual, head
    model.model.slide_tower = tower.to(decoder.dtype)
    for part in (decoder, visual):
        if part is not None:
            part.config = config.text_config if part is decoder else config.vision_config
    model.tie_weights()
    return model.eval()
