"""A frozen tower runs once an image; what is kept is exact, bounded, and bound to pixels and weights."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.support import forked
from tests.train.conftest import new_model

from eosin.core.settings.model import TinyModel, TinyText, TinyVision
from eosin.models.load import Loaded, freeze
from eosin.models.tiny import build_tiny
from eosin.models.vision_cache import FeatureCache, cache_vision, share_cache, unsupported


def pictures(loaded: Loaded, num: int, side: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels of `num` images of 2 side x 2 side patches, and their grids."""
    dim = 3 * 2 * loaded.model.config.vision_config.patch_size**2
    torch.manual_seed(7)
    return torch.randn(num * 4 * side * side, dim), torch.tensor([[1, 2 * side, 2 * side]] * num)


def windowed() -> Loaded:
    """A tower with window attention in its first block, as Qwen2.5-VL has, so that patches change their order."""
    settings = TinyModel(
        image_px=112, vocab_size=420, vision=TinyVision(depth=2, hidden_size=32, intermediate_size=64, num_heads=2),
        text=TinyText(hidden_size=48, intermediate_size=96, num_layers=1, num_heads=2, num_kv_heads=1),
    )  # fmt: skip
    model, processor = build_tiny(["a"], settings, 0)
    model.model.visual.fullatt_block_indexes = [1]
    model.model.visual.window_size = 56
    return Loaded(model, processor, "tiny")


@pytest.mark.parametrize("windows", [False, True])
def test_kept_features_are_those_of_the_tower_and_the_projector_trains(tmp_path: Path, windows: bool) -> None:
    loaded = windowed() if windows else new_model()
    freeze(loaded.model, {"vision"})
    pixels, grid = pictures(loaded, 3, side=4 if windows else 2)
    merger = loaded.model.model.visual.merger
    want = torch.cat(loaded.model.get_image_features(pixels, grid).pooler_output)
    want.square().sum().backward()
    gradient = merger.mlp[0].weight.grad.clone()
    loaded.model.zero_grad()
    with cache_vision(loaded.model, tmp_path, 0.01) as kept:
        assert kept is not None
        for _ in range(2):
            found = torch.cat(loaded.model.get_image_features(pixels, grid).pooler_output)
            assert torch.allclose(found, want, atol=1e-6)
        found.square().sum().backward()
        assert (kept.misses, kept.hits) == (3, 3)
    assert torch.allclose(merger.mlp[0].weight.grad, gradient, rtol=1e-4, atol=1e-6)
    assert "forward" not in vars(loaded.model.model.visual)


def test_other_pixels_or_other_weights_find_nothing_and_a_new_process_finds_all(tmp_path: Path) -> None:
    loaded = new_model()
    freeze(loaded.model, {"vision"})
    pixels, grid = pictures(loaded, 2)
    with cache_vision(loaded.model, tmp_path, 0.01):
        loaded.model.get_image_features(pixels, grid)
    with cache_vision(loaded.model, tmp_path, 0.01) as again:
        assert again is not None
        loaded.model.get_image_features(pixels, grid)
        assert (again.misses, again.hits) == (0, 2)
        loaded.model.get_image_features(pixels + 1e-3, grid)
        assert again.misses == 2
    with torch.no_grad():
        loaded.model.model.visual.blocks[0].norm1.weight[0] += 0.5
    with cache_vision(loaded.model, tmp_path, 0.01) as other:
        assert other is not None
        loaded.model.get_image_features(pixels, grid)
        assert other.misses == 2


def test_a_training_tower_is_not_kept_unless_the_model_is_only_examined(tmp_path: Path) -> None:
    loaded = new_model()
    freeze(loaded.model, set())
    assert "trains" in (unsupported(loaded.model) or "")
    with cache_vision(loaded.model, tmp_path, 1.0) as kept:
        assert kept is None
    with cache_vision(loaded.model, tmp_path, 0.01, trains=False) as kept:
        assert kept is not None


def test_the_reference_shares_entries_only_with_the_same_tower(tmp_path: Path) -> None:
    policy, same, other = new_model(), new_model(), new_model(seed=1)
    freeze(policy.model, {"vision"})
    pixels, grid = pictures(policy, 1)
    with cache_vision(policy.model, tmp_path, 0.01) as kept:
        assert kept is not None
        policy.model.get_image_features(pixels, grid)
        with share_cache(kept, same.model):
            assert "forward" in vars(same.model.model.visual)
            same.model.get_image_features(pixels, grid)
        with share_cache(kept, other.model):
            assert "forward" not in vars(other.model.model.visual)


