"""The shared-prefix path against plain TRL: same completions, same loss, same gradients; same log-probabilities."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from tests.support.toys import toy_image
from tests.train.conftest import new_model
from trl import GRPOConfig

from eosin.core.rl_settings import Algorithm
from eosin.core.stages import Lora
from eosin.models.load import Loaded
from eosin.train.monitor import StepClock
from eosin.train.stage import lora_config
from eosin.train.trl_overrides import GroupTrainer, SharedPrefixTrainer

ROOM = 7


def rows_of(num_groups: int, num: int, images: list[int]) -> list[dict[str, Any]]:
    """G rows a group; prompts of different lengths, `images[i]` pictures in prompt i."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(num_groups):
        pictures = [toy_image(k % 3, rng) for k in range(images[i % len(images)])]
        content = [{"type": "image"} for _ in pictures]
        text = "Which colour is this field? " * (1 + i % 3)
        prompt = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
        rows += [{"prompt": prompt, "images": pictures, "sample_number": i}] * num
    return rows


def ragged(num_rows: int, end: int, seed: int = 1) -> list[list[int]]:
    """Completions of 1 to ROOM tokens; every fifth is cut off, the others end with the end token."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(num_rows):
        size = ROOM if i % 5 == 4 else int(rng.integers(1, ROOM + 1))
        ids = rng.integers(20, 300, size).tolist()
        found.append(ids if i % 5 == 4 else [*ids[:-1], end])
    return found


def reward(completions: list[Any], **_: Any) -> list[float | None]:
    """Different for every completion; some are not scored."""
    return [None if i % 7 == 6 else float(i % 4) / 3 for i, _ in enumerate(completions)]


def dataset_of(rows: list[dict[str, Any]]) -> Dataset:
    """A data set that hands out made rows."""

    def fetch(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = [rows[i] for i in batch["sample_number"]]
        return {key: [row[key] for row in chosen] for key in rows[0]}

    return Dataset.from_dict({"sample_number": list(range(len(rows)))}).with_transform(fetch)


def trainer_of(
    kind: type[GroupTrainer], loaded: Loaded, folder: Path, rows: list[dict[str, Any]], num: int, *,
    lora: Lora | None = None, algorithm: Algorithm | None = None, **changes: Any,
) -> GroupTrainer:  # fmt: skip
    algorithm = algorithm or Algorithm()
    values = {
        "output_dir": str(folder), "per_device_train_batch_size": len(rows), "num_generations": num,
        "max_completion_length": ROOM, "beta": algorithm.beta, "loss_type": algorithm.loss_type, "use_cpu": True,
        "scale_rewards": algorithm.scale_rewards, "mask_truncated_completions": algorithm.mask_truncated,
        "epsilon_high": algorithm.epsilon_high, "importance_sampling_level": algorithm.importance_sampling_level,
        "report_to": [], "disable_tqdm": True, "remove_unused_columns": False, "temperature": 0.9, "top_k": 0,
        "bf16": False, "gradient_checkpointing": False,
    }  # fmt: skip
    trainer = kind(
        model=copy.deepcopy(loaded.model), reward_funcs=[reward], args=GRPOConfig(**{**values, **changes}),
        train_dataset=dataset_of(rows[::num]), processing_class=loaded.processor, peft_config=lora_config(lora, []),
        clock=StepClock(), algorithm=algorithm,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    if trainer.ref_model is None and algorithm.beta and lora is None:
        raise AssertionError("no reference")
    return trainer


def loss_and_gradients(trainer: GroupTrainer, rows: list[dict[str, Any]]) -> tuple[float, dict[str, torch.Tensor]]:
    fixed = ragged(len(rows), trainer.eos_token_ids[0])
    trainer._generate_single_turn = lambda ids, *_a, **_k: (fixed[: len(ids)], None)  # type: ignore[method-assign]
    trainer.model.train()
    batch = trainer._generate_and_score_completions(rows)
    if isinstance(trainer, SharedPrefixTrainer):
        batch["encoded_prompts"] = trainer._loss_prompts
    else:
        assert batch["pixel_values"].shape[0] > 0
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return float(loss.detach()), grads


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / a.norm().clamp(min=1e-12))


def saved(loaded: Loaded, folder: Path) -> Loaded:
    """The model on disk, because TRL loads the reference from there."""
    loaded.model.save_pretrained(folder)
    loaded.model.config._name_or_path = str(folder)
    loaded.model.name_or_path = str(folder)
    return loaded


CASES = [
    # groups, G, pictures by prompt, algorithm, lora, changes
    pytest.param(2, 4, [1], "grpo", None, {}, id="grpo-kl"),
    pytest.param(3, 2, [1, 2], "dapo", None, {}, id="dapo-G2-two-pictures"),
    pytest.param(1, 8, [1], "dapo", None, {}, id="dapo-G8-one-group"),
    pytest.param(2, 4, [2, 1], "dr_grpo", Lora(r=4), {}, id="dr-grpo-lora"),
    pytest.param(2, 4, [1], "gspo", None, {}, id="gspo"),
    pytest.param(2, 4, [1], "grpo", Lora(r=4), {}, id="grpo-kl-lora-reference"),
    pytest.param(2, 4, [1, 3], "dapo", None, {"gradient_checkpointing": True}, id="checkpointing"),
]


@pytest.mark.parametrize(("groups", "num", "images", "name", "lora", "changes"), CASES)
def test_loss_and_gradients_are_those_of_plain_trl(
    tmp_path: Path, groups: int, num: int, images: list[int], name: str, lora: Lora | None, changes: dict[str, Any]
) -> None:
    loaded = saved(new_model(), tmp_path / "model")
    rows = rows_of(groups, num, images)
    algorithm = Algorithm.model_validate({"name": name, "dynamic_sampling": False})
    results = []
    for kind in (GroupTrainer, SharedPrefixTrainer):
        torch.manual_seed(3)
        trainer = trainer_of(kind, loaded, tmp_path / kind.__name__, rows, num, lora=lora, algorithm=algorithm, **changes)
        if lora is not None:  # a fresh adapter's B is zero, and with it the gradient of A
            torch.manual_seed(4)
            for n, p in trainer.model.named_parameters():
                if "lora_B" in n:
                    torch.nn.init.normal_(p, std=0.05)
        results.append(loss_and_gradients(trainer, rows))
    (plain, plain_grads), (shared, shared_grads) = results
    assert shared == pytest.approx(plain, rel=1e-4, abs=1e-7)
    assert plain_grads.keys() == shared_grads.keys()
    moved = [n for n, g in plain_grads.items() if g.norm() > 1e-9]
    assert len(moved) > 0.8 * len(plain_grads)
    assert max(relative(plain_grads[n], shared_grads[n]) for n in moved) < 1e-4
    if lora is None:
        assert any("visual.blocks" in n for n in moved)
