"""Very small parts from which reasoners are composed: a language model, eyes of several libraries, as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from eosin.core.settings.model import ComposedModel
from tests.support.families import Parts, words

TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As a language model has it: content is text."""


def write_language(folder: Path, template: str | None = TEMPLATE, family: str = "llama", tie: bool = True) -> Path:
    """A causal language model of a family, with its tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    parts = Parts()
    config = AutoConfig.for_model(family, **parts.text, tie_word_embeddings=tie)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer = words()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    if template is None:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
    return folder


def write_eyes(folder: Path, family: str = "siglip_vision_model", side: int = 56) -> Path:
    """A vision model of transformers, with its image processor."""
    from transformers import AutoConfig, AutoModel, CLIPImageProcessor

    torch.manual_seed(1)
    config = AutoConfig.for_model(
        family, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=side,
        patch_size=14,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    images = CLIPImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.3], size={"shortest_edge": side})
    images.save_pretrained(folder)
    return folder


def composed(language: Path, **settings: Any) -> tuple[Any, Any]:
    """Model and processor as a recipe composes them."""
    from eosin.chain.base.build import _composed

    return _composed(ComposedModel.model_validate({"language": str(language), **settings}), seed=0)
