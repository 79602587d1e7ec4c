"""A csv or tsv table becomes samples, whoever wrote it; a wrong table says how to mend the recipe."""

from __future__ import annotations

import collections
import csv
import os
from pathlib import Path
from typing import Any

import pytest
from labelled_tiles import table

from eosin.core.errors import EosinError
from eosin.core.settings.data import TableData
from eosin.sources import read_table

SHARED = Path(os.environ.get("EOSIN_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def _settings(root: Path, **changes: Any) -> TableData:
    return TableData(**{"root": str(root), "label_column": "class", "group_column": "slide", **changes})


def _rewrite(root: Path, **changes: str) -> None:
    path = root / "manifest.csv"
    text = path.read_text("utf-8")
    for old, new in changes.items():
        text = text.replace(old, new)
    path.write_text(text, "utf-8")


def test_a_table_with_groups_hold_out_and_extra_columns(tmp_path: Path) -> None:
    found = read_table(_settings(table(tmp_path), hold_out={"slide": ["02"]}, extra_columns=["note"]))
    assert len(found.kept) == 20
    assert {s.origin.slide for s in found.kept if s.split == "test"} == {"02"}
    assert {s.extra["note"] for s in found.kept} == {"grün"}
    assert found.card.num_groups == {"train": 4, "test": 1}


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_byte_order_marks_are_found_out(tmp_path: Path, delimiter: str, encoding: str) -> None:
    found = read_table(_settings(table(tmp_path, delimiter=delimiter, encoding=encoding), extra_columns=["note"]))
    assert len(found.kept) == 20
    assert found.kept[0].extra["note"] == "grün"


def test_another_encoding_is_named_and_can_be_set(tmp_path: Path) -> None:
    table(tmp_path, encoding="cp1252")
    with pytest.raises(EosinError, match="not in the encoding utf-8") as caught:
        read_table(_settings(tmp_path))
    assert "byte 0xfc in line 2" in str(caught.value)
    assert "data.encoding" in str(caught.value)
    found = read_table(_settings(tmp_path, encoding="cp1252", extra_columns=["note"]))
    assert found.kept[0].extra["note"] == "grün"
    with pytest.raises(EosinError, match="no such encoding"):
        read_table(_settings(tmp_path, encoding="utf-99"))


def test_the_line_sep_that_excel_writes_is_no_header(tmp_path: Path) -> None:
    table(tmp_path, delimiter=";")
    path = tmp_path / "manifest.csv"
    path.write_text("sep=;\r\n" + path.read_text("utf-8"), "utf-8")
    assert len(read_table(_settings(tmp_path)).kept) == 20


def test_wrong_columns_say_what_is_there_and_the_line_that_mends_it(tmp_path: Path) -> None:
    table(tmp_path)
    with pytest.raises(EosinError, match="no column 'Files', 'klass'") as caught:
        read_table(_settings(tmp_path, image_column="Files", label_column="klass"))
    assert caught.value.found == "file, class, slide, note"
    assert "data.image_column: file" in str(caught.value)
    assert "data.label_column: class" in str(caught.value)
    with pytest.raises(EosinError, match="zzz") as caught:
        read_table(_settings(tmp_path, group_column="zzz"))
    assert "data.group_column: <one of the columns above>" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("\ufeff  \n", "empty"),
        ("file,class,slide\n", "header but no rows"),
        ("file,class,slide,class\na,b,c,d\n", "same name"),
        ('file,class,slide\n"a,b,c\n', "No row"),
    ],
)
def test_tables_that_hold_nothing(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "manifest.csv").write_text(content, "utf-8")
    with pytest.raises(EosinError, match=message):
        read_table(_settings(tmp_path))


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no such table") as caught:
        read_table(_settings(tmp_path))
    assert "manifest.csv" in str(caught.value)
    (tmp_path / "manifest.csv").mkdir()
    with pytest.raises(EosinError, match="cannot be opened"):
        read_table(_settings(tmp_path))


def test_bad_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    table(tmp_path)
    with (tmp_path / "manifest.csv").open("a", encoding="utf-8") as handle:
        handle.write(",fat,01,x\nfat/a.png,,01,x\nfat/a.png,fat,,x\nfat/a.png,fat\n\nfat/none.png,fat,01,x\n")
        handle.write("fat/slide01_0.png,gland,01,x\nfat/slide01_0.png,fat,01,x\n")
    found = read_table(_settings(tmp_path))
    assert len(found.kept) == 20
    assert found.samples.reasons() == {
        "no image path": 1,
        "no label": 1,
        "no group": 1,
        "wrong number of cells": 1,
        "image file missing": 1,
        "duplicate id": 1,
        "exact duplicate": 1,
    }
    cells = next(d for d in found.dropped if d.reason == "wrong number of cells")
    assert (cells.id, cells.detail) == ("manifest.csv:25", "2 cells, 4 columns")


def test_a_split_column_in_other_words(tmp_path: Path) -> None:
    table(tmp_path)
    words = {"01": "Training", "02": "val", "03": "TEST", "04": "train", "05": "holdout"}
    path = tmp_path / "manifest.csv"
    head, *lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([head + ",part", *(f"{x},{words[x.split(',')[2]]}" for x in lines)]), "utf-8")
    found = read_table(_settings(tmp_path, split_column="part"))
    assert collections.Counter(s.split for s in found.kept) == {"train": 8, "valid": 4, "test": 4}
    assert found.samples.reasons() == {"unknown split": 4}


def test_a_slide_in_two_splits_is_named(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="more than one split") as caught:
        read_table(_settings(table(tmp_path), hold_out={"class": ["fat"]}))
    assert "slide:01 (2 in test, 2 in train)" in str(caught.value)


def test_paths_of_windows(tmp_path: Path) -> None:
    table(tmp_path)
    _rewrite(tmp_path, **{"fat/slide": "fat\\slide"})
    assert len(read_table(_settings(tmp_path)).kept) == 20


def test_a_manifest_elsewhere(tmp_path: Path) -> None:
    table(tmp_path / "tiles")
    (tmp_path / "tiles" / "manifest.csv").rename(tmp_path / "list.csv")
    found = read_table(_settings(tmp_path / "tiles", manifest=str(tmp_path / "list.csv")))
    assert len(found.kept) == 20


@pytest.mark.skipif(not (SHARED / "colorectal_tiles").is_dir(), reason="the shared colorectal tiles are absent")
def test_real_colorectal_tiles_are_held_out_by_slide() -> None:
    found = read_table(
        TableData(
            root=str(SHARED / "colorectal_tiles"),
            name="kather-2016",
            label_column="class_text",
            group_column="slide",
            hold_out={"slide": ["05", "10"]},
            mpp=0.495,
            extra_columns=["suggested_split"],
        )
    )
    assert found.dropped == ()
    assert collections.Counter(s.split for s in found.kept) == {"train": 4101, "test": 899}
    assert all(s.split == s.extra["suggested_split"] for s in found.kept)
    assert {len(s.choices) for s in found.kept} == {8}
    assert found.warnings == ("590 of 625 samples of 'background' come from slide:06.",)
    assert found.card.num_groups == {"test": 2, "train": 8}


def test_reading_a_table_leaves_the_limit_of_cells_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    read_table(_settings(table(tmp_path)))
    assert csv.field_size_limit() == before
