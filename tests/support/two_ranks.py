"""Run by torchrun: dynamic sampling on two processes. Writes rank0.json and rank1.json."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from eosin.core.ranks import leave_processes
from eosin.core.settings.rl import Algorithm
from eosin.train.rl.trl_overrides import SharedPrefixTrainer
from tests.train.conftest import new_model
from tests.train.test_shared_prefix import dataset_of, rows_of, trainer_of

NUM = 4


def digest(model: Any) -> str:
    raw = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    return hashlib.sha256(raw).hexdigest()


def main(out: Path) -> None:
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    kept: list[int] = []
    alike: list[int] = []

    def scored(sample_number: list[int], **_: Any) -> list[float]:
        return [0.3 if n % 2 == 0 else float(i % 2) for i, n in enumerate(sample_number)]

    def decided(_scored: Any, chosen: Any, _varied: Any, advantages: torch.Tensor, _in_loss: Any) -> None:
        kept.extend(int(g.rows[0]["sample_number"]) for g in chosen)
        alike.append(int((advantages.abs() < 1e-3).sum()))

    rows = rows_of(12, NUM, [1])
    algorithm = Algorithm.model_validate({"name": "dapo", "mask_truncated": False})
    trainer = trainer_of(
        SharedPrefixTrainer, new_model(), out / "work", rows[:NUM], NUM, algorithm=algorithm,
        mask_truncated_completions=False, max_steps=2, learning_rate=1e-2, ddp_backend="gloo", save_strategy="no",
        logging_strategy="no", per_device_train_batch_size=NUM, shuffle_dataset=False, max_grad_norm=1.0,
    )  # fmt: skip
    trainer.reward_funcs = [scored]
    trainer.train_dataset = dataset_of(rows[::NUM])
    trainer.stream = type(trainer.stream)(12, 0)
    trainer._decided = decided
    start = digest(trainer.model)
    rounds: list[float] = []
    count = trainer._count

    def watch(chosen: Any, number: int) -> None:
        rounds.append(number)
        count(chosen, number)

    trainer._count = watch
    trainer.train()
    found = {
        "rounds": rounds, "prompts_seen": trainer.counts.prompts_seen, "kept": kept,
        "place": trainer.stream.place, "alike": sum(alike),
        "weights": digest(trainer.accelerator.unwrap_model(trainer.model)), "start": start,
    }  # fmt: skip
    (out / f"rank{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave_processes()
