"""The data step of a run: pictures that the model's processor would refuse are set aside before any stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eosin.chain.base.pictures import picture_refusals
from eosin.chain.recipe.data import prepare, read_source
from eosin.chain.recipe.layout import Layout
from eosin.core.errors import EosinError
from eosin.core.formats import read_dropped, write_samples
from eosin.core.images import encode_png
from eosin.core.nouns.sample import ImageBytes, ImageFile, Sample, make_choices, user_prompt
from eosin.core.settings.data import SamplesData
from eosin.core.settings.model import HubModel, SlideModel, TinyModel
from eosin.core.settings.recipe import load_recipe
from eosin.curate.validate import REFUSED, validate, without_refused
from eosin.models.pictures import refusals_of


def png(width: int, height: int, seed: int = 0) -> bytes:
    return encode_png(Image.effect_noise((width, height), 40 + seed).convert("RGB"))


def sample(name: str, data: bytes, **changes: Any) -> Sample:
    fields = {"id": name, "images": (ImageBytes(data=data),), "messages": user_prompt(f"What is {name}?"),
              "answer": "A",
              "choices": make_choices(["fat", "bone"]), "origin": {"source": "t", "case": name}}  # fmt: skip
    return Sample.model_validate(fields | changes)


SHAPES = [(64, 64, True), (6000, 10, False), (10, 6000, False), (1700, 8, False), (1600, 8, True), (6400, 32, True)]


@pytest.mark.parametrize("model", [TinyModel(), SlideModel()], ids=["tiny", "slide"])
def test_the_bound_is_that_of_the_models_own_processor(model: TinyModel | SlideModel) -> None:
    refuses = picture_refusals(model)
    assert [refuses(w, h) is None for w, h, _ in SHAPES] == [ok for _, _, ok in SHAPES]
    assert "aspect ratio" in str(refuses(6000, 10))


def test_another_processor_has_another_bound() -> None:
    def strict(images: list[Image.Image], **_: Any) -> None:
        if images[0].width > 2 * images[0].height:
            raise ValueError("too wide for me")

    refuses = refusals_of(strict)
    assert refuses(100, 60) is None and refuses(300, 60) == "too wide for me"
    assert refusals_of(None)(1, 10_000) is None  # a text-only model refuses no picture


def test_a_hub_model_is_asked_without_its_weights(tmp_path: Path) -> None:
    from eosin.models.tiny import build_processor, train_tokenizer

    build_processor(train_tokenizer(["a b c"] * 4, 400), TinyModel()).save_pretrained(tmp_path)
    refuses = picture_refusals(HubModel(name=str(tmp_path)))
    assert refuses(64, 64) is None and "aspect ratio" in str(refuses(6000, 10))
    with pytest.raises(EosinError, match="processor of the model could not be loaded"):
        picture_refusals(HubModel(name=str(tmp_path / "none")))(6000, 10)


def test_validation_and_exams_set_such_pictures_aside(tmp_path: Path) -> None:
    (tmp_path / "w.png").write_bytes(png(6000, 10))
    wide = sample("wide", b"", images=(ImageFile(path=str(tmp_path / "w.png")),))
    samples = [sample("good", png(64, 64)), wide, sample("broken", b"no image")]
    refuses = picture_refusals(TinyModel())
    found = validate(samples, refuses=refuses)
    assert found.reasons() == {REFUSED: 1, "not an image": 1}
    assert "6000 x 10 px" in found.dropped[0].detail and "aspect ratio" in found.dropped[0].detail
    fit = without_refused(samples, refuses)
    assert [s.id for s in fit.kept] == ["good", "broken"] and fit.reasons() == {REFUSED: 1}


def test_the_data_step_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    rows = []
    for i in range(8):
        (tmp_path / "images" / f"{i}.png").write_bytes(png(64, 64, i) if i else png(6000, 10))
        turns = [{"from": "human", "value": f"<image>\nWhat is {i}?\nA. fat\nB. bone"}, {"from": "gpt", "value": "B"}]
        split = ["train", "validation", "TEST"][i % 3]
        rows.append({"id": i, "image": f"images/{i}.png", "conversations": turns, "split": split, "case": f"c{i}"})
    (tmp_path / "rows.json").write_text(json.dumps(rows), "utf-8")
    (tmp_path / "r.yaml").write_text(
        f"data: {{source: samples, path: '{tmp_path}/rows.json'}}\nstages: {{sft: {{}}}}\n"
    )
    at = Layout(tmp_path / "out")
    splits = prepare(load_recipe(tmp_path / "r.yaml").recipe, at)
    assert {name: [s.id for s in part] for name, part in splits.items()} == {
        "train": ["3", "6"], "valid": ["1", "4", "7"], "test": ["2", "5"],
    }  # fmt: skip
    assert [(d.id, d.reason) for d in read_dropped(at.samples / "dropped.jsonl")] == [("0", REFUSED)]
    told = " ".join(capsys.readouterr().err.split())
    assert "The options of 8 questions were read from their text" in told
    card = json.loads((at.samples / "card.json").read_text("utf-8"))
    assert any("options of 8 questions" in w for w in card["warnings"])


def test_samples_may_show_pictures_of_their_own_folder_only(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(64, 64))
    held = sample("x", b"", images=(ImageFile(path=str(tmp_path / "secret.png")),))
    write_samples([held], tmp_path / "data" / "s.parquet")
    with pytest.raises(EosinError, match="image outside the data's folder.*data.image_folders"):
        read_source(SamplesData(path=str(tmp_path / "data" / "s.parquet")), 0)
    settings = SamplesData(path=str(tmp_path / "data" / "s.parquet"), image_folders=[str(tmp_path)])
    assert len(read_source(settings, 0).kept) == 1


@pytest.mark.parametrize("answer", ["<think>x</think> B", "a </answer> b", "<info>"])
def test_a_gold_text_with_a_tag_is_set_aside_before_it_stops_a_stage(answer: str) -> None:
    tagged = sample("tagged", png(64, 64), choices=(), answer=answer)
    found = validate([tagged, sample("good", png(64, 64))])
    assert found.reasons() == {"tag of a reply in the text": 1} and len(found.kept) == 1
