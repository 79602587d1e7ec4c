"""Odd, damaged and hostile h5 files: each has its right values, or is refused by one error that names the file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eosin.core.errors import EosinError
from eosin.slides.encoders.records import record_of
from eosin.slides.features import h5
from eosin.slides.features.files import convert, read_features
from eosin.slides.features.h5 import FeatureBag, TileGeometry, write_bag
from eosin.slides.features.h5_read import read_h5, read_header
from eosin.slides.features.h5_texts import check_attribute_texts

h5py = pytest.importorskip("h5py", reason="feature files need eosin[slides]")

FEATURES = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
RANDOM = np.random.default_rng(1).normal(size=(2**18, 4)).astype(np.float32)
COORDS = np.array([[0, 0], [256, 0], [512, 0], [0, 256], [7000, 123456]], np.int64)
PLACE = TileGeometry(tile_px=256, side_level0=512, mpp=0.5, level0_mpp=0.25)
TRIDENT = {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20,
           "overlap": 0, "name": "s", "savetodir": "20x"}  # fmt: skip


def make(path: Path, attributes: dict[str, Any] | None = None, **data: Any) -> Path:
    """A file of these data sets; None leaves one out."""
    content = {"features": FEATURES, "coords": COORDS, **data}
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            if value is not None:
                file[key] = value
        if "coords" in file and hasattr(file["coords"], "attrs"):
            file["coords"].attrs.update(TRIDENT if attributes is None else attributes)
    return path


# ---- what TRIDENT, CLAM and others write ----------------------------------------------------------------------------


def places(path: Path, **attributes: Any) -> TileGeometry:
    return read_h5(make(path / "s.h5", {**TRIDENT, **attributes})).geometry


def test_attributes_in_every_form_have_their_right_value(tmp_path: Path) -> None:
    whole = TileGeometry(256, 512.0, None, None, 0)
    assert places(tmp_path) == whole
    assert (
        places(tmp_path, patch_size=np.array([256]), patch_size_level0=np.array([[512]]), overlap=np.array([0]))
        == whole
    )
    assert (
        places(tmp_path, overlap="None") == places(tmp_path, overlap=b"none") == places(tmp_path, overlap="") == whole
    )
    assert places(tmp_path, patch_size="256", overlap=b"16") == TileGeometry(256, 512.0, None, None, 16)
    assert places(tmp_path, patch_size_level0="None") == TileGeometry(
        256, 512.0, None, None, 0
    )  # from the magnifications
    assert places(tmp_path, mpp=np.float32(0.5), level0_mpp=np.array(["0.25"], "S4")) == TileGeometry(
        256, 512.0, 0.5, 0.25, 0
    )
    assert (
        places(tmp_path, odd=h5py.Empty("f4"), odder=np.zeros(3, "c8"), oddest=np.array([(1, 2.0)], "i4,f4")) == whole
    )
    assert read_h5(make(tmp_path / "s.h5", {})).geometry == TileGeometry()


@pytest.mark.parametrize(
    "attributes",
    [{"patch_size": "abc"}, {"patch_size": np.array([256, 256])}, {"patch_size": 0}, {"patch_size": 0.5},
     {"patch_size": -256},
     {"patch_size_level0": np.nan}, {"patch_size_level0": np.inf}, {"overlap": -1}, {"overlap": "0.5x"},
     {"mpp": 1j}, {"mpp": "half"}, {"level0_mpp": 0.0}, {"patch_size": 1e30}],
    ids=lambda a: "-".join(f"{k}={v}" for k, v in a.items()),
)  # fmt: skip
def test_an_attribute_that_is_no_number_is_refused_by_name(attributes: dict[str, Any], tmp_path: Path) -> None:
    if attributes == {"mpp": 1j}:  # of a type that is not read: as if it were not there
        assert places(tmp_path, **attributes).mpp is None
        return
    with pytest.raises(EosinError, match=f"The attribute {next(iter(attributes))} ") as caught:
        places(tmp_path, **attributes)
    assert "s.h5" in str(caught.value)


@pytest.mark.parametrize(
    ("clam", "side"),
    [({"patch_size": 256, "patch_level": 1, "downsample": np.array([4.0, 4.0])}, 1024.0),
     ({"patch_size": np.array([256]), "patch_level": np.array([2]), "downsample": np.array([16.0])}, 4096.0),
     ({"patch_size": 256, "patch_level": 1, "downsample": np.array([[1.0, 1.0], [4.0, 4.0]])}, 1024.0),
     ({"patch_size": 256, "patch_level": 0, "downsample": np.array([[1.0, 1.0], [4.0, 4.0]])}, 256.0),
     ({"patch_size": 256, "patch_level": 0}, 256.0), ({"patch_size": 256}, None)],
)  # fmt: skip
def test_clams_levels_give_the_side_of_a_tile(clam: dict[str, Any], side: float | None, tmp_path: Path) -> None:
    found = read_h5(make(tmp_path / "s.h5", clam))
    assert found.layout == "clam" and found.geometry.side_level0 == side and found.geometry.tile_px == 256


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4", "i4", "u1", ">i2"])
def test_features_of_every_plain_type_keep_their_numbers(kind: str, tmp_path: Path) -> None:
    given = (FEATURES * 50).astype(kind) if kind != "u1" else np.abs(FEATURES * 50).astype(kind)
    back = read_h5(make(tmp_path / "s.h5", features=given))
    assert back.features.dtype == np.float32 and np.array_equal(back.features, given.astype(np.float32))


@pytest.mark.parametrize("kind", ["i2", "u4", ">i4", "f4", "f8"])
def test_corners_of_every_plain_type_keep_their_places(kind: str, tmp_path: Path) -> None:
    given = (COORDS % 30_000).astype(kind)
    back = read_h5(make(tmp_path / "s.h5", coords=given[None]))
    assert back.coords is not None and back.coords.dtype == np.int64 and np.array_equal(back.coords, COORDS % 30_000)


def test_compressed_and_chunked_features_are_read(tmp_path: Path) -> None:
    every: list[dict[str, Any]] = [
        {"compression": "gzip"}, {"chunks": (1, 8), "maxshape": (None, 8)}, {"shuffle": True, "chunks": (3, 5)},
        {"compression": "lzf", "fletcher32": True}, {"chunks": (256, 8), "maxshape": (None, 8)},
    ]  # fmt: skip
    for options in every:
        with h5py.File(tmp_path / "s.h5", "w") as file:
            file.create_dataset("features", data=FEATURES, **options)
            file["coords"] = COORDS
        assert np.array_equal(read_h5(tmp_path / "s.h5").features, FEATURES)


def test_a_bag_is_named_after_its_file(tmp_path: Path) -> None:
    found = read_h5(make(tmp_path / "a.b.h5", {**TRIDENT, "name": "../../Miller, John"}))
    assert found.name == "a.b" and found.attributes["name"] == "../../Miller, John"


# ---- what is refused ------------------------------------------------------------------------------------------------


def group(file: Any, key: str) -> None:
    del file[key]
    file.create_group(key)


def failed(corners: Any, reasons: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        file["failed_coords"], file["failed_reasons"] = corners, reasons

    return change


def put(key: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        if key in file:
            del file[key]
        file[key] = value

    return change


REFUSED: list[tuple[Callable[[Any], None], str]] = [
    (lambda f: group(f, "features"), "features is a group"),
    (lambda f: group(f, "coords"), "coords is a group"),
    (put("features", np.dtype("f4")), "features is a datatype"),
    (put("features", FEATURES.astype("c8")), "features holds complex64"),
    (put("features", FEATURES > 0), "features holds bool"),
    (put("features", np.array([["a", "b"]] * 5, dtype=object)), "features holds object"),
    (put("features", np.zeros((5, 8), "S3")), "features holds |S3"),
    (put("features", np.zeros(5, "f4,i4")), "features holds"),
    (put("features", h5py.Empty("f4")), "features holds nothing"),
    (put("features", np.float32(1)), "one row a tile"),
    (put("features", FEATURES[0]), "one row a tile"),
    (put("features", FEATURES[:, :0]), "one row a tile"),
    (put("features", FEATURES[None, None]), "one row a tile"),
    (put("coords", COORDS[:3]), "do not match"),
    (put("coords", COORDS[:, :1]), "do not match"),
    (put("coords", COORDS.astype("S8")), "coords holds"),
    (put("coords", COORDS * np.nan), "coordinates are not finite"),
    (put("coords", COORDS * 1e300), "far outside any slide"),
    (put("coords", COORDS.astype("u8") + 2**63), "far outside any slide"),
    (put("flags", np.zeros(4, "u1")), "flags is (4,), for 5 tiles"),
    (put("tissue_fraction", np.zeros((5, 2))), "tissue_fraction is (5, 2)"),
    (put("flags", np.array(["a"] * 5, dtype=object)), "flags holds object"),
    (failed(np.zeros((2, 2), int), np.array(["a"], dtype=object)), "do not match"),
    (failed(np.zeros((1, 2, 2), int), np.array(["a"], dtype=object)), "do not match"),
    (failed(np.zeros(1, "i8,f8"), np.array(["a"], dtype=object)), "failed_coords holds"),
    (failed(np.zeros((1, 2), int), np.zeros(1)), "failed_reasons holds float64"),
    (put("failed_coords", np.zeros((1, 2), int)), "there is no failed_reasons"),
]


@pytest.mark.parametrize(("change", "found"), REFUSED, ids=[f"{i}-{f[:20]}" for i, (_, f) in enumerate(REFUSED)])
def test_a_wrong_structure_is_one_error_that_names_the_file(
    change: Callable[[Any], None], found: str, tmp_path: Path
) -> None:
    with h5py.File(make(tmp_path / "s.h5"), "a") as file:
        change(file)
    with pytest.raises(EosinError) as caught:
        read_h5(tmp_path / "s.h5")
    assert found in str(caught.value) and "s.h5" in str(caught.value)
    try:
        read_header(tmp_path / "s.h5")
    except EosinError as exc:
        assert "s.h5" in str(exc)


def test_files_of_the_fuzzer_are_refused_by_name(shared_data: Path) -> None:
    files = sorted((shared_data / "odd_files").glob("h5-*.h5"))
    assert len(files) >= 14
    for file in files:
        with pytest.raises(EosinError) as caught:
            read_h5(file)
        assert caught.value.where == str(file) and "is a link" not in str(caught.value)


def test_empty_cut_and_foreign_files_are_refused(tmp_path: Path) -> None:
    write_bag(tmp_path / "whole.h5", FeatureBag("s", FEATURES, COORDS, PLACE))
    data = (tmp_path / "whole.h5").read_bytes()
    for number, content in enumerate((b"", b"not h5", data[:40], data[: len(data) // 2], data[:-2000], data[8:])):
        (tmp_path / f"{number}.h5").write_bytes(content)
        for reader in (read_h5, read_header):
            with pytest.raises(EosinError, match="cannot be read") as caught:
                reader(tmp_path / f"{number}.h5")
            assert f"{number}.h5" in str(caught.value)
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(EosinError, match="no regular file"):
        read_h5(tmp_path / "folder.h5")
    for name in ("x" * 300 + ".h5", "null\0.h5"):
        with pytest.raises(EosinError, match="cannot be reached"):
            read_h5(tmp_path / name)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    for name in ("a.h5", "a.csv", "a.pt"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(EosinError, match=r"no regular file|needs the package"):
            read_features(tmp_path / name)


# ---- sizes that are not there, and files outside --------------------------------------------------------------------


def declare(path: Path, shape: tuple[int, ...], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", shape=shape, dtype="f4", **options)
        file["coords"] = COORDS
    return path


@pytest.mark.parametrize(
    ("shape", "options"),
    [((5_000_000, 1024), {"chunks": (256, 1024)}), ((5_000_000, 1024), {}),
     ((5, 8), {"chunks": (256, 8), "maxshape": (None, 8)}),
     ((5_000_000, 1024), {"chunks": (1000, 1024), "compression": "gzip"}), ((10**12, 1), {"chunks": (1, 1)}),
     ((5, 8), {"chunks": (2**20, 512), "maxshape": (None, None), "compression": "gzip"}), ((5, 8), {})],
)  # fmt: skip
def test_a_size_that_the_file_does_not_hold_is_refused_before_anything_is_read(
    shape: tuple[int, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    """Declared up to 20 GB in 2 kB; h5py fills what was never written with zeros, which would be features."""
    file = declare(tmp_path / "s.h5", shape, **options)
    assert file.stat().st_size < 20_000
    begun = time.perf_counter()
    for reader in (read_h5, read_header):
        with pytest.raises(EosinError, match="cannot be read") as caught:
            reader(file)
        assert "declares" in str(caught.value) or "never written" in str(caught.value)
    assert time.perf_counter() - begun < 5


def test_one_chunk_that_was_never_written_is_not_taken_for_zeros(tmp_path: Path) -> None:
    for options in ({}, {"compression": "gzip"}):
        with h5py.File(tmp_path / "s.h5", "w") as file:
            held = file.create_dataset("features", shape=(64, 8), dtype="f4", chunks=(16, 8), **options)
            held[:16], held[32:] = 1, 1
        with pytest.raises(EosinError, match="cannot be read") as caught:
            read_h5(tmp_path / "s.h5")
        assert "1 of 4 parts of features were never written" in str(caught.value)


def test_a_part_that_unpacks_to_more_than_itself_is_refused(tmp_path: Path) -> None:
    """HDF5 would make room for all of it: 600 MB here, out of a file of 1 MB."""
    with h5py.File(tmp_path / "s.h5", "w") as file:
        held = file.create_dataset("features", shape=(2**18, 4), dtype="f4", chunks=(2**18, 4), compression="gzip")
        held.id.write_direct_chunk((0, 0), zlib.compress(bytes(600_000_000)))
    assert (tmp_path / "s.h5").stat().st_size < 2**20
    with pytest.raises(EosinError, match="cannot be read") as caught:
        read_h5(tmp_path / "s.h5")
    assert "unpacks to more" in str(caught.value)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("features", data=RANDOM, chunks=(2**18, 4), compression="gzip")
        file.create_dataset("other", data=RANDOM, chunks=(2**10, 4), compression="gzip", shuffle=True)
        file.create_dataset("coords", data=np.zeros((2**18, 2), int), compression="gzip")
    assert np.array_equal(read_h5(tmp_path / "s.h5").features, RANDOM)


NEW = {"libver": "latest"}


@pytest.mark.parametrize(
    ("options", "num"), [({}, 1), ({}, 40), (NEW, 1), (NEW, 6), (NEW, 40), ({**NEW, "userblock_size": 512}, 3)]
)
def test_a_length_that_no_text_has_is_refused_before_room_is_made_for_it(
    options: dict[str, Any], num: int, tmp_path: Path
) -> None:
    """HDF5 would make room for 2 GiB. Headers of old and new form, in one piece and in several, and apart from them.

    New headers have checksums, which one who means harm can set; so the file is opened whole and looked at damaged.
    """
    whole, damaged = tmp_path / "whole.h5", tmp_path / "damaged.h5"
    with h5py.File(whole, "w", **options) as held:
        held["features"], held["coords"] = FEATURES, COORDS
        held["features"].attrs.update({f"name{i}": "reason" for i in range(num)})
        start = held.userblock_size
    assert len(read_h5(whole).features) == 5
    data = bytearray(whole.read_bytes())
    mark = (data.index(b"GCOL") - start).to_bytes(8, "little")
    places = [i for i in range(4, len(data)) if data.startswith(mark, i)]
    assert len(places) == num and {data[i - 4] for i in places} == {6}  # the length of "reason"
    for at in (places[0], places[-1]):
        damaged.write_bytes(data[: at - 1] + b"\x80" + data[at:])
        with h5py.File(whole) as file, pytest.raises(EosinError, match="cannot be read") as caught:
            check_attribute_texts(file["features"], damaged)
        assert "a text of 2,147,483,654 bytes" in str(caught.value)
        with pytest.raises(EosinError, match="cannot be read"):
            read_h5(damaged)


def test_a_reason_of_a_length_that_no_text_has_is_refused(tmp_path: Path) -> None:
    file = make(tmp_path / "s.h5", failed_coords=COORDS[:1], failed_reasons=np.array(["reason"], dtype=object))
    assert read_h5(file).failed == (((0, 0), "reason"),)
    data = bytearray(file.read_bytes())
    at = data.index((6).to_bytes(4, "little") + data.index(b"GCOL").to_bytes(8, "little"))
    data[at + 3] = 0x80
    file.write_bytes(data)
    with pytest.raises(EosinError, match="cannot be read") as caught:
        read_h5(file)
    assert "a text of 2,147,483,654 bytes" in str(caught.value)


def test_texts_in_a_damaged_heap_do_not_turn_for_ever(tmp_path: Path) -> None:
    """An entry without number and size after the first: HDF5 itself never comes back from it."""
    file = make(tmp_path / "s.h5")
    data = bytearray(file.read_bytes())
    at = data.index(b"GCOL")
    data[at + 16 : at + 32] = bytes(16)
    file.write_bytes(data)
    with pytest.raises(EosinError, match="cannot be read") as caught:
        read_h5(file)
    assert "damaged heap" in str(caught.value)


def test_links_and_numbers_in_other_files_are_not_followed(tmp_path: Path) -> None:
    secret = make(tmp_path / "secret.h5")
    (tmp_path / "raw.bin").write_bytes(FEATURES.tobytes())
    layout = h5py.VirtualLayout(shape=(5, 8), dtype="f4")
    layout[:] = h5py.VirtualSource(str(secret), "features", shape=(5, 8))
    link, other = "is a link", "another file"
    for name, found in (("external", link), ("soft", link), ("raw", other), ("virtual", other), ("coords", link),
                        ("failed", link)):  # fmt: skip
        with h5py.File(tmp_path / "s.h5", "w") as file:
            file["own"] = FEATURES
            if name == "external":
                file["features"] = h5py.ExternalLink(str(secret), "features")
            elif name == "soft":
                file["features"] = h5py.SoftLink("/own")
            elif name == "raw":
                file.create_dataset("features", (5, 8), "f4", external=[(str(tmp_path / "raw.bin"), 0, 160)])
            elif name == "virtual":
                file.create_virtual_dataset("features", layout)
            else:
                file["features"] = FEATURES
                key = "coords" if name == "coords" else "failed_coords"
                file[key] = h5py.ExternalLink(str(secret), "coords")
        with pytest.raises(EosinError, match="cannot be read") as caught:
            read_h5(tmp_path / "s.h5")
        assert found in str(caught.value)


# ---- writing on a full disk -----------------------------------------------------------------------------------------

FULL = """
import resource, sys
import numpy as np
from pathlib import Path
from eosin.core.errors import EosinError
from eosin.slides.features import h5
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
try:
    with h5.whole_file(Path(sys.argv[2]) / "x" / "s.h5") as file:
        writer = h5.BagWriter(file, 256, "float32")
        for _ in range(40):
            writer.add(np.ones((64, 256), np.float32), np.zeros((64, 2)))
        writer.close({"name": "x" * 2000}, {}, [((1, 2), "reason")] * 50)
