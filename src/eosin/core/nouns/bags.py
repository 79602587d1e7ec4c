"""A whole slide as a model sees it: a bag of patch features with places. numpy only.

A `SlideBag` of a sample names a feature file; whoever reads it (the slides room) gives a `PatchBag`. Training, exams,
asking and evidence all take bags through `load_picture` of `eosin.core.images`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import ImageError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class PatchBag:
    """The patches of one slide that a model is shown.

    Attributes:
        name: of the slide.
        features: (N, D) float32.
        centres_um: (N, 2) x and y of each patch's centre, µm from the upper left corner of level 0.
        tile_um: side of a patch in µm.
        mpp: microns per pixel at which the patches were read.
        encoder: name of the encoder, where it is known.
        numbers: (N,) the number of each patch in its feature file, so that what is said of a patch finds its place
            also in a bag from which others were removed.
    """

    name: str
    features: F32 = field(repr=False)
    centres_um: F64 = field(repr=False)
    tile_um: float
    mpp: float
    encoder: str | None = None
    numbers: I64 = field(default_factory=lambda: np.empty(0, np.int64), repr=False)

    def __post_init__(self) -> None:
        num = len(self.features)
        if not len(self.numbers):
            object.__setattr__(self, "numbers", np.arange(num, dtype=np.int64))
        if self.features.ndim != 2 or not num:
            raise ImageError(
                "empty bag: no patch of this slide", where=self.name,
                next_step="look at the slide's tissue (eosin slides tissue), or leave this slide out",
            )  # fmt: skip
        if self.centres_um.shape != (num, 2) or len(self.numbers) != num:
            raise ImageError(
                "bag without a place for every patch", expected=f"({num}, 2)", found=f"{self.centres_um.shape}",
                where=self.name, next_step="make the features again with coordinates (eosin slides features)",
            )  # fmt: skip
        if not np.isfinite(self.features).all() or not np.isfinite(self.centres_um).all():
            bad = int((~np.isfinite(self.features).all(axis=1)).sum())
            raise ImageError(
                "bag with features or places that are not finite", found=f"{bad} of {num} patches with such features",
                where=self.name, next_step="make the features of this slide again (eosin slides features)",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dimension(self) -> int:
        return int(self.features.shape[1])

    def take(self, which: NDArray[np.bool_] | I64) -> PatchBag:
        """The bag with some of its patches: a mask (N,), True where kept, or their places in this bag."""
        return replace(
            self, features=self.features[which], centres_um=self.centres_um[which], numbers=self.numbers[which]
        )

    def blank(self) -> PatchBag:
        """The same places without any content: every feature 0. For probes."""
        return replace(self, features=np.zeros_like(self.features))
