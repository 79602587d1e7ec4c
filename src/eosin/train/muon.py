"""Muon: momentum whose matrices are made orthogonal before each step (Jordan et al. 2024), AdamW for all the rest.

For a matrix W with gradient G: B <- mu B + G, and W <- W (1 - lr wd) - lr 0.2 sqrt(max(m, n)) O(G + mu B), where O
takes a matrix to the nearest with singular values near 1, by five Newton-Schulz steps. The factor gives updates the
size that AdamW's have (Liu et al. 2025, arXiv 2502.16982, eq. 4). Small towers from random weights learn in half of the
epochs that AdamW needs (docs/results.md).

`torch.optim.Muon` iterates in bfloat16, which a CPU without that unit emulates: a step of the demo's tower then takes
seconds. Here the iteration is in the precision of the weights. One optimiser holds both kinds of parameters, so that
schedulers, saves and clipping see one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

MOMENTUM = 0.95
STEPS = 5
ADAMW_SHARE = 1 / 3
"""Of Muon's learning rate, for what AdamW moves beside it: matrices bear two to three times as much."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration X <- a X + b (X X') X + c (X X')^2 X; singular values end between 0.7 and 1.2."""


@torch.no_grad()
def orthogonal(matrix: Tensor) -> Tensor:
    """About U V' of a matrix U S V' (m, n)."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(Optimizer):
    """Muon for hidden matrices, AdamW for embeddings, heads, convolutions, norms and biases.

    Args:
        matrices: parameters (m, n) that Muon moves.
        others: groups of the rest, as AdamW takes them.
        lr: learning rate of both; a group may hold its own.
        weight_decay: of the matrices, and of other groups without their own.
        betas: of AdamW.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], others: Iterable[dict[str, Any]], lr: float, *,
        weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:  # fmt: skip
        groups = [{"params": list(matrices), "muon": True}, *({"muon": False, **g} for g in others)]
        plain = AdamW([nn.Parameter(torch.zeros(1))], lr=lr, betas=betas, weight_decay=weight_decay)
        super().__init__([g for g in groups if g["params"]], {**plain.defaults, "muon": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both kinds, each group with its own learning rate."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["muon"]:
                self._move(group)
        self._adamw().step()
        return loss

    def _move(self, group: dict[str, Any]) -> None:
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            momentum: Tensor = state["momentum"].mul_(MOMENTUM).add_(p.grad)
            size = 0.2 * math.sqrt(max(p.shape))
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(orthogonal(p.grad + MOMENTUM * momentum), alpha=-group["lr"] * size)

    def _adamw(self) -> AdamW:
        """torch's AdamW over the other groups, which are this optimiser's own, and so is the state."""
        inner = AdamW([nn.Parameter(torch.zeros(1))])
        inner.param_groups = [g for g in self.param_groups if not g["muon"]]
        inner.state = self.state
        return inner


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Trainable matrices between a model's input and output: no embedding, no head over a vocabulary."""
    ends = [m for m in module.modules() if isinstance(m, nn.Embedding)]
    if (head := getattr(module, "get_output_embeddings", lambda: None)()) is not None:
        ends.append(head)
    tables = {id(p) for m in ends for p in m.parameters(recurse=False)}
    return [p for p in module.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in tables]


def muon_of(
    module: nn.Module, *more: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> Muon:
    """Muon for the hidden matrices of a module; for all else, and for `more`, AdamW with `ADAMW_SHARE` of the rate.

    Vectors do not decay.
    """
    matrices = hidden_matrices(module)
    taken = {id(p) for p in matrices}
    rest = [p for m in (module, *more) for p in m.parameters() if p.requires_grad and id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": weight_decay, "lr": lr * ADAMW_SHARE},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0, "lr": lr * ADAMW_SHARE},
    ]
    return Muon(matrices, groups, lr, weight_decay=weight_decay, betas=betas)
