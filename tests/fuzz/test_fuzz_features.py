"""Whatever stands in a feature file or in GeoJSON, reading it ends in features, shapes, or an EosinError.

Files of HDF5 and torch are read in child processes that may take 20 seconds a file and 1 GiB: the libraries under them
are C, and what breaks them breaks the process.
"""

from __future__ import annotations

import copy
import functools
import gzip
import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eosin.core.errors import EosinError
from eosin.core.guarded import Job, run_guarded
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.slides.annotations.geojson import write_geojson
from eosin.slides.annotations.geojson_read import check_geojson, read_geojson
from eosin.slides.features.files import read_features
from eosin.slides.features.h5 import FeatureBag, TileGeometry, write_bag
from eosin.slides.features.h5_read import read_header
from tests.fuzz.budget import fuzz_settings
from tests.fuzz.test_fuzz_knowledge import ODD, damaged, places

h5py = pytest.importorskip("h5py", reason="feature files need eosin[slides]")

SECONDS, BYTES = 20.0, 2**30
OWN_FAULTS = {"unexpected fault", "reader crashed", "timed out", "not enough memory"}


# ---- in a child ----------------------------------------------------------------------------------------------------


@functools.cache
def bounded(library: str) -> None:
    """From here on this process gets 1 GiB more and no more, where the system can say so; the library is there."""
    importlib.import_module(library)
    if Path("/proc/self/statm").exists():
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))


def read_one(path: str) -> bool:
    """Read a file in every way; True where it holds features, False where it was refused by an error of ours."""
    good = True
    for reader in (read_features, read_header) if path.endswith(".h5") else (read_features,):
        try:
            found = reader(Path(path))
        except EosinError as exc:
            assert str(exc).encode() and path in str(exc)
            good = False
        else:
            if isinstance(found, FeatureBag):
                check(found)
    return good


def read_bounded(path: str, library: str) -> bool:
    """The same in a process of its own with a bound."""
    bounded(library)
    return read_one(path)


def check(bag: FeatureBag) -> None:
    assert bag.features.dtype == np.float32 and bag.features.ndim == 2 and np.isfinite(bag.features).all()
    assert bag.coords is None or (bag.coords.shape == (len(bag.features), 2) and bag.coords.dtype == np.int64)
    json.dumps([bag.name, bag.encoder, bag.failed, dict(bag.attributes)], ensure_ascii=False).encode()
    for value in (bag.geometry.tile_px, bag.geometry.side_level0, bag.geometry.mpp, bag.geometry.level0_mpp):
        assert value is None or (math.isfinite(value) and value > 0)


class Child:
    """A reading process that is kept for the next file; a new one comes where it died."""

    def __init__(self, library: str) -> None:
        self._next: list[Job] = []
        self._outcomes = run_guarded(read_bounded, self._jobs(), timeout_s=SECONDS)
        self._library = library

    def _jobs(self) -> Iterator[Job]:
        while True:
            yield self._next.pop()

    def read(self, file: Path) -> bool:
        """Whether a file holds features; an error that is not ours fails the test."""
        self._next.append(Job(file.name, (str(file), self._library)))
        _, outcome = next(self._outcomes)
        if isinstance(outcome, Kept):
            return bool(outcome.value)
        assert outcome.reason not in OWN_FAULTS, (outcome, file.read_bytes().hex())
        return False


child = functools.cache(Child)


# ---- h5 ------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["features", "feats", "coords", "flags", "tissue_fraction", "failed_coords", "failed_reasons", "x"]
)
ATTRIBUTES = st.sampled_from([
    "patch_size", "patch_size_level0", "level0_magnification", "target_magnification", "overlap", "mpp", "level0_mpp",
    "patch_level", "downsample", "name", "encoder", "encoder_record",
])  # fmt: skip
KINDS = st.sampled_from(["f2", "f4", "f8", ">f4", "i1", "i4", "i8", "u8", "c8", "?", "S3", "V4", "f4,i4", "O"])
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 5]), max_size=4).map(tuple)
NUMBERS = st.one_of(st.floats(), st.integers(-(2**63), 2**64 - 1), st.sampled_from([0, 1, 256, 0.5, 1e30]))


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """An array of any kind and shape; of features and corners that fit each other more often than by chance."""
    if draw(st.booleans()):
        return np.full(
            draw(st.sampled_from([(3, 4), (3, 2), (3,), (1, 3, 4), (0, 4)])), draw(st.sampled_from([0, 1.5, 256]))
        )
    kind, shape = draw(KINDS), draw(SHAPES)
    if kind == "O":
        return np.full(shape, draw(st.text(alphabet="ab/\u00e9", max_size=5)), dtype=object)
    if kind == "S3":
        return np.full(shape, draw(st.binary(max_size=3)), "S3")
    values = np.zeros(shape, kind)
    if values.dtype.kind in "fiu?c":
        with np.errstate(all="ignore"):
            values[...] = np.float64(draw(NUMBERS)).astype(values.dtype)
    return values


