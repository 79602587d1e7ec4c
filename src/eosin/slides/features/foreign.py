"""Feature files of other tools: SlideChat csv, GigaPath pt, SpatialData zarr.

No code of a file is run: torch files are read with `weights_only=True`, zarr stores that ask for pickle are refused.
What a library throws at a damaged file becomes an EosinError that names it, in one place (`reading`).
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.core.formats.cells import cells_up_to
from eosin.slides.features.h5 import FeatureBag, TileGeometry
from eosin.slides.features.h5_read import MAX_RATIO, SMALL_BYTES, checked_rows, number
from eosin.slides.untrusted import clean, regular_size, told

MAX_CELL_CHARS = 100_000
_X_NAMES, _Y_NAMES = ("x", "coord_x", "coords_x"), ("y", "coord_y", "coords_y")
_NUMBERED = re.compile(r"(?:feature|feat|f|dim)?_?\d+$", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|nan|inf(?:inity)?)\s*", re.I | re.ASCII)
_FEATURE_KEYS = ("tile_embeds", "features", "feats", "embeddings")
_ZARR_NAMES = (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")


@contextmanager
def reading(path: Path, message: str, **advice: str) -> Iterator[None]:
    """What a library throws at what is in a file becomes an EosinError with this message."""
    try:
        yield
    except EosinError:
        raise
    except MemoryError:
        raise EosinError("This feature file needs more memory than there is.", where=path) from None
    except Exception as exc:  # torch, zipfile, zarr, anndata and geopandas each have their own errors
        raise EosinError(message, found=told(exc), where=path, **advice) from exc


# ---- SlideChat csv -------------------------------------------------------------------------------------------------


def read_csv(path: Path) -> FeatureBag:
    """SlideChat's csv: a line a tile, a numbered column a dimension; columns x and y are corners where they are there.

    Without numbered columns every column of numbers but x and y is a dimension, in order.

    Raises:
        EosinError: no lines, lines of different length, two columns of one name, or no numbers.
    """
    regular_size(path, "feature file")
    with (
        reading(path, "This table cannot be read."),
        cells_up_to(MAX_CELL_CHARS),
        path.open(newline="", encoding="utf-8-sig") as handle,
    ):
        lines = (row for row in csv.reader(handle) if row)
        header = next(lines, [])
        first = next(lines, None)
        if first is None:
            raise EosinError("This table has no lines.", expected="a line a tile below the header", where=path)
        columns, places = _columns(header, first, path)
        rows = _numbers(first, lines, len(header), [*columns, *places], path)
    num = len(columns)
    features, coords = checked_rows(rows[:, :num], rows[:, num:] if places else None, path)
    return FeatureBag(path.stem, features, coords, layout="slidechat")


def _columns(header: Sequence[str], first: Sequence[str], path: Path) -> tuple[list[int], list[int]]:
    """Which columns are features, and which are x and y (none where one of them is not there)."""
    lower = [c.strip().lower() for c in header]
    numbered = [i for i, c in enumerate(lower) if _NUMBERED.fullmatch(c)]
    found = [next((i for i, c in enumerate(lower) if c in names), None) for names in (_X_NAMES, _Y_NAMES)]
    cells = dict(enumerate(first))
    columns = numbered or [i for i in range(len(header)) if i not in found and _NUMBER.fullmatch(cells.get(i, ""))]
    if not columns:
        raise EosinError("No column of this table holds numbers.", found=", ".join(header[:6])[:200], where=path)
    if len({lower[i] for i in columns}) < len(columns):
        raise EosinError("Two columns of this table have one name.", where=path,
                         found=next(lower[i] for i in columns if lower.count(lower[i]) > 1))  # fmt: skip
    return columns, [i for i in found if i is not None] if None not in found else []


def _numbers(
    first: list[str], lines: Iterator[list[str]], width: int, columns: Sequence[int], path: Path
) -> np.ndarray:
    """The numbers of some columns, float64, a row a line."""
    rows: list[np.ndarray] = []
    for line, row in enumerate(itertools.chain([first], lines), 2):
        if len(row) != width:
            raise EosinError("A line of this table is cut off.", found=f"{len(row)} of {width} fields",
                             where=f"{path}:{line}")  # fmt: skip
        cells = [row[i] for i in columns]
        try:
            if "_" in "".join(cells):  # Python would read 1_0 as ten
                raise ValueError("a number with an underscore")
            rows.append(np.array([float(cell) for cell in cells]))
        except ValueError as exc:
            raise EosinError("A field of this table is no number.", found=told(exc), where=f"{path}:{line}") from None
    return np.stack(rows)


# ---- GigaPath pt ---------------------------------------------------------------------------------------------------


def read_pt(path: Path) -> FeatureBag:
    """GigaPath's pt (tile_embeds, coords at level 0), or a bare tensor of features; tensors alone, nothing unpickled.

    Raises:
        EosinError: the file holds other objects than tensors, no features, or tensors larger than what it stores.
    """
    torch = need("torch")
    size = regular_size(path, "feature file")
    advice = {"expected": "tensors alone",
              "next_step": "write the features as h5 or safetensors on a machine where you trust the file"}  # fmt: skip
    with reading(path, "This torch file cannot be read safely.", **advice):
        _check_zip(path, size)
        held = torch.load(path, map_location="cpu", weights_only=True)
    with reading(path, "This torch file cannot be read."):
        table = held if isinstance(held, Mapping) else {"features": held}
        key = next((k for k in _FEATURE_KEYS if k in table), None)
        if key is None or not torch.is_tensor(table[key]):
            found = ", ".join(clean(str(k)) for k in list(table)[:8]) if table is held else type(held).__name__
            raise EosinError("This torch file holds no features.", expected="tile_embeds and coords", found=found[:200],
                             where=path)  # fmt: skip
        corners = table.get("coords")
        rows, coords = checked_rows(
            _array(table[key], path), _array(corners, path) if torch.is_tensor(corners) else None, path
        )  # fmt: skip
    return FeatureBag(path.stem, rows, coords, layout="gigapath")


def _check_zip(path: Path, size: int) -> None:
    """Torch stores its tensors as they are; a file that unpacks to more than itself was made to fill the memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            whole = sum(part.file_size for part in packed.infolist())
        if whole > 2 * size + SMALL_BYTES:
            raise EosinError("This torch file cannot be read safely.", expected="parts that are stored as they are",
                             found=f"{size:,} bytes that unpack to {whole:,}", where=path)  # fmt: skip


