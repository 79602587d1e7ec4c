"""The shipped recipe for the colorectal tiles: its words, its hold-out, and the samples that it makes."""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from eosin.core.nouns.prompt import gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.settings.data import DataSettings, TableData
from eosin.sources import read_table

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "colorectal.yaml"
SHARED = Path(os.environ.get("EOSIN_SHARED_DATA") or ROOT.parent / "shared" / "data")
CLASSES = {
    "tumour epithelium", "simple stroma", "complex stroma", "immune cells", "debris and mucus",
    "normal mucosal glands", "adipose tissue", "background",
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return dict(yaml.safe_load(RECIPE.read_text("utf-8"))["data"])


def _settings(data: dict[str, Any], **changes: Any) -> TableData:
    settings = TypeAdapter(DataSettings).validate_python({**data, **changes})
    assert isinstance(settings, TableData)
    return settings


def test_eight_classes_in_words_each_with_several_wordings(data: dict[str, Any]) -> None:
    settings = _settings(data)
    assert set(settings.class_text.values()) == CLASSES
    assert set(settings.descriptions) == set(settings.class_text)
    for wordings in settings.descriptions.values():
        assert 3 <= len(set(wordings)) == len(wordings) <= 4
        assert all(15 <= len(w.split()) <= 30 for w in wordings)
        assert all(w.endswith(".") and "<" not in w for w in wordings)
    words = {w.strip(".,").lower() for ws in settings.descriptions.values() for x in ws for w in x.split()}
    assert len(words) < 200


def test_the_hold_out_is_by_slide(data: dict[str, Any]) -> None:
    settings = _settings(data)
    assert settings.hold_out == {"slide": ["05", "10"]}
    assert (settings.group_column, settings.group_kind) == ("slide", "slide")
    assert (settings.mpp, settings.licence) == (0.495, "CC-BY-4.0")


@pytest.mark.skipif(not (SHARED / "colorectal_tiles").is_dir(), reason="the shared colorectal tiles are absent")
def test_samples_of_the_real_tiles(data: dict[str, Any]) -> None:
    settings = _settings(data, root=str(SHARED / "colorectal_tiles"))
    found = read_table(settings)
    assert (len(found.kept), found.dropped) == (5000, ())
    assert collections.Counter(s.split for s in found.kept)["test"] == 899
    assert {s.origin.slide for s in found.kept if s.split == "test"} == {"05", "10"}
    assert {s.label for s in found.kept} == CLASSES
    letters = collections.Counter(s.answer for s in found.kept)
    # 625 of each letter expected; six standard deviations are 140.
    assert all(485 < letters[letter] < 765 for letter in "ABCDEFGH")
    grammar = Grammar.of("think/answer")
    for sample in found.kept[::250]:
        assert sample.findings in settings.descriptions[str(sample.extra["source_label"])]
        assert sample.label is not None
        assert sample.label in gold_reply(sample, grammar)
