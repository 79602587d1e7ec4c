"""The patch embedding as a matrix product gives what the convolution gives, and stays a convolution elsewhere."""

from __future__ import annotations

import copy

import torch
from torch import nn

from eosin.models.patch_projection import PatchProjection, multiply_patches


def test_one_kernel_large_is_the_same_by_value_and_gradient() -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(3, 16, (2, 4, 4), stride=(2, 4, 4), bias=True).double()
    fast = copy.deepcopy(plain)
    assert multiply_patches(nn.Sequential(fast)) == 1 and type(fast) is PatchProjection
    patches = torch.randn(7, 3, 2, 4, 4, dtype=torch.float64)
    a, b = plain(patches), fast(patches)
    assert a.shape == b.shape == (7, 16, 1, 1, 1)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    (a**2).sum().backward()
    (b**2).sum().backward()
    for p, q in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-12)
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in fast.state_dict().items()}


def test_larger_inputs_and_other_convolutions_stay_convolutions() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 8, 2, stride=2), nn.Conv3d(8, 8, 3, stride=1), nn.Conv2d(3, 8, 2, stride=2))
    before = copy.deepcopy(model[0])
    assert multiply_patches(model) == 1
    assert type(model[1]) is nn.Conv3d and type(model[2]) is nn.Conv2d
    film = torch.randn(2, 3, 4, 6, 6)
    assert torch.equal(before(film), model[0](film))


def test_a_loaded_tower_multiplies() -> None:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed

    torch.manual_seed(0)
    embed = Qwen2_5_VisionPatchEmbed(patch_size=14, temporal_patch_size=2, in_channels=3, embed_dim=32)
    patches = torch.randn(5, 3 * 2 * 14 * 14)
    plain = embed(patches)
    assert multiply_patches(embed) == 1
    torch.testing.assert_close(embed(patches), plain, rtol=1e-4, atol=1e-5)
