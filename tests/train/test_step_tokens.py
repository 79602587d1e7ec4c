"""The token-level loss divides by the tokens of its own optimiser step, also where one generation serves several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.train.conftest import new_model
from tests.train.test_shared_prefix import ragged, rows_of, trainer_of

from eosin.core.settings.rl import Algorithm
from eosin.train.rl.groups import normalised_by_step, tokens_in_loss
from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer

NUM, ACCUMULATION, PARTS = 2, 2, 4


def test_what_trl_divides_by_is_the_steps_own_tokens() -> None:
    """Four parts of 3, 1, 2 and 8 tokens, two to a step: the steps have 4 and 10, the generation's mean is 7."""
    lengths = (3, 1, 2, 8)
    parts = [{"completion_mask": (torch.arange(8) < n).int()[None]} for n in lengths]
    assert tokens_in_loss(parts).tolist() == list(lengths)
    found = normalised_by_step(parts, lengths, ACCUMULATION)
    assert [float(p["num_items_in_batch"] * ACCUMULATION / PARTS) for p in found] == [4, 4, 10, 10]


@pytest.mark.parametrize("kind", [GroupTrainer, SharedPrefixTrainer])
def test_each_optimiser_step_is_the_mean_over_its_own_tokens(tmp_path: Path, kind: type[GroupTrainer]) -> None:
    """Before any update the ratio is 1, so a step's loss is - sum_i A_i |o_i| / sum_i |o_i| over its replies, in loops.
    Two steps of two passes of one group each are made of one generation."""
    rows = rows_of(PARTS, NUM, [0])
    algorithm = Algorithm.model_validate({"name": "dapo", "dynamic_sampling": False, "overlong_buffer": 0.0})
    trainer = trainer_of(
        kind, new_model(), tmp_path, rows, NUM, algorithm=algorithm, per_device_train_batch_size=NUM,
        gradient_accumulation_steps=ACCUMULATION, steps_per_generation=PARTS,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = ACCUMULATION
    fixed = ragged(len(rows), trainer.eos_token_ids[0])
    trainer._generate_single_turn = lambda ids, *_a, **_k: (fixed[: len(ids)], None)  # type: ignore[method-assign]
    trainer.model.train()
    means = []
    for step in range(PARTS // ACCUMULATION):
        found = expected = total = 0.0
        for part in range(step * ACCUMULATION, (step + 1) * ACCUMULATION):
            trainer._step = part
            inputs = trainer._prepare_inputs(rows)
            found += float(trainer.compute_loss(trainer.model, inputs).detach())
            for advantage, mask in zip(inputs["advantages"].tolist(), inputs["completion_mask"].tolist(), strict=True):
                expected -= advantage * sum(mask)
                total += sum(mask)
        assert found == pytest.approx(expected / total, abs=2e-5)
        means.append((expected / total, total))
    assert means[0][1] != means[1][1]  # else the generation's mean would do
