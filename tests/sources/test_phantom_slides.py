"""Phantom slides as samples: through real TIFFs and the real slides pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eosin.chain.recipe.data import grounded
from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.core.settings.data import PhantomSlidesData
from eosin.core.settings.recipe import Recipe
from eosin.curate import clean
from eosin.slides.encoders.records import EncoderRecord
from eosin.slides.features.bags import read_bag
from eosin.slides.features.h5_read import read_header
from eosin.sources.card import Collection
from eosin.sources.phantom_slides import read_phantom_slides, tile_encoder

SETTINGS = PhantomSlidesData(
    train_cases=6, valid_cases=0, test_cases=1, size_px=512, tile_px=64, lesion_um=70.0, page_px=256, workers=2,
    questions=["diagnosis", "finding", "findings", "place"],
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "slides"


@pytest.fixture(scope="module")
def collection(folder: Path) -> Collection:
    return read_phantom_slides(SETTINGS, 0, folder)


def shown(sample: Sample) -> SlideBag:
    [ref] = sample.images
    assert isinstance(ref, SlideBag)
    return ref


def test_every_slide_becomes_a_bag(collection: Collection, folder: Path) -> None:
    assert not collection.dropped
    cases = {s.origin.case for s in collection.kept}
    assert len(cases) == 7 and collection.card.num_groups == {"train": 6, "test": 1}
    for sample in collection.kept:
        ref = shown(sample)
        assert ref.encoder == "colour-texture" and Path(str(ref.slide)).exists()
        assert sample.extra["phantom"] is True and Path(sample.extra["truth"]).exists()
    bag = read_bag(shown(collection.kept[0]))
    assert bag.tile_um == 64.0 and bag.mpp == 1.0 and bag.dimension == 112 and 10 <= len(bag) <= 64
    assert (bag.centres_um > 0).all() and (bag.centres_um < 512).all()


def test_the_feature_file_says_what_its_tiles_were(collection: Collection) -> None:
    ref = shown(collection.kept[0])
    record = EncoderRecord.model_validate_json(read_header(Path(ref.path)).attributes["encoder_record"])
    assert record.tile_px == 64 and record == tile_encoder(SETTINGS)[0]


def test_entities_are_the_truth_of_the_slide(collection: Collection) -> None:
    for sample in collection.kept:
        truth = json.loads(Path(sample.extra["truth"]).read_text(encoding="utf-8"))
        assert sample.label == truth["diagnosis"]
        for entity in sample.entities:
            if entity.kind == "finding" and entity.name in truth["findings"]:
                assert truth["findings"][entity.name]["present"] == (entity.polarity == "present")
        names = {e.name for e in sample.entities if e.polarity == "present"}
        assert sample.label == "normal mucosa" or "round glands" not in names  # the mucosa around a lesion


def test_questions_follow_from_the_truth(collection: Collection) -> None:
    kinds = {s.extra["question"] for s in collection.kept if s.split == "train"}
    assert kinds == {"diagnosis", "finding", "findings", "place"}
    assert {s.extra["question"] for s in collection.kept if s.split == "test"} == {"diagnosis"}
    for sample in collection.kept:
        truth = json.loads(Path(sample.extra["truth"]).read_text(encoding="utf-8"))
        if sample.extra["question"] == "finding":
            there = truth["findings"].get(sample.extra["asked"], {"present": False})["present"]
            assert sample.answer_text == ("yes" if there else "no")
        if sample.extra["question"] == "place":
            [one] = [x for x in truth["lesions"] if x["visible"]]
            expected = ("upper " if one["y_um"] < 256 else "lower ") + ("left" if one["x_um"] < 256 else "right")
            assert sample.answer_text == expected


def test_samples_are_grounded_and_cleaned_in_a_run(collection: Collection) -> None:
    made, steps = grounded(collection, SETTINGS, 0)
    assert [s.num_in for s in steps][0] == len(collection.kept) and made.samples.num_in == len(collection.kept)
    asked = [s for s in made.kept if s.extra["question"] == "diagnosis"]
    assert len(asked) >= 6 and all(3 <= len(s.reasoning) <= 6 and s.findings for s in asked)
    cleaned = clean(made.kept, perceptual=False)
    assert not cleaned.dropped and len(cleaned.samples) == len(made.kept)
    assert all(e.concept for s in cleaned.samples for e in s.entities if e.kind == "diagnosis")


def test_what_is_there_is_not_made_again(collection: Collection, folder: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("phantom-*")}
    again = read_phantom_slides(SETTINGS, 0, folder)
    assert again.kept == collection.kept
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("phantom-*")} == before


def test_slides_of_other_settings_are_refused(collection: Collection, folder: Path) -> None:
    other = SETTINGS.model_copy(update={"lesion_um": 90.0})
    with pytest.raises(EosinError, match="other settings") as caught:
        read_phantom_slides(other, 0, folder)
    assert "lesion_um: there 70.0, here 90.0" in str(caught.value)


def test_a_lesion_can_be_told_from_its_surroundings(collection: Collection) -> None:
    """Patches in lesions lie farther from the slide's median patch than others do."""
    ratios = []
    for sample in collection.kept:
        truth = json.loads(Path(sample.extra["truth"]).read_text(encoding="utf-8"))
        if sample.extra["question"] != "diagnosis" or not truth["lesions"]:
            continue
        bag = read_bag(shown(sample))
        spread = bag.features.std(axis=0) + 1e-6
        far = np.abs((bag.features - np.median(bag.features, axis=0)) / spread).mean(axis=1)
        places = np.array([[x["x_um"], x["y_um"]] for x in truth["lesions"]])
        inside = (np.hypot(*(bag.centres_um[:, None] - places[None]).transpose(2, 0, 1)) < 50).any(axis=1)
        ratios.append(far[inside].mean() / far[~inside].mean())
    assert np.median(ratios) > 1.2


def test_a_folder_of_an_older_version_goes_on(tmp_path: Path) -> None:
    from eosin.sources.phantom_slides import _claim

    _claim(tmp_path, SETTINGS, 0)
    mark = tmp_path / "slides.json"
    old = {k: v for k, v in json.loads(mark.read_text()).items() if k != "finding_share"}
    mark.write_text(json.dumps(old))
    _claim(tmp_path, SETTINGS, 0)
    with pytest.raises(EosinError, match="finding_share"):
        _claim(tmp_path, SETTINGS.model_copy(update={"finding_share": 0.5}), 0)


def test_an_encoder_keeps_its_own_tiles() -> None:
    with pytest.raises(EosinError, match="tiles of one size"):
        tile_encoder(PhantomSlidesData(encoder="uni", tile_px=128))
    record, make = tile_encoder(PhantomSlidesData(tile_px=None))
    assert record.tile_px == 256 and make is None


def test_settings_are_strict() -> None:
    with pytest.raises(ValueError, match="a fifth of the slide's side"):
        PhantomSlidesData(size_px=512, lesion_um=170)
    with pytest.raises(ValueError, match="extra"):
        PhantomSlidesData.model_validate({"cases": 3})
    recipe = Recipe.model_validate({"data": {"source": "phantom-slides"}, "stages": {"sft": {}}})
    assert isinstance(recipe.data, PhantomSlidesData)