def test_the_file_is_bounded_and_the_oldest_give_way(tmp_path: Path) -> None:
    kept = FeatureCache(tmp_path, 1000)
    values = {f"k{i}": torch.full((75,), float(i)) for i in range(7)}  # 300 bytes each: three fit
    for key, value in values.items():
        kept.put(key, value)
    assert [k for k in values if kept.get(k) is not None] == ["k4", "k5", "k6"] or len(kept) <= 3
    for key in values:
        found = kept.get(key)
        assert found is None or torch.equal(found, values[key])
    assert (tmp_path / "features.bin").stat().st_size == 1000
    kept.put("large", torch.zeros(10_000))
    assert kept.get("large") is None
    again = FeatureCache(tmp_path, 1000)
    assert {k for k in values if again.get(k) is not None} == {k for k in values if kept.get(k) is not None}


def test_a_damaged_entry_is_not_believed(tmp_path: Path) -> None:
    kept = FeatureCache(tmp_path, 1000)
    kept.put("a", torch.arange(10.0, dtype=torch.bfloat16))
    kept._bytes.flush()
    with (tmp_path / "features.bin").open("r+b") as handle:
        handle.write(b"\xff\x01")
    assert FeatureCache(tmp_path, 1000).get("a") is None
    assert FeatureCache(tmp_path, 2000).get("a") is None  # another size: begun anew


def test_a_full_disk_ends_the_keeping_and_not_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = FeatureCache(tmp_path, 4000)
    kept.put("a", torch.arange(10.0))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    kept.put("b", torch.arange(20.0))
    assert kept.get("b") is None and kept.get("a") is not None
    monkeypatch.undo()
    kept.put("c", torch.arange(5.0))  # said once; the run goes on without it
    assert kept.get("c") is None


_ON_A_SMALL_DISK = """
import sys, torch
from pathlib import Path
from eosin.models.vision_cache import FeatureCache
kept = FeatureCache(Path(sys.argv[1]) / "kept", 64 << 20)
for i in range(40):
    kept.put(str(i), torch.full((65536,), float(i)))
found = [i for i in range(40) if (v := kept.get(str(i))) is not None and v.eq(i).all()]
print("found", len(found))
"""


def test_a_really_full_disk_kills_nothing(tmp_path: Path) -> None:
    """64 MiB of features on a disk of 4 MiB: without reserved space the first page too many is a SIGBUS."""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", tmp_path],
                                           capture_output=True, check=False).returncode:  # fmt: skip
        pytest.skip("a small disk can be mounted by root alone")
    try:
        done = forked.run(["-c", _ON_A_SMALL_DISK, tmp_path])
    finally:
        subprocess.run(["umount", tmp_path], check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert 5 <= int(done.stdout.split()[-1]) < 20 and "kept no further" in done.stderr


@pytest.mark.parametrize(
    "family", ["llava", "llava_onevision", "idefics3", "internvl", "gemma3", "composed", "qwen3_vl"]
)
def test_towers_that_take_whole_pictures_are_kept_too(family: str, tmp_path: Path) -> None:
    """Logits and the projector's gradient are those without the cache; the second pass computes nothing."""
    from tests.support.families import write_family

    from eosin.models.load import load

    loaded = load(write_family(family, tmp_path / "model"), dtype=torch.float32, to=torch.device("cpu"))
    freeze(loaded.model, {"vision", "language"})
    rng = torch.Generator().manual_seed(0)
    images = [Image.fromarray(torch.randint(0, 255, (56, 56, 3), generator=rng).byte().numpy()) for _ in range(2)]
    parts = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Which?"}]
    text = loaded.processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    asked = loaded.processor(images=[images], text=[text], return_tensors="pt")
    projector = [p for p in loaded.model.parameters() if p.requires_grad]
    assert projector

    def looked() -> tuple[torch.Tensor, torch.Tensor]:
        logits = loaded.model(**asked).logits[0, -4:]
        logits.square().sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in projector if p.grad is not None])
        loaded.model.zero_grad()
        return logits.detach(), gradient

    logits, gradient = looked()
    with cache_vision(loaded.model, tmp_path / "kept", 0.05) as kept:
        assert kept is not None
        looked()
        computed = kept.misses
        again, its_gradient = looked()
        assert kept.misses == computed >= 2
        assert kept.hits >= 2
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(its_gradient, gradient, rtol=1e-3, atol=1e-6)
    loaded.model(**asked)