except EosinError as exc:
    print("told:", exc.message)
"""


@pytest.mark.parametrize("limit", [800, 5_000, 300_000, 2_621_440, 2_640_000])
def test_a_disk_that_fills_up_is_told_and_leaves_nothing(limit: int, tmp_path: Path) -> None:
    """At every point: while the file is made, while rows come, and while HDF5 closes. The process lives on."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", FULL, str(limit), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    assert done.stdout == "told: The file would be larger than is allowed here.\n" and done.stderr == ""
    assert list((tmp_path / "x").iterdir()) == []


# ---- converting -----------------------------------------------------------------------------------------------------


def test_converted_features_are_named_after_the_file_never_after_what_stands_in_it(tmp_path: Path) -> None:
    record = record_of("plip").model_copy(update={"dim": 8})
    folder = tmp_path / "in"
    folder.mkdir()
    make(folder / "case 7.h5", {**TRIDENT, "name": "../../../outside"})
    make(folder / "b.h5", {**TRIDENT, "name": "Miller, John"})
    made, dropped = convert([folder / "case 7.h5", folder / "b.h5"], tmp_path / "out", record, PLACE)
    assert [m.name for m in made] == ["case 7.h5", "b.h5"] and not dropped
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.h5"))
    there = "out/20x_256px_0px_overlap"
    assert files == [
        "in/b.h5", "in/case 7.h5", f"{there}/features_plip/b.h5", f"{there}/features_plip/case 7.h5",
        f"{there}/patches/b_patches.h5", f"{there}/patches/case 7_patches.h5",
    ]  # fmt: skip
    for file in made:
        assert b"Miller" not in file.read_bytes() and b"outside" not in file.read_bytes()
        assert np.array_equal(read_h5(file).features, FEATURES) and read_h5(file).geometry == PLACE


