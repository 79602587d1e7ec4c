"""Features from whichever file: h5 of TRIDENT or CLAM, SlideChat csv, GigaPath pt, SpatialData zarr.

Everything else than h5 is first turned into a `FeatureBag` by a converter that runs no code of the file: torch files
are read with `weights_only=True`, zarr stores that ask for pickle are refused.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.slides.encoders.encoder import check_features, check_mpp
from eosin.slides.encoders.records import EncoderRecord
from eosin.slides.extras import need
from eosin.slides.features import h5
from eosin.slides.features.h5 import FeatureBag, Place
from eosin.slides.features.h5_read import checked_rows, read_h5

SUFFIXES = (".h5", ".hdf5", ".csv", ".pt", ".pth", ".zarr")
_X_NAMES, _Y_NAMES = ("x", "coord_x", "coords_x"), ("y", "coord_y", "coords_y")
_NUMBERED = re.compile(r"(?:feature|feat|f|dim)?_?\d+$", re.IGNORECASE)


def read_features(path: Path, *, encoder: EncoderRecord | None = None, place: Place | None = None) -> FeatureBag:
    """The features of one slide.

    Args:
        encoder: refuse features that are not of this encoder, as far as the file tells, and that do not fit it.
        place: size and scale of the tiles, where the file does not state them.

    Raises:
        EosinError: not a feature file, damaged, empty, not finite, or of another encoder. The message names the file.
    """
    path = Path(path)
    readers = {".csv": read_csv, ".pt": read_pt, ".pth": read_pt, ".zarr": read_zarr, ".h5": read_h5, ".hdf5": read_h5}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise EosinError("This is no feature file.", expected=", ".join(SUFFIXES), found=path.name, where=path)
    bag = reader(path)
    if place is not None:
        told = {k: v for k, v in vars(bag.place).items() if v not in (None, 0)}
        bag = replace(bag, place=replace(place, **told))
    if not len(bag.features):
        raise EosinError("This file holds no tile.", expected="at least one row of features", where=path)
    if encoder is not None:
        _check_encoder(bag, encoder, path)
    elif not np.isfinite(bag.features).all():
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
    told = json.loads(bag.attributes["encoder_record"]) if "encoder_record" in bag.attributes else {}
    for key in ("mean", "std", "tile_px", "fit", "pool"):
        ours = encoder.model_dump(mode="json")[key]
        if key in told and told[key] != ours:
            raise EosinError(
                f"These features were made with another {key}.", expected=str(ours), found=str(told[key]), where=path
            )
    if bag.place.mpp is not None:
        check_mpp(encoder, bag.place.mpp)
    check_features(encoder, bag.features, path)


# ---- SlideChat csv -------------------------------------------------------------------------------------------------


def read_csv(path: Path) -> FeatureBag:
    """SlideChat's csv: a line a tile, a numbered column a dimension; columns x and y are corners where they are there.

    Without numbered columns every column of numbers but x and y is a dimension, in order.

    Raises:
        EosinError: no lines, lines of different length, or no numbers.
    """
    header, rows = _table(path)
    lower = [c.strip().lower() for c in header]
    numbered = [i for i, c in enumerate(lower) if _NUMBERED.fullmatch(c)]
    places = [next((i for i, c in enumerate(lower) if c in names), None) for names in (_X_NAMES, _Y_NAMES)]
    columns = numbered or [i for i in range(len(header)) if i not in places and _is_number(rows[0][i])]
    if not columns:
        raise EosinError("No column of this table holds numbers.", found=", ".join(header[:6]), where=path)
    try:
        features = np.array([[float(row[i]) for i in columns] for row in rows], np.float32)
        known = None not in places
        coords = np.array([[float(row[i or 0]) for i in places] for row in rows]) if known else None
    except ValueError as exc:
        raise EosinError("A field of this table is no number.", found=str(exc)[:120], where=path) from None
    features, coords = checked_rows(features, coords, path)
    return FeatureBag(path.stem, features, coords, layout="slidechat")


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            header, *rows = [row for row in csv.reader(handle) if row] or [[]]
    except FileNotFoundError:
        raise EosinError("There is no such feature file.", where=path) from None
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise EosinError("This table cannot be read.", found=str(exc)[:120], where=path) from None
    if not rows:
        raise EosinError("This table has no lines.", expected="a line a tile below the header", where=path)
    uneven = next((n for n, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if uneven is not None:
        found = f"{len(rows[uneven - 2])} of {len(header)} fields"
        raise EosinError("A line of this table is cut off.", found=found, where=f"{path}:{uneven}")
    return header, rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ---- GigaPath pt ---------------------------------------------------------------------------------------------------


def read_pt(path: Path) -> FeatureBag:
    """GigaPath's pt (tile_embeds, coords at level 0), or a bare tensor of features; tensors alone, nothing unpickled.

    Raises:
        EosinError: the file holds other objects than tensors, or no features.
    """
    torch = need("torch")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise EosinError("There is no such feature file.", where=path) from None
    except Exception as exc:  # torch, zipfile and the safe unpickler each have their own errors
        raise EosinError(
            "This torch file cannot be read safely.", expected="tensors alone",
            found=f"{type(exc).__name__}: {str(exc)[:160]}", where=path,
            next_step="write the features as h5 or safetensors on a machine where you trust the file",
        ) from exc  # fmt: skip
    if isinstance(held, Mapping):
        key = next((k for k in ("tile_embeds", "features", "feats", "embeddings") if k in held), None)
        features, coords = (held[key] if key else None), held.get("coords")
    else:
        features, coords = held, None
    if features is None or not hasattr(features, "float"):
        found = ", ".join(map(str, held)) if isinstance(held, Mapping) else type(held).__name__
        raise EosinError(
            "This torch file holds no features.", expected="tile_embeds and coords", found=found, where=path
        )
    rows = features.detach().float().numpy()
    corners = coords.detach().double().numpy() if coords is not None and hasattr(coords, "double") else None
    rows, corners = checked_rows(rows, corners, path)
    return FeatureBag(path.stem, rows, corners, layout="gigapath")


# ---- SpatialData zarr ----------------------------------------------------------------------------------------------


def read_zarr(path: Path, key: str | None = None) -> FeatureBag:
    """A feature table of a SpatialData store as wsidata writes it: X, and the boxes of the tiles as shapes.

    Args:
        key: name of the table; needed where there is more than one.

    Raises:
        EosinError: no such store, no or several feature tables, or a store that asks for pickle.
        MissingExtraError: spatialdata is not installed.
    """
    _refuse_pickle(path)
    spatialdata = need("spatialdata", "zarr")
    try:
        held = spatialdata.read_zarr(path)
    except Exception as exc:  # zarr, anndata and geopandas each have their own errors
        raise EosinError("This zarr store cannot be read.", found=f"{type(exc).__name__}: {str(exc)[:160]}",
                         where=path) from exc  # fmt: skip
    tables = {k: t for k, t in held.tables.items() if t.n_vars and "spatialdata_attrs" in t.uns}
    if key is not None:
        tables = {k: t for k, t in tables.items() if k == key}
    if len(tables) != 1:
        raise EosinError("Which table of this store holds the features?", expected=key or "one feature table",
                         found=", ".join(tables) or "none", where=path, next_step="name the table")  # fmt: skip
    [(name, table)] = tables.items()
    about = table.uns["spatialdata_attrs"]
    region = about["region"] if isinstance(about["region"], str) else about["region"][0]
    rows = table.X.toarray() if hasattr(table.X, "toarray") else np.asarray(table.X)
    coords, side = _corners(held.shapes[region], table.obs[about["instance_key"]].to_numpy(), path)
    features, corners = checked_rows(rows, coords, path)
    spec = held.attrs.get("tile_spec", {}).get(region, {})
    level0 = held.attrs.get("slide_properties", {}).get("mpp")
    place = Place(spec.get("width"), side, spec.get("mpp"), level0,
                  int(spec.get("width", 0)) - int(spec.get("stride_width", spec.get("width", 0))))  # fmt: skip
    encoder = name.removesuffix(f"_{region}")
    return FeatureBag(path.stem, features, corners, place, "spatialdata", encoder, attributes={"table": name})


def _corners(shapes: Any, instances: np.ndarray, path: Path) -> tuple[np.ndarray, float]:
    """Upper left corners (N, 2) of the tiles that a table's rows name, and the side of a tile."""
    bounds = shapes.geometry.bounds.to_numpy()
    ids = shapes["tile_id"].to_numpy() if "tile_id" in shapes.columns else shapes.index.to_numpy()
    where = {v: i for i, v in enumerate(ids.tolist())}
    try:
        order = np.array([where[v] for v in instances.tolist()], dtype=np.intp)
    except KeyError as exc:
        raise EosinError("A row of the table names a tile that is not there.", found=str(exc), where=path) from None
    return bounds[order, :2], float(np.median(bounds[:, 2] - bounds[:, 0]))


