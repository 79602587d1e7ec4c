"""Contrastive losses by hand, gradient caching against the plain batch, two processes against one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tests.support import forked
from torch import nn

from eosin.core.settings.clip import ClipStage, TinyClip
from eosin.models.clip.load import new_clip
from eosin.train.clip.losses import Relations, infonce, siglip
from eosin.train.clip.step import Tower, backward
from eosin.train.clip.weights import merge_adapters, prepare

ROOT = Path(__file__).resolve().parents[2]
TINY = TinyClip.model_validate(
    {"image_px": 16, "dim": 12, "context_length": 12, "vision": {"layers": 2, "width": 16, "heads": 2, "patch_size": 8},
     "text": {"layers": 1, "width": 16, "heads": 2}}
)  # fmt: skip


def apart(num: int) -> Relations:
    return Relations(torch.arange(num), torch.full((num,), -1))


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_infonce_of_two_pairs_by_hand() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    scale = torch.tensor(2.0)
    # image 1: products 1.0, 0.6; image 2: 0.0, 0.8; text 1: 1.0, 0.0; text 2: 0.6, 0.8
    rows = [(1.0, 0.6), (0.8, 0.0), (1.0, 0.0), (0.8, 0.6)]
    by_hand = sum(-math.log(math.exp(2 * right) / (math.exp(2 * right) + math.exp(2 * wrong))) for right, wrong in rows)
    found = infonce(images, texts, slice(0, 2), apart(2), scale)
    assert float(found) == pytest.approx(by_hand / 4, abs=1e-6)


def test_siglip_of_two_pairs_by_hand() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    products = {(0, 0): 1.0, (0, 1): 0.6, (1, 0): 0.0, (1, 1): 0.8}
    by_hand = sum(math.log1p(math.exp(-(1 if i == j else -1) * (5 * p - 3))) for (i, j), p in products.items())
    found = siglip(images, texts, slice(0, 2), apart(2), torch.tensor(5.0), torch.tensor(-3.0))
    assert float(found) == pytest.approx(by_hand / 2, abs=1e-6)


def test_infonce_is_cross_entropy_where_nothing_is_equal() -> None:
    images, texts = unit(7, 5), unit(7, 5, seed=1)
    logits = 9 * images @ texts.T
    expected = (
        nn.functional.cross_entropy(logits, torch.arange(7)) + nn.functional.cross_entropy(logits.T, torch.arange(7))
    ) / 2
    assert torch.allclose(infonce(images, texts, slice(0, 7), apart(7), torch.tensor(9.0)), expected, atol=1e-6)


@pytest.mark.parametrize("loss", [infonce, siglip])
def test_tiles_of_one_slide_are_not_compared(loss) -> None:
    """Pairs 0 and 1 are one slide: whatever they have in common costs nothing, unless it is asked for."""
    relations = Relations(torch.arange(3), torch.tensor([4, 4, -1]))
    images, texts = unit(3, 4), unit(3, 4, seed=1)
    images.requires_grad_()
    loss(images, texts, slice(0, 1), relations, torch.tensor(3.0), torch.tensor(0.0)).backward()
    near, far = texts.clone(), texts.clone()
    near[1], far[1] = images[0].detach(), -images[0].detach()

    def row(t: torch.Tensor, told: Relations) -> float:  # image 0 against all texts, alone
        return float(loss(images.detach(), t, slice(0, 1), told, torch.tensor(3.0), torch.tensor(0.0)))

    assert row(near, relations) == pytest.approx(row(far, relations), abs=1e-6)
    asked = Relations(relations.caption, relations.group, groups_compete=True)
    assert row(near, asked) > row(far, asked) + 0.1


def test_equal_captions_are_right_for_each_other() -> None:
    """Pairs 0 and 2 have one caption: both are right for image 0, and share its loss. By hand, scale 1."""
    images = torch.eye(3)
    texts = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0]])
    relations = Relations(torch.tensor([5, 6, 5]), torch.full((3,), -1))
    total = 2 * math.e + 1  # image 0 with texts 0, 1, 2
    image_0 = -math.log(math.e / total)
    image_1 = -math.log(math.e / (math.e + 2))
    image_2 = -(2 * math.log(1 / 3)) / 2
    text_0 = -(math.log(math.e / (math.e + 2)) + math.log(1 / (math.e + 2))) / 2
    expected = (image_0 + image_1 + image_2 + 2 * text_0 + image_1) / 6
    assert float(infonce(images, texts, slice(0, 3), relations, torch.tensor(1.0))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("loss", [infonce, siglip])
@pytest.mark.parametrize("num_parts", [2, 3])
def test_the_rows_of_all_processes_add_up(loss, num_parts: int) -> None:
    images, texts = unit(6, 4), unit(6, 4, seed=1)
    relations = Relations(torch.tensor([0, 1, 0, 2, 3, 4]), torch.tensor([0, 0, 1, 1, -1, -1]))
    arguments = (relations, torch.tensor(4.0), torch.tensor(-1.0))
    size = 6 // num_parts
    parts = [loss(images, texts, slice(i, i + size), *arguments) for i in range(0, 6, size)]
    assert torch.allclose(sum(parts), loss(images, texts, slice(0, 6), *arguments), atol=1e-6)


def gradients(settings: ClipStage, chunk: int | None, *, dropout: float = 0.0) -> tuple[float, dict[str, torch.Tensor]]:
    clip = new_clip(TINY, 0)
    prepare(clip, settings, is_new=True)
    if dropout:
        clip.network.visual.ln_post = nn.Sequential(nn.Dropout(dropout))
    clip.network.train()
    torch.manual_seed(7)
    pixels = torch.randint(0, 255, (10, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ids = clip.tokens([f"{name} gland" for name in "abcdefghia"]).ids
    relations = Relations(torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 0]), torch.tensor([0, 0, 1, 1, 1, -1, -1, 2, 2, 3]))
    loss = {"infonce": infonce, "siglip": siglip}[settings.loss]
    towers = [
        Tower(embed, inputs.split(chunk or 10), part not in settings.freeze)
        for part, embed, inputs in (("vision", clip.images, pixels), ("language", clip.texts, ids))
    ]
    value = backward(*towers, relations, loss, clip.network.logit_scale, clip.network.logit_bias)
    return float(value), {n: p.grad for n, p in clip.network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
@pytest.mark.parametrize("freeze", [[], ["vision"], ["language"]])
def test_gradients_in_chunks_are_those_of_the_whole_batch(loss: str, freeze: list[str]) -> None:
    settings = ClipStage.model_validate({"loss": loss, "freeze": freeze})
    value, whole = gradients(settings, None)
    for chunk in (1, 3, 4):
        cached_value, cached = gradients(settings, chunk)
        assert cached_value == pytest.approx(value, abs=1e-6)
        assert cached.keys() == whole.keys() and whole
        for name, gradient in whole.items():
            assert torch.allclose(cached[name], gradient, atol=1e-5), name
    assert any(n.startswith("visual.") for n in whole) == ("vision" not in freeze)
    assert ("token_embedding.weight" in whole) == ("language" not in freeze)
    assert "logit_scale" in whole and ("logit_bias" in whole) == (loss == "siglip")


def test_dropout_is_the_same_in_both_passes() -> None:
    """With dropout each pass draws; had the second drawn anew, the gradient would not be that of the first's loss."""
    settings = ClipStage.model_validate({})
    torch.manual_seed(7)
    clip = new_clip(TINY, 0)
    prepare(clip, settings, is_new=True)
    clip.network.visual.ln_post = nn.Sequential(nn.Dropout(0.5))
    clip.network.train()
    seen: list[torch.Tensor] = []

    def embed(chunk: torch.Tensor) -> torch.Tensor:
        seen.append(clip.images(chunk))
        return seen[-1]

    pixels = torch.randint(0, 255, (4, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    ids = clip.tokens(list("abcd")).ids
    backward(Tower(embed, pixels.split(2), True), Tower(clip.texts, ids.split(2), True), apart(4), infonce,
             clip.network.logit_scale, None)  # fmt: skip
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])
    assert not torch.equal(clip.images(pixels[:2]), seen[0])


