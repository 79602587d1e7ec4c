"""Which weights of a CLIP train, and how a run's state goes to disk and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eosin.core.errors import EosinError
from eosin.core.settings.clip import ClipStage
from eosin.models.clip.clip import Clip
from eosin.train.warmup.stage import freeze_first

SIGLIP_SCALE, SIGLIP_BIAS = 10.0, -10.0
"""Start of SigLIP's inverse temperature and bias (arXiv 2303.15343, section 3.2)."""


def prepare(clip: Clip, settings: ClipStage, *, is_new: bool) -> None:
    """Set what of a model trains: towers, adapters, temperature and bias.

    Args:
        is_new: the model has new weights; its temperature begins as the loss wants it.
    """
    network = clip.network
    if settings.loss == "siglip" and network.logit_bias is None:
        shape = network.logit_scale.shape
        network.logit_bias = nn.Parameter(torch.full(shape, SIGLIP_BIAS, device=clip.device))
        clip.model_cfg["init_logit_bias"] = SIGLIP_BIAS
    if is_new:
        start = SIGLIP_SCALE if settings.loss == "siglip" else 1 / settings.temperature
        nn.init.constant_(network.logit_scale, math.log(start))
    for name, parameter in network.named_parameters():
        part = "vision" if name.startswith("visual.") else "language"
        is_shared = name in ("logit_scale", "logit_bias")
        parameter.requires_grad_(is_shared or part not in settings.freeze)
    if settings.freeze_first:
        freeze_first(network.visual, settings.freeze_first)
    if settings.lora is not None:
        _add_adapters(clip, settings)


def _add_adapters(clip: Clip, settings: ClipStage) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    lora = settings.lora
    assert lora is not None
    locked = (
        r"^visual\." if "vision" in settings.freeze else r"^(?!visual\.)" if "language" in settings.freeze else None
    )
    own = {n for n, p in clip.network.named_parameters() if n in ("logit_scale", "logit_bias")}
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets, exclude_modules=locked
    )
    try:
        inject_adapter_in_model(config, clip.network)
    except ValueError as exc:
        raise EosinError(
            "No layer of this model takes an adapter.", expected="ends of module names in lora.targets",
            found=str(exc)[:160], where="lora.targets",
        ) from exc  # fmt: skip
    for name, parameter in clip.network.named_parameters():
        parameter.requires_grad_("lora_" in name or name in own)
    clip.network.to(clip.device)


def merge_adapters(clip: Clip) -> None:
    """Put the adapters into the weights; the network is then what it was, with other numbers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    done: list[str] = []
    for name, module in list(clip.network.named_modules()):
        if not isinstance(module, BaseTunerLayer) or any(name.startswith(f"{outer}.") for outer in done):
            continue  # attention merges its own output projection
        done.append(name)
        if hasattr(module, "unload_and_optionally_merge_module"):
            plain = module.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
        else:
            module.merge()
            plain = module.get_base_layer()
        parent = clip.network.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], plain)


def optimizer_of(clip: Clip, settings: ClipStage) -> torch.optim.AdamW:
    """AdamW; weights of two or more dimensions decay, as in CLIP's training."""
    trained = [p for p in clip.network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=1e-6)


def save_state(file: Path, clip: Clip, optimizer: torch.optim.Optimizer | None, step: int, best: float) -> None:
    """One file whole or not at all: weights, the optimiser's moments, the step."""
    tensors = {f"network.{n}": v for n, v in clip.network.state_dict().items()}
    if optimizer is not None:
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors |= {"step": torch.tensor(step), "best": torch.tensor(best, dtype=torch.float64)}
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, str(temporary))
    temporary.replace(file)


def load_state(file: Path, clip: Clip, optimizer: torch.optim.Optimizer | None) -> tuple[int, float]:
    """Put a saved state back; returns the step and the best figure so far."""
    saved = load_file(str(file), device=str(clip.device))
    clip.network.load_state_dict(_part(saved, "network."))
    if optimizer is not None:
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(saved, "optimizer.").items():
            number, name = key.split(".", 1)
            state.setdefault(int(number), {})[name] = value.cpu() if name == "step" else value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(saved["step"]), float(saved["best"])


def _part(saved: dict[str, Tensor], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
