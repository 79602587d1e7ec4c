"""Run as one of several processes: loss and gradients of a contrastive batch. Writes rankR.json."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from eosin.core.settings.clip import ClipStage, TinyClip
from eosin.models.clip.load import new_clip
from eosin.train.clip.losses import LOSSES, Relations
from eosin.train.clip.step import Tower, backward, sum_gradients
from eosin.train.clip.weights import prepare

TINY = TinyClip.model_validate(
    {"image_px": 16, "dim": 8, "context_length": 8, "vision": {"layers": 1, "width": 16, "heads": 2, "patch_size": 8},
     "text": {"layers": 1, "width": 16, "heads": 2}}
)  # fmt: skip
SHOWN = ("visual.proj", "visual.conv1.weight", "text_projection", "positional_embedding", "logit_scale", "logit_bias")


def gradients_of(loss: str, rank: int, size: int, chunk: int | None = None) -> tuple[float, dict[str, list[float]]]:
    """Of 8 pairs in all, this process's `size` of them."""
    clip = new_clip(TINY, 0)
    prepare(clip, ClipStage.model_validate({"loss": loss}), is_new=True)
    clip.network.train()
    pixels = torch.randint(0, 255, (8, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ids = clip.tokens([f"{name} gland" for name in "abcdefga"]).ids
    relations = Relations(torch.tensor([0, 1, 2, 3, 4, 5, 6, 0]), torch.tensor([0, 0, 1, 1, 0, -1, -1, 2]))
    own = slice(rank * size, (rank + 1) * size)
    towers = [Tower(f, x[own].split(chunk or size), True) for f, x in ((clip.images, pixels), (clip.texts, ids))]
    network = clip.network
    value = backward(*towers, relations, LOSSES[loss], network.logit_scale, network.logit_bias, rank)
    sum_gradients([p for p in network.parameters() if p.requires_grad])
    return float(value), {n: p.grad.flatten().tolist() for n, p in network.named_parameters() if n in SHOWN}


def main(out: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank, found = int(os.environ["RANK"]), {}
    for loss in ("infonce", "siglip"):
        for name, chunk in (("whole", None), ("chunks", 3)):
            value, gradients = gradients_of(loss, rank, 4, chunk)
            found[f"{loss} {name}"] = {"loss": value, "gradients": gradients}
    (out / f"rank{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
