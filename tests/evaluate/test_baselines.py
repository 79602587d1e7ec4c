from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.images import encode_png
from eosin.core.nouns.classes import Classes
from eosin.core.nouns.sample import ImageBytes, ImageFile, Origin, Sample, make_choices, user_prompt
from eosin.core.settings.exam import BASELINE_NAMES, ExamSettings
from eosin.evaluate.baselines.baselines import BASELINES, BaselineRunner, run_baselines
from eosin.evaluate.baselines.features import colour_histogram, colour_texture
from eosin.evaluate.baselines.text import best_option, option_features
from eosin.evaluate.baselines.verdict import against_baselines
from eosin.slides.encoders.colour_texture import describe

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
        s.model_copy(update={"label": None, "choices": make_choices(["carcinoma", "adenoma"]), "answer": "B"})
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
    for name in ("majority", "text_only", "colour_histogram", "colour_texture", "nearest_image"):
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


def test_names_in_settings_are_those_that_exist() -> None:
    assert tuple(BASELINES) == BASELINE_NAMES
    with pytest.raises(ValueError, match="named twice"):
        ExamSettings(baselines=["majority", "majority"])
    with pytest.raises(ValueError):
        ExamSettings(baselines=["colour"])


def test_none_and_named_baselines(make) -> None:
    train, test = make(12, 2, "train"), make(9, 2, "test")
    assert run_baselines(train, test, ExamSettings(baselines="none")) == {}
    found = run_baselines(train, test, ExamSettings(baselines=["colour_forest", "attention_mil", "nearest_caption"]))
    assert found["colour_forest"]["accuracy"] == 1.0
    assert found["attention_mil"] == {"n": 0, "reason": "the exam shows no slides as patch features"}
    assert "captions" in found["nearest_caption"]["reason"]


def test_training_items_are_bounded_and_an_exam_of_them_has_no_baseline(make) -> None:
    train, test = make(12, 2, "train"), make(9, 2, "test")
    assert run_baselines(train, test, ExamSettings(baseline_train=10))["colour_texture"]["num_train"] == 10
    for figures in run_baselines(train, train, ExamSettings(split="train")).values():
        assert figures["n"] == 0 and "fitted on" in figures["reason"]


def test_texture_is_that_of_the_encoder_and_takes_every_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    assert colour_texture(Image.fromarray(pixels), 0.5) == pytest.approx(describe(pixels[None], 0.5)[0], rel=1e-5)
    for size in ((8, 8), (9, 1200), (2000, 1500)):
        found = colour_texture(Image.new("RGB", size, (200, 120, 160)), None)
        assert found.shape == (112,) and np.isfinite(found).all()


def test_texture_is_found_also_where_colour_was_read_before(make) -> None:
    runner = BaselineRunner(make(12, 2, "train"))
    test = make(9, 2, "test")
    runner.of(test, ExamSettings(baselines=["majority", "colour_histogram"]))
    assert runner.of(test, ExamSettings(baselines=["colour_texture"])).figures["colour_texture"]["n"] == 18


def _striped(num: int, split: str) -> list[Sample]:
    """Fine stripes across, or down, of one mean colour: texture tells (by blur), colour does not."""
    samples = []
    for i in range(num):
        rng = np.random.default_rng([i, len(split)])
        period = (2, 8)[i % 2]
        stripes = (np.arange(64)[None, :] // period + np.zeros((64, 1), int)) % 2
        pixels = np.clip(90 + 90 * stripes[..., None] + rng.normal(0, 12, (64, 64, 3)), 0, 255).astype(np.uint8)
        samples.append(Sample(
            id=f"{split}{i}", images=(ImageBytes(data=encode_png(Image.fromarray(pixels))),),
            messages=user_prompt("Which?"),
            choices=make_choices(["fine", "coarse"]), answer="AB"[i % 2], origin=Origin(source="t", case=f"{split}{i}"),
            caption=f"Stripes that are {('fine', 'coarse')[i % 2]}.", split=split,
        ))  # fmt: skip
    return samples


def test_texture_and_neighbours_find_what_colour_does_not() -> None:
    found = run_baselines(_striped(60, "train"), _striped(40, "test"), SETTINGS)
    assert found["colour_texture"]["accuracy"] == found["nearest_image"]["accuracy"] == 1.0
    assert found["nearest_caption"]["accuracy"] == 1.0 and found["nearest_caption"]["num_train"] == 60
    for name in ("majority", "text_only", "colour_histogram", "colour_forest"):
        assert found[name]["accuracy"] < 0.75, name


def _asked(i: int, question: str, options: list[str], right: str, case: str = "") -> Sample:
    return Sample(
        id=f"{case}{i}", messages=user_prompt(question, 0), choices=make_choices(options),
        answer="ABCD"[options.index(right)],
        origin=Origin(source="t", case=f"{case}{i}"),
    )  # fmt: skip


def test_text_alone_finds_what_text_gives_away(make) -> None:
    """The longest option is right, whatever it says; and with shuffled options and one question nothing is."""
    rng = np.random.default_rng(0)

    def leaking(num: int, case: str) -> list[Sample]:
        made = []
        for i in range(num):
            words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(4)]
            words[int(rng.integers(4))] += " and a little more"
            made.append(_asked(i, "Which?", words, max(words, key=len), case))
        return made

    found = run_baselines(leaking(200, "train"), leaking(60, "test"), SETTINGS)
    assert found["text_only"]["accuracy"] > 0.95 and list(found) == ["majority", "text_only"]
    shuffled = run_baselines(make(60, 3, "train"), make(60, 3, "test"), SETTINGS)["text_only"]
    assert shuffled["accuracy"] == pytest.approx(1 / 3, abs=0.15)


