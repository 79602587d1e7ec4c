"""CLIP models: one door for open_clip and transformers, the same embeddings both ways, damaged checkpoints refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.settings.clip import NamedClip, TinyClip
from eosin.models.clip.load import load_clip, new_clip, save_clip

TINY = TinyClip.model_validate(
    {"image_px": 32, "dim": 24, "context_length": 16, "vision": {"layers": 2, "width": 32, "heads": 2, "patch_size": 8},
     "text": {"layers": 2, "width": 32, "heads": 2}}
)  # fmt: skip
TEXTS = ["Tubular adenoma with crowded glands.", "normal mucosa", "ÉTUDE of 12 nuclei; 3.5 µm", "a " * 40]


def pictures(num: int = 3) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (50, 41), (37, 64)]
    return [
        Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in (sizes[i % 3] for i in range(num))
    ]


@pytest.fixture(scope="module")
def tiny():
    clip = new_clip(TINY, seed=3)
    with torch.no_grad():  # weights that the start leaves at 0 or 1 would hide a wrong place
        for p in clip.network.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return clip


def test_embeddings_are_unit_vectors_and_the_seed_decides(tiny) -> None:
    seen, said = tiny.embed_images(pictures()), tiny.embed_texts(TEXTS)
    assert seen.shape == (3, 24) and said.shape == (4, 24)
    assert np.allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-5)
    one, same, other = (new_clip(TINY, seed=s).embed_texts(TEXTS) for s in (1, 1, 2))
    assert np.array_equal(one, same) and not np.allclose(one, other, atol=1e-3)


def test_both_forms_give_the_same_embeddings(tiny, tmp_path: Path) -> None:
    seen, said = tiny.embed_images(pictures()), tiny.embed_texts(TEXTS)
    for form in ("open_clip", "transformers"):
        save_clip(tiny, tmp_path / form, form=form)
        again = load_clip(tmp_path / form)
        assert np.allclose(again.embed_images(pictures()), seen, atol=1e-5)
        assert np.allclose(again.embed_texts(TEXTS), said, atol=1e-5)
    # and from transformers' form back to open_clip's
    save_clip(load_clip(tmp_path / "transformers"), tmp_path / "back")
    assert np.allclose(load_clip(tmp_path / "back").embed_texts(TEXTS), said, atol=1e-5)


def test_transformers_itself_sees_the_same(tiny, tmp_path: Path) -> None:
    from transformers import CLIPModel, CLIPProcessor

    save_clip(tiny, tmp_path / "hf", form="transformers")
    model, processor = CLIPModel.from_pretrained(tmp_path / "hf"), CLIPProcessor.from_pretrained(tmp_path / "hf")
    tokens = processor.tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    images = tiny.normalised(tiny.pixels(pictures()))
    with torch.inference_mode():
        said, seen = model.get_text_features(**tokens), model.get_image_features(pixel_values=images)
    said, seen = (getattr(x, "pooler_output", x) for x in (said, seen))
    assert np.allclose(torch.nn.functional.normalize(said, dim=-1), tiny.embed_texts(TEXTS), atol=1e-5)
    assert np.allclose(torch.nn.functional.normalize(seen, dim=-1), tiny.embed_images(pictures()), atol=1e-5)


def test_open_clip_itself_sees_the_same(tiny, tmp_path: Path) -> None:
    import open_clip

    save_clip(tiny, tmp_path / "oc")
    place = f"local-dir:{tmp_path / 'oc'}"
    model, prepare = open_clip.create_model_from_pretrained(place)
    with torch.inference_mode():
        said = model.encode_text(open_clip.get_tokenizer(place)(TEXTS), normalize=True)
        seen = model.encode_image(torch.stack([prepare(p) for p in pictures()]), normalize=True)
    assert np.allclose(said, tiny.embed_texts(TEXTS), atol=1e-5)
    assert np.allclose(seen, tiny.embed_images(pictures()), atol=1e-5)


def test_the_scoring_term_sees_the_same(tiny, tmp_path: Path) -> None:
    from eosin.scoring.resources.clip import ClipCosine

    expected = tiny.embed_texts(TEXTS) @ tiny.embed_images(pictures(1))[0]
    for form in ("open_clip", "transformers"):
        save_clip(tiny, tmp_path / form, form=form)
        assert np.allclose(ClipCosine(str(tmp_path / form))(pictures(1)[0], TEXTS), expected, atol=1e-4), form


def test_cut_and_empty_texts_are_counted(tiny) -> None:
    tokens = tiny.tokens(["one two three", "word " * 10_000, "", "  ", "組織の画像", "a " * 14, "a " * 15])
    assert tokens.ids.shape == (7, 16)
    assert tokens.num_cut == 2, "14 words and begin and end are 16 tokens; 15 words are too many"
    assert tokens.num_empty == 2


def test_openai_weights_are_read_with_quick_gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip itself takes "openai" for ViT-B-16 with another activation, and only warns."""
    import open_clip

    from eosin.models.clip import network

    asked: dict[str, object] = {}
    monkeypatch.setattr(open_clip, "create_model", lambda name, **options: asked.update(options))
    _, settings = network.named_network("ViT-B-16", "openai")
    assert settings["quick_gelu"] is True and asked["force_quick_gelu"] is True
    _, settings = network.named_network("ViT-B-16", "laion2b_s34b_b88k")
    assert not settings.get("quick_gelu") and asked["force_quick_gelu"] is False


