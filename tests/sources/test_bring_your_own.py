"""The recipes in docs/bring-your-own.md are valid, and the page's Python does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from labelled_tiles import tile
from pydantic import TypeAdapter

from eosin.core.formats import read_dropped
from eosin.core.settings.data import DataSettings, FolderData, TableData
from eosin.core.settings.recipe import load_recipe
from eosin.sources import read_labelled

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "bring-your-own.md").read_text("utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def _tiles(root: Path) -> None:
    lines = ["file,diagnosis,slide"]
    for number, (label, slide) in enumerate(
        (c, s) for c in ("adenoma", "normal") for s in ("S16", "S17", "S18", "S21")
    ):
        name = f"{label}/{slide}_001.png"
        tile(root / name, number)
        lines.append(f"{name},{label},{slide}")
    (root / "manifest.csv").write_text("\n".join(lines))


def test_the_table_recipe_loads_and_reads(tmp_path: Path) -> None:
    _tiles(tmp_path / "tiles")
    (tmp_path / "my-tiles.yaml").write_text(_blocks("yaml")[0])
    data = load_recipe(tmp_path / "my-tiles.yaml", [f"data.root={tmp_path / 'tiles'}"]).recipe.data
    assert isinstance(data, TableData)
    found = read_labelled(data)
    assert found.card.num_groups == {"train": 2, "test": 2}


def test_the_folder_recipe_reads(tmp_path: Path) -> None:
    _tiles(tmp_path)
    (tmp_path / "manifest.csv").unlink()
    raw = yaml.safe_load(_blocks("yaml")[1])["data"]
    data = TypeAdapter(DataSettings).validate_python({**raw, "root": str(tmp_path)})
    assert isinstance(data, FolderData)
    found = read_labelled(data)
    assert {s.origin.slide for s in found.kept if s.split == "test"} == {"S17", "S21"}
    assert (found.card.num_groups, found.dropped) == ({"train": 2, "test": 2}, ())


def test_the_words_of_the_page_are_usable(tmp_path: Path) -> None:
    words = yaml.safe_load(_blocks("yaml")[2])
    _tiles(tmp_path)
    text = (tmp_path / "manifest.csv").read_text().replace(",adenoma,", ",AD,").replace(",normal,", ",N,")
    (tmp_path / "manifest.csv").write_text(text)
    found = read_labelled(TableData(root=str(tmp_path), label_column="diagnosis", group_column="slide", **words))
    assert {s.label for s in found.kept} == {"tubular adenoma", "normal mucosa"}
    assert all(len(s.reasoning) == 3 for s in found.kept)


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tiles(tmp_path)
    (tmp_path / "adenoma" / "S18_001.png").write_bytes(b"broken")
    monkeypatch.chdir(tmp_path)
    (code,) = _blocks("python")
    exec(code.replace("/data/my-tiles", str(tmp_path)), {})
    assert [d.id for d in read_dropped(tmp_path / "dropped.jsonl")] == ["my-data/adenoma/S18_001.png"]


@pytest.mark.parametrize("message", re.findall(r"^\| (The table .*?|A split .*?|A question .*?) \|", PAGE, re.M))
def test_messages_on_the_page_are_those_of_the_code(message: str) -> None:
    code = "".join(p.read_text() for p in (Path(read_labelled.__code__.co_filename).parent).glob("*.py"))
    stem = message.removesuffix(" ...").replace("utf-8", "")
    assert stem.strip() in code
