"""Hub models that lack what a reasoner needs say so when they are loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.families import write_family

from eosin.core.errors import EosinError
from eosin.models.load import load


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = write_family("llava", tmp_path / "model")
    for path in folder.glob("*.jinja"):
        path.unlink()
    for path in folder.glob("*config.json"):
        settings = json.loads(path.read_text("utf-8"))
        if settings.pop("chat_template", None):
            path.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(EosinError, match="no chat template") as caught:
        load(folder)
    assert "instruction-tuned" in str(caught.value)


def test_a_language_model_without_eyes_is_refused_before_its_weights(tmp_path: Path) -> None:
    folder = write_family("llava", tmp_path / "model")
    for name in ("processor_config.json", "preprocessor_config.json", "model.safetensors"):
        (folder / name).unlink(missing_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 400}), encoding="utf-8")
    words = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    words.pop("processor_class", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(words), encoding="utf-8")
    with pytest.raises(EosinError, match="no processor for images") as caught:
        load(folder)
    assert "no eyes" in str(caught.value)


def test_an_image_token_without_a_row_is_refused_before_the_weights(tmp_path: Path) -> None:
    folder = write_family("llava", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text("utf-8"))
    name = next(k for k in ("image_token_id", "image_token_index") if k in config)
    assert config[name] < config["text_config"]["vocab_size"]
    (folder / "config.json").write_text(json.dumps({**config, name: 100_000}), encoding="utf-8")
    with pytest.raises(EosinError, match="no room for its image token") as caught:
        load(folder)
    assert "100000" in str(caught.value)