def test_no_bad_file_stops_the_conversion(tmp_path: Path) -> None:
    record = record_of("plip").model_copy(update={"dim": 8})
    (tmp_path / "empty.h5").touch()
    declare(tmp_path / "large.h5", (5_000_000, 1024), chunks=(256, 1024))
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("features")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    (tmp_path / "junk.csv").write_bytes(b"\xff\xfe")
    (tmp_path / "other").mkdir()
    make(tmp_path / "other" / "good.h5")
    files = [*sorted(tmp_path.glob("*.*")), tmp_path / "none.h5", tmp_path / "other" / "good.h5"]
    made, dropped = convert(files, tmp_path / "out", record, PLACE)
    assert [m.name for m in made] == ["good.h5"] and len(dropped) == 6
    assert {Path(d.id).name for d in dropped} == {"empty.h5", "large.h5", "group.h5", "junk.pt", "junk.csv", "none.h5"}
    assert all(d.reason and d.step == "convert" and "unexpected" not in d.reason for d in dropped)
    again, taken = convert([tmp_path / "other" / "good.h5"], tmp_path / "out", record, PLACE)
    assert not again and [d.reason for d in taken] == ["There are features of this name already."]


def test_a_kill_between_corners_and_features_loses_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eosin.slides.features import files

    record = record_of("plip").model_copy(update={"dim": 8})
    source = make(tmp_path / "s.h5")

    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files.h5, "write_bag", killed)
        with pytest.raises(KeyboardInterrupt):
            files._convert_one(str(source), str(tmp_path / "out"), record, PLACE)
    assert not list(tmp_path.rglob("features_*/*.h5"))
    made = Path(files._convert_one(str(source), str(tmp_path / "out"), record, PLACE))
    assert made.is_file() and h5.patches_file(made.parents[1], "s").is_file()


