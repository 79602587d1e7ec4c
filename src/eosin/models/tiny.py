"""A small Qwen2.5-VL, built here from a config, with a byte-level BPE tokenizer trained on the corpus.

It is the real `Qwen2_5_VLForConditionalGeneration`, saved so that `AutoModelForImageTextToText` and
`AutoProcessor` load it: everything that runs on it runs on the 7B model by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from eosin.core.errors import EosinError
from eosin.core.settings.model import TinyModel
from eosin.models.template import (
    CHAT_TEMPLATE,
    END_OF_TEXT,
    IMAGE,
    SPECIAL_TOKENS,
    SYSTEM_PROMPT,
    TURN_END,
    VIDEO,
    VISION_END,
    VISION_START,
)


def train_tokenizer(corpus: Iterable[str], vocab_size: int) -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer in Qwen's own form: any byte can be written, merges come from the corpus.

    Args:
        corpus: texts that the model shall read and write.
        vocab_size: upper bound, special tokens included; at least 256 bytes + the special tokens.
    """
    if vocab_size < 256 + len(SPECIAL_TOKENS):
        raise EosinError(
            "The vocabulary is too small for a byte-level tokenizer.",
            expected=f"at least {256 + len(SPECIAL_TOKENS)}",
            found=str(vocab_size),
            where="model.vocab_size",
        )
    from tokenizers import Regex

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    always = [SYSTEM_PROMPT, "system\n", "user\n", "assistant\n"] * 2
    bpe.train_from_iterator([*always, *corpus], trainer)
    state = _bpe_state(bpe)
    tokenizer = Qwen2Tokenizer(
        vocab=state["vocab"],
        merges=state["merges"],
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        extra_special_tokens=list(SPECIAL_TOKENS),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _bpe_state(bpe: Tokenizer) -> dict[str, Any]:
    import json

    model = json.loads(bpe.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(m) for m in model["merges"]]}


def build_image_processor(settings: TinyModel) -> Qwen2VLImageProcessor:
    """The part of the processor that takes images."""
    area = settings.image_px**2
    size = {"shortest_edge": area, "longest_edge": area}
    return Qwen2VLImageProcessor(patch_size=settings.vision.patch_size, merge_size=2, size=size)


def build_processor(tokenizer: Qwen2Tokenizer, settings: TinyModel) -> Qwen2_5_VLProcessor:
    """The Qwen2.5-VL processor with this tokenizer and with images of at most `image_px` squared pixels."""
    images = build_image_processor(settings)
    video = Qwen2VLVideoProcessor(patch_size=settings.vision.patch_size, merge_size=2)
    return Qwen2_5_VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=video, chat_template=CHAT_TEMPLATE
    )


def build_config(tokenizer: Qwen2Tokenizer, settings: TinyModel) -> Qwen2_5_VLConfig:
    """The config of the small model. M-RoPE sections sum to half the head dimension."""
    text, vision = settings.text, settings.vision
    half = text.hidden_size // text.num_heads // 2
    side = half // 3
    ids = {t: tokenizer.convert_tokens_to_ids(t) for t in SPECIAL_TOKENS}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_layers,
            "num_attention_heads": text.num_heads,
            "num_key_value_heads": text.num_kv_heads,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [half - 2 * side, side, side],
            },
            "bos_token_id": ids[END_OF_TEXT],
            "eos_token_id": ids[TURN_END],
            "pad_token_id": ids[END_OF_TEXT],
        },
        vision_config={
            "depth": vision.depth,
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_heads": vision.num_heads,
            "out_hidden_size": text.hidden_size,
            "patch_size": vision.patch_size,
            "spatial_merge_size": 2,
            "window_size": vision.window_px,
            "fullatt_block_indexes": list(range(vision.depth)),
        },
        tie_word_embeddings=True,
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        bos_token_id=ids[END_OF_TEXT],
        eos_token_id=ids[TURN_END],
        pad_token_id=ids[END_OF_TEXT],
    )


def build_tiny(
    corpus: Iterable[str], settings: TinyModel, seed: int
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """Model with random weights (seeded) and processor."""
    tokenizer = train_tokenizer(corpus, settings.vocab_size)
    return model_of(build_config(tokenizer, settings), seed), build_processor(tokenizer, settings)


def model_of(config: Qwen2_5_VLConfig, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A model of this config with random weights (seeded), which ends and pads as its text model does."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = config.text_config.eos_token_id
    model.generation_config.pad_token_id = config.text_config.pad_token_id
    model.generation_config.bos_token_id = config.text_config.bos_token_id
    return model
