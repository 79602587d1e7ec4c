"""The paper's tower whole: sub-LayerNorm, dropout and drop-path, and towers of old checkpoints as they were."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.support.slide_toys import new_reader, slide_settings, toy_bag
from torch import nn
from torch.nn.functional import gelu, layer_norm

from eosin.core.settings.model import SlideTower
from eosin.models.slide_encoder.longnet import dense_reference
from eosin.models.slide_encoder.rows import PatchPositions, SlideSpec
from eosin.models.slide_encoder.tower import DilatedBlock, DropPath
from eosin.models.slide_encoder.tower import SlideTower as Tower

SPEC = SlideSpec(dimension=6, width=16, heads=2, ffn=24, layers=2, pairs=((4, 1), (8, 2)))
PUBLISHED = SlideSpec(**{**SPEC.__dict__, "dropout": 0.1, "embed_dropout": 0.1, "drop_path": 0.1, "sub_norm": True,
                         "standardise": False, "order": "as given", "has_places": False,
                         "has_magnification": False})  # fmt: skip


def test_the_preset_is_the_papers_tower_whole_and_can_be_changed() -> None:
    tower = SlideTower(preset="pathreasoner-r1-as-published")
    assert tower.sizes() == SlideTower(preset="pathreasoner-r1").sizes()
    assert (tower.dropout, tower.embed_dropout, tower.drop_path, tower.sub_norm) == (0.1, 0.1, 0.1, True)
    assert (tower.order, tower.has_places, tower.has_magnification, tower.standardise) == (
        "as given", False, False, False,
    )  # fmt: skip
    changed = SlideTower(preset="pathreasoner-r1-as-published", drop_path=0.3, has_places=True)
    assert (changed.drop_path, changed.has_places, changed.sub_norm) == (0.3, True, True)
    assert SlideTower.model_validate(changed.model_dump()) == changed
    plain = SlideTower(preset="pathreasoner-r1")
    assert (plain.dropout, plain.drop_path, plain.sub_norm, plain.standardise) == (0.0, 0.0, False, True)


def test_a_block_with_sub_norm_by_hand() -> None:
    """x + W_o LN(attention(LN x)), then x + W_2 LN(gelu(W_1 LN x)), as LongNet's authors released it."""
    torch.manual_seed(0)
    block = DilatedBlock(PUBLISHED, 1).double().eval()
    nn.init.normal_(block.sub_norm1.weight)  # type: ignore[arg-type]
    nn.init.normal_(block.sub_norm2.weight)  # type: ignore[arg-type]
    x = torch.randn(9, 16, dtype=torch.float64)
    query, key, value = block.qkv(layer_norm(x, (16,))).view(9, 3, 2, 8).permute(1, 2, 0, 3)
    mixed = dense_reference(query, key, value, PUBLISHED.pairs).transpose(0, 1).reshape(9, 16)
    half = x + block.out(layer_norm(mixed, (16,)) * block.sub_norm1.weight)
    inner = layer_norm(gelu(block.fc1(layer_norm(half, (16,)))), (24,)) * block.sub_norm2.weight
    assert torch.allclose(block(x), half + block.fc2(inner), atol=1e-12)


def test_drop_path_leaves_a_branch_out_or_weighs_it_up() -> None:
    tower = Tower(PUBLISHED, 8)
    assert [b.drop_path.p for b in tower.blocks] == [0.0, 0.1]  # type: ignore[union-attr]
    torch.manual_seed(0)
    drop = DropPath(0.25)
    ones = torch.ones(5, 3)
    found = [drop(ones) for _ in range(4000)]
    assert {tuple(set(f.flatten().tolist())) for f in found} == {(0.0,), (float(torch.tensor(4 / 3)),)}
    assert float(torch.stack(found).mean()) == pytest.approx(1, abs=0.03)
    assert drop.eval()(ones) is ones


def test_what_switches_dropout_off_switches_drop_path_off() -> None:
    """TRL sets p = 0 in every nn.Dropout; the ratio of RL depends on it."""
    tower = Tower(PUBLISHED, 8).train()
    bag = toy_bag(1, np.random.default_rng(0), dimension=6)
    places, features = PatchPositions(bag.centres_um, bag.tile_um, bag.mpp), torch.from_numpy(bag.features)
    assert not torch.allclose(*(tower.read(features, places).tokens for _ in range(2)))
    for module in tower.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert torch.equal(*(tower.read(features, places).tokens for _ in range(2)))


def test_new_weights_of_sub_norm_are_scaled_and_features_are_read_as_they_are() -> None:
    plain, made = (
        new_reader(tower={"sub_norm": on, "standardise": not on}).model.slide_tower for on in (False, True)
    )  # fmt: skip
    factor = math.sqrt(math.log(2 * 2))
    for name in ("out", "fc1", "fc2"):
        a, b = (getattr(t.blocks[1], name).weight.detach() for t in (plain, made))
        assert float(b.std() / a.std()) == pytest.approx(factor, rel=0.1)
    width = plain.spec.width
    a, b = (t.blocks[1].qkv.weight.detach() for t in (plain, made))
    assert float(b[2 * width :].std() / a[2 * width :].std()) == pytest.approx(factor, rel=0.1)
    assert float(b[: 2 * width].std() / a[: 2 * width].std()) == pytest.approx(1, rel=0.1)
    made.set_scale(torch.full((12,), 3.0), torch.full((12,), 4.0))
    assert made.feature_mean.abs().sum() == 0 and bool((made.feature_std == 1).all())


def test_old_checkpoints_keep_their_keys_and_their_tower() -> None:
    old = {
        "dimension": 6, "width": 16, "layers": 1, "heads": 2, "ffn": 24, "pairs": [[4, 1]], "dropout": 0.0,
        "order": "canonical", "has_places": True, "has_magnification": True,
    }  # fmt: skip
    spec = SlideSpec.of(old)
    assert (spec.sub_norm, spec.drop_path, spec.embed_dropout, spec.standardise) == (False, 0.0, 0.0, True)
    parts = ("norm1", "norm2", "qkv", "out", "fc1", "fc2")
    wanted = {f"{p}.{kind}" for p in parts for kind in ("weight", "bias")}
    assert set(DilatedBlock(spec).state_dict()) == wanted
    more = {f"sub_norm{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")}
    assert set(DilatedBlock(PUBLISHED).state_dict()) == wanted | more


def test_the_published_tower_trains_in_fp64_and_comes_back_from_disk(tmp_path: object) -> None:
    settings = slide_settings(tower={"preset": "pathreasoner-r1-as-published", "sub_norm": True, "drop_path": 0.1})
    assert settings.tower.sub_norm and settings.tower.drop_path == 0.1
    loaded = new_reader(tower={"sub_norm": True, "drop_path": 0.1, "standardise": False})
    loaded.model.save_pretrained(str(tmp_path))
    again = type(loaded.model).from_pretrained(str(tmp_path))
    assert again.slide_tower.spec == loaded.model.slide_tower.spec
    state, found = loaded.model.state_dict(), again.state_dict()
    assert set(state) == set(found) and all(torch.equal(state[k], found[k]) for k in state)
    tower = again.slide_tower.double().train()
    bag = toy_bag(1, np.random.default_rng(0))
    tokens = tower.read(torch.from_numpy(bag.features), PatchPositions(bag.centres_um, bag.tile_um, bag.mpp)).tokens
    tokens.pow(2).sum().backward()
    assert tokens.dtype == torch.float64 and all(p.grad.isfinite().all() for p in tower.parameters())
