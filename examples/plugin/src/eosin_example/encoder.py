"""A patch encoder: the mean and the spread of red, green and blue."""

from __future__ import annotations

import numpy as np

from eosin.slides.encoders.encoder import EncoderRecord, check_features, check_tiles


class MeanColour:
    """Six numbers a tile. It needs no weights; one that does would load them in `__init__`."""

    record = EncoderRecord(
        name="mean-colour", trident_name="mean_colour", licence="Apache-2.0", gated=False, library="plugin", mpp=(),
        tile_px=64, input_px=64, dim=6, source="this package",
    )  # fmt: skip
    device = "cpu"

    def __init__(self, record: EncoderRecord, mpp: float) -> None:
        self.record, self.mpp = record, mpp

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """Features (N, 6) float32 of tiles (N, 64, 64, 3) uint8, in order."""
        check_tiles(self.record, tiles)
        pixels = tiles.reshape(len(tiles), -1, 3).astype(np.float32) / 255
        features = np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1)
        check_features(self.record, features)
        return features
