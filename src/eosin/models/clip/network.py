"""Networks of CLIP models by open_clip, from their settings or by name."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.core.settings.clip import TinyClip

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
VOCABULARY = 49_408
"""Tokens of CLIP's byte-pair encoding; open_clip carries its table."""


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
    """Whatever the libraries throw at a checkpoint becomes one error that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (EosinError, MemoryError):
        raise
    except Exception as exc:  # open_clip, timm, safetensors, torch and the hub have errors of their own
        raise EosinError(
            "The CLIP model could not be loaded.",
            expected="a folder of open_clip or transformers, a known name, MODEL@WEIGHTS, or hf-hub:ORG/NAME",
            found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}",
            where=name,
            next_step="check the name; offline, give the folder or file of a downloaded model",
        ) from exc


def build_network(model_cfg: Mapping[str, Any]) -> Any:
    """A network with new weights, of open_clip's settings (`model_cfg` of open_clip_config.json).

    Nothing is loaded: towers of timm and Hugging Face inside it are new, too.

    Raises:
        EosinError: settings that open_clip does not know.
    """
    open_clip = need("open_clip", "encoders")
    settings = copy.deepcopy(dict(model_cfg))
    text, vision = settings.get("text_cfg") or {}, settings.get("vision_cfg") or {}
    vision.pop("timm_model_pretrained", None)
    custom = settings.pop("custom_text", False) or "hf_model_name" in text
    if "multimodal_cfg" in settings:
        kind = open_clip.CoCa
    elif custom:
        kind = open_clip.CustomTextCLIP
    else:
        kind = open_clip.CLIP
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    with loading("model_cfg"):
        return kind(**settings)


def tiny_settings(settings: TinyClip) -> dict[str, Any]:
    """open_clip's settings of the small model that Eosin builds itself."""
    vision: dict[str, Any] = {"image_size": settings.image_px}
    if settings.vision.timm_model is not None:
        vision |= {"timm_model_name": settings.vision.timm_model, "timm_model_pretrained": False, "timm_pool": "avg",
                   "timm_proj": "linear"}  # fmt: skip
    else:
        vision |= {
            "layers": settings.vision.layers, "width": settings.vision.width, "patch_size": settings.vision.patch_size,
            "head_width": settings.vision.width // settings.vision.heads, "mlp_ratio": settings.vision.mlp_ratio,
            "pool_type": settings.vision.pool, "final_ln_after_pool": settings.vision.pool == "avg",
        }  # fmt: skip
    text = {
        "context_length": settings.context_length, "vocab_size": VOCABULARY, "width": settings.text.width,
        "heads": settings.text.heads, "layers": settings.text.layers,
    }  # fmt: skip
    return {"embed_dim": settings.dim, "vision_cfg": vision, "text_cfg": text}


def named_network(model: str, weights: str) -> tuple[Any, dict[str, Any]]:
    """Network and settings of one of open_clip's architectures with the weights of a tag or a file.

    OpenAI's weights were trained with QuickGELU. open_clip only warns where the architecture says otherwise, and the
    embeddings are then wrong; here the tag decides.

    Raises:
        EosinError: no such architecture, tag or file; weights of another architecture.
    """
    open_clip = need("open_clip", "encoders")
    settings = open_clip.get_model_config(model)
    if settings is None:
        raise EosinError("open_clip has no such architecture.", found=model, next_step="name one such as ViT-B-16")
    is_file = Path(weights).is_file()
    if not is_file and weights not in open_clip.list_pretrained_tags_by_model(model):
        raise EosinError(
            "There are no such weights of this architecture.", found=weights, where=model,
            expected="a file, or one of " + ", ".join(open_clip.list_pretrained_tags_by_model(model)),
        )  # fmt: skip
    cfg = {} if is_file else open_clip.get_pretrained_cfg(model, weights)
    if cfg.get("quick_gelu"):
        settings["quick_gelu"] = True
    with loading(f"{model}@{weights}"):
        network = open_clip.create_model(
            model, pretrained=weights, force_quick_gelu=bool(settings.get("quick_gelu")), weights_only=True
        )
    return network, settings
