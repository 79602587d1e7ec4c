"""Stages whose draws must not depend on processes. Run by torchrun: all of them on two; a test runs them on one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from eosin.core.formats.stream.index import open_index
from eosin.core.formats.stream.order import Order, Part
from eosin.core.formats.stream.reader import Streamed, StreamReader
from eosin.core.formats.stream.scan import ANSWER, TRAIN
from eosin.core.ranks import leave_processes, num_ranks, rank
from eosin.core.settings.rl import Algorithm, RewardSpec
from eosin.core.settings.stages import RlStage, SftStage
from eosin.train.stages import rl, sft
from eosin.train.stages.base import StageContext
from eosin.train.stages.saves import seed_everything
from tests.support.toys import toy_samples
from tests.train.conftest import GRAMMAR, PROMPT, new_model

KINDS = ("streamed", "by_length", "plain")
ROWS = 8
"""Rows of one step, of all processes together."""


def settings(kind: str) -> Any:
    """Of a stage, for as many processes as there are."""
    shared: dict[str, Any] = {"batch_size": ROWS // num_ranks(), "learning_rate": 1e-3, "log_every": 1}
    if kind == "streamed":
        return SftStage(**shared, epochs=2, augment=True, num_workers=num_ranks() - 1)
    if kind == "by_length":
        return SftStage(**shared, epochs=2, augment=True, packing="off", batches="by_length")
    return RlStage(
        **shared, steps=4, num_generations=2, max_new_tokens=6, fast_path="off", collapse=None, keep="last",
        rewards=[RewardSpec(name="tests.support.rewards:hears", label="heard")], algorithm=Algorithm(beta=0.0),
    )  # fmt: skip


def stage(kind: str, folder: Path, shards: Path) -> None:
    """Run one of them in a folder; its checkpoint and its log stand there."""
    if rank() == 0:
        folder.mkdir(parents=True)
    if num_ranks() > 1 and torch.distributed.is_initialized():
        torch.distributed.barrier()
    seed_everything(0)
    ctx = StageContext(kind, folder, new_model(), toy_samples(24, "train"), [], GRAMMAR, PROMPT, 0)
    if kind == "streamed":
        index = open_index(shards / "index")
        window = 3 * int(index.blocks[:, 3].max())
        order = Order(Part(index, TRAIN | ANSWER), 0, window)
        ctx = replace(ctx, stream=Streamed(order, StreamReader(index, 2 * window)))
    (rl if kind == "plain" else sft).run(settings(kind), ctx)


def main(out: Path, shards: Path) -> None:
    torch.set_num_threads(1)
    for kind in KINDS:
        stage(kind, out / kind, shards)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    leave_processes()
