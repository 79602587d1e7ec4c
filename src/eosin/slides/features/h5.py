"""Feature files in TRIDENT's h5 layout: what they hold, where they stand, and how they are written.

The layout, as TRIDENT's public code has it:

    OUT/20x_256px_0px_overlap/patches/NAME_patches.h5      coords
    OUT/20x_256px_0px_overlap/features_uni_v1/NAME.h5      features (N, D), coords (N, 2)

`coords` are the upper left corners of the tiles, x then y, int64 pixels of level 0. Its attributes are patch_size,
patch_size_level0, level0_magnification, target_magnification, overlap, name and savetodir. Eosin adds its own beside
them (mpp, level0_mpp, encoder, ...), and the datasets tissue_fraction, flags, failed_coords and failed_reasons.
`h5_read` reads it back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError, disk_errors
from eosin.core.extras import need
from eosin.core.store.artifacts import lock_for_life
from eosin.core.store.names import unfinished

NOMINAL = (1.25, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0)
ROWS_PER_CHUNK = 256


@dataclass(frozen=True)
class TileGeometry:
    """How the tiles of a file lie on the slide.

    Attributes:
        tile_px: side of a tile as it was encoded.
        side_level0: side of a tile in pixels of level 0.
        mpp: microns per pixel of the tiles as encoded.
        level0_mpp: microns per pixel of level 0.
        overlap_px: overlap of neighbours in pixels of the encoded tile.
    """

    tile_px: int | None = None
    side_level0: float | None = None
    mpp: float | None = None
    level0_mpp: float | None = None
    overlap_px: int = 0


@dataclass(frozen=True)
class FeatureBag:
    """The features of one slide, from whichever layout.

    Attributes:
        features: (N, D) float32.
        coords: (N, 2) int64, upper left corners x, y in pixels of level 0; None where the file has none.
        failed: corner and reason of every tile that could not be read or encoded.
        encoder: name of the encoder, where the file says it.
        extra: further datasets with one row a tile (tissue_fraction, flags).
    """

    name: str
    features: np.ndarray
    coords: np.ndarray | None
    geometry: TileGeometry = field(default_factory=TileGeometry)
    layout: str = "trident"
    encoder: str | None = None
    failed: tuple[tuple[tuple[int, int], str], ...] = ()
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def centres_um(self) -> np.ndarray | None:
        """Centres of the tiles (N, 2) in microns; None where corners, side or scale are not known."""
        geometry = self.geometry
        if self.coords is None or geometry.side_level0 is None or geometry.level0_mpp is None:
            return None
        return np.asarray((self.coords + geometry.side_level0 / 2) * geometry.level0_mpp)


def magnification(mpp: float) -> float | int:
    """The power that a scale is called by: 10 um over mpp, drawn to the nominal power within 3 %."""
    exact = 10 / mpp
    nearest = min(NOMINAL, key=lambda n: abs(exact / n - 1))
    value = nearest if abs(exact / nearest - 1) <= 0.03 else round(exact, 4)
    return int(value) if float(value).is_integer() else value


def coords_folder(out: Path, mpp: float, tile_px: int, overlap_px: int) -> Path:
    """TRIDENT's folder of one tiling: OUT/20x_256px_0px_overlap."""
    return out / f"{magnification(mpp):g}x_{tile_px}px_{overlap_px}px_overlap"


def patches_file(folder: Path, name: str) -> Path:
    """Where the corners of a slide's tiles stand."""
    return folder / "patches" / f"{name}_patches.h5"


def features_file(folder: Path, encoder: str, name: str) -> Path:
    """Where the features of a slide stand; `encoder` is TRIDENT's name of it."""
    return folder / f"features_{encoder}" / f"{name}.h5"


def trident_attributes(geometry: TileGeometry, name: str, folder: str) -> dict[str, Any]:
    """The attributes that TRIDENT writes beside coords, from microns per pixel."""
    if geometry.mpp is None or geometry.level0_mpp is None or geometry.tile_px is None or geometry.side_level0 is None:
        raise EosinError("Coordinates cannot be written without tile size and scale.", where=name)
    return {
        "patch_size": geometry.tile_px,
        "patch_size_level0": round(geometry.side_level0),
        "level0_magnification": magnification(geometry.level0_mpp),
        "target_magnification": magnification(geometry.mpp),
        "overlap": geometry.overlap_px,
        "name": name,
        "savetodir": folder,
    }


# ---- writing -------------------------------------------------------------------------------------------------------


