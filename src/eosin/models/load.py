"""Load any image-text-to-text model of transformers by name or folder, with its processor."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

import eosin.models.composed.eyes
import eosin.models.slide_encoder.processor  # noqa: F401  (registers the slide reader, and eyes above, with transformers' Auto classes)
from eosin.core.errors import EosinError
from eosin.core.foreign_code import NO_CODE, no_foreign_code
from eosin.core.store import artifacts as store
from eosin.models.composed.eyes import channels_last
from eosin.models.patch_projection import multiply_patches
from eosin.models.picture_attention import attend_by_length


@dataclass
class Loaded:
    """A model and the processor that goes with it."""

    model: PreTrainedModel
    processor: ProcessorMixin
    source: str


def quiet() -> None:
    """Leave progress to Eosin: no bars of transformers for loading and writing a few files."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_dtype(where: torch.device) -> torch.dtype:
    """bf16 on a GPU that has it, else fp32."""
    return torch.bfloat16 if where.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def load(
    name: str | Path,
    *,
    revision: str | None = None,
    max_pixels: int | None = None,
    dtype: torch.dtype | None = None,
    to: torch.device | None = None,
) -> Loaded:
    """Load a model by hub name ("Qwen/Qwen2.5-VL-7B-Instruct") or from a folder, LoRA adapters included.

    Args:
        revision: commit, tag or branch on the hub.
        max_pixels: upper bound of the image area in pixels, where the processor knows one.
        dtype: weights' type; by default bf16 on a GPU, fp32 on a CPU.
        to: device; by default the GPU if there is one.

    Raises:
        EosinError: nothing can be loaded there; weights are missing, left over, or not those that were written; the
            model needs code of its own.
    """
    target = to or device()
    kind = dtype or default_dtype(target)
    source = str(name)
    options: dict[str, Any] = NO_CODE | ({"revision": revision} if revision else {})
    with _readable(source), no_foreign_code(source):
        if store.exists(Path(source)):
            store.open_artifact(Path(source), verify=True)
        processor = AutoProcessor.from_pretrained(source, **options)
        _check_words(processor, source)
        _check_eyes(processor, source)
        if is_adapter(source):
            model = _load_with_adapter(Path(source), kind)
        else:
            _check_image_token(AutoConfig.from_pretrained(source, **options), source)
            model = load_whole(AutoModelForImageTextToText, source, dtype=kind, **options)
    if max_pixels is not None:
        set_max_pixels(processor, max_pixels)
    multiply_patches(model)
    attend_by_length(vision_tower(model))
    channels_last(model)
    return Loaded(model.to(target), processor, source)


@contextmanager
def _readable(source: str) -> Iterator[None]:
    """Whatever the libraries throw at a checkpoint becomes one error that names it, here and nowhere else."""
    try:
        yield
    except (EosinError, MemoryError):
        raise
    except Exception as exc:  # safetensors, tokenizers, json, pydantic and torch have errors of their own
        if "trust_remote_code" in str(exc):
            raise
        raise EosinError(
            "The model could not be loaded.",
            expected="a checkpoint folder, or a name on the Hugging Face hub that this machine can reach",
            found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:200]}",
            where=source,
            next_step="check the name; offline, give the folder of a downloaded model",
        ) from exc


def _check_words(processor: ProcessorMixin, source: str) -> None:
    """Without its vocabulary file a tokenizer of transformers is built from nothing: any text becomes no token."""
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is not None and not tokenizer("tissue", add_special_tokens=False)["input_ids"]:
        raise EosinError(
            "The tokenizer of this checkpoint knows no words.", expected="tokenizer.json, or vocabulary files",
            where=source, next_step="copy the checkpoint again from where it was made",
        )  # fmt: skip
    if not getattr(processor, "chat_template", None) and not getattr(tokenizer, "chat_template", None):
        raise EosinError(
            "This model has no chat template, so no question can be put to it.",
            expected="chat_template.jinja, or `chat_template` in tokenizer_config.json", where=source,
            next_step="take the model's instruction-tuned version, or put its family's template beside its weights",
        )  # fmt: skip


def _check_eyes(processor: Any, source: str) -> None:
    if getattr(processor, "image_processor", None) is None:
        raise EosinError(
            "This model has no processor for images.", expected="an image-text-to-text model with its processor",
            found=type(processor).__name__, where=source,
            next_step="copy its processor_config.json and preprocessor_config.json; a language model alone has no eyes",
        )  # fmt: skip


def _check_image_token(config: Any, source: str) -> None:
    """The token of an image must have a row in the embedding."""
    size = getattr(config.get_text_config(), "vocab_size", None)
    token = getattr(config, "image_token_id", None)
    if size is not None and token is not None and not 0 <= int(token) < int(size):
        raise EosinError(
            "The vocabulary of this model has no room for its image token.", expected=f"an image token below {size}",
            found=str(token), where=f"{source}: config.json",
            next_step="resize the embedding of the model to its tokenizer, or correct image_token_id",
        )  # fmt: skip


