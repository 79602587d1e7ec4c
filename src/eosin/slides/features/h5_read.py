"""Reading h5 files of features, TRIDENT's and CLAM's, also damaged ones and ones that were made to do harm.

Numbers and short texts of the file itself are read, nothing else: a link, a data set whose numbers lie in other files,
and a size that the file cannot hold are refused before anything is read. What h5py throws becomes an EosinError that
names the file, in one place (`opened`).
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.slides.features.h5 import FeatureBag, TileGeometry
from eosin.slides.features.h5_texts import check_attribute_texts, check_dataset_texts
from eosin.slides.untrusted import clean, regular_size, told

SMALL_BYTES, LARGE_PART = 16 * 2**20, 2**19
MAX_RATIO = 64  # of compressed numbers; features do not get smaller than a quarter
MAX_ATTRIBUTE_BYTES = 2**16
MAX_CORNER = 2**53  # up to here a float holds every whole number
_KEYS = ("features", "feats")
_EXTRA = ("tissue_fraction", "flags")
_ABSENT = ("", "none", "nan", "null", "unknown")

Failed = tuple[tuple[tuple[int, int], str], ...]


@dataclass(frozen=True)
class H5Header:
    """What a file says without its features being read."""

    num_tiles: int
    dim: int
    failed: Failed
    attributes: Mapping[str, Any]


def read_header(path: Path) -> H5Header:
    """Size and attributes of an h5 file of features.

    Raises:
        EosinError: not an h5 file, cut off, or without features.
    """
    with opened(path) as file:
        held = _features(file, path)
        shape = held.shape[-2:]
        if len(shape) < 2:
            raise EosinError("Features must be one row a tile.", expected="(N, D)", found=str(held.shape), where=path)
        return H5Header(shape[0], shape[1], _failed(file, path), _attributes(held, path))


def read_h5(path: Path) -> FeatureBag:
    """Features of TRIDENT's or CLAM's layout. The bag is named after the file, not after what stands in it.

    Raises:
        EosinError: not an h5 file, cut off, without features, with rows that do not match, with links or numbers in
            other files, or with sizes that it does not hold.
    """
    with opened(path) as file:
        held = _features(file, path)
        features, own = held[()], _attributes(held, path)
        coords, about = None, {}
        if _has(file, "coords"):
            places = _dataset(file, "coords", path)
            coords, about = places[()], _attributes(places, path)
        features, coords = checked_rows(features, coords, path)
        extra = {key: _column(file, key, len(features), path) for key in _EXTRA if _has(file, key)}
        failed = _failed(file, path)
    trident = "patch_size_level0" in about or "target_magnification" in about
    if not trident and "patch_level" not in about:
        about = {**_clam_patches(path), **about}
    encoder = own.get("encoder")
    return FeatureBag(
        name=path.stem,
        features=features,
        coords=coords,
        geometry=_geometry(about, path),
        layout="trident" if trident else "clam",
        encoder=encoder if isinstance(encoder, str) else _encoder_of_folder(path),
        failed=failed,
        extra=extra,
        attributes={**about, **own},
    )


def checked_rows(features: np.ndarray, coords: np.ndarray | None, where: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Features as (N, D) float32 and coords as (N, 2) int64; refuses shapes and types that cannot be a bag."""
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
    for what, rows in (("Features", features), ("Coordinates", coords)):
        if rows is not None and rows.dtype.kind not in "iuf":
            raise EosinError(f"{what} must be plain numbers.", found=str(rows.dtype)[:80], where=where)
    if coords is not None and not np.issubdtype(coords.dtype, np.integer):
        if not np.isfinite(coords).all():
            raise EosinError("Some coordinates are not finite numbers.", where=where)
        coords = np.rint(coords)
    if coords is not None and coords.size and max(abs(float(coords.min())), abs(float(coords.max()))) > MAX_CORNER:
        raise EosinError("Some coordinates lie far outside any slide.", found=f"up to {coords.max():g}", where=where)
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and that is refused later
        features = np.ascontiguousarray(features, np.float32)
    return features, None if coords is None else coords.astype(np.int64)


# ---- the file ------------------------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The h5py.Group of a whole file. Whatever h5py throws at what is in it becomes an EosinError that names it."""
    h5py = need("h5py", "slides")
    regular_size(path, "feature file")
    try:
        plan = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
        plan.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
        held = h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY, plan)
        try:
            yield h5py.Group(held)
        finally:
            held.close()
    except EosinError:
        raise
    except MemoryError:
        raise EosinError("This h5 file needs more memory than there is.", where=path) from None
    except Exception as exc:  # damage comes out as any of some twenty kinds, from KeyError to RuntimeError
        raise EosinError("This h5 file cannot be read.", found=told(exc), where=path) from None


