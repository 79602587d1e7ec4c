"""Muon against torch's own, and its AdamW against torch's; one optimiser that can be saved and goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests.train.conftest import new_model
from torch import Tensor, nn

from eosin.core.errors import EosinError
from eosin.core.settings.launch import Launch
from eosin.core.settings.stages import SftStage
from eosin.core.store import artifacts as store
from eosin.models.load import load
from eosin.train.muon import Muon, hidden_matrices, orthogonal
from eosin.train.stages import sft
from eosin.train.stages.base import StageContext


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 24), nn.LayerNorm(24), nn.GELU(), nn.Linear(24, 12), nn.Linear(12, 5))


def optimizer_of(model: nn.Module, lr: float = 1e-2) -> Muon:
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.ndim == 2]
    rest = {"params": [p for p in parameters if p.ndim != 2], "weight_decay": 0.1}
    return Muon(matrices, [rest], lr, weight_decay=0.1, betas=(0.9, 0.95))


def give_gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


@pytest.mark.parametrize("shape", [(8, 8), (30, 7), (7, 30)])
def test_a_matrix_becomes_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    matrix = torch.randn(shape)
    found = orthogonal(matrix)
    assert found.shape == shape
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.5 and float(values.max()) < 1.3
    U, _, Vh = torch.linalg.svd(matrix, full_matrices=False)
    exact = U @ Vh
    assert float((found * exact).sum() / (found.norm() * exact.norm())) > 0.97
    assert not orthogonal(torch.zeros(shape)).any()


def test_matrices_move_as_with_torch_and_the_rest_as_with_adamw() -> None:
    ours, theirs = small(), small()
    matrices = [p for p in theirs.parameters() if p.ndim == 2]
    rest = [p for p in theirs.parameters() if p.ndim != 2]
    begun = [p.detach().clone() for p in theirs.parameters()]
    one = optimizer_of(ours)
    torchs = (
        torch.optim.Muon(matrices, lr=1e-2, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=1e-2, weight_decay=0.1, betas=(0.9, 0.95)),
    )
    for step in range(4):
        for model in (ours, theirs):
            give_gradients(model, step)
        one.step()
        for other in torchs:
            other.step()
    for mine, other, start in zip(ours.parameters(), theirs.parameters(), begun, strict=True):
        if mine.ndim != 2:
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)
        else:  # torch iterates in bfloat16
            assert float((mine - other).detach().norm()) < 0.03 * float((other - start).detach().norm())


def test_a_saved_optimizer_goes_on_as_if_it_had_not_stopped() -> None:
    whole, broken = small(), small()
    first, second = optimizer_of(whole), optimizer_of(broken)
    for step in range(2):
        for model, optimizer in ((whole, first), (broken, second)):
            give_gradients(model, step)
            optimizer.step()
    kept = copy.deepcopy(second.state_dict())
    again = optimizer_of(broken, lr=0.5)  # the learning rate is the saved one
    again.load_state_dict(kept)
    for step in range(2, 4):
        for model, optimizer in ((whole, first), (broken, again)):
            give_gradients(model, step)
            optimizer.step()
    for mine, other in zip(broken.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


def test_a_scheduler_reaches_both_kinds() -> None:
    optimizer = optimizer_of(small())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    optimizer.step()
    scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [5e-3, 5e-3]


def test_parameters_without_a_gradient_stay() -> None:
    model = small()
    before: list[Tensor] = [p.detach().clone() for p in model.parameters()]
    optimizer_of(model).step()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_embeddings_and_what_is_tied_to_them_are_not_hidden() -> None:
    model = new_model().model
    found = {id(p) for p in hidden_matrices(model)}
    names = {n for n, p in model.named_parameters() if id(p) in found}
    assert any("q_proj" in n for n in names) and any("visual" in n for n in names)
    assert not any("embed_tokens" in n or "lm_head" in n for n in names)
    for p in model.parameters():
        p.requires_grad_(False)
    assert hidden_matrices(model) == []


def test_a_stage_on_pairs_learns_with_it(context: Callable[..., StageContext]) -> None:
    ctx = context("sft", num_train=24)
    settings = SftStage(optimizer="muon", steps=12, batch_size=8, learning_rate=2e-2, log_every=1, schedule="constant")
    sft.run(settings, ctx)
    losses = [row["loss"] for row in store.read_jsonl(ctx.metrics_file) if "loss" in row]
    assert len(losses) == 12 and losses[-1] < 0.7 * losses[0]
    before, after = new_model().model, load(ctx.folder / "checkpoint").model
    pairs = zip(before.named_parameters(), after.parameters(), strict=True)
    moved = {name for (name, p), q in pairs if not torch.equal(p, q)}
    assert any("q_proj" in n for n in moved) and any("embed_tokens" in n for n in moved)


def test_where_no_process_holds_a_whole_matrix_it_is_refused(context: Callable[..., StageContext]) -> None:
    ctx = replace(context("sft", num_train=6), launch=Launch(how="fsdp", processes=2))
    with pytest.raises(EosinError, match="whole matrices") as found:
        sft.run(SftStage(optimizer="muon", steps=1, batch_size=2), ctx)
    assert found.value.where == "stages.sft.optimizer"
