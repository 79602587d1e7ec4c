"""Mean features: what the mean of all patches tells, and what it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eosin.core.nouns.sample import Origin, Sample, SlideBag, ask, lettered
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.baselines.bags import CHOICES, fit_mean_features
from eosin.evaluate.baselines.baselines import run_baselines
from eosin.slides.features import h5

PLACE = h5.Place(tile_px=128, side_level0=128.0, mpp=1.0, level0_mpp=1.0)
NAMES = ("one", "two")
SETTINGS = ExamSettings(bootstrap=100)


def slide(folder: Path, name: str, label: int, shift: float, dim: int = 4) -> Sample:
    rng = np.random.default_rng(sum(name.encode()) * 7919 + label)
    features = rng.normal(size=(30, dim)).astype(np.float32)
    features[:, 0] += shift * label
    path = folder / f"{name}.h5"
    coords = np.arange(60).reshape(-1, 2)
    h5.write_bag(path, h5.FeatureBag(name, features, coords, PLACE), encoder_name="colour-texture")
    return Sample.model_validate({
        "id": name, "images": (SlideBag(path=str(path)),), "messages": ask("Which?"), "choices": lettered(NAMES),
        "answer": "AB"[label], "label": NAMES[label], "origin": Origin(source="t", case=name),
    })  # fmt: skip


def slides(folder: Path, split: str, num: int, shift: float) -> list[Sample]:
    return [slide(folder, f"{split}{i}", i % 2, shift) for i in range(num)]


def test_a_shift_of_all_patches_is_found_by_their_mean(tmp_path: Path) -> None:
    found = run_baselines(slides(tmp_path, "train", 16, 3.0), slides(tmp_path, "test", 10, 3.0), SETTINGS)
    assert list(found) == ["majority", "mean_features", "colour_histogram"]
    mean = found["mean_features"]
    assert mean["accuracy"] == 1.0 and mean["n"] == 10 and mean["num_train"] == 16 and mean["c"] in CHOICES
    assert found["majority"]["accuracy"] == 0.5
    assert found["colour_histogram"] == {"n": 0, "reason": "slides that are shown as patch features have no pixels"}


def test_without_a_shift_the_mean_tells_little(tmp_path: Path) -> None:
    found = run_baselines(slides(tmp_path, "train", 40, 0.0), slides(tmp_path, "test", 40, 0.0), SETTINGS)
    assert found["mean_features"]["accuracy"] < 0.75


def test_slides_that_cannot_be_read_are_set_aside(tmp_path: Path) -> None:
    test = slides(tmp_path, "test", 4, 1.0)
    Path(test[1].images[0].path).unlink()
    found = run_baselines(slides(tmp_path, "train", 8, 1.0), test, SETTINGS)
    assert found["mean_features"]["num_set_aside"] == 1 == found["majority"]["num_set_aside"]


def test_other_questions_of_the_train_split_are_no_classes(tmp_path: Path) -> None:
    train = slides(tmp_path, "train", 8, 1.0)
    yes_no = [s.model_copy(update={"id": s.id + "q", "choices": lettered(["yes", "no"])}) for s in train]
    found = run_baselines([*train, *yes_no], slides(tmp_path, "test", 4, 1.0), SETTINGS)
    assert found["mean_features"]["num_train"] == 8


def test_features_of_two_encoders_are_not_mixed(tmp_path: Path) -> None:
    train = [*slides(tmp_path, "train", 8, 1.0), slide(tmp_path, "odd", 0, 1.0, dim=6)]
    found = run_baselines(train, slides(tmp_path, "test", 4, 1.0), SETTINGS)
    assert found["mean_features"]["reason"] == "the features of these slides have different dimensions"


def test_folds_hold_whole_groups() -> None:
    """Copies of a slide in one group: C is chosen as if each stood once, so pure noise gets a strong penalty."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(20, 30)), 6, axis=0)
    y = np.repeat(["a", "b"] * 10, 6).tolist()
    groups = np.repeat(np.arange(20), 6).astype(str).tolist()
    _, honest = fit_mean_features(X, y, groups, X[:1])
    _, leaking = fit_mean_features(X, y, [str(i) for i in range(len(y))], X[:1])
    rights = np.mean([o[0] == t for o, t in zip(fit_mean_features(X, y, groups, X)[0], y, strict=True)])
    assert honest <= leaking and 0.5 <= rights <= 1.0
