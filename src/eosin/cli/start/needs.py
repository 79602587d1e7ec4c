"""What a recipe needs: packages, data, memory, GPU; and whether this machine has it.

Memory is an estimate of what the weights alone make necessary, and says so: 2 bytes a parameter to hold a model in
bf16, 16 to train all of it with AdamW (weights, gradients, two moments in fp32), and 6 GiB for what a batch needs. A
run can need more: long prompts, large batches.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass

from eosin.core.settings.clip import ClipStage
from eosin.core.settings.model import ComposedModel, HubModel, SlideModel
from eosin.core.settings.recipe import Recipe
from eosin.core.settings.stages import RlStage

__all__ = ["Needs", "needs_of", "verdict"]

SMALL_GIB = 6.0
"""Free memory that a small model wants; the demo's peak is below it (docs/results.md)."""
BATCH_GIB = 6.0
_OF_EXTRA = {"train": ("torch", "trl"), "slides": ("tifffile", "h5py"), "encoders": ("timm", "open_clip"),
             "documents": ("pypdfium2",), "clients": ("openai",), "pretrained": ("gguf",)}  # fmt: skip


@dataclass(frozen=True)
class Needs:
    """What a recipe needs.

    Attributes:
        extras: of the installation. data: what the user must name; "" where code makes it.
        gpu_gib: GPU memory for the largest stage; None where a CPU will do.
        memory_gib: free memory of the machine.
    """

    extras: tuple[str, ...]
    data: str
    gpu_gib: float | None
    memory_gib: float


def needs_of(recipe: Recipe) -> Needs:
    """What this recipe needs, from its settings alone."""
    extras = ["train"]
    source = recipe.data.source
    extras += ["slides"] * (source in ("slides", "phantom-slides"))
    extras += ["documents"] * (source == "documents")
    model = recipe.model
    if isinstance(model, ComposedModel):
        extras += ["encoders", *(["pretrained"] if model.language == "smollm2-135m" else [])]
    for stage in recipe.stages.values():
        if isinstance(stage, ClipStage):
            extras.append("encoders")
            extras += ["pretrained"] * (getattr(stage.model, "weights", None) == "efficientnet-lite0")
    if recipe.scoring.judge is not None or (recipe.data.curate is not None and recipe.data.curate.servers):
        extras.append("clients")
    gpu = max((_stage_gib(recipe, name) for name in recipe.stages), default=0.0)
    return Needs(tuple(dict.fromkeys(extras)), _data(recipe), gpu or None, SMALL_GIB)


def verdict(needs: Needs, gpu_gib: float | None, memory_gib: float) -> str:
    """ "ready", or what is missing on a machine of this size. The data is the user's and does not count."""
    missing = [e for e in needs.extras if any(importlib.util.find_spec(p) is None for p in _OF_EXTRA[e])]
    if missing:
        return f"pip install 'eosin[{','.join(missing)}]'"
    if needs.gpu_gib is not None and (gpu_gib or 0) < needs.gpu_gib:
        return f"a GPU of about {needs.gpu_gib:.0f} GiB" + (f" (here {gpu_gib:.0f})" if gpu_gib else "")
    if needs.gpu_gib is None and memory_gib < needs.memory_gib:
        return f"{needs.memory_gib:.0f} GiB of free memory (here {memory_gib:.0f})"
    return "ready"


def billions(name: str) -> float | None:
    """Parameters in billions that a model's name tells, such as 7 of Qwen2.5-VL-7B-Instruct."""
    found = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)B(?![a-z])", name, re.I)
    return float(found[1]) if found else None


def _stage_gib(recipe: Recipe, name: str) -> float:
    model = recipe.model.base if isinstance(recipe.model, SlideModel) else recipe.model
    size = billions(model.name) if isinstance(model, HubModel) else None
    if size is None:
        return 0.0
    stage = recipe.stages[name]
    held = 2.0 if getattr(stage, "lora", None) is not None else 16.0
    reference = 2.0 if isinstance(stage, RlStage) and stage.algorithm.beta > 0 and held > 2 else 0.0
    return size * (held + reference) * 1e9 / 2**30 + BATCH_GIB


def _data(recipe: Recipe) -> str:
    source = recipe.data.source
    if source.startswith("phantom"):
        return ""
    field = "path" if "path" in type(recipe.data).model_fields else "root"
    return "data.plugin" if source == "plugin" else f"data.{field}=PATH"
