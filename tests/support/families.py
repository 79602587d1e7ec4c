"""Very small random models of the families that Eosin names, built from each family's own config, with processors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from eosin.models.template import CHAT_TEMPLATE, END_OF_TEXT, IMAGE, TURN_END, VIDEO, VISION_END, VISION_START
from eosin.models.tiny import train_tokenizer

WORDS = [
    "<think>The tile shows red. This fits red tissue.</think>\n<answer>red tissue</answer>",
    "Which tissue is it? A. red tissue B. green tissue C. blue tissue <think>The tile shows green.</think>",
] * 4
MORE = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", "<video>", "<img>", "</img>",
        "<IMG_CONTEXT>", "<start_of_image>", "<end_of_image>", "<image_soft_token>")  # fmt: skip
SIDE, PATCH = 56, 14
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def words() -> Any:
    """A tokenizer whose vocabulary holds the image tokens of every family."""
    tokenizer = train_tokenizer(WORDS, 400)
    tokenizer.add_special_tokens({"additional_special_tokens": list(MORE)})
    return tokenizer


def template(image: str) -> str:
    """A plain chat template in which an image is one token."""
    return (
        "{% for m in messages %}<|im_start|>{{m['role']}}\n{% if m['content'] is string %}{{m['content']}}{% else %}"
        "{% for c in m['content'] %}{% if c['type'] == 'image' %}" + image + "{% else %}{{c['text']}}{% endif %}"
        "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


class Parts:
    """Tokenizer and text settings that the builders share."""

    def __init__(self) -> None:
        self.tokenizer = words()
        self.named: dict[str, str] = {}
        self.text: dict[str, Any] = {
            "vocab_size": len(self.tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
            "pad_token_id": self.id(END_OF_TEXT), "bos_token_id": self.id(END_OF_TEXT),
            "eos_token_id": self.id(TURN_END),
        }  # fmt: skip

    def id(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def name_tokens(self, named: dict[str, str]) -> None:
        """Tokens that a family's processor asks its tokenizer for by name."""
        self.named = named
        for name, token in named.items():
            setattr(self.tokenizer, name, token)
            setattr(self.tokenizer, f"{name}_id", self.id(token))

    def qwen(self) -> dict[str, Any]:
        return {
            "image_token_id": self.id(IMAGE), "video_token_id": self.id(VIDEO), "tie_word_embeddings": True,
            "vision_start_token_id": self.id(VISION_START), "vision_end_token_id": self.id(VISION_END),
        }  # fmt: skip


def rope(interleaved: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    return found | ({"mrope_interleaved": True} if interleaved else {})


def qwen2_vl(p: Parts) -> tuple[Any, Any]:
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    eyes = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": PATCH}
    config = Qwen2VLConfig(text_config={**p.text, "rope_parameters": rope()}, vision_config=eyes, **p.qwen())
    images = Qwen2VLImageProcessor(patch_size=PATCH, size={"shortest_edge": SIDE**2, "longest_edge": SIDE**2})
    video = Qwen2VLVideoProcessor(patch_size=PATCH)
    return Qwen2VLForConditionalGeneration(config), Qwen2VLProcessor(
        image_processor=images, tokenizer=p.tokenizer, video_processor=video, chat_template=CHAT_TEMPLATE
    )


def qwen2_5_vl(p: Parts) -> tuple[Any, Any]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    eyes = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, "num_heads": 2,
            "patch_size": PATCH, "window_size": SIDE, "fullatt_block_indexes": [1]}  # fmt: skip
    config = Qwen2_5_VLConfig(text_config={**p.text, "rope_parameters": rope()}, vision_config=eyes, **p.qwen())
    images = Qwen2VLImageProcessor(patch_size=PATCH, size={"shortest_edge": SIDE**2, "longest_edge": SIDE**2})
    video = Qwen2VLVideoProcessor(patch_size=PATCH)
    return Qwen2_5_VLForConditionalGeneration(config), Qwen2_5_VLProcessor(
        image_processor=images, tokenizer=p.tokenizer, video_processor=video, chat_template=CHAT_TEMPLATE
    )


