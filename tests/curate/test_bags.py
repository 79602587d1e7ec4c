"""Slides shown as bags of patches: validated, hashed and compared by their features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eosin.core.nouns.sample import Origin, Sample, SlideBag, make_choices, user_prompt
from eosin.curate import decontaminate, dedupe, validate
from eosin.curate.hashes import first_image_hash, image_digest
from eosin.slides.features import h5

PLACE = h5.TileGeometry(tile_px=128, side_level0=128.0, mpp=1.0, level0_mpp=1.0)


def bag_file(path: Path, features: np.ndarray, encoder: str = "colour-texture") -> Path:
    coords = np.arange(2 * len(features)).reshape(-1, 2) * 128
    h5.write_bag(path, h5.FeatureBag(path.stem, features.astype(np.float32), coords, PLACE), encoder_name=encoder)
    return path


def rows(seed: int, num: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, 6))


def sample(name: str, path: Path, answer: str = "A", **more: object) -> Sample:
    bag = SlideBag(path=str(path), encoder="colour-texture", slide=f"slides/{name}.svs")
    fields = {"id": name, "images": (bag,), "messages": user_prompt("What is it?"),
              "choices": make_choices(["one", "two"]),
              "answer": answer, "origin": Origin(source="t", slide=name), **more}  # fmt: skip
    return Sample.model_validate(fields)


def test_a_bag_that_cannot_be_used_is_dropped_and_named(tmp_path: Path) -> None:
    holes = rows(1)
    holes[2, 3] = np.nan
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(b"no h5")
    found = validate([
        sample("good", bag_file(tmp_path / "good.h5", rows(0))),
        sample("nan", bag_file(tmp_path / "nan.h5", holes)),
        sample("empty", bag_file(tmp_path / "empty.h5", rows(2, 0))),
        sample("other", bag_file(tmp_path / "other.h5", rows(3), "uni")),
        sample("damaged", damaged), sample("missing", tmp_path / "missing.h5"),
    ])  # fmt: skip
    assert [s.id for s in found.kept] == ["good"]
    told = {d.id: (d.reason, d.detail) for d in found.dropped}
    assert told["nan"][0] == "Some features are not finite numbers." and "1 of 4 tiles" in told["nan"][1]
    assert told["empty"][0] == "This file holds no tile."
    assert told["other"][0] == "these features are of another encoder" and "found" not in told["other"][0]
    assert told["damaged"][0] == "This h5 file cannot be read."
    assert told["missing"][0] == "There is no such feature file."
    assert all(f"slide {name}.svs" in detail for name, (_, detail) in told.items())


def test_the_digest_is_of_the_features(tmp_path: Path) -> None:
    first = sample("a", bag_file(tmp_path / "a.h5", rows(0)))
    copied = sample("b", bag_file(tmp_path / "elsewhere.h5", rows(0)))
    other = sample("c", bag_file(tmp_path / "c.h5", rows(1)))
    assert image_digest(first) == image_digest(copied) != image_digest(other)
    assert image_digest(sample("d", tmp_path / "missing.h5")) is None
    assert first_image_hash(first) is None
    before = image_digest(first)
    (tmp_path / "a.h5").unlink()
    bag_file(tmp_path / "a.h5", rows(7, 5))
    assert image_digest(first) != before


def test_removed_clusters_make_another_bag(tmp_path: Path) -> None:
    path = bag_file(tmp_path / "a.h5", rows(0))
    whole = sample("a", path)
    less = whole.model_copy(update={"images": (SlideBag(path=str(path), clusters="k.npy", without_clusters=(1,)),)})
    assert image_digest(whole) != image_digest(less)


def test_the_same_slide_twice(tmp_path: Path) -> None:
    a, b = bag_file(tmp_path / "a.h5", rows(0)), bag_file(tmp_path / "b.h5", rows(0))
    result = dedupe([sample("a", a), sample("b", b), sample("c", bag_file(tmp_path / "c.h5", rows(1)))]).samples
    assert [s.id for s in result.kept] == ["a", "c"]
    assert result.reasons() == {"same image and question": 1}


def test_a_slide_of_the_exam_is_no_training_slide(tmp_path: Path) -> None:
    a, b = bag_file(tmp_path / "a.h5", rows(0)), bag_file(tmp_path / "b.h5", rows(0))
    result = decontaminate([sample("a", a, split="train"), sample("b", b, split="test")])
    assert [s.id for s in result.kept] == ["b"] and result.reasons() == {"image stands in test": 1}


def test_yes_and_no_questions_about_one_slide_are_different_questions(tmp_path: Path) -> None:
    path = bag_file(tmp_path / "a.h5", rows(0))

    def asked(name: str, text: str, answer: str) -> Sample:
        return sample(name, path, answer, messages=user_prompt(text), choices=make_choices(["yes", "no"]))

    both = [asked("a", "Is there necrosis?", "A"), asked("b", "Are there mitoses?", "B")]
    assert len(dedupe(both).samples.kept) == 2
    torn = [asked("a", "Is there necrosis?", "A"), asked("b", "Is there necrosis?", "B")]
    assert dedupe(torn).samples.reasons() == {"same image, different answers": 2}
