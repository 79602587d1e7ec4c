"""Attention rollout without any (T, T) matrix: rows of attention are made again from kept queries and keys.

Abnar and Zuidema 2020, arXiv:2005.00928, eq. 1: with A_l the attention of layer l averaged over its heads, information
flows through (A_l + I) / 2, and the flow from some positions down to the inputs is v (A_L + I)/2 ... (A_1 + I)/2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import repeat_kv

from eosin.models.shared_prefix import AttentionPattern, causal

MAX_CELLS = 16_000_000  # numbers of attention that exist at a time


@dataclass
class AttentionRecorder(AttentionPattern):
    """Causal attention over one sequence without padding, whose queries and keys are kept.

    Attributes:
        queries: by layer, (H, T, D), scaled. keys: by layer, (K, T, D).
    """

    queries: dict[int, Tensor] = field(default_factory=dict)
    keys: dict[int, Tensor] = field(default_factory=dict)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        self.queries[layer], self.keys[layer] = query[0].detach() * scale, key[0].detach()
        return causal(query, key, value, scale)


def attention_rollout(recorder: AttentionRecorder, start: Tensor) -> Tensor:
    """The flow from some positions down to the inputs of the first layer.

    Args:
        start: (T,) weights of the positions, which sum to 1.

    Returns:
        (T,) float32, which sums to 1.
    """
    flow = start.float()
    for layer in sorted(recorder.queries, reverse=True):
        flow = (flow + through_layer(recorder.queries[layer], recorder.keys[layer], flow)) / 2
    return flow


def through_layer(query: Tensor, key: Tensor, flow: Tensor) -> Tensor:
    """flow (T,) times the head-averaged causal attention (T, T) of one layer: (T,). Rows without flow are not made.

    Args:
        query: (H, T, D), scaled. key: (K, T, D).
    """
    heads, num, _ = query.shape
    keys = repeat_kv(key[None], heads // key.shape[0])[0].float()
    rows = flow.nonzero()[:, 0]
    out = torch.zeros_like(flow)
    size = max(1, MAX_CELLS // (heads * num))
    later = torch.arange(num, device=flow.device)
    for part in rows.split(size):
        reach = int(part[-1]) + 1  # nothing after the last of these rows is seen
        scores = query[:, part].float() @ keys[:, :reach].transpose(1, 2)  # (H, c, reach)
        scores = scores.masked_fill(later[None, None, :reach] > part[None, :, None], -torch.inf)
        out[:reach] += torch.einsum("hct,c->t", scores.softmax(-1), flow[part]) / heads
    return out
