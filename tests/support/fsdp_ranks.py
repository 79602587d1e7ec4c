"""Run by torchrun: an SFT stage under FSDP on two processes, whole, and once more killed and resumed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from eosin.core.ranks import leave_processes, rank
from eosin.core.settings.launch import Launch
from eosin.core.settings.stages import SftStage
from eosin.core.store import artifacts as store
from eosin.train.stages import sft
from eosin.train.stages.base import StageContext
from eosin.train.stages.saves import seed_everything
from tests.support.toys import toy_samples
from tests.train.conftest import GRAMMAR, PROMPT, new_model

SETTINGS = SftStage(steps=9, batch_size=4, learning_rate=1e-3, save_every=4, log_every=1)  # epochs of three steps


def stage(folder: Path) -> Any:
    """The stage from its start, or from the last whole save in the folder, as a new process would run it."""
    if rank() == 0:
        folder.mkdir(exist_ok=True)
    seed_everything(0)
    ctx = StageContext("sft", folder, new_model(), toy_samples(24, "train"), [], GRAMMAR, PROMPT, 0,
                       launch=Launch.model_validate("fsdp:2"))  # fmt: skip
    return sft.run(SETTINGS, ctx)


def main(out: Path) -> None:
    torch.set_num_threads(1)
    stage(out / "whole")
    if rank() == 0:  # as if killed when it had saved for the last time but one
        shutil.copytree(out / "whole", out / "cut")
        shutil.rmtree(out / "cut" / "checkpoint")
        saves = sorted(p.name for p in (out / "cut" / "work").glob("checkpoint-*"))
        shutil.rmtree(out / "cut" / "work" / saves[-1])
        (out / "saves.json").write_text(json.dumps(saves))
        shutil.copytree(out / "whole", out / "done")  # as if killed before its checkpoint was whole
        shutil.rmtree(out / "done" / "checkpoint")
    torch.distributed.barrier()
    stage(out / "cut")
    stage(out / "done")
    if rank() == 0:
        losses = {
            n: [r["loss"] for r in store.read_jsonl(out / n / "metrics.jsonl") if "loss" in r] for n in ("whole", "cut")
        }
        (out / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_processes()
