"""Weights of a CLIP between open_clip's names and those of transformers' CLIPModel, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eosin.core.errors import EosinError

_LAYER = (
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.out_proj", "self_attn.out_proj"),
)
_TOWERS = (("visual.transformer.resblocks", "vision_model"), ("transformer.resblocks", "text_model"))
_PLAIN = (
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"),
    ("visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"),
    ("visual.ln_post.weight", "vision_model.post_layernorm.weight"),
    ("visual.ln_post.bias", "vision_model.post_layernorm.bias"),
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.weight", "text_model.final_layer_norm.weight"),
    ("ln_final.bias", "text_model.final_layer_norm.bias"),
    ("logit_scale", "logit_scale"),
)
_TURNED = (("visual.proj", "visual_projection.weight"), ("text_projection", "text_projection.weight"))
_ALLOWED_VISION = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "pool_type",
                   "final_ln_after_pool", "patch_dropout"}  # fmt: skip
_ALLOWED_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}


def to_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's weights under transformers' names."""
    found = {new: weights[old] for old, new in _PLAIN}
    found |= {new: weights[old].T.contiguous() for old, new in _TURNED}
    found["logit_scale"] = found["logit_scale"].reshape(())
    for ours, theirs in _TOWERS:
        for i in range(_num_layers(weights, ours)):
            old, new = f"{ours}.{i}.", f"{theirs}.encoder.layers.{i}."
            for kind in ("weight", "bias"):
                found |= {f"{new}{b}.{kind}": weights[f"{old}{a}.{kind}"] for a, b in _LAYER}
                parts = weights[f"{old}attn.in_proj_{kind}"].chunk(3)
                for name, part in zip("qkv", parts, strict=True):
                    found[f"{new}self_attn.{name}_proj.{kind}"] = part.contiguous()
    return found


def from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' weights under open_clip's names."""
    weights = {k: v for k, v in weights.items() if not k.endswith("position_ids")}
    found = {old: weights[new] for old, new in _PLAIN}
    found |= {old: weights[new].T.contiguous() for old, new in _TURNED}
    found["logit_scale"] = found["logit_scale"].reshape(())
    for ours, theirs in _TOWERS:
        for i in range(_num_layers(weights, f"{theirs}.encoder.layers")):
            old, new = f"{ours}.{i}.", f"{theirs}.encoder.layers.{i}."
            for kind in ("weight", "bias"):
                found |= {f"{old}{a}.{kind}": weights[f"{new}{b}.{kind}"] for a, b in _LAYER}
                found[f"{old}attn.in_proj_{kind}"] = torch.cat(
                    [weights[f"{new}self_attn.{n}_proj.{kind}"] for n in "qkv"]
                )
    return found


def transformers_config(model_cfg: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Arguments of transformers' CLIPConfig for open_clip's settings.

    Raises:
        EosinError: an architecture that transformers' CLIPModel does not have.
    """
    vision, text = dict(model_cfg["vision_cfg"]), dict(model_cfg["text_cfg"])
    strange = sorted((vision.keys() - _ALLOWED_VISION) | (text.keys() - _ALLOWED_TEXT) | (
        model_cfg.keys() - {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}))  # fmt: skip
    if vision.get("pool_type", "tok") != "tok":
        strange.append("pool_type")
    if isinstance(vision.get("layers", 12), (list, tuple)):
        strange.append("layers of a ResNet")
    if strange:
        raise EosinError(
            "This CLIP cannot be written as transformers' CLIPModel.",
            expected="a vision transformer that reads its class token, and CLIP's text tower", found=", ".join(strange),
            where=where, next_step="keep it in open_clip's form",
        )  # fmt: skip
    act = "quick_gelu" if model_cfg.get("quick_gelu") else "gelu"
    width, tw = int(vision.get("width", 768)), int(text.get("width", 512))
    size = vision.get("image_size", 224)
    return {
        "projection_dim": int(model_cfg["embed_dim"]),
        "vision_config": {
            "hidden_size": width, "intermediate_size": int(width * vision.get("mlp_ratio", 4.0)),
            "num_hidden_layers": int(vision.get("layers", 12)), "hidden_act": act,
            "num_attention_heads": width // int(vision.get("head_width", 64)), "layer_norm_eps": 1e-5,
            "image_size": int(size[0] if isinstance(size, (list, tuple)) else size),
            "patch_size": int(vision.get("patch_size", 16)), "projection_dim": int(model_cfg["embed_dim"]),
        },
        "text_config": {
            "hidden_size": tw, "intermediate_size": int(tw * text.get("mlp_ratio", 4.0)), "hidden_act": act,
            "num_hidden_layers": int(text.get("layers", 12)), "num_attention_heads": int(text.get("heads", 8)),
            "max_position_embeddings": int(text.get("context_length", 77)), "layer_norm_eps": 1e-5,
            "vocab_size": int(text.get("vocab_size", 49_408)), "projection_dim": int(model_cfg["embed_dim"]),
            "bos_token_id": int(text.get("vocab_size", 49_408)) - 2,
            "eos_token_id": int(text.get("vocab_size", 49_408)) - 1,
            "pad_token_id": int(text.get("vocab_size", 49_408)) - 1,
        },
    }  # fmt: skip


def open_clip_config(config: Any, where: str) -> dict[str, Any]:
    """open_clip's settings for a CLIPConfig of transformers.

    Raises:
        EosinError: activations or norms that open_clip's towers do not have.
    """
    vision, text = config.vision_config, config.text_config
    acts = {vision.hidden_act, text.hidden_act}
    if len(acts) != 1 or not acts <= {"gelu", "quick_gelu"} or {vision.layer_norm_eps, text.layer_norm_eps} != {1e-5}:
        raise EosinError(
            "This CLIPModel has layers that open_clip's towers do not have.",
            expected="gelu or quick_gelu in both towers, layer_norm_eps 1e-5",
            found=f"{', '.join(sorted(acts))}; {vision.layer_norm_eps}, {text.layer_norm_eps}", where=where,
        )  # fmt: skip
    return {
        "embed_dim": config.projection_dim,
        "vision_cfg": {
            "image_size": vision.image_size, "layers": vision.num_hidden_layers, "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads, "patch_size": vision.patch_size,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings, "vocab_size": text.vocab_size, "width": text.hidden_size,
            "heads": text.num_attention_heads, "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
        },
        **({"quick_gelu": True} if acts == {"quick_gelu"} else {}),
    }  # fmt: skip


def _num_layers(weights: Mapping[str, Any], prefix: str) -> int:
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return 1 + max((int(m.group(1)) for k in weights if (m := pattern.match(k))), default=-1)
