"""Baselines of slides that are shown as patch features: what the mean tells, and what only one patch tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eosin.core.nouns.sample import Origin, Sample, SlideBag, make_choices, user_prompt
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.baselines.attention import attention_mil
from eosin.evaluate.baselines.baselines import BaselineRunner, run_baselines
from eosin.evaluate.baselines.features import Features
from eosin.evaluate.baselines.linear import CHOICES, best_c, chosen_penalty
from eosin.evaluate.baselines.problem import Rows
from eosin.slides.features import h5

PLACE = h5.TileGeometry(tile_px=128, side_level0=128.0, mpp=1.0, level0_mpp=1.0)
NAMES = ("one", "two")
SETTINGS = ExamSettings(bootstrap=100)


def write_slide(path: Path, features: np.ndarray) -> SlideBag:
    coords = np.arange(2 * len(features)).reshape(-1, 2)
    bag = h5.FeatureBag(path.stem, features.astype(np.float32), coords, PLACE)
    h5.write_bag(path, bag, encoder_name="colour-texture")
    return SlideBag(path=str(path))


def sample(name: str, bags: tuple[SlideBag, ...], label: int, **more: object) -> Sample:
    return Sample.model_validate({
        "id": name, "images": bags, "messages": user_prompt("Which?"), "choices": make_choices(NAMES),
        "answer": "AB"[label],
        "label": NAMES[label], "origin": Origin(source="t", case=name), **more,
    })  # fmt: skip


def slide(folder: Path, name: str, label: int, shift: float, dim: int = 4) -> Sample:
    rng = np.random.default_rng(sum(name.encode()) * 7919 + label)
    features = rng.normal(size=(30, dim))
    features[:, 0] += shift * label
    return sample(name, (write_slide(folder / f"{name}.h5", features),), label)


def slides(folder: Path, split: str, num: int, shift: float) -> list[Sample]:
    return [slide(folder, f"{split}{i}", i % 2, shift) for i in range(num)]


def one_patch(folder: Path, split: str, num: int) -> list[Sample]:
    """One patch of 30 tells the class: features 0 and 1 both high, or one high and one low.

    A second patch of the same slide undoes it in the mean, and other patches reach as high and as low alone.
    """
    samples = []
    for i in range(num):
        label = i % 2
        rng = np.random.default_rng([i, len(split)])
        X = rng.normal(scale=0.5, size=(30, 6))
        pairs = [(4, 4), (-4, -4)] if label else [(4, -4), (-4, 4)]
        places = rng.permutation(30)
        for place, (a, b) in zip(places, pairs, strict=False):
            X[place, :2] = a, b
        samples.append(sample(f"{split}{i}", (write_slide(folder / f"{split}{i}.h5", X),), label, split=split))
    return samples


def test_a_shift_of_all_patches_is_found_by_their_mean(tmp_path: Path) -> None:
    found = run_baselines(slides(tmp_path, "train", 16, 3.0), slides(tmp_path, "test", 10, 3.0), SETTINGS)
    assert list(found) == [
        "majority", "text_only", "mean_features", "feature_extremes", "attention_mil", "nearest_image",
    ]  # fmt: skip
    mean = found["mean_features"]
    assert mean["accuracy"] == 1.0 and mean["n"] == 10 and mean["num_train"] == 16 and mean["c"] in CHOICES
    assert found["feature_extremes"]["accuracy"] == found["nearest_image"]["accuracy"] == 1.0
    assert found["majority"]["accuracy"] == 0.5


def test_attention_finds_the_one_patch_that_mean_and_extremes_miss(tmp_path: Path) -> None:
    train, valid, test = (one_patch(tmp_path, s, n) for s, n in (("train", 120), ("valid", 30), ("test", 60)))
    found = run_baselines(train, test, SETTINGS, valid=valid)
    assert found["attention_mil"]["accuracy"] > 0.9
    assert found["mean_features"]["accuracy"] < 0.7
    assert found["feature_extremes"]["accuracy"] < 0.7, "both classes reach the same heights and depths"


def test_attention_is_of_the_stated_size_and_the_same_again() -> None:
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(5 + i % 3, 112)) for i in range(12)]
    y = [f"class {i % 6}" for i in range(12)]
    rows = Rows(X, y, [str(i) for i in range(12)])
    first, facts = attention_mil(rows, rows, X)
    assert facts["num_parameters"] == 112 * 64 + 64 + 2 * (64 * 32 + 32) + 32 + 1 + 64 * 6 + 6 == 11_815
    assert attention_mil(rows, rows, X)[0] == first and sorted(first[0]) == sorted(set(y))


def test_attention_without_a_valid_split_keeps_groups_apart() -> None:
    rng = np.random.default_rng(1)
    X = [rng.normal(size=(4, 3)) + 4 * (i % 2) for i in range(40)]
    rows = Rows(X, ["ab"[i % 2] for i in range(40)], [str(i // 4) + "ab"[i % 2] for i in range(40)])
    orders, _ = attention_mil(rows, Rows([], [], []), X)
    assert [o[0] for o in orders] == rows.y


def test_statistics_by_hand(tmp_path: Path) -> None:
    """Two slides in one item: the four statistics of each, averaged."""
    a = write_slide(tmp_path / "a.h5", np.array([[1.0, 2.0], [3.0, 2.0]]))
    b = write_slide(tmp_path / "b.h5", np.array([[5.0, 0.0]]))
    features = Features(None)
    both = sample("x", (a, b), 0)
    assert features.extremes(both).tolist() == [3.5, 1.0, 0.5, 0.0, 3.0, 1.0, 4.0, 1.0]
    assert features.mean(both).tolist() == [3.5, 1.0]
    assert features.patches(both).tolist() == [[1, 2], [3, 2], [5, 0]]
    assert features.colour(both) is None and features.texture(both) is None


def test_a_draw_of_patches_is_bounded_and_the_same_again(tmp_path: Path) -> None:
    big = write_slide(tmp_path / "big.h5", np.arange(6000, dtype=float).reshape(3000, 2))
    one, two = (Features(None, num_slides=2, seed=3).patches(sample("x", (big,), 0)) for _ in range(2))
    assert one.shape == (1024, 2) and (one == two).all() and (np.diff(one[:, 0]) > 0).all()
    assert Features(None, num_slides=10**9).patches(sample("x", (big,), 0)).shape == (32, 2)


def test_without_a_shift_the_mean_tells_little(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"baselines": ["mean_features"]})
    found = run_baselines(slides(tmp_path, "train", 40, 0.0), slides(tmp_path, "test", 40, 0.0), settings)
    assert list(found) == ["mean_features"] and found["mean_features"]["accuracy"] < 0.75


def test_slides_that_cannot_be_read_are_set_aside(tmp_path: Path) -> None:
    test = slides(tmp_path, "test", 4, 1.0)
    Path(test[1].images[0].path).unlink()
    found = run_baselines(slides(tmp_path, "train", 8, 1.0), test, SETTINGS)
    assert all(f["num_set_aside"] == 1 and f["n"] == 3 for f in found.values())


def test_another_question_over_the_same_slides_has_its_own_classifier(tmp_path: Path) -> None:
    """Yes and no follow feature 0 in one question and its opposite in another: one classifier could not tell."""

    def asked(split: str, num: int) -> list[Sample]:
        samples = []
        for s in slides(tmp_path, split, num, 3.0):
            high = s.answer == "B"
            for question, yes in (("Is it high?", high), ("Is it low?", not high)):
                samples.append(s.model_copy(update={
                    "id": f"{s.id} {question}", "messages": user_prompt(question),
                    "choices": make_choices(["yes", "no"]),
                    "answer": "A" if yes else "B", "label": None,
                }))  # fmt: skip
        return samples

    found = run_baselines(asked("train", 30), asked("test", 10), SETTINGS)
    for name in ("mean_features", "feature_extremes", "attention_mil", "nearest_image"):
        assert found[name]["accuracy"] == 1.0 and found[name]["num_classifiers"] == 2, name


def test_other_questions_of_the_train_split_are_no_classes(tmp_path: Path) -> None:
    train = slides(tmp_path, "train", 8, 1.0)
    yes_no = [s.model_copy(update={"id": s.id + "q", "choices": make_choices(["yes", "no"])}) for s in train]
    found = run_baselines([*train, *yes_no], slides(tmp_path, "test", 4, 1.0), SETTINGS)
    assert found["mean_features"]["num_train"] == 8


def test_features_of_two_encoders_are_not_mixed(tmp_path: Path) -> None:
    train = [*slides(tmp_path, "train", 8, 1.0), slide(tmp_path, "odd", 0, 1.0, dim=6)]
    found = run_baselines(train, slides(tmp_path, "test", 4, 1.0), SETTINGS)
    assert found["mean_features"]["reason"] == "the features of these slides have different dimensions"
    assert found["attention_mil"]["n"] == 0 and found["majority"]["n"] == 4


def test_pictures_are_no_part_of_an_exam_of_slides(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"baselines": ["colour_texture", "majority"]})
    found = run_baselines(slides(tmp_path, "train", 8, 1.0), slides(tmp_path, "test", 4, 1.0), settings)
    assert "no pixels" in found["colour_texture"]["reason"] and found["majority"]["n"] == 4


def test_folds_hold_whole_groups() -> None:
    """Copies of a slide in one group: C is chosen as if each stood once, so pure noise gets a strong penalty."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(20, 30)), 6, axis=0)
    y = np.repeat(["a", "b"] * 10, 6).tolist()
    groups = np.repeat(np.arange(20), 6).astype(str).tolist()
    honest = chosen_penalty(Rows(list(X), y, groups), Rows([], [], []), list(X))[1]["c"]
    leaking = chosen_penalty(Rows(list(X), y, [str(i) for i in range(len(y))]), Rows([], [], []), list(X))[1]["c"]
    assert honest <= leaking
    assert best_c(lambda c: None, X[:4], ["a", "b", "a", "b"], ["1", "2", "1", "2"]) == 1.0