TEXTS = st.one_of(st.text(alphabet="0123456789.None \u00e9", max_size=6), st.binary(max_size=4).map(np.bytes_))
VALUES = st.one_of(NUMBERS, TEXTS, arrays(), st.just(h5py.Empty("f4")))
OPTIONS = st.sampled_from([{}, {"compression": "gzip"}, {"chunks": True}, {"fletcher32": True}, {"shuffle": True}])


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[str, Any, Any, dict[str, Any]]]:
    """What stands in a file: name, what it is, its options, its attributes."""
    entries = []
    for name in draw(st.lists(NAMES, unique=True, max_size=6)):
        what = draw(
            st.one_of(arrays(), arrays(), st.sampled_from(["group", "soft", "external", "type", "empty", "huge"]))
        )
        held = draw(st.dictionaries(ATTRIBUTES, VALUES, max_size=4))
        entries.append((name, what, draw(OPTIONS), held))
    return entries


def build(path: Path, entries: list[tuple[str, Any, Any, dict[str, Any]]]) -> None:
    with h5py.File(path, "w") as file:
        for name, what, options, attributes in entries:
            if isinstance(what, np.ndarray):
                fit = options if what.size and what.ndim and what.dtype.kind in "fiu" else {}
                file.create_dataset(name, data=what, dtype=h5py.string_dtype() if what.dtype == object else None, **fit)
            elif what == "group":
                file.create_group(name)
            elif what == "huge":
                file.create_dataset(name, shape=(10**9, 4), dtype="f4", **options | {"chunks": (10, 4)})
            else:
                file[name] = {"soft": h5py.SoftLink("/x"), "external": h5py.ExternalLink("other.h5", "/x"),
                              "type": np.dtype("f4"), "empty": h5py.Empty("f4")}[what]  # fmt: skip
            if not (isinstance(what, str) and what in ("soft", "external")):
                for key, value in attributes.items():
                    put(file[name], key, value)


def put(held: Any, key: str, value: Any) -> None:
    if isinstance(value, np.ndarray) and value.dtype == object:
        held.attrs.create(key, value, dtype=h5py.string_dtype())
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        held.attrs[key] = str(value)
    elif not (isinstance(value, np.ndarray) and 0 in value.shape):
        held.attrs[key] = value


@fuzz_settings(80)
@given(entries=trees())
def test_structures_of_h5(tmp_path: Path, entries: list[tuple[str, Any, Any, dict[str, Any]]]) -> None:
    build(tmp_path / "s.h5", entries)
    child("h5py").read(tmp_path / "s.h5")


@functools.cache
def valid_h5(number: int, folder: str) -> bytes:
    """A file of Eosin's own, one as TRIDENT writes it, and one of the newer form of HDF5."""
    rng = np.random.default_rng(number)
    features, coords = rng.normal(size=(12, 6)).astype(np.float32), rng.integers(0, 9999, (12, 2))
    path = Path(folder) / f"valid{number}.h5"
    if number == 0:
        failed = (((1, 2), "damaged"), ((3, 4), "not encoded"))
        bag = FeatureBag(
            "s", features, coords, TileGeometry(256, 512, 0.5, 0.25), failed=failed, extra={"flags": np.zeros(12, "u1")}
        )
        write_bag(path, bag, encoder_name="uni")
        return path.read_bytes()
    with h5py.File(path, "w", libver="latest" if number == 2 else None) as file:
        options: dict[str, Any] = {"compression": "gzip"} if number == 2 else {}
        file.create_dataset(
            "features", data=features, chunks=(1 if number == 1 else 5, 6), maxshape=(None, 6), **options
        )
        file["coords"] = coords
        told = {"patch_size": np.array([256]), "patch_size_level0": 512, "overlap": "None", "name": "s"}
        file["coords"].attrs.update(told | {f"more{i}": "x" * i for i in range(10 * (number == 2))})
    return path.read_bytes()


