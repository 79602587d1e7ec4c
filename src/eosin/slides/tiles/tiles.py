"""Tiles of one slide: where they lie, how they are read, what marks them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eosin.core.nouns.units import BoxLevel0, BoxMicrons, to_microns

# Bits of Tiles.flags.
FLAGS = {"pen": 1, "bubble": 2, "border": 4, "outside": 8, "blur": 16}


@dataclass(frozen=True)
class Tiles:
    """Tiles of one slide, row by row.

    Attributes:
        coords_level0: upper left corners in level-0 pixels, int64 (N, 2), x then y.
        side_level0: side in level-0 pixels. tile_px: side as read. mpp: µm per pixel as read, exact.
        mpp_level0: of the slide. tissue: share of tissue, float32 (N,). flags: bits of FLAGS, uint8 (N,).
    """

    coords_level0: np.ndarray
    side_level0: int
    tile_px: int
    mpp: float
    mpp_level0: float
    tissue: np.ndarray
    flags: np.ndarray

    def __len__(self) -> int:
        return len(self.coords_level0)

    @property
    def coords_um(self) -> np.ndarray:
        """Upper left corners in µm, float64 (N, 2)."""
        return np.asarray(self.coords_level0 * self.mpp_level0, dtype=np.float64).reshape(-1, 2)

    def box(self, index: int) -> BoxLevel0:
        """Box of a tile in level-0 pixels."""
        x, y = (int(v) for v in self.coords_level0[index])
        return BoxLevel0(x0=x, y0=y, x1=x + self.side_level0, y1=y + self.side_level0)

    def box_um(self, index: int) -> BoxMicrons:
        """Box of a tile in µm."""
        return to_microns(self.box(index), self.mpp_level0)

    def take(self, index: np.ndarray) -> Tiles:
        """Some of the tiles, in their order."""
        index = np.sort(np.asarray(index))
        return replace(
            self, coords_level0=self.coords_level0[index], tissue=self.tissue[index], flags=self.flags[index]
        )

    def with_flags(self, flags: np.ndarray) -> Tiles:
        """The same tiles with further flags set."""
        return replace(self, flags=self.flags | flags.astype(np.uint8))

    def flag_names(self, index: int) -> list[str]:
        """Names of the flags of a tile."""
        return [name for name, bit in FLAGS.items() if self.flags[index] & bit]