def load_whole(kind: Any, source: str, **options: Any) -> Any:
    """`kind.from_pretrained(source)`, where every weight has its place and every place its weight.

    transformers fills places without a weight with random numbers, and says so in a line of its log.

    Raises:
        EosinError: weights are missing, have no place, or have another shape.
    """
    model, info = kind.from_pretrained(source, output_loading_info=True, **options)
    told = {
        "missing": sorted(info["missing_keys"]),
        "without a place": sorted(info["unexpected_keys"]),
        "of another shape": sorted(str(k[0]) for k in info["mismatched_keys"]),
    }
    found = "; ".join(f"{len(keys)} {what}, such as {keys[0]}" for what, keys in told.items() if keys)
    if found:
        raise EosinError(
            "The weights of this checkpoint are not those of its model.", found=found, where=source,
            next_step="copy the checkpoint again from where it was made, or convert it for this transformers",
        )  # fmt: skip
    return model


def is_adapter(source: str | Path) -> bool:
    """Whether a folder holds a LoRA adapter rather than a whole model."""
    return (Path(source) / "adapter_config.json").is_file()


def _load_with_adapter(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    from peft import PeftConfig

    if store.exists(folder):
        store.open_artifact(folder, verify=True)
    base = str(PeftConfig.from_pretrained(str(folder)).base_model_name_or_path)
    if (folder / base).is_dir():
        base = str((folder / base).resolve())
    if is_adapter(base):
        model = _load_with_adapter(Path(base), dtype)
    else:
        model = load_whole(AutoModelForImageTextToText, base, dtype=dtype, **NO_CODE)
    merged: PreTrainedModel = _with_adapter(model, folder).merge_and_unload()
    # A later adapter names its base by this: it must be this folder, not the model that this adapter was put on.
    merged.name_or_path = str(folder)
    return merged


def _with_adapter(model: PreTrainedModel, folder: Path) -> Any:
    """The model with an adapter on it, whose every weight was found."""
    from peft import PeftModel

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        adapted = PeftModel.from_pretrained(model, str(folder))
    lacking = [str(w.message) for w in told if "missing adapter keys" in str(w.message)]
    if lacking:
        raise EosinError("This adapter lacks weights.", found=lacking[0].splitlines()[0][:200], where=folder,
                         next_step="copy the checkpoint again from where it was made")  # fmt: skip
    return adapted


def set_max_pixels(processor: ProcessorMixin, max_pixels: int) -> None:
    """Bound the image area that a Qwen-style processor keeps."""
    images = getattr(processor, "image_processor", None)
    size = dict(getattr(images, "size", None) or {})
    if images is None or "longest_edge" not in size:
        raise EosinError(
            "This model's processor has no bound on image area.",
            where="model.max_pixels",
            next_step="take max_pixels out of the recipe",
        )
    size["longest_edge"] = max_pixels
    size["shortest_edge"] = min(size.get("shortest_edge") or max_pixels, max_pixels)
    images.size = size


def parts(model: PreTrainedModel) -> dict[str, list[nn.Parameter]]:
    """Parameters by part: vision and slide (towers without projectors), projector (of both), language."""
    projector_names = (
        "merger",
        "deepstack_merger_list",
        "projector",
        "multi_modal_projector",
        "resampler",
        "connector",
        "aligner",
    )
    found: dict[str, list[nn.Parameter]] = {"vision": [], "slide": [], "projector": [], "language": []}
    vision_ids, slide_ids = (
        {id(p) for p in tower.parameters()} if tower is not None else set()
        for tower in (vision_tower(model), slide_tower(model))
    )
    for name, parameter in model.named_parameters():
        if any(f".{p}" in f".{name}" for p in projector_names):
            found["projector"].append(parameter)
        elif id(parameter) in vision_ids:
            found["vision"].append(parameter)
        elif id(parameter) in slide_ids:
            found["slide"].append(parameter)
        else:
            found["language"].append(parameter)
    return found


def vision_tower(model: PreTrainedModel) -> nn.Module | None:
    """The vision tower of the common families, or None."""
    root = getattr(model, "model", model)
    for name in ("visual", "vision_tower", "vision_model"):
        tower = getattr(root, name, None)
        if isinstance(tower, nn.Module):
            return tower
    return None


def slide_tower(model: PreTrainedModel) -> nn.Module | None:
    """The tower for patches of whole slides, or None."""
    tower = getattr(getattr(model, "model", model), "slide_tower", None)
    return tower if isinstance(tower, nn.Module) else None


def freeze(model: PreTrainedModel, frozen: set[str]) -> dict[str, int]:
    """Set which parts train. Returns the number of trainable parameters of each part."""
    counts = {}
    for part, parameters in parts(model).items():
        if part in frozen and not parameters:
            raise EosinError(f"This model has no part called {part} that could be frozen.", where="freeze")
        for parameter in parameters:
            parameter.requires_grad_(part not in frozen)
        counts[part] = 0 if part in frozen else sum(p.numel() for p in parameters)
    return counts


def end_tokens(loaded: Loaded) -> set[int]:
    """Token ids that end a reply."""
    ids = loaded.model.generation_config.eos_token_id
    ends = set(ids) if isinstance(ids, (list, tuple)) else {ids}
    return {i for i in (*ends, loaded.processor.tokenizer.eos_token_id) if i is not None}


def placeholder_tokens(model: PreTrainedModel) -> tuple[int, ...]:
    """Token ids that stand for an image or a video; a reply that wrote one would ask for a picture."""
    names = ("image_token_id", "video_token_id", "image_token_index", "video_token_index")
    found = (getattr(model.config, name, None) for name in names)
    return tuple(sorted({int(i) for i in found if i is not None}))
