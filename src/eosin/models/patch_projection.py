"""Patch embedding as one matrix product.

A vision tower of the Qwen family cuts its picture into patches beforehand, and embeds each by a convolution whose
kernel is the whole patch: one output position a patch, so the convolution is a matrix product. Kernels for convolutions
do not know that; on a CPU, forward and backward, they cost a sixth of a small tower's step.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PatchProjection(nn.Conv3d):
    """A Conv3d that multiplies where its input is exactly one kernel large, and is a Conv3d everywhere else.

    Weights, their names and shapes stay those of the convolution: (out, in, time, height, width).
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """(N, in, time, height, width) -> (N, out, 1, 1, 1) where the input is one kernel large."""
        whole = input.dim() == 5 and input.shape[1:] == self.weight.shape[1:]
        if not whole or any(self.padding) or self.groups != 1:  # type: ignore[arg-type]
            return super().forward(input)
        return F.linear(input.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None, None]


def multiply_patches(model: nn.Module) -> int:
    """Let every patch embedding of a model multiply. Returns how many there are; weights are not touched."""
    found = [
        m for m in model.modules() if type(m) is nn.Conv3d and m.kernel_size == m.stride and m.padding_mode == "zeros"
    ]
    for module in found:
        module.__class__ = PatchProjection
    return len(found)