def test_a_kill_loses_one_baseline_and_nothing_is_computed_twice(tmp_path: Path) -> None:
    train, test = slides(tmp_path, "train", 8, 3.0), slides(tmp_path, "test", 4, 3.0)
    told: list[str] = []
    first = BaselineRunner(train, cache=tmp_path / "kept", tell=told.append).of(test, SETTINGS)
    assert [t.split(":")[0] for t in told] == [f"baseline {n}" for n in first.figures]
    next((tmp_path / "kept").glob("mean_features-*.json")).write_text('{"key": "cut', encoding="utf-8")
    next((tmp_path / "kept").glob("majority-*.json")).unlink()
    told.clear()
    again = BaselineRunner(train, cache=tmp_path / "kept", tell=told.append).of(test, SETTINGS)
    assert again == first and [t.split(":")[0] for t in told] == ["baseline majority", "baseline mean_features"]
    told.clear()
    other = SETTINGS.model_copy(update={"max_new_tokens": 7, "probes": []})
    assert BaselineRunner(train, cache=tmp_path / "kept", tell=told.append).of(test, other) == first and not told
    write_slide(tmp_path / "test0.h5", np.zeros((5, 4)))
    BaselineRunner(train, cache=tmp_path / "kept", tell=told.append).of(test, SETTINGS)
    assert len(told) == len(first.figures), "a feature file was changed under its name"
