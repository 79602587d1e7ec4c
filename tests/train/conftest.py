from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.toys import toy_samples

from eosin.core.nouns.prompt import PromptSettings
from eosin.core.nouns.reply import Grammar
from eosin.core.settings.model import TinyModel, TinyText, TinyVision
from eosin.models.load import Loaded
from eosin.models.tiny import build_tiny
from eosin.train.data.rows import corpus_of
from eosin.train.stages.base import StageContext

GRAMMAR = Grammar.of("think/answer")
PROMPT = PromptSettings(instruction=False, answer="text")
SMALL = TinyModel(
    image_px=56,
    vocab_size=420,
    vision=TinyVision(depth=2, hidden_size=32, intermediate_size=64, num_heads=2),
    text=TinyText(hidden_size=48, intermediate_size=96, num_layers=2, num_heads=2, num_kv_heads=1),
)


def new_model(seed: int = 0) -> Loaded:
    """A very small model with random weights."""
    corpus = corpus_of(toy_samples(48, "train"), GRAMMAR, PROMPT)
    model, processor = build_tiny(corpus, SMALL, seed)
    return Loaded(model, processor, "tiny")


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., StageContext]:
    """Makes the context of a stage in a folder of its own."""

    def make(name: str, loaded: Loaded | None = None, num_train: int = 48, num_valid: int = 0) -> StageContext:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return StageContext(
            name=name,
            folder=folder,
            loaded=loaded or new_model(),
            train=toy_samples(num_train, "train"),
            valid=toy_samples(num_valid, "valid") if num_valid else [],
            grammar=GRAMMAR,
            prompt=PROMPT,
            seed=0,
        )

    return make
