"""Odd and hostile feature files of other tools: csv, pt, zarr. Right values, or one error that names the file."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eosin.core.errors import EosinError
from eosin.slides.features.files import read_features
from eosin.slides.features.foreign import read_zarr

# ---- csv -----------------------------------------------------------------------------------------------------------

ROWS = [[1.5, 2.0], [3.0, 40.0]]
PLACES = [[0, 0], [256, 512]]


@pytest.mark.parametrize(
    ("text", "features", "coords"),
    [
        ("0,1,x,y\n1.5,2,0,0\n3,4e1,256,512\n", ROWS, PLACES),
        ("\ufeff0,1,x,y\n1.5,2,0,0\n3,4e1,256,512\n", ROWS, PLACES),  # a byte order mark before the first name
        ("X,Y,feature_0,feature_1\r\n0,0,1.5,2\r\n256.0,512,3.0,40\r\n", ROWS, PLACES),
        ('"dim0","dim1","coord_x","coord_y"\n"1.5","2","0","0"\n\n" 3",40 ,256,512\n', ROWS, PLACES),
        ("a,name,b\n1.5,t1,2\n3,t2,40\n", ROWS, None),
        ("0,1,x\n1.5,2,0\n3,40,256\n", ROWS, None),  # x without y is no place
    ],
    ids=["plain", "mark", "windows", "quoted", "unnumbered", "x alone"],
)  # fmt: skip
def test_tables_have_their_right_values(text: str, features: Any, coords: Any, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(text, encoding="utf-8", newline="")
    back = read_features(tmp_path / "s.csv")
    assert back.features.tolist() == features and back.features.dtype == np.float32 and back.name == "s"
    assert (None if back.coords is None else back.coords.tolist()) == coords


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no lines"), (b"\n\n", "no lines"), (b"\xff\xfe0\x00", "cannot be read"),
        (b"0,1\n1,\xff\n", "cannot be read"),
        (b"0,1\n1,2\n1,2,3\n", "cut off"), (b"0,1\n1,\n", "no number"), (b"0,1\n1,1_0\n", "no number"),
        (b"0,1\n1,0x10\n", "no number"), (b"0,0\n1,2\n", "one name"), (b"feat0,x,feat0\n1,2,3\n", "one name"),
        (b"0,1\n1,1e400\n", "not finite"), (b"0,1,x,y\n1,2,inf,0\n", "not finite"),
        (b"0,1,x,y\n1,2,1e300,0\n", "far outside"),
        (b"0,1\n1,\x002\n", "cannot be read|no number"), (b'0,1\n1,"' + b"9" * 200_000 + b'"\n', "cannot be read"),
        (b"0,1\n1," + b"9" * 5000 + b"\n", "not finite"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_says_why_and_where(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(data)
    with pytest.raises(EosinError, match=message) as caught:
        read_features(tmp_path / "s.csv")
    assert "s.csv" in str(caught.value)


def test_the_longest_cell_is_the_same_whatever_another_package_has_set(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b'0,1\n1,"' + b"9" * 200_000 + b'"\n')
    before = csv.field_size_limit(2**30)  # scipy's reader of ARFF does so when it is imported
    try:
        with pytest.raises(EosinError, match="cannot be read"):
            read_features(tmp_path / "s.csv")
        assert csv.field_size_limit() == 2**30
    finally:
        csv.field_size_limit(before)


# ---- pt ------------------------------------------------------------------------------------------------------------


def test_tensors_of_every_plain_type_keep_their_numbers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    rows = torch.arange(12).reshape(3, 4)
    corners = torch.tensor([[0, 0], [256, 0], [7000, 2**33]])
    for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.uint8):
        held = {"features": rows.to(kind).requires_grad_(kind.is_floating_point), "coords": corners, 7: "x"}
        torch.save(held, tmp_path / "s.pt")
        back = read_features(tmp_path / "s.pt")
        assert back.features.tolist() == rows.tolist() and back.features.dtype == np.float32
        assert back.coords is not None and back.coords.tolist() == corners.tolist()
    torch.save(rows.float().T, tmp_path / "s.pt")  # strides of another order
    assert read_features(tmp_path / "s.pt").features.tolist() == rows.T.tolist()
    torch.save({"embeddings": rows.float()[None], "coords": None}, tmp_path / "s.pth")
    assert read_features(tmp_path / "s.pth").coords is None


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_torch_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    rows = torch.ones(3, 4)
    for number, (held, message) in enumerate([
        ({"features": "text"}, "no features"), ({"features": [1, 2]}, "no features"),
        ([rows], "no features"), (7, "no features"),
        ({}, "no features"), ({str(i) * 50: 1 for i in range(99)}, "no features"),
        (rows.to_sparse(), "plain numbers"), (torch.ones(3, 4, dtype=torch.complex64), "plain numbers"),
        (torch.ones(3, 4, dtype=torch.bool), "plain numbers"),
        (torch.empty(3, 4, device="meta"), "plain numbers|safely"),
        (torch.ones(3), "one row a tile"), (torch.tensor(1.0), "one row a tile"), (rows * float("nan"), "not finite"),
        ({"features": rows, "coords": torch.ones(2, 2)}, "do not match"),
        ({"features": rows, "coords": torch.ones(3, 2) * float("inf")}, "not finite"),
        (torch.ones(1).expand(70_000, 70_000), "larger than what it stores"),  # 20 GB in 1 kB
        ({"features": rows, "coords": torch.ones(1).expand(3, 2)}, "larger than what it stores"),
    ]):  # fmt: skip
        file = tmp_path / f"{number}.pt"
        torch.save(held, file)
        with pytest.raises(EosinError, match=message) as caught:
            read_features(file)
        assert f"{number}.pt" in str(caught.value) and len(str(caught.value)) < 700


def test_damaged_torch_files_and_bombs_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.ones(30, 40), tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    for number, content in enumerate((b"", b"PK\x03\x04", data[:100], data[:-30], data[200:], b"\x80\x02."), 1):
        (tmp_path / f"{number}.pt").write_bytes(content)
        with pytest.raises(EosinError, match="cannot be read") as caught:
            read_features(tmp_path / f"{number}.pt")
        assert f"{number}.pt" in str(caught.value)
    with (
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed,
        zipfile.ZipFile(tmp_path / "whole.pt") as old,
    ):
        for part in old.namelist():
            packed.writestr(part, bytes(60_000_000) if part.endswith("data/0") else old.read(part))
    with pytest.raises(EosinError, match="read safely") as caught:
        read_features(tmp_path / "bomb.pt")
    assert "unpack to" in str(caught.value)


# ---- zarr ----------------------------------------------------------------------------------------------------------


def store(path: Path, about: str, name: str = ".zarray") -> Path:
    array = path / "s.zarr" / "tables" / "t" / "X"
    array.mkdir(parents=True)
    (array / name).write_text(about)
    return path / "s.zarr"


@pytest.mark.parametrize(
    ("about", "name", "message"),
    [
        ('{"filters": [{"id": "pickle"}]}', ".zarray", "asks for pickle"),
        ('{"filters": [{"id": "\\u0070ickle"}]}', ".zarray", "asks for pickle"),  # as JSON may write it
        ('{"codecs": [{"configuration": {}, "name": "numcodecs.Pickle"}]}', "zarr.json", "asks for pickle"),
        ('{"metadata": {"X/.zarray": {"filters": [{"id" : "pickle"}]}}}', ".zmetadata", "asks for pickle"),
        ('{"shape": [5000000, 1024], "chunks": [256, 1024], "dtype": "<f4"}', ".zarray", "larger than what it stores"),
        ('{"shape": [5000000, 1024], "node_type": "array"}', "zarr.json", "larger than what it stores"),
        ("{", ".zarray", "cannot be read"), ("[" * 100_000, ".zattrs", "cannot be read"),
        ('{"shape": ["x"]}', ".zarray", "cannot be read"),
    ],
)  # fmt: skip
def test_a_store_that_runs_code_or_fills_the_memory_is_refused(
    about: str, name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(EosinError, match=message) as caught:
        read_zarr(store(tmp_path, about, name))
    assert "s.zarr" in str(caught.value)


def test_a_store_that_leads_outside_is_refused(tmp_path: Path) -> None:
    held = store(tmp_path, json.dumps({"shape": [2, 2], "dtype": "<f4"}))
    (tmp_path / "secret").write_bytes(b"secret")
    (held / "tables" / "t" / "X" / "0.0").symlink_to(tmp_path / "secret")
    with pytest.raises(EosinError, match="outside it"):
        read_zarr(held)
    for wrong in (tmp_path / "none.zarr", tmp_path / "secret"):
        with pytest.raises(EosinError, match="no such zarr store"):
            read_zarr(wrong)