def _refuse(what: str, path: Path) -> NoReturn:
    raise EosinError("This h5 file cannot be read.", found=what, where=path)


def _has(file: Any, key: str) -> bool:
    """Whether there is an entry of this name; a link is not followed to see."""
    return bool(file.id.links.exists(key.encode()))


def _features(file: Any, path: Path) -> Any:
    key = next((k for k in _KEYS if _has(file, k)), None)
    if key is None:
        raise EosinError(
            "This h5 file holds no features.", expected="a dataset called features",
            found=", ".join(clean(str(k)) for k in list(file)[:8]) or "nothing", where=path,
        )  # fmt: skip
    return _dataset(file, key, path)


def numbers_of(file: Any, key: str, path: Path) -> Any:
    """A data set of numbers of the file itself, still on disk; what `opened` gives is `file`.

    Raises:
        EosinError: there is none, it is a link or lies in another file, or it declares more than the file holds.
    """
    return _dataset(file, key, path)


def _dataset(file: Any, key: str, path: Path, kinds: str = "iuf") -> Any:
    """A data set of the file itself whose declared size is there; `kinds` of numpy types."""
    h5py = need("h5py", "slides")
    if not _has(file, key):
        _refuse(f"there is no {key}", path)
    if file.id.links.get_info(key.encode()).type != h5py.h5l.TYPE_HARD:
        _refuse(f"{key} is a link, and links are not followed", path)
    opened_as = h5py.h5o.open(file.id, key.encode())
    if not isinstance(opened_as, h5py.h5d.DatasetID):
        kind = "group" if isinstance(opened_as, h5py.h5g.GroupID) else "datatype"
        _refuse(f"{key} is a {kind}, not a data set", path)
    found = h5py.Dataset(opened_as)
    plan, shape, dtype = found.id.get_create_plist(), found.shape, found.dtype
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        _refuse(f"the numbers of {key} lie in another file, which is not opened", path)
    if shape is None or dtype.kind not in kinds:
        held = "nothing" if shape is None else str(dtype)[:60]
        _refuse(f"{key} holds {held}, not {'texts' if 'O' in kinds else 'numbers'}", path)
    _check_size(found.id, plan, (shape, dtype.itemsize), key, path)
    return found


