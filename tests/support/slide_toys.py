"""Toy slides: bags of patch features whose class is written in some of the patches, and a very small slide reader."""

from __future__ import annotations

from typing import Any

import numpy as np

from eosin.core.nouns.bags import PatchBag
from eosin.core.settings.model import SlideModel, SlideTower, TinyModel, TinyText, TinyVision
from eosin.models.load import Loaded
from eosin.models.slide_encoder.build import build_slide_reader

DIMENSION = 12
TILE_UM, MPP = 112.0, 0.5
SMALL = TinyModel(
    image_px=56,
    vocab_size=420,
    vision=TinyVision(depth=2, hidden_size=32, intermediate_size=64, num_heads=2),
    text=TinyText(hidden_size=48, intermediate_size=96, num_layers=2, num_heads=2, num_kv_heads=1),
)
TOWER = SlideTower(layers=2, width=32, heads=4, ffn=48, segments=[8, 16], dilations=[1, 2])
CORPUS = ["The slide shows tumour glands in stroma. Which tissue is this? Which colour is this field?"] * 4


def toy_bag(label: int, rng: np.random.Generator, num: int = 20, dimension: int = DIMENSION) -> PatchBag:
    """Patches on a grid with holes, 112 µm a side; a third of them carry the label."""
    side = int(np.ceil((1.5 * num) ** 0.5))
    cells = rng.permutation(side * side)[:num]
    features = rng.normal(0, 1, (num, dimension)).astype(np.float32)
    features[: max(1, num // 3), label] += 3.0
    centres = np.stack([cells % side, cells // side], 1) * TILE_UM + np.array([1000.3, 517.8])
    return PatchBag(f"slide-{label}", features, centres, TILE_UM, MPP, "toy-encoder")


def slide_settings(**changes: Any) -> SlideModel:
    """Settings of the very small slide reader; `tower` may be a mapping of changed fields."""
    tower = TOWER.model_copy(update=changes.pop("tower", {}))
    values = {"base": SMALL, "tower": tower, "dimension": DIMENSION, "encoder": "toy-encoder", **changes}
    return SlideModel.model_validate({k: v.model_dump() if hasattr(v, "model_dump") else v for k, v in values.items()})


def new_reader(seed: int = 0, **changes: Any) -> Loaded:
    """A very small slide reader with random weights."""
    model, processor = build_slide_reader(CORPUS, slide_settings(**changes), seed)
    return Loaded(model, processor, "slide")


def chat_of(pictures: list[Any], text: str = "Which tissue is this?") -> list[dict[str, Any]]:
    """A question after its pictures."""
    content: list[dict[str, Any]] = [{"type": "image", "image": p} for p in pictures]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