def qwen3_vl(p: Parts) -> tuple[Any, Any]:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    eyes = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
            "patch_size": 16, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}  # fmt: skip
    text = {**p.text, "head_dim": 16, "rope_parameters": rope(interleaved=True)}
    config = Qwen3VLConfig(text_config=text, vision_config=eyes, **p.qwen())
    images = Qwen2VLImageProcessor(
        patch_size=16, size={"shortest_edge": 64**2, "longest_edge": 64**2}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    video = Qwen3VLVideoProcessor(patch_size=16)
    return Qwen3VLForConditionalGeneration(config), Qwen3VLProcessor(
        image_processor=images, tokenizer=p.tokenizer, video_processor=video, chat_template=CHAT_TEMPLATE
    )


def llava(p: Parts) -> tuple[Any, Any]:
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    eyes = {"model_type": "clip_vision_model", "image_size": SIDE, "patch_size": PATCH, **VISION}
    config = LlavaConfig(
        text_config={"model_type": "llama", **p.text}, vision_config=eyes, image_token_id=p.id("<image>"),
        vision_feature_layer=-1,
    )  # fmt: skip
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return LlavaForConditionalGeneration(config), LlavaProcessor(
        image_processor=images, tokenizer=p.tokenizer, patch_size=PATCH, vision_feature_select_strategy="default",
        image_token="<image>", num_additional_image_tokens=1, chat_template=template("<image>"),
    )  # fmt: skip


def llava_onevision(p: Parts) -> tuple[Any, Any]:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    eyes = {"model_type": "siglip_vision_model", "image_size": SIDE, "patch_size": PATCH, **VISION}
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **p.text}, vision_config=eyes, image_token_id=p.id("<image>"),
        video_token_id=p.id("<video>"), image_grid_pinpoints=[[SIDE, SIDE]], vision_feature_layer=-1,
    )  # fmt: skip
    size = {"height": SIDE, "width": SIDE}
    images = LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[SIDE, SIDE]])
    return LlavaOnevisionForConditionalGeneration(config), LlavaOnevisionProcessor(
        image_processor=images, tokenizer=p.tokenizer, video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(SIDE // PATCH) ** 2, vision_feature_select_strategy="full", image_token="<image>",
        video_token="<video>", chat_template=template("<image>"),
    )  # fmt: skip


def idefics3(p: Parts) -> tuple[Any, Any]:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    eyes = {"image_size": SIDE, "patch_size": PATCH, **VISION}
    config = Idefics3Config(
        text_config={"model_type": "llama", **p.text},
        vision_config=eyes,
        image_token_id=p.id("<image>"),
        scale_factor=2,
    )
    images = Idefics3ImageProcessor(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )
    return Idefics3ForConditionalGeneration(config), Idefics3Processor(
        image_processor=images, tokenizer=p.tokenizer, image_seq_len=4, chat_template=template("<image>")
    )


def smolvlm(p: Parts) -> tuple[Any, Any]:
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    eyes = {"image_size": SIDE, "patch_size": PATCH, **VISION}
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **p.text},
        vision_config=eyes,
        image_token_id=p.id("<image>"),
        scale_factor=2,
    )
    edges = {"size": {"longest_edge": SIDE}, "max_image_size": {"longest_edge": SIDE}}
    images = SmolVLMImageProcessor(do_image_splitting=False, **edges)
    return SmolVLMForConditionalGeneration(config), SmolVLMProcessor(
        image_processor=images, tokenizer=p.tokenizer, video_processor=SmolVLMVideoProcessor(**edges), image_seq_len=4,
        chat_template=template("<image>"),
    )  # fmt: skip


def internvl(p: Parts) -> tuple[Any, Any]:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    eyes = {"image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH], **VISION}
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **p.text}, vision_config=eyes, image_token_id=p.id("<IMG_CONTEXT>"),
        image_seq_length=4, downsample_ratio=0.5,
    )  # fmt: skip
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}  # fmt: skip
    p.name_tokens(named)
    size = {"height": SIDE, "width": SIDE}
    images = GotOcr2ImageProcessor(size=size, crop_to_patches=False)
    return InternVLForConditionalGeneration(config), InternVLProcessor(
        image_processor=images, tokenizer=p.tokenizer, video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=4, chat_template=template("<IMG_CONTEXT>"),
    )  # fmt: skip


def gemma3(p: Parts) -> tuple[Any, Any]:
    """Also the shape of MedGemma: Gemma 3's text model with the eyes of SigLIP."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    text = {**p.text, "head_dim": 16, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    eyes = {"model_type": "siglip_vision_model", "image_size": SIDE, "patch_size": PATCH, **VISION}
    config = Gemma3Config(
        text_config=text, vision_config=eyes, mm_tokens_per_image=4, image_token_id=p.id("<image_soft_token>"),
        boi_token_id=p.id("<start_of_image>"), eoi_token_id=p.id("<end_of_image>"),
    )  # fmt: skip
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    p.name_tokens(named)
    images = Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE})
    model = Gemma3ForConditionalGeneration(config)
    # A new one starts at 0: a model that has never been trained would not see.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.1)
    return model, Gemma3Processor(
        image_processor=images, tokenizer=p.tokenizer, image_seq_length=4, chat_template=template("<start_of_image>")
    )


def composed(p: Parts) -> tuple[Any, Any]:
    """A Llama with a small vision transformer and a resampler, as `model: {kind: composed}` makes it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from eosin.chain.base.eyes import find_eyes
    from eosin.core.settings.model import Eyes, Projector, TinyVision
    from eosin.models.composed.compose import compose

    p.tokenizer.chat_template = template("<unused>").replace("m['content'] is string", "true")
    small = TinyVision(depth=1, hidden_size=32, intermediate_size=64, num_heads=2, patch_size=PATCH)
    eyes = find_eyes(Eyes(name="small", input_px=SIDE, small=small), seed=0)
    language = LlamaForCausalLM(LlamaConfig(**p.text))
    return compose(language, p.tokenizer, eyes, Projector(kind="resampler", tokens=4, heads=4), seed=0)


FAMILIES: dict[str, Callable[[Parts], tuple[Any, Any]]] = {
    f.__name__: f
    for f in (
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        llava,
        llava_onevision,
        idefics3,
        smolvlm,
        internvl,
        gemma3,
        composed,
    )  # fmt: skip
}


def write_family(name: str, folder: Path, text: dict[str, Any] | None = None) -> Path:
    """A folder with a random model of a family and its processor; `text`: other sizes of the decoder."""
    torch.manual_seed(0)
    parts = Parts()
    parts.text |= text or {}
    model, processor = FAMILIES[name](parts)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = (
        parts.id(TURN_END),
        parts.id(END_OF_TEXT),
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if parts.named:  # as the families' own folders have them
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text("utf-8")) | {"extra_special_tokens": parts.named}
        path.write_text(json.dumps(settings), encoding="utf-8")
    return folder
