"""Dilated attention: against the paper's definition written out in loops, and against one dense mask."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from eosin.models.slide_encoder import longnet
from eosin.models.slide_encoder.longnet import dense_reference, dilated_attention, multiplicity


def by_hand(query: Tensor, key: Tensor, value: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """The paper's own words: cut, keep every r-th, attend, put back, mix by the denominators."""
    heads, size, dim = query.shape
    out = torch.zeros_like(value)
    for h in range(heads):
        for q in range(size):
            outputs, denominators = [], []
            for segment, step in pairs:
                start = q // segment * segment
                kept = [p for p in range(start, min(start + segment, size)) if (p - start) % step == h % step]
                if q not in kept:
                    continue
                powers = [math.exp(float(query[h, q] @ key[h, k]) / dim**0.5) for k in kept]
                denominators.append(sum(powers))
                outputs.append(sum(w / sum(powers) * value[h, k] for w, k in zip(powers, kept, strict=True)))
            for output, own in zip(outputs, denominators, strict=True):
                out[h, q] += own / sum(denominators) * output
    return out


def qkv(heads: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    query, key, value = (torch.randn(heads, size, 8, requires_grad=True) for _ in range(3))
    return query, key, value


@pytest.mark.parametrize("size", [1, 3, 8, 11])
def test_small_cases_are_those_of_the_definition(size: int) -> None:
    pairs = [(4, 1), (8, 2), (8, 4)]
    query, key, value = qkv(3, size)
    with torch.no_grad():
        want = by_hand(query, key, value, pairs)
        assert torch.allclose(dilated_attention(query, key, value, pairs), want, atol=1e-6)
        assert torch.allclose(dense_reference(query, key, value, pairs), want, atol=1e-6)


def test_which_keys_a_query_sees() -> None:
    """Segments of 2 without gaps and of 4 with every second: head 1 keeps the odd places of the latter."""
    count = multiplicity(5, 2, [(2, 1), (4, 2)])
    assert count[0].tolist() == [
        [2, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 2, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 2],
    ]  # fmt: skip
    assert count[1].tolist() == [
        [1, 1, 0, 0, 0], [1, 2, 0, 1, 0], [0, 0, 1, 1, 0], [0, 1, 1, 2, 0], [0, 0, 0, 0, 1],
    ]  # fmt: skip


CASES = [
    (8, 300, [(32, 1), (64, 2), (512, 16)]),
    (8, 7, [(4, 1), (8, 2), (16, 16)]),
    (3, 50, [(8, 1), (16, 2), (64, 4)]),
    (4, 33, [(10, 1), (15, 5)]),
    (2, 1, [(4, 1), (8, 4)]),
    (4, 40, [(64, 4), (16, 1)]),  # the pair without gaps need not stand first
]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("heads", "size", "pairs"), CASES)
def test_values_and_gradients_are_those_of_the_dense_mask(
    monkeypatch: pytest.MonkeyPatch, heads: int, size: int, pairs: list[tuple[int, int]], fused: bool
) -> None:
    if not fused:  # the way of other devices, with rows a few at a time
        monkeypatch.setattr(longnet, "_is_fused", lambda _: False)
        monkeypatch.setattr(longnet, "SCORES_AT_ONCE", 200)
    inputs = qkv(heads, size)
    found, want = dilated_attention(*inputs, pairs), dense_reference(*inputs, pairs)
    assert torch.allclose(found, want, atol=2e-6)
    weights = torch.randn_like(found)
    own, dense = (torch.autograd.grad((out * weights).sum(), inputs) for out in (found, want))
    for a, b in zip(own, dense, strict=True):
        assert torch.allclose(a, b, atol=5e-6)


def test_half_precision_keeps_sums_in_full() -> None:
    inputs = qkv(4, 90)
    pairs = [(16, 1), (32, 2), (64, 4)]
    half = [t.detach().bfloat16().requires_grad_() for t in inputs]
    found, want = dilated_attention(*half, pairs), dilated_attention(*inputs, pairs)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), want, atol=3e-2)
    grads = torch.autograd.grad(found.float().sum(), half)
    wanted = torch.autograd.grad(want.sum(), inputs)
    for a, b in zip(grads, wanted, strict=True):
        assert a.dtype == torch.bfloat16
        assert float((a.float() - b).norm() / b.norm()) < 2e-2


def test_what_is_kept_for_the_backward_pass_grows_with_the_length_and_not_with_its_square() -> None:
    def kept(size: int) -> int:
        total = 0

        def count(saved: Tensor) -> Tensor:
            nonlocal total
            total += saved.numel()
            return saved

        with torch.autograd.graph.saved_tensors_hooks(count, lambda saved: saved):
            dilated_attention(*qkv(4, size), [(16, 1), (32, 2), (512, 16)])
        return total

    assert kept(1024) == 2 * kept(512)


def test_fp64_on_a_cpu_has_its_own_precision_and_does_not_end_the_process() -> None:
    """The fused kernel's backward pass crashes in fp64; the plain way keeps fp64 throughout."""
    torch.manual_seed(0)
    inputs = tuple(torch.randn(2, 11, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    pairs = [(4, 1), (8, 2)]
    assert torch.allclose(dilated_attention(*inputs, pairs), dense_reference(*inputs, pairs), atol=1e-12)
    assert torch.autograd.gradcheck(lambda q, k, v: dilated_attention(q, k, v, pairs), inputs, atol=1e-9)