def test_text_alone_reads_the_question() -> None:
    def made(num: int, case: str) -> list[Sample]:
        pairs = [("Which organ has crypts?", "colon"), ("Which organ has alveoli?", "lung")]
        return [
            _asked(i, pairs[i % 2][0], [["colon", "lung"], ["lung", "colon"]][i // 2 % 2], pairs[i % 2][1], case)
            for i in range(num)
        ]

    assert run_baselines(made(40, "train"), made(20, "test"), SETTINGS)["text_only"]["accuracy"] == 1.0


def test_option_features_by_hand() -> None:
    first, second = option_features(_asked(0, "Is a gland seen?", ["a gland", "no"], "no"))
    assert first["shared"] == 1.0 and second["shared"] == 0.0
    assert (first["longest"], first["shortest"], second["longest"], second["shortest"]) == (1.0, 0.0, 0.0, 1.0)
    assert first["place=0"] == second["place=1"] == 1.0 and first["asked=seen|a gland"] == 0.5


def test_the_option_that_a_caption_names() -> None:
    asked = _asked(0, "?", ["adenocarcinoma", "mucinous adenocarcinoma", "leiomyoma"], "leiomyoma")
    assert best_option("Tissue with mucinous adenocarcinoma.", asked) == "mucinous adenocarcinoma"
    assert best_option("Adenocarcinoma, moderately differentiated", asked) == "adenocarcinoma"
    assert best_option("nothing of the kind", asked) is None


def test_the_model_against_the_best_baseline(make) -> None:
    """Paired on the same items; a model as good as the best one does not beat it."""
    train, test = make(12, 2, "train"), make(30, 2, "test")
    results = BaselineRunner(train).of(test, SETTINGS)
    classes = Classes.of(test)

    def verdict(wrong: int) -> dict[str, object]:
        rows = [
            {"id": s.id, "correct": i >= wrong, "label": classes.gold(s), "group": s.origin.group}
            for i, s in enumerate(test)
        ]
        return against_baselines(rows, results, classes, SETTINGS)

    equal, worse = verdict(0), verdict(30)
    assert equal["best"] == "colour_histogram" and equal["baseline"] == 1.0 and equal["n"] == 60
    assert equal["difference"] == 0.0 and equal["beats"] is False
    assert worse["beats"] is False and worse["ci95"][1] < 0
    results.rows = {"majority": results.rows["majority"]}
    better = verdict(0)
    assert better["beats"] is True and better["baseline"] == pytest.approx(1 / 3) and better["best"] == "majority"
    few = dict.fromkeys(list(results.rows["majority"])[:1], True)  # right, and on one item: no interval
    half = {s.id: i % 2 == 0 for i, s in enumerate(test)}
    results.rows = {"few": few, "majority": results.rows["majority"], "half": half}
    best = verdict(0)
    assert (best["best"], best["n"], best["beats"]) == ("half", 60, True)
    results.rows["equal on some"] = {s.id: True for s in test[:40]}  # other items than the others were asked
    assert verdict(0)["best"] == "equal on some" and verdict(0)["beats"] is False
    results.rows = {"few": few}
    assert verdict(0)["best"] == "few" and verdict(0)["beats"] is None
    results.rows = {}
    assert verdict(0) == {"best": None, "beats": None, "reason": "no baseline answered an item of this exam"}


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
            id=r["file"], images=(ImageFile(path=str(folder / r["file"])),), messages=user_prompt("Which tissue?"),
            choices=make_choices(texts), answer=chr(ord("A") + texts.index(r["class_text"])),
            label=r["class_dir"], origin=Origin(source="kather-2016", slide=r["slide"]),
            split="test" if r["slide"] in ("05", "10") else "train",
        )
        for r in rows
    ]  # fmt: skip
    return [s for s in samples if s.split == "train"], [s for s in samples if s.split == "test"]


def test_colour_histogram_on_real_tiles() -> None:
    """Slides 05 and 10 held out. Colour alone is far above chance (0.125) and far from solving it."""
    train, test = _colorectal()
    settings = ExamSettings(baselines=["majority", "colour_histogram"], baseline_train=None)
    found = run_baselines(train, test, settings)
    assert (found["colour_histogram"]["num_train"], found["colour_histogram"]["n"]) == (4101, 899)
    assert 0.70 <= found["colour_histogram"]["balanced_accuracy"] <= 0.82
    assert found["colour_histogram"]["num_clusters"] == 2
    assert "2 clusters" in found["colour_histogram"]["interval_warning"]
    assert found["majority"]["balanced_accuracy"] == pytest.approx(1 / 8)
