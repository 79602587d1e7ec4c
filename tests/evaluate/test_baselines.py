from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import ImageBytes, ImageFile, Origin, Sample, ask, lettered
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.baselines.baselines import colour_histogram, run_baselines

SETTINGS = ExamSettings()


def test_histogram_by_hand() -> None:
    """Half the pixels red (255, 0, 0), half black: R in the last and first bin, G and B in the first."""
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:4, :, 0] = 255
    found = colour_histogram(Image.fromarray(pixels)).reshape(6, 16) ** 2
    expected = np.zeros((6, 16))
    expected[0, [0, 15]] = 0.5  # R
    expected[1:3, 0] = 1.0  # G, B
    expected[3, 0] = 1.0  # H is 0 for red and for black
    expected[4, [0, 15]] = 0.5  # S
    expected[5, [0, 15]] = 0.5  # V
    assert found == pytest.approx(expected)


def test_large_images_are_reduced_not_distorted() -> None:
    wide = Image.new("RGB", (2000, 100), (200, 120, 160))
    assert colour_histogram(wide) == pytest.approx(colour_histogram(wide.crop((0, 0, 64, 64))))


def test_colour_task_is_solved_and_majority_is_chance(make) -> None:
    found = run_baselines(make(12, 2, "train"), make(9, 2, "test"), SETTINGS)
    assert found["colour_histogram"]["accuracy"] == 1.0 and found["colour_histogram"]["n"] == 18
    assert found["majority"]["balanced_accuracy"] == pytest.approx(1 / 3)
    assert found["majority"]["cluster"] == "case" and found["majority"]["num_train"] == 24


def test_colour_without_meaning_is_chance(make) -> None:
    """Images exchanged between classes at random: colour tells nothing."""
    rng = np.random.default_rng(0)

    def mixed(samples: list[Sample]) -> list[Sample]:
        order = rng.permutation(len(samples))
        return [s.model_copy(update={"images": samples[j].images}) for s, j in zip(samples, order, strict=True)]

    found = run_baselines(mixed(make(60, 3, "train")), mixed(make(60, 3, "test")), SETTINGS)
    assert found["colour_histogram"]["balanced_accuracy"] == pytest.approx(1 / 3, abs=0.12)


def test_majority_by_hand(make) -> None:
    train = [s for s in make(9, 1, "train") if s.label != "adenoma" or s.id == "train-1-0"]
    test = [*make(3, 1, "test"), *(s for s in make(30, 1, "test")[3:] if s.label == "cancer")]
    found = run_baselines([*train, *make(3, 1, "valid")[2:]], test, SETTINGS)["majority"]
    assert found["accuracy"] == pytest.approx(10 / 12), "cancer is the most frequent in train: 4 of 8"
    assert found["balanced_accuracy"] == pytest.approx(1 / 3)


def test_an_answer_must_be_among_the_options(make) -> None:
    """The most frequent class is not offered: the next one that is offered is said."""
    train = make(9, 1, "train")
    lean = [s.model_copy(update={"label": None}) for s in train]
    lean.append(lean[0].model_copy(update={"id": "extra"}))
    asked = [
        s.model_copy(update={"label": None, "choices": lettered(["carcinoma", "adenoma"]), "answer": "B"})
        for s in make(12, 1, "test")
        if s.label == "adenoma"
    ]
    assert run_baselines(lean, asked, SETTINGS)["majority"]["accuracy"] == 1.0


def test_bad_images_are_counted(make) -> None:
    test = make(9, 2, "test")
    test[3] = test[3].model_copy(update={"images": (ImageBytes(data=b"no image"),)})
    train = make(12, 2, "train")
    train[0] = train[0].model_copy(update={"images": (ImageFile(path="/nowhere.png"),)})
    found = run_baselines(train, test, SETTINGS)
    for name in ("majority", "colour_histogram"):
        assert found[name]["n"] == 17 and found[name]["num_set_aside"] == 1
    assert found["colour_histogram"]["num_train"] == 23


def test_reasons_instead_of_numbers(make) -> None:
    test = make(3, 1)
    assert run_baselines([], test, SETTINGS)["majority"] == {
        "n": 0,
        "reason": "no training samples with an answer",
    }
    one_class = [s for s in make(9, 1, "train") if s.label == "normal"]
    assert "two classes" in run_baselines(one_class, test, SETTINGS)["colour_histogram"]["reason"]
    with pytest.raises(EosinError, match="without items"):
        run_baselines(one_class, [], SETTINGS)


def test_same_items_as_the_exam(make) -> None:
    found = run_baselines(make(12, 2, "train"), make(9, 2, "test"), ExamSettings(max_samples=7))
    assert found["majority"]["n"] == found["colour_histogram"]["n"] == 7


def _colorectal() -> tuple[list[Sample], list[Sample]]:
    root = Path(os.environ.get("EOSIN_SHARED_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    folder = root / "colorectal_tiles"
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"the colorectal tiles are not at {folder} (set EOSIN_SHARED_DATA)")
    with (folder / "manifest.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    texts = sorted({r["class_text"] for r in rows})
    samples = [
        Sample(
            id=r["file"], images=(ImageFile(path=str(folder / r["file"])),), messages=ask("Which tissue?"),
            choices=lettered(texts), answer=chr(ord("A") + texts.index(r["class_text"])),
            label=r["class_dir"], origin=Origin(source="kather-2016", slide=r["slide"]),
            split="test" if r["slide"] in ("05", "10") else "train",
        )
        for r in rows
    ]  # fmt: skip
    return [s for s in samples if s.split == "train"], [s for s in samples if s.split == "test"]


def test_colour_histogram_on_real_tiles() -> None:
    """Slides 05 and 10 held out. Colour alone is far above chance (0.125) and far from solving it."""
    train, test = _colorectal()
    found = run_baselines(train, test, SETTINGS)
    assert (found["colour_histogram"]["num_train"], found["colour_histogram"]["n"]) == (4101, 899)
    assert 0.70 <= found["colour_histogram"]["balanced_accuracy"] <= 0.82
    assert found["colour_histogram"]["num_clusters"] == 2
    assert "2 clusters" in found["colour_histogram"]["interval_warning"]
    assert found["majority"]["balanced_accuracy"] == pytest.approx(1 / 8)
