"""Windows of one length attended at once: values and gradients of the loop over windows, family by family."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.glm4v.modeling_glm4v import Glm4vVisionModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from eosin.models import picture_attention
from eosin.models.picture_attention import NAME, attend_by_length, windows

QWEN = {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32}
FAMILIES: dict[str, tuple[type, dict[str, Any]]] = {
    "qwen2_vl": (Qwen2VisionTransformerPretrainedModel, {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}),
    "qwen2_5_vl": (Qwen2_5_VisionTransformerPretrainedModel, {**QWEN, "window_size": 56, "fullatt_block_indexes": [1]}),
    "qwen3_vl": (Qwen3VLVisionModel, {**QWEN, "deepstack_visual_indexes": [0], "num_position_embeddings": 64}),
    "glm4v": (Glm4vVisionModel, {**QWEN, "image_size": 112}),
}
GRIDS = {"alike": [(1, 8, 8)] * 3, "ragged": [(1, 8, 8), (1, 4, 6), (1, 2, 2), (1, 4, 6), (1, 10, 14)]}


def tower_of(family: str) -> nn.Module:
    """A tower of random weights, three blocks deep."""
    torch.manual_seed(0)
    kind, sizes = FAMILIES[family]
    config = kind.config_class(depth=3, num_heads=2, patch_size=14, **sizes)  # type: ignore[attr-defined]
    config._attn_implementation = "sdpa"
    tower: nn.Module = kind(config).double().train()
    return tower


def said(tower: nn.Module, pixels: Tensor, grid: Tensor) -> Tensor:
    return torch.as_tensor(tower(pixels, grid_thw=grid).pooler_output)


@pytest.mark.parametrize("grids", GRIDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tower_says_what_it_said(family: str, grids: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tower_of(family)
    fast = copy.deepcopy(plain)
    assert attend_by_length(fast)
    grid = torch.tensor(GRIDS[grids])
    pixels = torch.randn(int(grid.prod(1).sum()), 3 * 2 * 14 * 14, dtype=torch.float64)
    calls: list[int] = []
    real = picture_attention.scaled_dot_product_attention

    def counted(query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        calls.append(len(query))
        out: Tensor = real(query, *args, **kwargs)
        return out

    monkeypatch.setattr(picture_attention, "scaled_dot_product_attention", counted)
    a, b = said(plain, pixels, grid), said(fast, pixels, grid)
    assert calls, "the tower went on by itself"
    if grids == "alike" and family != "qwen2_5_vl":
        assert calls == [3, 3, 3]  # one call a block
    torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)
    (a**2).sum().backward()
    (b**2).sum().backward()
    for p, q in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-7, atol=1e-8)


def test_places_of_windows() -> None:
    found = windows(torch.tensor([0, 3, 5, 5, 8], dtype=torch.int32))
    assert sorted(w.tolist() for w in found) == [[[0, 1, 2], [5, 6, 7]], [[3, 4]]]


def test_a_tower_with_a_kernel_of_its_own_keeps_it() -> None:
    tower = tower_of("qwen2_5_vl")
    tower.config._attn_implementation = "eager"
    assert not attend_by_length(tower) and tower.config._attn_implementation == "eager"
    assert not attend_by_length(None) and not attend_by_length(nn.Linear(2, 2))


def test_nothing_of_it_is_saved() -> None:
    tower = tower_of("qwen2_5_vl")
    before = tower.config.to_dict()
    assert attend_by_length(tower) and tower.config._attn_implementation == NAME
    assert tower.config.to_dict() == before
