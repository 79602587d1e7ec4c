"""Patch encoders behind one protocol: tiles in, features out. What does not fit a record is refused.

No heavy package is imported here; `load` makes an encoder by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from eosin.core.errors import EosinError
from eosin.slides.encoders.records import RECORDS, EncoderRecord, record_of

__all__ = [
    "RECORDS", "Encoder", "EncoderRecord", "check_features", "check_mpp", "check_tiles", "record_of",
]  # fmt: skip

MPP_TOLERANCE = 0.03  # 0.485 to 0.515 um counts as 0.5: scanners differ that much at one nominal power


@runtime_checkable
class Encoder(Protocol):
    """What turns tiles into features.

    Attributes:
        record: what the encoder is and needs.
        mpp: microns per pixel of the tiles it is given.
        device: where it computes, in words: "cpu", "cuda:0".
    """

    record: EncoderRecord
    mpp: float
    device: str

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """Features (N, dim) float32 of tiles (N, tile_px, tile_px, 3) uint8, in order."""


MakeEncoder = Callable[[], Encoder]


def check_mpp(record: EncoderRecord, mpp: float | None) -> float:
    """The scale to read tiles at; refuses one that the encoder was not trained for.

    Raises:
        EosinError: `mpp` is more than 3 % away from every scale of the record.
    """
    if mpp is None:
        return record.default_mpp
    if not mpp > 0:
        raise EosinError("Microns per pixel must be positive.", found=str(mpp), where="mpp")
    if record.mpp and all(abs(mpp / m - 1) > MPP_TOLERANCE for m in record.mpp):
        raise EosinError(
            f"The encoder {record.name} was not trained for this scale.",
            expected=" or ".join(f"{m:g}" for m in record.mpp) + " um a pixel",
            found=f"{mpp:g} um a pixel",
            where="mpp",
            next_step="leave the scale out, or choose another encoder",
        )
    return mpp


def check_tiles(record: EncoderRecord, tiles: np.ndarray) -> None:
    """Refuse tiles that are not (N, tile_px, tile_px, 3) uint8."""
    want = (record.tile_px, record.tile_px, 3)
    if tiles.ndim != 4 or tiles.shape[1:] != want or tiles.dtype != np.uint8:
        raise EosinError(
            f"These are not the tiles that the encoder {record.name} takes.",
            expected=f"(N, {want[0]}, {want[1]}, 3) uint8",
            found=f"{tiles.shape} {tiles.dtype}",
        )


def all_finite(features: np.ndarray) -> bool:
    """Whether every number is finite. Their squares add up to a finite number only then; the sum can overflow, too."""
    flat = features.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(flat, flat))) or bool(np.isfinite(features).all())


def check_features(record: EncoderRecord, features: np.ndarray, where: str | Path | None = None) -> None:
    """Refuse features that are not (N, dim) of finite numbers."""
    if features.ndim != 2 or features.shape[1] != record.dim:
        raise EosinError(
            f"The features do not have the dimension of the encoder {record.name}.",
            expected=f"(N, {record.dim})",
            found=str(features.shape),
            where=where,
            next_step="check that the weights are those of this encoder",
        )
    if not all_finite(features):
        rows = int((~np.isfinite(features).all(axis=1)).sum())
        raise EosinError("Some features are not finite numbers.", found=f"{rows} of {len(features)} tiles", where=where)
