"""How much of a step's gradient is noise: the simple noise scale from per-group gradients.

McCandlish et al. (arXiv 1812.06162), section 2.2 and appendix A.1. With g_i the gradient of group i alone, i = 1..n,
and g their mean, which is the step's gradient,

    |G|^2   ~ (n |g|^2 - mean_i |g_i|^2) / (n - 1)        the true gradient, squared norm; unbiased
    tr(S)   ~ (mean_i |g_i|^2 - |g|^2) n / (n - 1)        trace of the covariance of one group's gradient; unbiased
    B       = tr(S) / |G|^2                               in groups (prompts)

With a batch of B groups half of |g|^2 is noise. The estimate of |G|^2 may come out at or below 0, where n groups are
too few to see any gradient; then there is no B, and nothing is put in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Loss = Callable[[Mapping[str, Any]], Tensor]


@dataclass
class GroupGradients:
    """Gathers gradients of single groups: their mean, and the mean of their squared norms."""

    num_groups: int = 0
    _total: list[Tensor] = field(default_factory=list)
    _squares: float = 0.0

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """One group's gradient, a tensor a parameter in the same order each time; None counts as 0."""
        own = [torch.zeros(()) if g is None else g.detach().float() for g in gradients]
        self._squares += sum(float(g.square().sum()) for g in own)
        self._total = own if not self._total else [t + g for t, g in zip(self._total, own, strict=True)]
        self.num_groups += 1

    def figures(self) -> dict[str, float]:
        """What metrics.jsonl is told.

        Returns:
            `gradient_norm_groups`: root mean square of |g_i|. `gradient_norm_mean`: |g|. `gradient_signal`,
            `gradient_noise`: the estimates of |G|^2 and tr(S). `gradient_noise_share`: tr(S) / (n |g|^2), the share of
            |g|^2 that is noise; above 1 where the signal's estimate is below 0. `noise_scale`: B, where the signal's
            estimate is above 0. {} for fewer than two groups.
        """
        n = self.num_groups
        if n < 2:
            return {}
        mean_square = self._squares / n
        square_of_mean = sum(float((t / n).square().sum()) for t in self._total)
        signal = (n * square_of_mean - mean_square) / (n - 1)
        noise = max(0.0, (mean_square - square_of_mean) * n / (n - 1))  # not below 0 but for rounding
        found = {
            "gradient_norm_groups": math.sqrt(mean_square),
            "gradient_norm_mean": math.sqrt(square_of_mean),
            "gradient_signal": signal,
            "gradient_noise": noise,
        }
        if square_of_mean > 0:
            found["gradient_noise_share"] = noise / (n * square_of_mean)
        if signal > 0:
            found["noise_scale"] = noise / signal
        return found


def measure(parts: Iterable[Mapping[str, Any]], loss: Loss, parameters: Sequence[Tensor]) -> dict[str, float]:
    """Figures of `GroupGradients` for a batch. Gradients that the parameters hold stay as they are.

    Args:
        parts: the batch, one group each.
        loss: the loss of a part, on the scale of the step: the mean over parts is the step's loss.
        parameters: those that train.
    """
    found = GroupGradients()
    held = [p.grad for p in parameters]
    try:
        for part in parts:
            for parameter in parameters:
                parameter.grad = None
            loss(part).backward()  # type: ignore[no-untyped-call]
            found.add([p.grad for p in parameters])
    finally:
        for parameter, gradient in zip(parameters, held, strict=True):
            parameter.grad = gradient
    return found.figures()