class _Disk:
    """The file under HDF5, which dies of an error while it closes: once it is lost, what is written goes nowhere.

    Attributes:
        lost: whether the file will not be kept: after the first error, or where its writer gave it up.
        failed: the first error.
    """

    def __init__(self, handle: FileIO) -> None:
        self._handle = handle
        self.lost = False
        self.failed: OSError | None = None

    def _noted(self, call: Callable[..., Any], *args: Any) -> Any:
        try:
            return 0 if self.lost else call(*args)
        except OSError as exc:
            self.lost, self.failed = True, exc
            raise

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        while len(left) and not self.lost:
            left = left[self._noted(self._handle.write, left) :]
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        return int(self._noted(self._handle.truncate, size))

    def flush(self) -> None:
        """Nothing waits: the handle has no buffer."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)


@contextmanager
def whole_file(path: Path) -> Iterator[Any]:
    """An open h5py.File that appears at `path` only when the block ends without an exception.

    Raises:
        EosinError: the disk is full, read-only or closed to this user.
    """
    h5py = need("h5py", "slides")
    temporary = unfinished(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w+b", buffering=0) as handle:
                lock_for_life(handle.fileno())
                disk = _Disk(handle)
                try:
                    with h5py.File(disk, "w") as file:
                        try:
                            yield file
                            file.flush()
                        except BaseException:
                            disk.lost = True
                            raise
                    os.fsync(handle.fileno())
                except Exception as exc:
                    if disk.failed is not None:
                        raise disk.failed from exc
                    raise
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


class BagWriter:
    """Writes the features of one slide as they come; see `write_bag`."""

    def __init__(self, file: Any, dim: int, dtype: str) -> None:
        self._file = file
        self._rows: dict[str, list[np.ndarray]] = {}
        self._features = file.create_dataset(
            "features", shape=(0, dim), maxshape=(None, dim), dtype=dtype, chunks=(ROWS_PER_CHUNK, dim)
        )

    def add(self, features: np.ndarray, coords: np.ndarray, **extra: np.ndarray) -> None:
        """Append rows: features (n, D), corners (n, 2), and further columns of n values."""
        old = len(self._features)
        self._features.resize(old + len(features), axis=0)
        self._features[old:] = features
        for key, rows in {"coords": np.asarray(coords, np.int64).reshape(-1, 2), **extra}.items():
            self._rows.setdefault(key, []).append(np.asarray(rows))

    def close(
        self,
        coords_attributes: Mapping[str, Any],
        features_attributes: Mapping[str, Any],
        failed: Sequence[tuple[tuple[int, int], str]] = (),
    ) -> int:
        """Write what was kept back; returns the number of rows."""
        h5py = need("h5py", "slides")
        self._rows.setdefault("coords", [np.empty((0, 2), np.int64)])
        for key, rows in self._rows.items():
            self._file.create_dataset(key, data=np.concatenate(rows))
        self._file["coords"].attrs.update(coords_attributes)
        self._file["features"].attrs.update(features_attributes)
        corners = np.array([c for c, _ in failed], np.int64).reshape(-1, 2)
        self._file.create_dataset("failed_coords", data=corners)
        reasons = [r for _, r in failed]
        self._file.create_dataset("failed_reasons", data=reasons, dtype=h5py.string_dtype(), shape=(len(failed),))
        return len(self._features)


def write_bag(path: Path, bag: FeatureBag, *, encoder_name: str | None = None) -> None:
    """Write a bag in TRIDENT's layout, whole or not at all."""
    if bag.coords is None:
        raise EosinError("TRIDENT's layout needs coordinates, and these features have none.", where=bag.name)
    scale = {k: v for k, v in vars(bag.geometry).items() if v is not None and k in ("mpp", "level0_mpp")}
    with whole_file(path) as file:
        writer = BagWriter(file, bag.features.shape[1], "float32")
        writer.add(bag.features, bag.coords, **bag.extra)
        coords_attributes = trident_attributes(bag.geometry, bag.name, path.parent.parent.name) | scale
        told = {"encoder": encoder_name or bag.encoder} if encoder_name or bag.encoder else {}
        writer.close(coords_attributes, {"name": bag.name, "savetodir": path.parent.name, **told}, bag.failed)


def write_patches(path: Path, coords: np.ndarray, geometry: TileGeometry, name: str) -> None:
    """Write the corners of a slide's tiles where TRIDENT looks for them. A file that stands there already stays."""
    if path.exists():
        return
    with whole_file(path) as file:
        dataset = file.create_dataset("coords", data=np.asarray(coords, np.int64).reshape(-1, 2))
        dataset.attrs.update(trident_attributes(geometry, name, path.parent.parent.name))
        dataset.attrs.update({"mpp": geometry.mpp, "level0_mpp": geometry.level0_mpp})