def _check_size(held: Any, plan: Any, wanted: tuple[tuple[int, ...], int], key: str, path: Path) -> None:
    """Refuse a data set that declares more than the file holds, before any of it is read."""
    shape, width = wanted
    declared, there = math.prod(shape) * width, path.stat().st_size
    if not declared:
        return
    if plan.get_layout() != need("h5py", "slides").h5d.CHUNKED:
        stored = held.get_storage_size() if declared <= there else there
        if stored < declared:
            _refuse(f"{key} declares {declared:,} bytes, and the file holds {stored:,}", path)
        return
    steps = plan.get_chunk()
    parts = math.prod(-(-side // step) for side, step in zip(shape, steps, strict=True))
    part = math.prod(steps) * width
    filtered = plan.get_nfilters() > 0
    room = max(SMALL_BYTES, MAX_RATIO * there) if filtered else there
    if declared > room or parts > there or part > max(SMALL_BYTES, 2 * declared):
        _refuse(f"{key} declares {declared:,} bytes in {parts:,} parts of {part:,}, and the file has {there:,}", path)
    written = held.get_num_chunks() if filtered else held.get_storage_size() // part
    if written < parts:
        _refuse(f"{parts - written:,} of {parts:,} parts of {key} were never written", path)
    if filtered and held.get_storage_size() > LARGE_PART:
        _check_parts(held, part, key, path)


def _check_parts(held: Any, part: int, key: str, path: Path) -> None:
    """Refuse a part that unpacks to more than its size: HDF5 makes room for all that comes out of it."""

    def too_large(about: Any) -> bool | None:
        if about.size > part + part // 64 + 4096:
            return True
        if about.size <= LARGE_PART:  # zlib makes at most a thousand times as much of it
            return None
        with path.open("rb") as handle:
            handle.seek(about.byte_offset)
            packed = handle.read(about.size)
        try:
            return len(zlib.decompressobj().decompress(packed, part + 1)) > part or None
        except zlib.error:  # not zlib's
            return None

    if held.chunk_iter(too_large):
        _refuse(f"a part of {key} unpacks to more than its {part:,} bytes", path)


def _column(file: Any, key: str, num: int, path: Path) -> np.ndarray:
    rows: np.ndarray = _dataset(file, key, path)[()]
    if rows.shape != (num,):
        _refuse(f"{key} is {rows.shape}, for {num} tiles", path)
    return rows


def _failed(file: Any, path: Path) -> Failed:
    """Corner and reason of each tile without features."""
    if not _has(file, "failed_coords"):
        return ()
    corners = _dataset(file, "failed_coords", path)[()]
    reasons = _dataset(file, "failed_reasons", path, "OS")
    if corners.shape != (*reasons.shape, 2) or corners.ndim != 2:
        _refuse(f"failed_coords {corners.shape} and failed_reasons {reasons.shape} do not match", path)
    if not len(corners):
        return ()
    kind = reasons.id.get_type()
    if kind.get_class() != need("h5py", "slides").h5t.STRING:
        _refuse(f"failed_reasons holds {reasons.dtype}, not texts", path)
    if kind.is_variable_str():
        check_dataset_texts(reasons, path)
    texts = [_plain(text) for text in reasons[()].tolist()]
    return tuple(((int(x), int(y)), str(text)) for (x, y), text in zip(corners.tolist(), texts, strict=True))


# ---- attributes ----------------------------------------------------------------------------------------------------


def _attributes(held: Any, path: Path) -> dict[str, Any]:
    """Attributes that are numbers or texts, as JSON values; an array of one is its value. Others are left out."""
    h5py = need("h5py", "slides")
    found: dict[str, Any] = {}
    checked = False
    for number in range(h5py.h5a.get_num_attrs(held.id)):
        about = h5py.h5a.open(held.id, index=number)
        shape, dtype = about.shape, about.dtype
        if shape is None or dtype.kind not in "biufSO" or math.prod(shape) * dtype.itemsize > MAX_ATTRIBUTE_BYTES:
            continue
        if dtype.kind == "O":
            if not isinstance(about.get_type(), h5py.h5t.TypeStringID):
                continue
            if not checked:
                check_attribute_texts(held, path)
                checked = True
        values = np.empty(shape, dtype)
        about.read(values)
        found[about.name.decode("utf-8", "replace")] = _plain(values)
    return found


def _plain(value: Any) -> Any:
    """A value as JSON has it: text, number, or list of these; an array of one is its value."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, list):
        return _plain(value[0]) if len(value) == 1 else [_plain(v) for v in value]
    return clean(value) if isinstance(value, str) else value


# ---- places --------------------------------------------------------------------------------------------------------


def _geometry(about: Mapping[str, Any], path: Path) -> TileGeometry:
    """The geometry from TRIDENT's or CLAM's attributes; microns only where the file states them."""
    size, side = (number(about, key, path, least=1) for key in ("patch_size", "patch_size_level0"))
    level0, target = (number(about, key, path) for key in ("level0_magnification", "target_magnification"))
    tile_px = None if size is None else round(size)
    level = number(about, "patch_level", path, least=0)
    if side is None and tile_px is not None and level0 is not None and target is not None:
        side = tile_px * level0 / target
    if side is None and tile_px is not None and level is not None:
        side = tile_px * _downsample(about.get("downsample"), round(level), path)
    overlap = number(about, "overlap", path, least=0) or 0
    return TileGeometry(tile_px, side, number(about, "mpp", path), number(about, "level0_mpp", path), round(overlap))


def number(about: Mapping[str, Any], key: str, path: Path, least: float = 1e-9) -> float | None:
    """A number that an attribute states; None where it states none."""
    value = about.get(key)
    if value is None or (isinstance(value, str) and value.strip().lower() in _ABSENT):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not least <= number < 1e9:
        raise EosinError(
            f"The attribute {key} of this feature file cannot be used.", expected="a number", found=repr(value)[:80],
            where=path, next_step="make the features of this slide again",
        )  # fmt: skip
    return number


def _downsample(told_of: Any, level: int, path: Path) -> float:
    """How much coarser CLAM's patch level is: one number, one a direction, or a pair a level."""
    rows = [told_of] if not isinstance(told_of, list) else told_of
    if told_of is None:
        return 1.0
    if isinstance(rows[0], list):
        rows = rows[min(level, len(rows) - 1)]
    return number({"downsample": rows[0]}, "downsample", path) or 1.0


def _clam_patches(path: Path) -> dict[str, Any]:
    """Attributes of CLAM's own patches file, where it stands beside the features."""
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        file = folder / "patches" / f"{path.stem}.h5"
        if file.is_file() and file != path:
            with opened(file) as found:
                return _attributes(_dataset(found, "coords", file), file) if _has(found, "coords") else {}
    return {}


def _encoder_of_folder(path: Path) -> str | None:
    name = path.parent.name
    return name.removeprefix("features_") if name.startswith("features_") else None
