"""The model before any training, where a recipe builds it: the small Qwen2.5-VL, a composed one, or a slide reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import RegionReader
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.core.settings.model import ComposedModel, SlideModel, TinyModel
from eosin.core.settings.recipe import Recipe

MAX_SCALE_BAGS = 200
"""Slides from which mean and spread of the features are taken."""


def build_base(recipe: Recipe, train: Sequence[Sample], read_region: RegionReader) -> tuple[Any, Any]:
    """Model and processor with the weights that a run starts from; new weights are seeded by the recipe.

    Raises:
        EosinError: a slide reader without any slide in the training samples.
    """
    from eosin.models.tiny import build_tiny
    from eosin.train.data.rows import corpus_of

    settings = recipe.model
    if isinstance(settings, ComposedModel):
        return _composed(settings, recipe.seed)
    corpus = [*corpus_of(train, recipe.reply_grammar, recipe.prompt), *_masked_phrases(recipe, train)]
    if isinstance(settings, TinyModel):
        return build_tiny(corpus, settings, recipe.seed)
    assert isinstance(settings, SlideModel)
    return _slide_reader(settings, corpus, recipe.seed, train, read_region)


def _composed(settings: ComposedModel, seed: int) -> tuple[Any, Any]:
    from eosin.chain.base.eyes import find_eyes
    from eosin.models.composed.compose import compose
    from eosin.models.composed.language import load_language

    eyes = find_eyes(settings.eyes, seed)
    language, tokenizer = load_language(settings.language, settings.revision)
    return compose(language, tokenizer, eyes, settings.projector, seed)


def _masked_phrases(recipe: Recipe, train: Sequence[Sample]) -> list[str]:
    """What pseudo-bag masking will write of findings that lost their evidence: the tokenizer shall know it."""
    if not any(getattr(s, "pseudo_bags", None) is not None for s in recipe.stages.values()):
        return []
    from eosin.train.masking.not_assessable import phrases

    return phrases(sorted({e.name for s in train for e in s.entities}))


def _slide_reader(
    settings: SlideModel, corpus: Iterable[str], seed: int, train: Sequence[Sample], read_region: RegionReader
) -> tuple[Any, Any]:
    import torch

    from eosin.models.slide_encoder.build import build_slide_reader

    bags = list(_bags(train, read_region))
    if not bags:
        raise EosinError(
            "A slide reader needs slides.", expected="training samples with patch features", where="model.kind",
            next_step="data: {source: slides, ...} or {source: phantom-slides}",
        )  # fmt: skip
    settings = settings.model_copy(update=_patch_size(settings, bags))
    model, processor = build_slide_reader(corpus, settings, seed, dimension=bags[0].dimension, encoder=bags[0].encoder)
    mean, std = scale_of(bags)
    model.model.slide_tower.set_scale(torch.from_numpy(mean), torch.from_numpy(std))
    return model, processor


def _patch_size(settings: SlideModel, bags: Sequence[PatchBag]) -> dict[str, float]:
    """Side and scale of the patches, where the recipe leaves them open and all slides agree: the model then knows how
    a slide must be cut for it."""
    found = {}
    for name in ("tile_um", "mpp"):
        values = {round(getattr(bag, name), 3) for bag in bags}
        if getattr(settings, name) is None and len(values) == 1:
            found[name] = values.pop()
    return found


def _bags(samples: Sequence[Sample], read_region: RegionReader) -> Iterator[PatchBag]:
    """The bags of some slides, of `MAX_SCALE_BAGS` at most; samples were checked before."""
    seen: set[str] = set()
    for ref in (r for s in samples for r in s.images if isinstance(r, SlideBag)):
        if ref.path in seen or len(seen) >= MAX_SCALE_BAGS:
            continue
        seen.add(ref.path)
        try:
            yield read_region.bag(ref)
        except ImageError:
            continue


def scale_of(bags: Iterable[PatchBag]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (D,) float32 of the features of all patches, every patch weighing the same."""
    total = square = np.zeros(())
    num = 0
    for bag in bags:
        values = bag.features.astype(np.float64)
        total, square, num = total + values.sum(0), square + (values**2).sum(0), num + len(values)
    mean = total / num
    spread = np.sqrt(np.maximum(square / num - mean**2, 0))
    return mean.astype(np.float32), spread.astype(np.float32)
