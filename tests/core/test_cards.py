"""Cards in the Hub's form come with every checkpoint and every samples artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from eosin.core.formats.artifact import write_artifact
from eosin.core.nouns.sample import Origin, Sample, user_prompt
from eosin.core.store import artifacts as store
from eosin.core.store.cards import CARD, card_text, hub_licence


def front(text: str) -> dict[str, Any]:
    """The YAML front matter, as the Hub reads it."""
    _, head, _ = text.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def _sample(number: int, split: str | None = None) -> Sample:
    return Sample(id=str(number), messages=user_prompt("What?", 0), answer="x", origin=Origin(source="t"), split=split)  # type: ignore[arg-type]


def test_samples_come_with_a_card(tmp_path: Path) -> None:
    card = {"name": "mine", "title": "My tiles", "licence": "CC-BY-4.0", "citation": "Me 2026", "split_unit": "slide"}
    made = write_artifact([_sample(1), _sample(2)], tmp_path / "s", card=card)
    text = (tmp_path / "s" / CARD).read_text("utf-8")
    head = front(text)
    assert head["license"] == "cc-by-4.0" and head["pretty_name"] == "My tiles"
    assert head["size_categories"] == ["n<1K"] and "pathology" in head["tags"]
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "samples.parquet"}]
    assert "Me 2026" in text and "one slide" in text and "not for diagnosis" in text
    assert CARD in made.manifest["parts"]


def test_splits_of_a_run_are_named_as_the_hub_names_them(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.parquet").touch()
    (tmp_path / "card.json").write_text(json.dumps({"name": "x", "licence": "in-house", "drop_reasons": {"copy": 2}}))
    text = card_text(tmp_path, "samples", {"train": 900, "valid": 0, "test": 200, "dropped": 2}, {})
    head = front(text)
    assert head["license"] == "other" and head["license_name"] == "in-house"
    assert head["size_categories"] == ["1K<n<10K"]
    assert head["configs"][0]["data_files"] == [
        {"split": "test", "path": "test.parquet"}, {"split": "train", "path": "train.parquet"}
    ]  # fmt: skip
    assert "| copy | 2 |" in text and "| train | 900 |" in text


def test_a_checkpoint_comes_with_a_card_that_names_its_data(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    with store.writing(tmp_path / "data", "samples") as writer:
        (writer.dir / "card.json").write_text(json.dumps({"name": "kather-2016", "licence": "CC-BY-4.0"}))
    data = store.open_artifact(tmp_path / "data")
    with store.writing(tmp_path / "c", "checkpoint", parents=[data]) as writer:
        (writer.dir / "config.json").write_text(json.dumps({"architectures": ["Qwen2_5_VLForConditionalGeneration"]}))
        writer.facts |= {"stage": "sft", "step": 40, "grammar": {"tags": ["think", "answer"]}}
        writer.counts["parameters"] = 123
    text = (tmp_path / "c" / CARD).read_text("utf-8")
    head = front(text)
    assert head["pipeline_tag"] == "image-text-to-text" and head["library_name"] == "transformers"
    assert head["datasets"] == ["kather-2016"] and head["tags"] == ["pathology", "eosin", "sft"]
    assert "| parameters | 123 |" in text and "| replies in the blocks | think/answer |" in text
    assert "CC-BY-4.0" in text and str(tmp_path) not in text


def test_an_adapter_names_its_base_only_where_others_can_find_it(tmp_path: Path) -> None:
    for base, named in (("Qwen/Qwen2.5-VL-7B-Instruct", True), ("../../base", False), ("/home/me/base", False)):
        (tmp_path / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": base, "peft_type": "LORA"})
        )
        head = front(card_text(tmp_path, "checkpoint", {}, {"stage": "rl"}))
        assert head["library_name"] == "peft" and ("base_model" in head) is named


def test_other_artifacts_get_none_and_equal_ones_have_equal_cards(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_artifact([_sample(1)], tmp_path / name)
    assert (tmp_path / "a" / CARD).read_bytes() == (tmp_path / "b" / CARD).read_bytes()
    with store.writing(tmp_path / "e", "eval"):
        pass
    assert not (tmp_path / "e" / CARD).exists()


@pytest.mark.parametrize("name", ["x\n---\nlicense: mit", "<script>alert(1)</script>", "a | b", "ünï: [x", "- 'q"])
def test_foreign_words_stay_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "card.json").write_text(json.dumps({"name": name, "title": name, "licence": name, "organ": name}))
    text = card_text(tmp_path, "samples", {"samples": 1}, {})
    head = front(text)
    assert head["license"] == "other" and head["pretty_name"] == " ".join(name.split()).replace("<", "&lt;")
    assert "<script" not in text and text.count("\n---\n") == 1


def test_licences() -> None:
    assert hub_licence("CC0-1.0") == {"license": "cc0-1.0"} and hub_licence("Apache-2.0") == {"license": "apache-2.0"}
    assert hub_licence("") == {"license": "other", "license_name": "unknown"}


def test_the_hubs_own_reader_takes_both_cards(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "card.json").write_text(json.dumps({"name": "x", "title": "A: set", "licence": "CC0-1.0"}))
    data = hub.DatasetCard(card_text(tmp_path, "samples", {"samples": 3}, {})).data
    assert data.license == "cc0-1.0" and data.pretty_name == "A: set" and data.size_categories == ["n<1K"]
    model = hub.ModelCard(card_text(tmp_path, "checkpoint", {"parameters": 3}, {"stage": "sft"}, [tmp_path])).data
    assert model.pipeline_tag == "image-text-to-text" and model.datasets == ["x"]
    assert model.library_name == "transformers" and model.tags == ["pathology", "eosin", "sft"]