def _refuse_pickle(store: Path) -> None:
    """Refuse a zarr store in which an array would be unpickled."""
    if not store.is_dir():
        raise EosinError("There is no such zarr store.", expected="a folder", where=store)
    for name in (".zarray", "zarr.json", ".zmetadata"):
        for file in store.rglob(name):
            if re.search(r'"(?:id|name)"\s*:\s*"(?:numcodecs\.)?pickle"', file.read_text("utf-8", "replace")):
                raise EosinError(
                    "This zarr store asks for pickle, which can run any code.", where=file,
                    next_step="write the store again without object arrays",
                )  # fmt: skip


# ---- converting ----------------------------------------------------------------------------------------------------


def convert(paths: Sequence[Path], out: Path, encoder: EncoderRecord, place: Place) -> tuple[list[Path], list[Dropped]]:
    """Rewrite feature files of any layout in TRIDENT's; a file that cannot be used is set aside with its reason.

    Args:
        encoder: what the features are of.
        place: size and scale of the tiles; what a file states itself goes first.
    """
    made: list[Path] = []
    dropped: list[Dropped] = []
    for path in map(Path, paths):
        try:
            bag = read_features(path, encoder=encoder, place=place)
            if bag.place.mpp is None or bag.place.tile_px is None:
                raise EosinError("Size and scale of the tiles are not known.", where=path)
            folder = h5.coords_folder(out, bag.place.mpp, bag.place.tile_px, bag.place.overlap_px)
            target = h5.features_file(folder, encoder.trident_name, bag.name)
            if target.exists():
                raise EosinError("There are features of this name already.", found=str(target))
            h5.write_bag(target, bag, encoder_name=encoder.name)
            if bag.coords is not None:
                h5.write_patches(h5.patches_file(folder, bag.name), bag.coords, bag.place, bag.name)
            made.append(target)
        except EosinError as exc:
            dropped.append(Dropped(str(path), exc.message, exc.found or "", "convert"))
    return made, dropped
