"""The weights that a stage leaves, averaged with those that it began with.

What a stage gains lies along the way from its start, and so does what it loses elsewhere; between the two ends the one
is often kept and the other not (WiSE-FT: Wortsman et al. 2022, arXiv 2109.01903, section 3; for the last step of RL:
WARP, Rame et al. 2024, arXiv 2406.16768, "linear interpolation towards the initialisation").

    weights = (1 - share) trained + share start
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from eosin.core.errors import disk_errors

FILE = "start.safetensors"


class StartWeights:
    """The trainable weights of a model before its first step, on disk: memory holds none of them while it trains.

    A stage that goes on builds its trainer from its start again, so the file is written anew each time.

    Args:
        folder: where the file lies; the folder of a stage's saves, which goes when the stage is done.
    """

    def __init__(self, model: nn.Module, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / FILE
        begun = self._file.with_suffix(".part")
        with disk_errors(folder):
            save_file({n: p.detach().cpu().contiguous().clone() for n, p in _trained(model)}, begun)
            begun.replace(self._file)

    def mix_into(self, model: nn.Module, share: float) -> None:
        """Move the weights of the model so far towards the start: 0 not at all, 1 all the way.

        Of an adapter, whose change of the model is the product of two matrices of which one is 0 at the start, that
        one is moved: the change is then (1 - share) of what was trained, exactly.
        """
        with safe_open(self._file, framework="pt") as start, torch.no_grad():
            for name, weight in _trained(model):
                before = start.get_tensor(name)
                if "lora_" not in name or not before.any():
                    weight.copy_(_between(weight, before.to(weight.device), share))


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((n, p) for n, p in model.named_parameters() if p.requires_grad)


def _between(trained: Tensor, start: Tensor, share: float) -> Tensor:
    """In fp32 at least: a share of a small change is lost in the rounding of bf16."""
    wide = torch.promote_types(trained.dtype, torch.float32)
    return torch.lerp(trained.to(wide), start.to(wide), share).to(trained.dtype)
