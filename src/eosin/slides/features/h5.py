"""Feature files: TRIDENT's h5 layout read and written; CLAM h5, SlideChat csv, GigaPath pt and zarr read.

The layout, as TRIDENT's public code has it:

    OUT/20x_256px_0px_overlap/patches/NAME_patches.h5      coords
    OUT/20x_256px_0px_overlap/features_uni_v1/NAME.h5      features (N, D), coords (N, 2)

`coords` are the upper left corners of the tiles, x then y, int64 pixels of level 0. Its attributes are patch_size,
patch_size_level0, level0_magnification, target_magnification, overlap, name and savetodir. Eosin adds its own beside
them (mpp, level0_mpp, encoder, ...), and the datasets tissue_fraction, flags, failed_coords and failed_reasons.
Nothing in a file is ever unpickled.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError, disk_errors
from eosin.slides.extras import need

NOMINAL = (1.25, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0)
ROWS_PER_CHUNK = 256


@dataclass(frozen=True)
class Place:
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
    place: Place = field(default_factory=Place)
    layout: str = "trident"
    encoder: str | None = None
    failed: tuple[tuple[tuple[int, int], str], ...] = ()
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def centres_um(self) -> np.ndarray | None:
        """Centres of the tiles (N, 2) in microns; None where corners, side or scale are not known."""
        place = self.place
        if self.coords is None or place.side_level0 is None or place.level0_mpp is None:
            return None
        return np.asarray((self.coords + place.side_level0 / 2) * place.level0_mpp)


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


def trident_attributes(place: Place, name: str, folder: str) -> dict[str, Any]:
    """The attributes that TRIDENT writes beside coords, from microns per pixel."""
    if place.mpp is None or place.level0_mpp is None or place.tile_px is None or place.side_level0 is None:
        raise EosinError("Coordinates cannot be written without tile size and scale.", where=name)
    return {
        "patch_size": place.tile_px,
        "patch_size_level0": round(place.side_level0),
        "level0_magnification": magnification(place.level0_mpp),
        "target_magnification": magnification(place.mpp),
        "overlap": place.overlap_px,
        "name": name,
        "savetodir": folder,
    }


# ---- writing -------------------------------------------------------------------------------------------------------


@contextmanager
def whole_file(path: Path) -> Iterator[Any]:
    """An open h5py.File that appears at `path` only when the block ends without an exception."""
    h5py = need("h5py", "slides")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with h5py.File(temporary, "w") as file:
                yield file
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
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
    place = {k: v for k, v in vars(bag.place).items() if v is not None and k in ("mpp", "level0_mpp")}
    with whole_file(path) as file:
        writer = BagWriter(file, bag.features.shape[1], "float32")
        writer.add(bag.features, bag.coords, **bag.extra)
        coords_attributes = trident_attributes(bag.place, bag.name, path.parent.parent.name) | place
        told = {"encoder": encoder_name or bag.encoder} if encoder_name or bag.encoder else {}
        writer.close(coords_attributes, {"name": bag.name, "savetodir": path.parent.name, **told}, bag.failed)


def write_patches(path: Path, coords: np.ndarray, place: Place, name: str) -> None:
    """Write the corners of a slide's tiles where TRIDENT looks for them."""
    with whole_file(path) as file:
        dataset = file.create_dataset("coords", data=np.asarray(coords, np.int64).reshape(-1, 2))
        dataset.attrs.update(trident_attributes(place, name, path.parent.parent.name))
        dataset.attrs.update({"mpp": place.mpp, "level0_mpp": place.level0_mpp})


# ---- reading h5 ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outline:
    """What a file says without its features being read."""

    num_tiles: int
    dim: int
    failed: tuple[tuple[tuple[int, int], str], ...]
    attributes: Mapping[str, Any]


def outline(path: Path) -> Outline:
    """Size and attributes of an h5 file of features.

    Raises:
        EosinError: not an h5 file, cut off, or without features.
    """
    try:
        with need("h5py", "slides").File(path, "r") as file:
            held = file["features"]
            about = {k: _plain(v) for k, v in held.attrs.items()}
            return Outline(held.shape[0], held.shape[-1], _failed(file), about)
    except (OSError, KeyError) as exc:
        raise EosinError("This h5 file cannot be read.", found=str(exc)[:160], where=path) from None