def test_corners_that_stand_there_already_are_not_written_over(tmp_path: Path) -> None:
    h5.write_patches(tmp_path / "20x" / "patches" / "s_patches.h5", COORDS, PLACE, "s")
    before = (tmp_path / "20x" / "patches" / "s_patches.h5").read_bytes()
    h5.write_patches(tmp_path / "20x" / "patches" / "s_patches.h5", COORDS[:1], PLACE, "s")
    assert (tmp_path / "20x" / "patches" / "s_patches.h5").read_bytes() == before


TWO_AT_ONCE = """
import resource, sys
import numpy as np
from pathlib import Path
from eosin.core.errors import EosinError
from eosin.slides.encoders.records import record_of
from eosin.slides.features import extract, h5
from eosin.slides.features.pipeline import SlideStart, Batch, SlideEnd, Job
from eosin.slides.features.plan import FeatureSettings, Plan

class Feed:
    def __init__(self, jobs, *rest):
        facts = {"coords": np.zeros((300, 2), int), "tissue_fraction": np.ones(300), "flags": np.zeros(300, "u1"),
                 "geometry": h5.TileGeometry(256, 512, 0.5, 0.25), "size_px": (9, 9)}
        batch = Batch(np.arange(300), np.zeros((300, 256, 256, 3), np.uint8))
        self.events = [(j, e) for e in (SlideStart(300, facts), batch, SlideEnd(1.0)) for j in jobs]
    def __enter__(self):
        return iter(self.events)
    def __exit__(self, *rest):
        pass

class Ones:
    def encode(self, tiles):
        return np.ones((len(tiles), 112), np.float32)

extract.TileLoader = Feed
plan = Plan(FeatureSettings(), record_of("colour-texture"), 0.5, Path(sys.argv[1]))
jobs = [Job(f"s{i}", Path(f"s{i}.svs")) for i in range(3)]
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000,) * 2)
try:
    list(extract.encode_slides(jobs, plan, Ones))
except EosinError as exc:
    print("told:", exc.message)
"""


def test_a_full_disk_is_told_also_where_several_slides_are_open(tmp_path: Path) -> None:
    """All are given up; one that stayed open would take the process along when it ends."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", TWO_AT_ONCE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    assert done.stdout == "told: The file would be larger than is allowed here.\n" and done.stderr == ""
    assert list(tmp_path.rglob("features_*/*")) == []
