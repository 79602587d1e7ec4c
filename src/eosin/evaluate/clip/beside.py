"""What stands beside a model's vectors in few-shot: colours and textures of the same pictures, and features of a frozen
encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from eosin.core.nouns.sample import Sample
from eosin.evaluate.baselines.features import colour_histogram, colour_texture
from eosin.evaluate.clip.embed import F32, Embedded

COLOURS, TEXTURE = "colour_histogram", "colour_texture"
STANDARDISED = (COLOURS, TEXTURE)
"""Features whose name ends so are standardised in each subset."""


class Beside:
    """Measures pictures while a model embeds them: give it to `embed_samples` as `look`.

    Args:
        encoder: name of a patch encoder (`eosin slides encoders`), such as "efficientnet-lite0"; None for none.

    Raises:
        EosinError: there is no such encoder, or its weights are not at hand.
    """

    def __init__(self, encoder: str | None = None) -> None:
        self._name = encoder
        self._encoder: Any = None
        if encoder is not None:
            from eosin.slides.encoders.load import load_encoder

            self._encoder = load_encoder(encoder)
        self._colours: dict[str, Any] = {}
        self._textures: dict[str, Any] = {}
        self._features: dict[str, Any] = {}

    def __call__(self, sample: Sample, picture: Image.Image) -> None:
        """Measure the picture of a sample."""
        self._colours[sample.id] = colour_histogram(picture)
        self._textures[sample.id] = colour_texture(picture, sample.origin.mpp)
        if self._encoder is not None:
            side = self._encoder.record.tile_px
            tile = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            self._features[sample.id] = self._encoder.encode(np.asarray(tile)[None])[0]

    def features(self, seen: Embedded) -> dict[str, F32]:
        """The model's vectors and what stands beside them, by name, each (N, D) in one order."""
        colours = np.stack([self._colours[s.id] for s in seen.samples])
        textures = np.stack([self._textures[s.id] for s in seen.samples])
        found = {"clip": seen.vectors, COLOURS: colours, TEXTURE: textures}
        if self._encoder is not None:
            frozen = np.stack([self._features[s.id] for s in seen.samples])
            found[f"{self._name} + {COLOURS}"] = np.concatenate([frozen, colours], axis=1)
        return found
