"""Slide readers around models that exist: their weights, and what they say without a slide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.support.close import same_numbers
from tests.support.slide_toys import CORPUS, DIMENSION, SMALL, TOWER, chat_of, slide_settings, toy_bag
from tests.support.toys import toy_image
from transformers import (
    AutoProcessor,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from eosin.core.errors import EosinError
from eosin.core.settings.model import HubModel, SlideModel, SlideTower
from eosin.models.load import load
from eosin.models.slide_encoder.build import build_slide_reader
from eosin.models.template import IMAGE
from eosin.models.tiny import build_tiny, train_tokenizer


def text_only(folder: Path, tied: bool) -> Qwen2ForCausalLM:
    """A very small text-only Qwen2.5 with its tokenizer, on disk."""
    tokenizer = train_tokenizer(CORPUS, 420)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied, rope_theta=10_000.0,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_a_text_only_decoder_says_what_it_said(tmp_path: Path, tied: bool) -> None:
    """M-RoPE with three equal positions is the decoder's own rotary embedding."""
    plain = text_only(tmp_path / "base", tied)
    settings = slide_settings(base=HubModel(name=str(tmp_path / "base")))
    model, processor = build_slide_reader([], settings, 0)
    assert model.model.visual is None and model.config.tie_word_embeddings == tied
    torch.manual_seed(1)
    ids = torch.randint(0, 300, (2, 40))
    mask = torch.ones_like(ids)
    mask[0, :11] = 0
    with torch.no_grad():
        want = plain(input_ids=ids, attention_mask=mask).logits
        found = model(input_ids=ids, attention_mask=mask).logits
    assert same_numbers(found[mask.bool()], want[mask.bool()])
    rng = np.random.default_rng(0)
    model.save_pretrained(tmp_path / "slide")
    processor.save_pretrained(tmp_path / "slide")
    again = load(tmp_path / "slide")
    inputs = processor.apply_chat_template(
        [chat_of([toy_bag(0, rng)])], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        assert same_numbers(model(**inputs).logits, again.model.eval()(**inputs).logits)
    assert again.model.generation_config.eos_token_id == plain.generation_config.eos_token_id


@pytest.mark.parametrize("sees_images", [True, False])
def test_a_vision_language_model_keeps_its_eye_and_weights(tmp_path: Path, sees_images: bool) -> None:
    plain, processor = build_tiny(CORPUS, SMALL, 3)
    plain.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    settings = slide_settings(base=HubModel(name=str(tmp_path)), sees_images=sees_images)
    model, own = build_slide_reader([], settings, 0)
    want: dict[str, Any] = plain.state_dict()
    kept = {n: p for n, p in model.state_dict().items() if "slide_tower" not in n}
    wanted = {n: p for n, p in want.items() if sees_images or "visual" not in n}
    assert kept.keys() == wanted.keys() and all(torch.equal(kept[n], wanted[n]) for n in kept)
    chat = [chat_of([toy_image(0, np.random.default_rng(0))])]
    if not sees_images:
        return
    options = {"tokenize": True, "add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
    with torch.no_grad():
        first = plain.eval()(**AutoProcessor.from_pretrained(tmp_path).apply_chat_template(chat, **options)).logits
        second = model(**own.apply_chat_template(chat, **options)).logits
    assert same_numbers(first, second)
    assert isinstance(plain, Qwen2_5_VLForConditionalGeneration)


def test_the_same_seed_gives_the_same_tower(tmp_path: Path) -> None:
    text_only(tmp_path, True)
    settings = slide_settings(base=HubModel(name=str(tmp_path)))
    towers = [build_slide_reader([], settings, seed)[0].slide_tower.state_dict() for seed in (5, 5, 6)]
    assert all(torch.equal(towers[0][n], towers[1][n]) for n in towers[0])
    assert any(not torch.equal(towers[0][n], towers[2][n]) for n in towers[0])


def test_a_decoder_without_image_tokens_gets_them(tmp_path: Path) -> None:
    words = json.loads(train_tokenizer(CORPUS, 420).backend_tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in words["merges"]]
    tokenizer = Qwen2Tokenizer(vocab=words["vocab"], merges=merges, eos_token="!", pad_token="!", unk_token="!")
    size = len(tokenizer)
    assert tokenizer.convert_tokens_to_ids(IMAGE) in (None, tokenizer.unk_token_id)
    tokenizer.save_pretrained(tmp_path)
    Qwen2ForCausalLM(
        Qwen2Config(vocab_size=size, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                    num_key_value_heads=2, eos_token_id=0, pad_token_id=0, bos_token_id=None)
    ).save_pretrained(tmp_path)  # fmt: skip
    model, processor = build_slide_reader([], slide_settings(base=HubModel(name=str(tmp_path))), 0)
    fields = processor(
        images=[toy_bag(0, np.random.default_rng(0), 5)], text="<|image_pad|>tissue", return_tensors="pt"
    )
    image = model.config.image_token_id
    assert image >= size and len(processor.tokenizer) == size + 4
    assert fields["input_ids"][0].tolist() == [image] * 6 + tokenizer("tissue")["input_ids"]
    assert model(**fields).logits.shape[-1] == size + 4


def test_what_cannot_be_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="size of the patch features"):
        build_slide_reader(CORPUS, slide_settings(dimension=None), 0)
    assert build_slide_reader(CORPUS, slide_settings(dimension=None), 0, dimension=7)[0].slide_tower.spec.dimension == 7
    with pytest.raises(EosinError, match="could not be loaded"):
        build_slide_reader([], slide_settings(base=HubModel(name=str(tmp_path / "nowhere"))), 0)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(EosinError, match="Qwen2.5 family"):
        build_slide_reader([], slide_settings(base=HubModel(name=str(tmp_path))), 0)


def test_the_published_preset_and_changed_sizes() -> None:
    sizes = SlideTower(preset="pathreasoner-r1").sizes()
    assert sizes == {
        "layers": 2, "width": 512, "heads": 8, "ffn": 1024, "segments": [1024, 2048, 4096, 8192, 16384],
        "dilations": [1, 2, 4, 8, 16],
    }  # fmt: skip
    assert TOWER.sizes()["layers"] == 2 and SlideTower(layers=7).sizes()["layers"] == 7
    for wrong in ({"segments": [8]}, {"segments": [16, 15, 32]}, {"dilations": [2, 4, 8]}, {"width": 30}):
        with pytest.raises(ValidationError):
            SlideTower(**wrong)
    base = {"kind": "hub", "name": "x"}
    settings = SlideModel.model_validate({"kind": "slide", "base": base, "dimension": DIMENSION})
    assert isinstance(settings.base, HubModel)
