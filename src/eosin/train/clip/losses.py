"""InfoNCE and SigLIP over a batch in which some pairs are right for each other and some are not compared.

Each process computes the rows of its own pairs against all pairs of all processes. The sum over the processes is the
loss of the whole batch, and so are the sums of the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_SCALE = 100.0
"""Largest inverse temperature, as in CLIP's training."""


@dataclass(frozen=True)
class Relations:
    """Who belongs together in a batch of N pairs.

    Attributes:
        caption: int64 (N,): equal numbers are equal captions.
        group: int64 (N,): equal numbers from 0 on are one figure, slide or case; -1 belongs to none.
        equal_is_right: pictures with equal captions are right for each other's captions.
        groups_compete: pairs of one group are each other's negatives.
    """

    caption: Tensor
    group: Tensor
    equal_is_right: bool = True
    groups_compete: bool = False

    def of_rows(self, rows: slice) -> tuple[Tensor, Tensor]:
        """(is_right, is_compared), bool (b, N), of some pairs against all: symmetric in the two towers."""
        num = len(self.caption)
        places = torch.arange(num)
        is_right = places[rows, None] == places[None]
        if self.equal_is_right:
            is_right = is_right | (self.caption[rows, None] == self.caption[None])
        if self.groups_compete:
            return is_right, torch.ones_like(is_right)
        group = self.group
        is_together = (group[rows, None] == group[None]) & (group[None] >= 0)
        return is_right, is_right | ~is_together


Loss = Callable[[Tensor, Tensor, slice, Relations, Tensor, Tensor | None], Tensor]


def infonce(
    images_ND: Tensor, texts_ND: Tensor, rows: slice, relations: Relations, scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE (CLIP, arXiv 2103.00020, after van den Oord et al., arXiv 1807.03748).

    For an image i with the set P(i) of its right captions and the set A(i) of captions that it is compared with:

        L_i = - 1 / |P(i)| * sum over p in P(i) of log( exp(s x_i . y_p) / sum over a in A(i) of exp(s x_i . y_a) )

    likewise for a caption, and the loss is the mean over both, 1 / (2 N) * sum. With P(i) = {i} this is CLIP's loss;
    with several right ones it is the supervised form of Khosla et al. (arXiv 2004.11362, eq. 2, L_out).

    Args:
        images_ND, texts_ND: unit vectors of all N pairs.
        rows: the pairs of this process.
        scale: inverse temperature s, a scalar.

    Returns: the rows' part of the loss, a scalar; the parts of all processes add up to the loss.
    """
    is_right, is_compared = (m.to(images_ND.device) for m in relations.of_rows(rows))
    total = images_ND.new_zeros(())
    for own, others in ((images_ND, texts_ND), (texts_ND, images_ND)):
        logits = (scale * own[rows] @ others.T).masked_fill(~is_compared, -torch.inf)
        log_shares = logits.log_softmax(1).masked_fill(~is_right, 0.0)
        total = total - (log_shares.sum(1) / is_right.sum(1)).sum()
    return total / (2 * len(images_ND))


def siglip(
    images_ND: Tensor, texts_ND: Tensor, rows: slice, relations: Relations, scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    """The sigmoid loss of SigLIP (arXiv 2303.15343, eq. 1).

        L = - 1 / N * sum over i, j of log sigmoid( z_ij (s x_i . y_j + b) ),   z = 1 for right pairs, -1 for wrong ones

    over the pairs that are compared.

    Args:
        bias: b, a scalar.

    Returns: the rows' part of the loss, a scalar.
    """
    is_right, is_compared = (m.to(images_ND.device) for m in relations.of_rows(rows))
    logits = scale * images_ND[rows] @ texts_ND.T
    if bias is not None:
        logits = logits + bias
    signs = is_right.to(logits.dtype) * 2 - 1
    return -(F.logsigmoid(signs * logits) * is_compared).sum() / len(images_ND)


LOSSES: dict[str, Loss] = {"infonce": infonce, "siglip": siglip}
