"""The eyes of a composed model, by name: a patch encoder, a vision model of transformers or timm, or small ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eosin.core.errors import EosinError
from eosin.core.foreign_code import NO_CODE, no_foreign_code
from eosin.core.settings.model import Eyes
from eosin.models.composed.compose import FoundEyes
from eosin.models.composed.eyes import EyesConfig, build_network
from eosin.slides.encoders.records import BY_NAME, HALF, EncoderRecord, record_of

TIMM = "timm:"
_RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic", 1: "lanczos"}


def find_eyes(settings: Eyes, seed: int) -> FoundEyes:
    """Eyes by name, with their weights and how pictures are prepared for them.

    Raises:
        EosinError: no such eyes, their weights cannot be loaded, or they need a licence; the message says which.
    """
    if settings.name == "small":
        return _small(settings, seed)
    if settings.name.startswith(TIMM):
        return _timm(settings)
    if settings.name.casefold() in {n.casefold() for r in BY_NAME.values() for n in (r.name, r.trident_name)}:
        record = record_of(settings.name)
        if record.library == "transformers":
            found = _transformers(settings, settings.weights or str(record.hub), record.name)
            return FoundEyes(found.config, found.network, record.mean, record.std, record.interpolation)
        return _encoder(settings, record)
    return _transformers(settings, settings.weights or settings.name, settings.name)


def _small(settings: Eyes, seed: int) -> FoundEyes:
    size, side = settings.small, settings.input_px or 112
    if side % size.patch_size:
        raise EosinError(
            "input_px of the small eyes must be a multiple of their patch size.",
            expected=f"a multiple of {size.patch_size}", found=str(side), where="model.eyes.input_px",
        )  # fmt: skip
    told = {
        "model_type": "vit", "hidden_size": size.hidden_size, "num_hidden_layers": size.depth,
        "num_attention_heads": size.num_heads, "intermediate_size": size.intermediate_size, "image_size": side,
        "patch_size": size.patch_size, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    torch.manual_seed(seed)
    config = EyesConfig(name="small", library="transformers", network_config=told, input_px=side)
    return FoundEyes(config, build_network(config), HALF, HALF)


def _timm(settings: Eyes) -> FoundEyes:
    """A network of timm with its pretrained weights, or with those of a file."""
    from eosin.core.extras import need
    from eosin.slides.encoders.pretrained import weights_file
    from eosin.slides.encoders.weights import read_weights

    timm, name = need("timm", "encoders"), settings.name.removeprefix(TIMM)
    options: dict[str, Any] = {"num_classes": 0}
    if settings.input_px and "img_size" in timm.models.model_entrypoint(name.split(".")[0]).__code__.co_names:
        options["img_size"] = settings.input_px
    try:
        network = timm.create_model(name, pretrained=settings.weights is None, **options)
    except Exception as exc:  # timm, the hub and torch each have their own
        raise EosinError(
            f"The weights of {settings.name} could not be loaded.",
            expected="a model of timm, with weights that this machine can reach",
            found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}", where="model.eyes",
            next_step="check the name with `timm.list_models()`; offline, give model.eyes.weights",
        ) from exc  # fmt: skip
    if settings.weights is not None:
        told = network.load_state_dict(read_weights(weights_file(Path(settings.weights))), strict=False)
        if told.missing_keys:
            raise EosinError(f"These are not the weights of {settings.name}.", where=settings.weights,
                             found=f"{len(told.missing_keys)} are missing, such as {told.missing_keys[0]}")  # fmt: skip
    facts = timm.data.resolve_model_data_config(network)
    side = settings.input_px or int(facts["input_size"][-1])
    config = EyesConfig(name=settings.name, library="timm", architecture=name.split(".")[0], options=options,
                        input_px=side)  # fmt: skip
    return FoundEyes(config, network, tuple(facts["mean"]), tuple(facts["std"]), facts["interpolation"])


def _encoder(settings: Eyes, record: EncoderRecord) -> FoundEyes:
    """An encoder of the slides room; of CONCH the trunk, without the pooling that makes one feature of it."""
    from eosin.slides.encoders.load import load_encoder

    if record.library in ("eosin", "plugin"):
        raise EosinError(f"{record.name} measures a tile as a whole, and gives no features of places.",
                         where="model.eyes", next_step="take a network, such as efficientnet-lite0")  # fmt: skip
    loaded: Any = load_encoder(record.name, weights=settings.weights, device="cpu", revision=settings.revision)
    network: nn.Module = loaded.network
    side = settings.input_px or record.input_px
    config = EyesConfig(name=record.name, library=record.library, architecture=record.architecture,
                        options=dict(record.options), input_px=side)  # fmt: skip
    if record.library == "conch":
        network = network.trunk  # type: ignore[assignment]
        config.library, config.architecture, config.options = "timm", *_trunk(network, record)
    elif record.library == "open_clip":
        config.options = {}
    network.requires_grad_(True).train()
    return FoundEyes(config, network, record.mean, record.std, record.interpolation)


def _trunk(trunk: Any, record: EncoderRecord) -> tuple[str, dict[str, Any]]:
    """timm's name of a CONCH trunk, and what makes it the same network."""
    width, depth = trunk.embed_dim, len(trunk.blocks)
    options = {
        "img_size": record.input_px, "embed_dim": width, "depth": depth, "num_heads": record.options["heads"],
        "mlp_ratio": trunk.blocks[0].mlp.fc1.out_features / width, "num_classes": 0, "dynamic_img_size": True,
        "init_values": 1.0 if hasattr(trunk.blocks[0].ls1, "gamma") else None,
    }  # fmt: skip
    return f"vit_base_patch{trunk.patch_embed.patch_size[0]}_224", options