def _array(tensor: Any, path: Path) -> np.ndarray:
    """A dense tensor of numbers as float32 (float64 and whole numbers as they are)."""
    import torch

    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
        found = f"{tensor.layout}, {tensor.dtype}, {tensor.device}"
        raise EosinError("Features must be plain numbers.", found=found, where=path)
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise EosinError("This torch file declares a tensor that is larger than what it stores.",
                         found=f"{tuple(tensor.shape)} in {tensor.untyped_storage().nbytes():,} bytes",
                         where=path)  # fmt: skip
    plain = tensor.detach()
    return np.asarray((plain.float() if plain.dtype in (torch.float16, torch.bfloat16) else plain).numpy())


# ---- SpatialData zarr ----------------------------------------------------------------------------------------------


def read_zarr(path: Path, key: str | None = None) -> FeatureBag:
    """A feature table of a SpatialData store as wsidata writes it: X, and the boxes of the tiles as shapes.

    Args:
        key: name of the table; needed where there is more than one.

    Raises:
        EosinError: no such store, no or several feature tables, a store that asks for pickle, that leads to files
            outside it, or that declares more than it holds.
        MissingExtraError: spatialdata is not installed.
    """
    with reading(path, "This zarr store cannot be read."):
        _check_store(path)
    spatialdata = need("spatialdata", "zarr")
    with reading(path, "This zarr store cannot be read."):
        held = spatialdata.read_zarr(path)
        tables = {k: t for k, t in held.tables.items() if t.n_vars and "spatialdata_attrs" in t.uns}
        if key is not None:
            tables = {k: t for k, t in tables.items() if k == key}
        if len(tables) != 1:
            raise EosinError("Which table of this store holds the features?", expected=key or "one feature table",
                             found=", ".join(tables) or "none", where=path, next_step="name the table")  # fmt: skip
        [(name, table)] = tables.items()
        return _bag_of_table(held, name, table, path)


def _bag_of_table(held: Any, name: str, table: Any, path: Path) -> FeatureBag:
    about = table.uns["spatialdata_attrs"]
    region = about["region"] if isinstance(about["region"], str) else about["region"][0]
    rows = table.X.toarray() if hasattr(table.X, "toarray") else np.asarray(table.X)
    coords, side = _corners(held.shapes[region], table.obs[about["instance_key"]].to_numpy(), path)
    features, corners = checked_rows(rows, coords, path)
    spec = held.attrs.get("tile_spec", {}).get(region, {})
    level0 = held.attrs.get("slide_properties", {}).get("mpp")
    width, stride = (number(spec, key, path, least=1) for key in ("width", "stride_width"))
    tile_px = None if width is None else round(width)
    overlap = 0 if tile_px is None or stride is None else tile_px - round(stride)
    geometry = TileGeometry(tile_px, side, number(spec, "mpp", path), number({"mpp": level0}, "mpp", path), overlap)
    encoder = name.removesuffix(f"_{region}")
    return FeatureBag(path.stem, features, corners, geometry, "spatialdata", encoder, attributes={"table": name})


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


def _check_store(store: Path) -> None:
    """Refuse a store in which an array would be unpickled, lies outside, or is larger than its parts can be."""
    if not store.is_dir():
        raise EosinError("There is no such zarr store.", expected="a folder", where=store)
    inside = store.resolve()
    for folder, names, files in os.walk(store):
        here = Path(folder)
        for name in (*names, *files):
            if (here / name).is_symlink() and not (here / name).resolve().is_relative_to(inside):
                raise EosinError("This zarr store leads to a file outside it.", where=here / name)
        for name in sorted(set(files) & set(_ZARR_NAMES)):
            size = regular_size(here / name)
            if size > SMALL_BYTES:
                raise EosinError("The metadata of this zarr store are too large.", found=f"{size:,}", where=here / name)
            _check_metadata(json.loads((here / name).read_text("utf-8")), here / name)


def _check_metadata(about: Any, file: Path) -> None:
    for value in _objects(about):
        if any(str(value.get(k, "")).lower().split(".")[-1] == "pickle" for k in ("id", "name")):
            raise EosinError(
                "This zarr store asks for pickle, which can run any code.", where=file,
                next_step="write the store again without object arrays",
            )  # fmt: skip
    if isinstance(about, dict) and isinstance(about.get("shape"), list) and file.name in (".zarray", "zarr.json"):
        stored = sum(p.stat().st_size for p in file.parent.rglob("*") if p.is_file())
        if math.prod(int(side) for side in about["shape"]) > max(SMALL_BYTES, MAX_RATIO * stored):
            raise EosinError("An array of this zarr store is larger than what it stores.",
                             found=f"shape {about['shape']} in {stored:,} bytes"[:160], where=file)  # fmt: skip


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
