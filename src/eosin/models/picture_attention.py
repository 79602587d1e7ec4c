"""Attention within pictures, or within windows of them, for all of one length at once.

Towers of the Qwen families, and many after them, lay all pictures of a batch one behind the other, and let each patch
see its own picture or window only. Without FlashAttention transformers does that by a call a window: 32 calls a layer
for 32 small pictures, over 80 for one picture of 1,000 px in windows of 8 x 8 patches. Here windows of one length are
one call. Values and gradients are those of the loop but for rounding.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "eosin-windows-without-flash"
"""Towers hand over the ends of their windows, in the place of calling by window, where the name says "flash"."""


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, *,
    scaling: float | None = None, dropout: float = 0.0, cu_seq_lens_q: Tensor | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of (1, heads, T, D) in windows that end at `cu_seq_lens_q`, int (windows + 1,): (1, T, heads, D)."""
    if cu_seq_lens_q is None or attention_mask is not None:
        out = scaled_dot_product_attention(query, key, value, attention_mask, dropout, scale=scaling)
        return out.transpose(1, 2), None
    places = windows(cu_seq_lens_q)
    found = []
    for rows in places:
        q, k, v = (_windows_of(states, rows) for states in (query, key, value))
        found.append(scaled_dot_product_attention(q, k, v, None, dropout, scale=scaling).transpose(1, 2).flatten(0, 1))
    if len(places) == 1:
        return found[0][None], None
    order = torch.cat([rows.flatten() for rows in places])
    return torch.empty_like(query[0].transpose(0, 1)).index_copy(0, order, torch.cat(found))[None], None


def windows(ends: Tensor) -> list[Tensor]:
    """Places of the tokens of all windows of one length, int64 (windows, length), a tensor a length."""
    lengths = ends.diff()
    starts = ends[:-1]
    return [
        starts[lengths == n].long()[:, None] + torch.arange(int(n), device=ends.device) for n in lengths.unique() if n
    ]


def _windows_of(states: Tensor, places: Tensor) -> Tensor:
    """(1, heads, T, D) -> (windows, heads, length, D)."""
    num, length = places.shape
    if num * length == states.shape[2]:  # all of them: no copy
        return states[0].unflatten(1, (num, length)).transpose(0, 1)
    return states[0][:, places.flatten()].unflatten(1, (num, length)).transpose(0, 1)


def attend_by_length(tower: nn.Module | None) -> bool:
    """Let a tower attend so, where it takes windows and has no kernel of its own. Returns whether it does.

    Nothing of it is saved with the model.
    """
    config: Any = getattr(tower, "config", None)
    if tower is None or getattr(config, "_attn_implementation", None) != "sdpa" or not _takes_windows(tower):
        return False
    AttentionInterface.register(NAME, _attention)
    config._attn_implementation = NAME
    return True


def _takes_windows(tower: nn.Module) -> bool:
    """Whether its attention is given the ends of windows, and asks whether the name says "flash"."""
    forwards = [inspect.unwrap(kind.forward) for kind in {type(m) for m in tower.modules()}]
    return any(
        "cu_seqlens" in inspect.signature(f).parameters and "is_flash_attention_requested" in f.__globals__
        for f in forwards
    )