def test_adapters_train_alone_and_merge_into_the_same_network() -> None:
    settings = ClipStage.model_validate({"lora": {"r": 2, "alpha": 4}})
    clip = new_clip(TINY, 0)
    names = set(clip.network.state_dict())
    prepare(clip, settings, is_new=True)
    trained = {n for n, p in clip.network.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in n or n == "logit_scale" for n in trained)
    pixels = torch.randint(0, 255, (3, 16, 16, 3), dtype=torch.uint8)
    for n, p in clip.network.named_parameters():
        if "lora_B" in n:
            nn.init.normal_(p, std=0.3)
    clip.network.eval()
    with torch.no_grad():
        before = clip.images(pixels)
    clip.images(pixels).sum().backward()
    silent = [
        n for n, p in clip.network.named_parameters() if "lora_" in n and n.startswith("visual.") and p.grad is None
    ]
    assert not silent, "adapters that the forward pass never asks"
    merge_adapters(clip)
    with torch.no_grad():
        after = clip.images(pixels)
    assert set(clip.network.state_dict()) == names
    assert torch.allclose(before, after, atol=1e-5)
    assert not torch.allclose(new_clip(TINY, 0).images(pixels), after, atol=1e-2)


def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    done = forked.ranks(2, ["-m", "tests.support.clip_ranks", tmp_path])
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads((tmp_path / f"rank{r}.json").read_text()) for r in range(2)]
    from tests.support.clip_ranks import gradients_of

    for loss in ("infonce", "siglip"):
        value, whole = gradients_of(loss, rank=0, size=8)
        for chunked in ("whole", "chunks"):
            for one in told:
                found = one[f"{loss} {chunked}"]
                assert found["loss"] == pytest.approx(value, abs=1e-5)
                assert found["gradients"].keys() == whole.keys()
                for name, gradient in whole.items():
                    assert torch.allclose(torch.tensor(found["gradients"][name]), torch.tensor(gradient), atol=1e-5), (
                        name
                    )
