"""Features from whichever file: h5 of TRIDENT or CLAM, SlideChat csv, GigaPath pt, SpatialData zarr.

Every layout becomes a `FeatureBag`; no code of a file is run, and no file outside it is opened (`h5_read`, `foreign`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.guarded import Job, run_guarded
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.store.names import file_name
from eosin.slides.encoders.encoder import all_finite, check_features, check_mpp
from eosin.slides.encoders.records import EncoderRecord
from eosin.slides.features import h5
from eosin.slides.features.foreign import read_csv, read_pt, read_zarr
from eosin.slides.features.h5 import FeatureBag, TileGeometry
from eosin.slides.features.h5_read import read_h5
from eosin.slides.untrusted import clean

SUFFIXES = (".h5", ".hdf5", ".csv", ".pt", ".pth", ".zarr")


def read_features(
    path: Path, *, encoder: EncoderRecord | None = None, geometry: TileGeometry | None = None
) -> FeatureBag:
    """The features of one slide.

    Args:
        encoder: refuse features that are not of this encoder, as far as the file tells, and that do not fit it.
        geometry: size and scale of the tiles, where the file does not state them.

    Raises:
        EosinError: not a feature file, damaged, empty, not finite, or of another encoder. The message names the file.
    """
    path = Path(path)
    readers = {".csv": read_csv, ".pt": read_pt, ".pth": read_pt, ".zarr": read_zarr, ".h5": read_h5, ".hdf5": read_h5}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise EosinError("This is no feature file.", expected=", ".join(SUFFIXES), found=path.name, where=path)
    bag = reader(path)
    if geometry is not None:
        told = {k: v for k, v in vars(bag.geometry).items() if v not in (None, 0)}
        bag = replace(bag, geometry=replace(geometry, **told))
    if not len(bag.features):
        raise EosinError("This file holds no tile.", expected="at least one row of features", where=path)
    if encoder is not None:
        _check_encoder(bag, encoder, path)
    elif not all_finite(bag.features):
        num = int((~np.isfinite(bag.features).all(axis=1)).sum())
        raise EosinError(
            "Some features are not finite numbers.", found=f"{num} of {len(bag.features)} tiles", where=path,
            next_step="make the features of this slide again",
        )  # fmt: skip
    return bag


def _check_encoder(bag: FeatureBag, encoder: EncoderRecord, path: Path) -> None:
    """Refuse features of another encoder, of another scale, or normalised otherwise."""
    if bag.encoder is not None and bag.encoder not in (encoder.name, encoder.trident_name):
        raise EosinError(
            "These features are of another encoder.", expected=encoder.name, found=bag.encoder, where=path,
            next_step=f"eosin slides features SLIDES --encoder {encoder.name} --out DIR",
        )  # fmt: skip
    told = _record_told(bag, path)
    for key in ("mean", "std", "tile_px", "fit", "pool"):
        ours = encoder.model_dump(mode="json")[key]
        if key in told and told[key] != ours:
            raise EosinError(
                f"These features were made with another {key}.", expected=str(ours), found=str(told[key]), where=path
            )
    if bag.geometry.mpp is not None:
        check_mpp(encoder, bag.geometry.mpp)
    check_features(encoder, bag.features, path)


def _record_told(bag: FeatureBag, path: Path) -> dict[str, Any]:
    """The record of the encoder that a file by Eosin holds."""
    text = bag.attributes.get("encoder_record")
    try:
        told = json.loads(text) if text is not None else {}
    except (TypeError, ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise EosinError("The record of the encoder in this file is damaged.", found=str(text)[:80], where=path)
    return told


# ---- converting ----------------------------------------------------------------------------------------------------


def convert(
    paths: Sequence[Path], out: Path, encoder: EncoderRecord, geometry: TileGeometry, *, timeout_s: float = 600.0
) -> tuple[list[Path], list[Dropped]]:
    """Rewrite feature files of any layout in TRIDENT's; a file that cannot be used is set aside with its reason.

    Each file is read in a child process, so that one at which a library hangs or crashes takes nothing along. The
    features are named after the file, never after a name that stands in it. Nothing is overwritten.

    Args:
        encoder: what the features are of.
        geometry: size and scale of the tiles; what a file states itself goes first.
        timeout_s: seconds that a file may take.
    """
    made: list[Path] = []
    dropped: list[Dropped] = []
    jobs = [Job(clean(str(path)), (str(path), str(out), encoder, geometry)) for path in paths]
    for _, outcome in run_guarded(_convert_one, jobs, timeout_s=timeout_s, step="convert"):
        if isinstance(outcome, Kept):
            made.append(Path(outcome.value))
        else:
            dropped.append(outcome)
    return made, dropped


def _convert_one(source: str, out: str, encoder: EncoderRecord, geometry: TileGeometry) -> str:
    """Convert one file; returns where the features stand. The corners come first: a kill between leaves no gap."""
    path = Path(source)
    bag = read_features(path, encoder=encoder, geometry=geometry)
    if bag.geometry.mpp is None or bag.geometry.tile_px is None:
        raise EosinError("Size and scale of the tiles are not known.", where=path)
    if bag.coords is None:
        raise EosinError("TRIDENT's layout needs coordinates, and these features have none.", where=path)
    name = file_name(path.stem)
    folder = h5.coords_folder(Path(out), bag.geometry.mpp, bag.geometry.tile_px, bag.geometry.overlap_px)
    target = h5.features_file(folder, encoder.trident_name, name)
    if target.exists():
        raise EosinError("There are features of this name already.", found=str(target))
    h5.write_patches(h5.patches_file(folder, name), bag.coords, bag.geometry, name)
    h5.write_bag(target, replace(bag, name=name), encoder_name=encoder.name)
    return str(target)
