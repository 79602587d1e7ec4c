"""Changes of a bag of patches that leave its diagnosis as it was: flips and turns of the slide, fewer patches."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from eosin.core.nouns.bags import PatchBag


class BagAugment(BaseModel):
    """How far a bag may change.

    flips: the eight flips and quarter turns of the slide: places move, features stay.
    keep_from: a random share of `keep_from`..1 of the patches is kept.
    noise: standard deviation of noise on every feature, as a share of that feature's spread in the bag.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flips: bool = True
    keep_from: Annotated[float, Field(gt=0, le=1)] = 0.7
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0

    @classmethod
    def none(cls) -> BagAugment:
        """Change nothing."""
        return cls(flips=False, keep_from=1.0)


def augment_bag(bag: PatchBag, settings: BagAugment, rng: np.random.Generator) -> PatchBag:
    """A changed copy of a bag. At least one patch stays; the order of the patches is kept."""
    if settings.keep_from < 1:
        num = max(1, round(len(bag) * rng.uniform(settings.keep_from, 1)))
        bag = bag.take(np.sort(rng.choice(len(bag), num, replace=False)))
    if settings.noise:
        spread = bag.features.std(axis=0, keepdims=True) * settings.noise
        noisy = bag.features + spread * rng.standard_normal(bag.features.shape, dtype=np.float32)
        bag = replace(bag, features=np.ascontiguousarray(noisy, dtype=np.float32))
    if settings.flips:
        places = bag.centres_um[:, ::-1] if rng.random() < 0.5 else bag.centres_um
        low, high = places.min(axis=0), places.max(axis=0)
        mirrored = rng.random(2) < 0.5
        bag = replace(bag, centres_um=np.where(mirrored, low + high - places, places))
    return bag