def read_h5(path: Path) -> FeatureBag:
    """Features of TRIDENT's or CLAM's layout.

    Raises:
        EosinError: not an h5 file, cut off, without features, or with rows that do not match.
    """
    h5py = need("h5py", "slides")
    try:
        with h5py.File(path, "r") as file:
            key = next((k for k in ("features", "feats") if k in file), None)
            if key is None:
                raise EosinError(
                    "This h5 file holds no features.", expected="a dataset called features",
                    found=", ".join(file) or "nothing", where=path,
                )  # fmt: skip
            features = np.asarray(file[key][()], np.float32)
            coords = np.asarray(file["coords"][()]) if "coords" in file else None
            about = dict(file["coords"].attrs) if coords is not None else {}
            own = dict(file[key].attrs)
            extra = {k: file[k][()] for k in ("tissue_fraction", "flags") if k in file}
            failed = _failed(file)
    except FileNotFoundError:
        raise EosinError("There is no such feature file.", where=path) from None
    except OSError as exc:
        raise EosinError("This h5 file cannot be read.", found=str(exc)[:160], where=path) from None
    trident = "patch_size_level0" in about or "target_magnification" in about
    if not trident and "patch_level" not in about:
        about = {**_clam_patches(path), **about}
    features, coords = checked_rows(features, coords, path)
    return FeatureBag(
        name=_text(about.get("name")) or path.stem,
        features=features,
        coords=coords,
        place=_place(about),
        layout="trident" if trident else "clam",
        encoder=_text(own.get("encoder")) or _encoder_of_folder(path),
        failed=failed,
        extra=extra,
        attributes={k: _plain(v) for k, v in {**about, **own}.items()},
    )


def _failed(file: Any) -> tuple[tuple[tuple[int, int], str], ...]:
    if "failed_coords" not in file:
        return ()
    corners = [(int(x), int(y)) for x, y in file["failed_coords"][()]]
    return tuple(zip(corners, (r.decode() for r in file["failed_reasons"][()]), strict=True))


def checked_rows(features: np.ndarray, coords: np.ndarray | None, where: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Features as (N, D) float32 and coords as (N, 2) int64; refuses shapes that cannot be a bag."""
    if features.ndim == 3 and features.shape[0] == 1:
        features = features[0]
    if coords is not None and coords.ndim == 3 and coords.shape[0] == 1:
        coords = coords[0]
    if features.ndim != 2 or features.shape[1] == 0:
        raise EosinError("Features must be one row a tile.", expected="(N, D)", found=str(features.shape), where=where)
    if coords is not None and coords.shape != (len(features), 2):
        raise EosinError(
            "Coordinates and features do not match.",
            expected=f"coords ({len(features)}, 2)", found=f"coords {coords.shape}", where=where,
        )  # fmt: skip
    if coords is not None and not np.issubdtype(coords.dtype, np.integer):
        if not np.isfinite(coords).all():
            raise EosinError("Some coordinates are not finite numbers.", where=where)
        coords = np.rint(coords)
    return np.ascontiguousarray(features, np.float32), None if coords is None else coords.astype(np.int64)


def _place(about: Mapping[str, Any]) -> Place:
    """The place from TRIDENT's or CLAM's attributes; microns only where the file states them."""
    tile_px = int(about["patch_size"]) if "patch_size" in about else None
    side = float(about["patch_size_level0"]) if "patch_size_level0" in about else None
    if side is None and tile_px is not None and {"level0_magnification", "target_magnification"} <= about.keys():
        side = tile_px * float(about["level0_magnification"]) / float(about["target_magnification"])
    if side is None and tile_px is not None and "patch_level" in about:
        level = int(about["patch_level"])
        per_level = np.atleast_2d(np.asarray(about.get("downsample", (1.0, 1.0)), np.float64))
        side = tile_px * float(per_level[0, 0]) if level or len(per_level) == 1 else float(tile_px)
    mpp, level0 = (float(about[k]) if k in about else None for k in ("mpp", "level0_mpp"))
    return Place(tile_px, side, mpp, level0, int(about.get("overlap", 0)))


def _clam_patches(path: Path) -> dict[str, Any]:
    """Attributes of CLAM's own patches file, where it stands beside the features."""
    h5py = need("h5py", "slides")
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        file = folder / "patches" / f"{path.stem}.h5"
        if file.is_file() and file != path:
            with h5py.File(file, "r") as found:
                return dict(found["coords"].attrs) if "coords" in found else {}
    return {}


def _encoder_of_folder(path: Path) -> str | None:
    name = path.parent.name
    return name.removeprefix("features_") if name.startswith("features_") else None


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _plain(value: Any) -> Any:
    """An attribute as a JSON value."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value if isinstance(value, str | int | float | bool) or value is None else json.loads(json.dumps(str(value)))