def _transformers(settings: Eyes, source: str, name: str) -> FoundEyes:
    """A vision model of transformers, or the vision side of one that also reads text."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    options: dict[str, Any] = NO_CODE | ({"revision": settings.revision} if settings.revision else {})
    try:
        with no_foreign_code(source):
            told = AutoConfig.from_pretrained(source, **options)
            whole = AutoModel.from_pretrained(source, dtype=torch.float32, **options)
            images = AutoImageProcessor.from_pretrained(source, **options)
    except EosinError:
        raise
    except Exception as exc:  # the hub, safetensors, json: each has its own
        raise EosinError(
            f"The eyes {name} could not be loaded.",
            expected=f"one of {', '.join(BY_NAME)}; or a vision model of transformers: a folder, or a hub name that "
            "this machine can reach", found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}",
            where="model.eyes", next_step="check the name; a gated model needs consent on its page and `hf auth login`",
        ) from exc  # fmt: skip
    config = getattr(told, "vision_config", told)
    sides = (getattr(whole, n, None) for n in ("vision_model", "vision_tower", "visual"))
    tower = next((side for side in sides if side is not None), whole)
    found = EyesConfig(name=name, library="transformers", network_config=config.to_dict(),
                       input_px=settings.input_px or _side(config, images))  # fmt: skip
    network = build_network(found)
    _fill(network, tower, name)
    return FoundEyes(found, network, tuple(images.image_mean), tuple(images.image_std),
                     _RESAMPLE.get(int(getattr(images, "resample", None) or 3), "bicubic"))  # fmt: skip


def _fill(network: nn.Module, tower: nn.Module, name: str) -> None:
    """Weights of a tower into a network of the same config, whose names may stand under one prefix more or less."""
    own, given = network.state_dict(), tower.state_dict()
    for candidate in (given, _under(given, "vision_model."), _cut(given, "vision_model.")):
        if own.keys() <= candidate.keys():
            network.load_state_dict({k: candidate[k] for k in own})
            return
    lacking = sorted(own.keys() - given.keys())
    raise EosinError(f"The weights of the eyes {name} have other names than their config says.",
                     found=f"{len(lacking)} are missing, such as {lacking[0]}", where="model.eyes")  # fmt: skip


def _under(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + k: v for k, v in weights.items()}


def _cut(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in weights.items()}


def _side(config: Any, images: Any) -> int:
    """Side of the square that a vision model of transformers takes."""
    size = getattr(config, "image_size", None)
    if isinstance(size, (list, tuple)):
        size = size[0]
    if size is None:
        told = dict(getattr(images, "crop_size", None) or images.size or {})
        size = told.get("height") or told.get("shortest_edge") or math.isqrt(int(told.get("longest_edge", 224**2)))
    return int(size)
