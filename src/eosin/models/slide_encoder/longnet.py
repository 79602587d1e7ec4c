"""Dilated attention of LongNet (Ding et al. 2023, arXiv 2307.02486, section 2.2): cost linear in the length.

A pair (segment w, step r) cuts the sequence into segments of w positions and keeps every r-th of each, head j from
position j mod r on. Kept positions attend to one another within their segment. Several pairs look near and far at
once; their outputs are mixed by the denominators of their softmaxes.

Such a mixture is itself one softmax: plain attention in which a key has, for a query, the weight of as many keys as
there are pairs that keep both in one segment (`multiplicity`). Two things follow. `dense_reference` says in three lines
what the fast path must give. And the backward pass of every pair is that of plain attention, given the output and the
denominator of the whole mixture; so nothing is kept but those, and the gradient of the mixing weights is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Pairs = Sequence[tuple[int, int]]
# Without a fused kernel, scores of so many pairs of positions are held at once.
SCORES_AT_ONCE = 2**24


def dilated_attention(query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
    """Attention mixed over `pairs` of (segment, step): query, key, value (H, N, D) -> (H, N, D).

    One pair must have step 1, so that every position of every head attends to something. Memory is linear in N, and
    so is time, once N is larger than the longest segment. Differentiable once.
    """
    out: Tensor = _Dilated.apply(query, key, value, tuple(pairs))  # type: ignore[no-untyped-call]
    return out


class _Dilated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        heads, size, dim = query.shape
        scale = dim**-0.5
        wide = _sum_type(query)
        out = torch.zeros(heads, size, dim, dtype=wide, device=query.device)
        lse = torch.full((heads, size, 1), -torch.inf, dtype=wide, device=query.device)
        for cut in _cuts(heads, size, pairs):
            own, own_lse = _attend(cut(query), cut(key), cut(value), scale)
            total, seen = cut(out), cut(lse)  # views: what is written there stands in out and lse
            both = torch.logaddexp(seen, own_lse[..., None])
            total.mul_((seen - both).exp_()).add_(own.to(wide).mul_((own_lse[..., None] - both).exp_()))
            seen.copy_(both)
        out = out.to(value.dtype)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.pairs, ctx.scale = pairs, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        given = grads[0].to(value.dtype)
        sums = [torch.zeros(t.shape, dtype=_sum_type(t), device=t.device) for t in (query, key, value)]
        for cut in _cuts(query.shape[0], query.shape[1], ctx.pairs):
            parts = _attend_backward(
                cut(given), cut(query), cut(key), cut(value), cut(out), cut(lse)[..., 0], ctx.scale
            )
            for total, part in zip(sums, parts, strict=True):
                cut(total).add_(part)
        return sums[0].to(query.dtype), sums[1].to(key.dtype), sums[2].to(value.dtype), None


class _Cut:
    """The kept positions of some heads in some segments, as a view: (H, N, D) -> (h, segments, kept, D)."""

    def __init__(self, first: int, step: int, start: int, stop: int, segment: int) -> None:
        self._heads, self._kept = slice(first, None, step), slice(first, None, step)
        self._span, self._segment = slice(start, stop), segment

    def __call__(self, states: Tensor) -> Tensor:
        return states[self._heads, self._span].unflatten(1, (-1, self._segment))[:, :, self._kept]


def _cuts(heads: int, size: int, pairs: Pairs) -> Iterator[_Cut]:
    """All pieces of all pairs: whole segments together, and the shorter one at the end."""
    for segment, step in pairs:
        whole = size // segment * segment
        for first in range(min(step, heads)):
            if whole and first < segment:
                yield _Cut(first, step, 0, whole, segment)
            if first < size - whole:
                yield _Cut(first, step, whole, size, size - whole)


def _is_fused(query: Tensor) -> bool:
    """Whether torch's own SDPA kernel gives the denominators too; else scores are made row by row in plain torch.

    On a CPU it does, but in fp64 its backward pass ends the process.
    """
    return query.device.type == "cpu" and query.dtype != torch.float64


def _sum_type(states: Tensor) -> torch.dtype:
    """What sums are kept in: fp32, and fp64 for fp64."""
    return torch.float64 if states.dtype == torch.float64 else torch.float32


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Plain attention (b, s, m, D) and the log of its denominator (b, s, m) in fp32 (fp64 for fp64)."""
    if _is_fused(query):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, scale=scale)
        return out, lse.float()
    out = torch.empty(query.shape, dtype=value.dtype, device=value.device)
    wide = _sum_type(query)
    lse = torch.empty(query.shape[:3], dtype=wide, device=query.device)
    for rows in _rows(query):
        scores = (query[:, :, rows] @ key.transpose(2, 3)).to(wide).mul_(scale)
        lse[:, :, rows] = torch.logsumexp(scores, -1)
        out[:, :, rows] = scores.sub_(lse[:, :, rows, None]).exp_().to(value.dtype) @ value
    return out, lse


def _attend_backward(
    given: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value. `out` and `lse` are those of the whole mixture, not of this piece."""
    if _is_fused(query):
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            given.contiguous(), query, key, value, out, lse.contiguous(), 0.0, False, scale=scale
        )
        return found
    return _backward_by_rows(given, query, key, value, out, lse, scale)


def _backward_by_rows(
    given: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    shapes = (query, key, value)
    grad_query, grad_key, grad_value = (torch.zeros(t.shape, dtype=t.dtype, device=t.device) for t in shapes)
    wide = _sum_type(query)
    inner = (given * out).sum(-1, dtype=wide)
    for rows in _rows(query):
        own = query[:, :, rows]
        weights = ((own @ key.transpose(2, 3)).to(wide).mul_(scale)).sub_(lse[:, :, rows, None]).exp_()
        grad_value += weights.to(value.dtype).transpose(2, 3) @ given[:, :, rows]
        scores = (given[:, :, rows] @ value.transpose(2, 3)).to(wide).sub_(inner[:, :, rows, None])
        scores = scores.mul_(weights).mul_(scale).to(query.dtype)
        grad_query[:, :, rows] = scores @ key
        grad_key += scores.transpose(2, 3) @ own
    return grad_query, grad_key, grad_value


def _rows(query: Tensor) -> Iterator[slice]:
    """Slices of the queries whose scores fit into `SCORES_AT_ONCE`."""
    step = max(1, SCORES_AT_ONCE // max(1, query.shape[0] * query.shape[1] * query.shape[2]))
    for start in range(0, query.shape[2], step):
        yield slice(start, start + step)


def multiplicity(size: int, heads: int, pairs: Pairs) -> Tensor:
    """(H, N, N): how many pairs keep query and key in one segment, for each head. By definition, with N^2 cost."""
    place = torch.arange(size)
    count = torch.zeros(heads, size, size)
    for segment, step in pairs:
        same = (place[:, None] // segment) == (place // segment)
        for head in range(heads):
            is_kept = place % segment % step == head % step
            count[head] += same & is_kept[:, None] & is_kept
    return count


def dense_reference(query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
    """The same as `dilated_attention` through one dense mask: plain, slow and quadratic. For tests and benchmarks."""
    count = multiplicity(query.shape[1], query.shape[0], pairs).to(query.device, query.dtype)
    return torch.nn.functional.scaled_dot_product_attention(
        query[None], key[None], value[None], attn_mask=count.log()[None]
    )[0]
