"""Tables, folders and lists of slides as strangers write them: what is kept, as what, and why the rest is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from labelled_tiles import folder, tile

from eosin.core.errors import EosinError
from eosin.core.formats import read_samples, write_samples
from eosin.core.settings.data import FolderData, SamplesData, SlidesData, TableData
from eosin.sources import Collection, read_folder, read_table
from eosin.sources.files import is_missing, keep_inside, walk
from eosin.sources.slide_folder import read_slides


def table(root: Path, *rows: str, header: str = "file,label,slide,split", **changes: Any) -> Collection:
    """A table of these rows beside two good ones of different classes."""
    for i, name in enumerate(("a.png", "b.png", "c.png", "d.png")):
        tile(root / name, i)
    good = ["a.png,fat,1,train", "b.png,gland,2,train"] if header.count(",") == 3 else []
    (root / "manifest.csv").write_text("\n".join([header, *good, *rows]) + "\n", "utf-8")
    settings = {"root": str(root), "group_column": "slide", "split_column": "split"} | changes
    return read_table(TableData(**settings))


@pytest.mark.parametrize(
    ("word", "split"),
    [("valid", "valid"), ("VAL", "valid"), ("Validation", "valid"), ("dev", "valid"), (" Test ", "test"),
     ("training", "train")],
)  # fmt: skip
def test_words_for_splits(tmp_path: Path, word: str, split: str) -> None:
    found = table(tmp_path, f"c.png,fat,3,{word}")
    assert found.kept[-1].split == split


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("c.png,fat,3,holdout", "unknown split"), ("c.png,fat,3,", "unknown split"),
        ("c.png,fat,3,NaN", "unknown split"),
        ("c.png,NaN,3,train", "no label"), ("c.png,N/A,3,train", "no label"), ("c.png,nan,3,train", "no label"),
        ("c.png,NULL,3,train", "no label"), ("c.png,<NA>,3,train", "no label"), ("c.png,?,3,train", "no label"),
        ("c.png,,3,train", "no label"), ("c.png,fat,NaN,train", "no group"), ("c.png,fat,n/a,train", "no group"),
        ("../c.png,fat,3,train", "image outside the data's folder"),
        ("/etc/passwd,fat,3,train", "image outside the data's folder"),
        ("..\\..\\c.png,fat,3,train", "image outside the data's folder"),
        ("c.png,fat,3", "wrong number of cells"), (",fat,3,train", "no image path"),
        ("gone.png,fat,3,train", "image file missing"),
    ],
)  # fmt: skip
def test_a_bad_row_is_set_aside_with_its_reason(tmp_path: Path, row: str, reason: str) -> None:
    found = table(tmp_path, row)
    assert len(found.kept) == 2 and found.samples.reasons() == {reason: 1}


def test_a_class_that_is_called_na_is_one_where_the_recipe_says_so(tmp_path: Path) -> None:
    found = table(tmp_path, "c.png,NA,3,train", class_text={"NA": "normal adjacent"})
    assert found.kept[-1].label == "normal adjacent"
    assert [is_missing(w) for w in ("none", "0", "na ", "N.A.")] == [False, False, True, False]


def test_classes_that_differ_in_case_are_named_with_the_line_that_merges_them(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="differ only in case") as told:
        table(tmp_path, "c.png,Fat,3,train")
    assert told.value.found == "'Fat' and 'fat'"
    assert "class_text: {'fat': 'Fat'}" in (told.value.next_step or "")
    assert {s.label for s in table(tmp_path, "c.png,Fat,3,train", class_text={"fat": "Fat"}).kept} == {"Fat", "gland"}


def test_a_long_cell_is_read_and_an_open_quote_is_told(tmp_path: Path) -> None:
    header = "file,label,slide,split,note"
    rows = ["a.png,fat,1,train," + "x" * 200_000, "b.png,gland,2,train,y"]
    found = table(tmp_path, *rows, header=header, extra_columns=["note"])
    assert len(found.kept[0].extra["note"]) == 200_000
    with pytest.raises(EosinError, match="cannot be read") as told:
        table(tmp_path, 'a.png,fat,1,train,"' + "x" * 10_000_001, header=header)
    assert "quotation mark that is not closed" in (told.value.next_step or "")


def test_images_elsewhere_are_taken_only_where_the_recipe_names_the_folder(tmp_path: Path) -> None:
    tile(tmp_path / "other" / "c.png", 9)
    home = tmp_path / "home"
    rows = ["../other/c.png,fat,3,train", f"{tmp_path}/other/c.png,fat,4,train", "link.png,fat,5,train"]
    home.mkdir()
    (home / "link.png").symlink_to(tmp_path / "other" / "c.png")
    refused = table(home, *rows)
    assert refused.samples.reasons() == {"image outside the data's folder": 3}
    assert all("data.image_folders" in d.detail for d in refused.dropped)
    assert len(table(home, *rows, image_folders=[str(tmp_path / "other")]).kept) == 5
    with pytest.raises(EosinError, match="image outside the data's folder.*data.image_folders"):
        table(home, header="file,label,slide,split", manifest=_only(home, rows[0]))


def _only(home: Path, row: str) -> str:
    (home / "only.csv").write_text(f"file,label,slide,split\n{row}\n", "utf-8")
    return "only.csv"


def test_links_in_a_folder_are_named_and_not_walked(tmp_path: Path) -> None:
    folder(tmp_path / "tiles")
    tile(tmp_path / "secret" / "x.png", 99)
    (tmp_path / "tiles" / "fat" / "more").symlink_to(tmp_path / "secret")
    (tmp_path / "tiles" / "fat" / "one.png").symlink_to(tmp_path / "secret" / "x.png")
    (tmp_path / "tiles" / "fat" / "twin.png").symlink_to(tmp_path / "tiles" / "fat" / "slide01_0.png")
    settings = FolderData(root=str(tmp_path / "tiles"), pattern=r"(?P<slide>slide\d+|twin|one|x)")
    found = read_folder(settings)
    outside = [d.id for d in found.dropped if d.reason == "image outside the data's folder"]
    assert sorted(outside) == ["my-data/fat/more", "my-data/fat/one.png"] and len(found.kept) == 21
    allowed = read_folder(settings.model_copy(update={"image_folders": [str(tmp_path / "secret")]}))
    assert len(allowed.kept) == 23
    assert ("fat/more", False) in list(walk(tmp_path / "tiles"))


def test_samples_whose_images_lie_elsewhere_are_set_aside(tmp_path: Path) -> None:
    found = table(tmp_path / "home")
    write_samples(found.kept, tmp_path / "data" / "s.parquet")
    read = read_samples(tmp_path / "data" / "s.parquet")
    assert keep_inside(read, tmp_path / "data", ()).reasons() == {"image outside the data's folder": 2}
    assert keep_inside(read, tmp_path / "data", [str(tmp_path / "home")]).kept == found.kept


# ---- slides -------------------------------------------------------------------------------------------------------


def slides(root: Path, name: str, text: str, **changes: Any) -> Collection:
    (root / name).write_text(text, "utf-8")
    return read_slides(SlidesData(root=str(root), manifest=name, name="theirs", **changes))


@pytest.fixture()
def features(tmp_path: Path) -> Path:
    root = tmp_path / "features"
    root.mkdir()
    (root / "s1.h5").write_bytes(b"")  # found by its name; it is opened later
    return root


def said(question: str, reply: str, **more: Any) -> str:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": reply}]
    return json.dumps({"image": "s1.h5", "conversations": turns} | more, ensure_ascii=False)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
def test_a_line_separator_within_a_json_line_costs_no_row(features: Path, separator: str) -> None:
    lines = said(f"What{separator}is it?", "x", id=1) + "\n" + said("Why?", "y", id=2)
    found = slides(features, "s.jsonl", lines)
    assert [s.id for s in found.kept] == ["theirs/1", "theirs/2"] and not found.dropped


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"split": "holdout"}, "unknown split"), ({"image": "../../x.h5"}, "no feature file of this slide"),
     ({"image": {"a": 1}, "id": None}, "no slide named"), ({"note": [float("nan")]}, "extra is not JSON")],
)  # fmt: skip
def test_a_bad_row_of_slides_is_set_aside(features: Path, more: dict[str, Any], reason: str) -> None:
    found = slides(features, "s.jsonl", said("What?", "x", id=0) + "\n" + said("What?", "x", **({"id": 2} | more)))
    assert [s.id for s in found.kept] == ["theirs/0"] and found.samples.reasons() == {reason: 1}


def test_a_json_line_that_is_no_utf8_costs_itself_only(features: Path) -> None:
    data = said("What?", "x", id=1).encode() + b"\n\xff\xfe\n" + said("Why?", "y", id=2).encode()
    (features / "s.jsonl").write_bytes(data)
    found = read_slides(SlidesData(root=str(features), manifest="s.jsonl", name="theirs"))
    assert len(found.kept) == 2 and found.samples.reasons() == {"row is not an object": 1}


@pytest.mark.parametrize(("word", "split"), [("Validation", "valid"), ("TEST", "test"), ("dev", "valid")])
def test_words_for_splits_of_slides(features: Path, word: str, split: str) -> None:
    assert slides(features, "s.jsonl", said("What?", "x", split=word)).kept[0].split == split


def test_options_in_the_text_of_a_csv_question(features: Path) -> None:
    text = 'Slide,Question,Answer\ns1,"What is it?\nA. adenoma\nB. adenocarcinoma",B\ns1,"What? A) fat B) bone",E\n'
    found = slides(features, "q.csv", text)
    assert [c.text for c in found.kept[0].choices] == ["adenoma", "adenocarcinoma"] and found.kept[0].answer == "B"
    assert "options of 1 questions" in found.warnings[0] and "theirs/q.csv:5" in found.warnings[1]


def test_feature_files_behind_links_need_their_folder_named(features: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "s1.h5").symlink_to(features / "s1.h5")
    (linked / "s.jsonl").write_text(said("What?", "x"), "utf-8")
    settings = SlidesData(root=str(linked), manifest="s.jsonl", name="theirs")
    with pytest.raises(EosinError, match="holds no feature files") as told:
        read_slides(settings)
    assert "data.image_folders" in (told.value.next_step or "")
    assert len(read_slides(settings.model_copy(update={"image_folders": [str(features)]})).kept) == 1


def test_settings_of_samples_take_folders() -> None:
    assert SamplesData(path="x", image_folders=["/data/images"]).image_folders == ["/data/images"]