def changed(whole: bytes, data: st.DataObject) -> bytes:
    """Bytes with some of them set, flipped, copied from elsewhere or cut off."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        at, how = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 3))
        if how == 0:
            content[at] = data.draw(st.integers(0, 255))
        elif how == 1:
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif how == 2:
            content[at : at + 8] = data.draw(st.sampled_from([bytes(8), b"\xff" * 8, b"\xff" * 7 + b"\x7f"]))[
                : len(content) - at
            ]
        else:
            other, size = data.draw(st.integers(0, len(content) - 1)), data.draw(st.sampled_from([1, 2, 4, 8]))
            content[at : at + size] = content[other : other + size][: len(content) - at]
    return bytes(content[: data.draw(st.sampled_from([len(content), len(content), len(content), len(content) // 2]))])


@fuzz_settings(150)
@given(data=st.data(), number=st.integers(0, 2))
def test_bytes_of_h5(tmp_path: Path, data: st.DataObject, number: int) -> None:
    (tmp_path / "s.h5").write_bytes(changed(valid_h5(number, str(tmp_path)), data))
    child("h5py").read(tmp_path / "s.h5")


def test_valid_files_are_read_by_the_same_means(tmp_path: Path) -> None:
    """So that a fuzzer that refuses everything would be seen."""
    for number in range(3):
        (tmp_path / "s.h5").write_bytes(valid_h5(number, str(tmp_path)))
        assert child("h5py").read(tmp_path / "s.h5")


# ---- csv and pt ----------------------------------------------------------------------------------------------------

TABLE = "0,1,2,x,y\n" + "\n".join(f"{i}.5,{i},-1e-{i},{i},7" for i in range(6))


@fuzz_settings(200)
@given(
    content=st.one_of(
        damaged(TABLE), st.binary(max_size=60), st.text(alphabet='01,\n.xy"_e-\ufeff', max_size=60).map(str.encode)
    )
)
def test_tables(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.csv").write_bytes(content)
    read_one(str(tmp_path / "s.csv"))


@fuzz_settings(25)
@given(data=st.data())
def test_bytes_of_torch_files(tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / "s.pt").write_bytes(changed(valid_pt(str(tmp_path)), data))
    child("torch").read(tmp_path / "s.pt")


@functools.cache
def valid_pt(folder: str) -> bytes:
    torch = pytest.importorskip("torch")
    torch.save({"tile_embeds": torch.ones(5, 4), "coords": torch.zeros(5, 2)}, Path(folder) / "valid.pt")
    return (Path(folder) / "valid.pt").read_bytes()


# ---- GeoJSON -------------------------------------------------------------------------------------------------------

RING = [[0, 0], [100, 0], [100, 100.5], [0, 100], [0, 0]]
WHOLE = {"type": "FeatureCollection", "features": [
    {"type": "Feature", "id": "1", "geometry": {"type": "Polygon", "coordinates": [RING, RING]},
     "properties": {"objectType": "annotation", "name": "n", "classification": {"name": "Tumor", "color": [1, 2, 3]},
                    "measurements": {"a": 1.5}, "isLocked": True}},
    {"type": "Feature", "id": "PathCellObject", "nucleusGeometry": {"type": "Polygon", "coordinates": [RING]},
     "geometry": {"type": "MultiPolygon", "coordinates": [[RING], [RING]]},
     "properties": {"classification": {"names": ["A", "B"], "colorRGB": -1},
                    "measurements": [{"name": "a", "value": 1}]}},
    {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [
        {"type": "Point", "coordinates": [1, 2]}, {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}]},
     "properties": None},
]}  # fmt: skip


def read_shapes(path: Path) -> None:
    try:
        found = read_geojson(path)
    except EosinError as exc:
        assert str(exc).encode() and str(path) in str(exc)
        return
    for dropped in found.dropped:
        assert isinstance(dropped, Dropped) and dropped.reason and f"{dropped}".encode()
    for shape in found.kept:
        assert shape.parts and all(
            rings and all(len(r) >= 4 and np.isfinite(r).all() for r in rings) for rings in shape.parts
        )
    write_geojson(path.with_suffix(".out"), found.kept)
    assert len(read_geojson(path.with_suffix(".out")).kept) == len(found.kept)


@fuzz_settings(60)
@given(data=st.data())
def test_values_of_geojson(tmp_path: Path, data: st.DataObject) -> None:
    value: Any = copy.deepcopy(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(places(value)))
        holder[key] = data.draw(ODD)
    check_geojson(value)
    (tmp_path / "a.geojson").write_text(json.dumps(value))
    read_shapes(tmp_path / "a.geojson")


@fuzz_settings(200)
@given(content=damaged(json.dumps(WHOLE)), packed=st.booleans(), cut=st.integers(0, 30))
def test_bytes_of_geojson(tmp_path: Path, content: bytes, packed: bool, cut: int) -> None:
    data = gzip.compress(content, mtime=0) if packed else content
    (tmp_path / "a.geojson").write_bytes(data[: len(data) - cut])
    read_shapes(tmp_path / "a.geojson")