def test_weights_of_another_architecture_are_refused(tiny, tmp_path: Path) -> None:
    save_clip(tiny, tmp_path / "a")
    file = tmp_path / "a" / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"]["vision_cfg"]["layers"] = 3
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / file.name).write_text(json.dumps(config))
    (tmp_path / "b" / "open_clip_model.safetensors").write_bytes(
        (tmp_path / "a" / "open_clip_model.safetensors").read_bytes()
    )
    with pytest.raises(EosinError, match="not those of this architecture") as caught:
        load_clip(tmp_path / "b")
    assert "missing" in str(caught.value.found)
    (tmp_path / "a" / "open_clip_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EosinError, match="changed after it was written"):
        load_clip(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-such-model", "no such CLIP"),
        ("ViT-B-16@no-such-tag", "no such weights"),
        ("ViT-Z-99@openai", "no such architecture"),
        ("conch", "text tower"),
        ("pathgen-clip", "not on the hub"),
    ],
)
def test_names_that_nothing_stands_behind(name: str, words: str) -> None:
    with pytest.raises(EosinError, match=words):
        load_clip(name)


def test_an_architecture_that_transformers_lacks(tmp_path: Path) -> None:
    clip = new_clip(TinyClip.model_validate({**TINY.model_dump(), "vision": {"timm_model": "resnet10t"}}), 0)
    with pytest.raises(EosinError, match="cannot be written") as caught:
        save_clip(clip, tmp_path / "x", form="transformers")
    assert "timm_model_name" in str(caught.value.found)
    save_clip(clip, tmp_path / "y")
    again = load_clip(tmp_path / "y")
    clip.network.eval()
    assert np.allclose(again.embed_images(pictures()), clip.embed_images(pictures()), atol=1e-5)


def test_a_named_file_of_weights_for_an_architecture(tmp_path: Path) -> None:
    """PathGen-CLIP and Patho-CLIP are files of weights for an architecture of open_clip."""
    import open_clip

    from eosin.models.clip.load import build_network

    settings = open_clip.get_model_config("ViT-S-32-alt")
    torch.manual_seed(0)
    network = build_network(settings)
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "weights.pt")
    clip = new_clip(NamedClip(name=f"ViT-S-32-alt@{tmp_path / 'weights.pt'}"), 0)
    for key, value in clip.network.state_dict().items():
        assert torch.equal(value.cpu(), network.state_dict()[key]), key


def test_an_image_tower_begins_from_weights_of_its_own(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    trained = timm.create_model("test_resnet")  # with a classifier, which is left out
    save_file(trained.state_dict(), str(tmp_path / "trunk.safetensors"))
    weights = str(tmp_path / "trunk.safetensors")
    told = {**TINY.model_dump(), "vision": {"timm_model": "test_resnet"}, "weights": weights}
    clip = new_clip(TinyClip.model_validate(told), 0)
    for key, value in clip.network.visual.trunk.state_dict().items():
        assert torch.equal(value.cpu(), trained.state_dict()[key]), key
    assert clip.preprocess_cfg["mean"] == list(trained.pretrained_cfg["mean"])
