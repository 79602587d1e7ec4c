"""The equations of docs/rl.md against what the trainer computes: values and gradients, for every algorithm."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.conftest import GRAMMAR, PROMPT
from torch import Tensor
from trl import GRPOConfig

from eosin.core.settings.rl import Algorithm
from eosin.core.settings.stages import RlStage
from eosin.core.store import artifacts as store
from eosin.train.data.rows import rl_row, rows_dataset
from eosin.train.monitor import StepClock
from eosin.train.rl.trl_overrides import GroupTrainer
from eosin.train.stages import rl
from eosin.train.stages.base import StageContext

Make = Callable[..., StageContext]
CAP = 6
# Tokens in the loss, a row a completion: two groups of two; the third is masked whole (cut off, or without a score).
MASK = [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]]
ADVANTAGES = [0.9, -0.9, 0.4, -0.4]


def numbers() -> dict[str, Tensor]:
    """Log-probabilities, float64 (4, 5): far enough from the old ones that clips bind on both sides."""
    draw = torch.Generator().manual_seed(3)
    now = -torch.rand(4, 5, generator=draw, dtype=torch.float64) * 2
    return {
        "now": now.requires_grad_(),
        "old": now.detach() + 0.5 * torch.randn(4, 5, generator=draw, dtype=torch.float64),
        "ref": now.detach() + 0.3 * torch.randn(4, 5, generator=draw, dtype=torch.float64),
    }


def by_the_papers(algorithm: Algorithm, x: dict[str, Tensor]) -> Tensor:
    """The loss as docs/rl.md writes it, in loops."""
    sums, lengths = [], []
    for i, row in enumerate(MASK):
        tokens = [t for t, m in enumerate(row) if m]
        lengths.append(len(tokens))
        log_ratios = [x["now"][i, t] - x["old"][i, t] for t in tokens]
        terms = []
        for t, log_ratio in zip(tokens, log_ratios, strict=True):
            if algorithm.importance_sampling_level == "sequence":
                log_ratio = sum(log_ratios) / len(log_ratios)  # type: ignore[assignment]
            ratio = log_ratio.exp()
            low, high = 1 - algorithm.epsilon, 1 + algorithm.epsilon_high
            clipped = ratio if low <= ratio <= high else torch.tensor(low if ratio < low else high)
            gain = ADVANTAGES[i] * ratio
            bound = ADVANTAGES[i] * clipped
            gap = x["ref"][i, t] - x["now"][i, t]
            kl = (gap.exp() - gap - 1) * (ratio if algorithm.unbiased_kl else 1)
            terms.append((bound if bound < gain else gain) - algorithm.beta * kl)
        sums.append(sum(terms, torch.zeros((), dtype=torch.float64)))
    total = sum(sums, torch.zeros((), dtype=torch.float64))
    if algorithm.loss_type == "grpo":
        return -sum((s / max(1, n) for s, n in zip(sums, lengths, strict=True)), torch.zeros(())) / len(MASK)
    return -total / (sum(lengths) if algorithm.loss_type in ("dapo", "bnpo") else len(MASK) * CAP)


def trainer_of(ctx: StageContext, algorithm: Algorithm, **more: Any) -> GroupTrainer:
    settings = RlStage(
        algorithm=algorithm, steps=1, batch_size=4, num_generations=2, max_new_tokens=CAP, freeze=["vision"], **more
    )
    rows = rows_dataset(ctx.train, rl_row(GRAMMAR, PROMPT), ctx.pictures(0.1))
    trainer = GroupTrainer(
        model=ctx.loaded.model,
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        args=GRPOConfig(**rl.grpo_arguments(settings, ctx, len(rows)) | {"beta": 0.0}),  # loads no reference model
        train_dataset=rows,
        processing_class=ctx.loaded.processor,
        clock=StepClock(),
        algorithm=algorithm,
    )
    trainer.beta = algorithm.beta
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = more.get("gradient_accumulation", 1)
    return trainer


def batch(x: dict[str, Tensor], rows: slice = slice(0, 4)) -> dict[str, Any]:
    mask = torch.tensor(MASK)
    return {
        "prompt_ids": torch.zeros(4, 3, dtype=torch.long)[rows],
        "prompt_mask": torch.ones(4, 3, dtype=torch.long)[rows],
        "completion_ids": torch.zeros(4, 5, dtype=torch.long)[rows],
        "completion_mask": mask[rows],
        "advantages": torch.tensor(ADVANTAGES, dtype=torch.float64)[rows],
        "old_per_token_logps": x["old"][rows],
        "ref_per_token_logps": x["ref"][rows],
        "num_items_in_batch": mask.sum(),
    }


def loss_of(trainer: GroupTrainer, x: dict[str, Tensor], rows: slice = slice(0, 4)) -> Tensor:
    entropies = torch.ones(4, 5, dtype=torch.float64)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (x["now"][rows], entropies[rows], None)
    loss: Tensor = trainer._compute_loss(trainer.model, batch(x, rows))
    return loss


@pytest.mark.parametrize(
    "algorithm",
    [
        Algorithm(name="grpo"),
        Algorithm(name="dapo"),
        Algorithm(name="grpo", unbiased_kl=True),
        Algorithm(name="dr_grpo"),
        Algorithm(name="gspo", epsilon=0.1, epsilon_high=0.2),  # wide enough that one reply stays within
        Algorithm(name="gspo", beta=0.02),
        Algorithm(name="dapo", loss_type="bnpo", beta=0.01),
    ],
    ids=lambda a: a.true_name,
)
def test_loss_and_gradient_are_those_of_the_equations(context: Make, algorithm: Algorithm) -> None:
    x = numbers()
    expected = by_the_papers(algorithm, x)
    (wanted,) = torch.autograd.grad(expected, x["now"])
    trainer = trainer_of(context("stage"), algorithm)
    found = loss_of(trainer, x)
    (gradient,) = torch.autograd.grad(found, x["now"])
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(gradient, wanted, rtol=1e-6, atol=1e-9)
    assert wanted[2].abs().sum() == 0 and wanted[0].abs().sum() > 0  # the masked reply moves nothing
    free = ((wanted == 0) & torch.tensor(MASK).bool()).sum()
    assert (free > 0) == (algorithm.beta == 0)  # clipped tokens have no gradient, but for the KL term


def test_the_token_level_loss_counts_tokens_of_the_whole_step(context: Make) -> None:
    """Two passes of one optimiser step add up to the mean over all of its tokens, not to a mean of two means."""
    x = numbers()
    trainer = trainer_of(context("stage"), Algorithm(name="dapo"), gradient_accumulation=2)
    parts = [loss_of(trainer, x, slice(0, 2)), loss_of(trainer, x, slice(2, 4))]
    assert sum(p.item() for p in parts) == pytest.approx(by_the_papers(Algorithm(name="dapo"), x).item(), rel=1e-6)


def test_before_the_first_update_ratio_and_kl_vanish(context: Make) -> None:
    """With the old and the reference policy equal to the new one, GRPO's loss is minus the mean advantage of the
    replies that count, whatever their length."""
    x = numbers()
    x = {"now": x["now"], "old": x["now"].detach(), "ref": x["now"].detach()}
    for name in ("grpo", "gspo"):
        loss = loss_of(trainer_of(context(name), Algorithm.model_validate(name)), x)
        assert loss.item() == pytest.approx(-(0.9 - 0.9 - 0.4) / 4, abs=1e-9)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "gspo"])
def test_advantages_of_real_rollouts(context: Make, name: str) -> None:
    ctx = context(name)
    own = f"{Path(__file__).parents[1] / 'support' / 'rewards.py'}:share_of_e"
    settings = RlStage(
        algorithm=name, steps=1, batch_size=8, num_generations=4, max_new_tokens=12, rewards=[own], log_every=1
    )
    result = rl.run(settings, ctx)
    assert result.extra["algorithm"] == {"grpo": "GRPO", "dr_grpo": "Dr. GRPO", "gspo": "GSPO"}[name]
    rows = store.read_jsonl(ctx.folder / "rollouts.jsonl")
    assert len(rows) == 8
    for start in (0, 4):
        group = rows[start : start + 4]
        rewards = [r["reward"] for r in group]
        mean, std = statistics.fmean(rewards), statistics.stdev(rewards)
        assert std > 0
        scale = 1.0 if name == "dr_grpo" else std + 1e-4
        for row in group:
            assert math.isclose(row["advantage"], (row["reward"] - mean) / scale, rel_tol=1e-4, abs_tol=1e-6)
