"""A labelled folder becomes samples: options without order, splits by slide, and clear words for mistakes."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import pytest
from labelled_tiles import folder, tile
from pydantic import ValidationError

from eosin.core.errors import EosinError
from eosin.core.nouns.prompt import gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.settings.data import FolderData
from eosin.sources import read_folder, read_labelled

PATTERN = r"slide(?P<slide>\d+)_"


def _settings(root: Path, **changes: Any) -> FolderData:
    return FolderData(root=str(root), pattern=PATTERN, mpp=0.5, organ="colon", **changes)


def test_every_image_becomes_a_sample_with_its_class_slide_and_scale(tmp_path: Path) -> None:
    found = read_folder(_settings(folder(tmp_path), licence="CC0-1.0", name="mine"))
    assert len(found.kept) == 20
    assert found.dropped == ()
    sample = next(s for s in found.kept if s.id == "mine/gland/slide03_1.png")
    assert sample.label == sample.answer_text == "gland"
    assert (sample.origin.slide, sample.origin.group, sample.origin.mpp) == ("03", "slide:03", 0.5)
    assert (sample.origin.organ, sample.origin.licence, sample.origin.source) == ("colon", "CC0-1.0", "mine")
    assert sample.reasoning == ("The tile shows gland.",)
    assert sample.caption == "The tile shows gland."
    assert sample.entities[0].name == "gland"
    assert sample.origin.digest is not None
    assert found.card.counts == {"none": {"fat": 10, "gland": 10}}
    assert found.card.split_unit == "slide"


def test_the_letter_tells_nothing_about_the_class(tmp_path: Path) -> None:
    found = read_folder(_settings(folder(tmp_path, ("a x", "b x", "c x", "d x"), slides=25)))
    letters = collections.Counter((s.label, s.answer) for s in found.kept)
    assert len(letters) == 16
    # 50 samples a class over 4 letters: 12.5 expected; a fair draw outside 2..27 has odds under 1 in 10,000.
    assert all(2 <= count <= 27 for count in letters.values())
    for sample in found.kept:
        assert sorted(c.text for c in sample.choices) == ["a x", "b x", "c x", "d x"]


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(tmp_path: Path) -> None:
    folder(tmp_path)
    a, b, c = (read_folder(_settings(tmp_path, seed=s)).kept for s in (1, 1, 2))
    assert a == b
    assert a != c


def test_the_order_of_one_sample_does_not_depend_on_the_others(tmp_path: Path) -> None:
    folder(tmp_path)
    before = {s.id: s for s in read_folder(_settings(tmp_path)).kept}
    tile(tmp_path / "fat" / "slide00_9.png", 999)
    after = {s.id: s for s in read_folder(_settings(tmp_path)).kept}
    assert all(after[name] == sample for name, sample in before.items())
    assert len(after) == len(before) + 1


def test_words_of_the_user_become_findings_reasoning_and_caption(tmp_path: Path) -> None:
    found = read_folder(
        _settings(
            folder(tmp_path),
            class_text={"fat": "adipose tissue"},
            descriptions={
                "fat": ["Large empty cells. Thin walls.", "Clear round spaces."],
                "gland": ["Round glands."],
            },
            questions=["What is shown?"],
        )
    )
    fat = [s for s in found.kept if s.label == "adipose tissue"]
    assert {s.findings for s in fat} == {"Large empty cells. Thin walls.", "Clear round spaces."}
    two = next(s for s in fat if s.findings == "Large empty cells. Thin walls.")
    assert two.reasoning[:2] == ("Large empty cells.", "Thin walls.")
    assert "adipose tissue" in two.reasoning[2]
    assert two.caption == " ".join(two.reasoning)
    assert two.question == "What is shown?"
    assert two.extra == {"source_label": "fat"}
    assert "adipose tissue" in gold_reply(two, Grammar.of("info/think/answer"))


def test_hold_out_by_slide(tmp_path: Path) -> None:
    found = read_folder(_settings(folder(tmp_path), hold_out={"slide": ["02", "05"]}, hold_out_valid={"slide": ["01"]}))
    by_split = collections.defaultdict(set)
    for sample in found.kept:
        by_split[sample.split].add(sample.origin.slide)
    assert by_split == {"train": {"03", "04"}, "valid": {"01"}, "test": {"02", "05"}}


@pytest.mark.parametrize("seed", range(5))
def test_fractions_take_whole_slides(tmp_path: Path, seed: int) -> None:
    found = read_folder(_settings(folder(tmp_path), valid_fraction=0.2, test_fraction=0.4, seed=seed))
    slides = collections.defaultdict(set)
    for sample in found.kept:
        slides[sample.origin.slide].add(sample.split)
    assert all(len(splits) == 1 for splits in slides.values())
    counts = collections.Counter(s.split for s in found.kept)
    assert counts == {"train": 8, "valid": 4, "test": 8}


def test_a_split_by_image_is_refused(tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(EosinError, match="split by image is refused") as caught:
        read_folder(FolderData(root=str(tmp_path), test_fraction=0.2))
    assert "20 images" in str(caught.value)
    assert "one_group_per_file" in str(caught.value)
    found = read_folder(FolderData(root=str(tmp_path), test_fraction=0.2, one_group_per_file=True))
    assert collections.Counter(s.split for s in found.kept) == {"train": 16, "test": 4}
    assert found.card.split_unit == "file"


def test_a_pattern_can_tell_label_and_split(tmp_path: Path) -> None:
    for split in ("training", "val", "odd"):
        folder(tmp_path / split, slides=1, each=1)
    found = read_folder(FolderData(root=str(tmp_path), pattern=r"^(?P<case>(?P<split>\w+)/(?P<label>\w+))/"))
    assert sorted((s.split, s.label, s.origin.case) for s in found.kept) == [
        ("train", "fat", "training/fat"),
        ("train", "gland", "training/gland"),
        ("valid", "fat", "val/fat"),
        ("valid", "gland", "val/gland"),
    ]
    assert found.samples.reasons() == {"unknown split": 2}


def test_a_case_in_two_split_folders_is_named(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder(tmp_path / split, slides=1, each=1)
    with pytest.raises(EosinError, match="more than one split") as caught:
        read_folder(FolderData(root=str(tmp_path), pattern=r"^(?P<split>\w+)/(?P<label>\w+)/(?P<case>\w+?)_"))
    assert "case:slide01 (2 in test, 2 in train)" in str(caught.value)


def test_groups_from_a_table(tmp_path: Path) -> None:
    folder(tmp_path, slides=2, each=1)
    (tmp_path / "groups.csv").write_text(
        "file,patient\nfat/slide01_0.png,p1\nfat/slide02_0.png,p2\ngland/slide01_0.png,p1\n"
    )
    found = read_folder(FolderData(root=str(tmp_path), groups_csv="groups.csv"))
    assert {s.origin.patient for s in found.kept} == {"p1", "p2"}
    reasons = {d.id: d.reason for d in found.dropped}
    assert reasons == {
        "my-data/gland/slide02_0.png": "not in the table of groups",
        "my-data/groups.csv": "not an image suffix",
    }


def test_what_does_not_fit_is_dropped_with_its_reason(tmp_path: Path) -> None:
    folder(tmp_path)
    tile(tmp_path / "slide01_loose.png", 1)
    tile(tmp_path / "fat" / "other.png", 2)
    (tmp_path / "fat" / "slide01_notes.txt").write_text("x")
    (tmp_path / "fat" / ".hidden.png").write_text("x")
    (tmp_path / "fat" / "slide01_gone.png").symlink_to(tmp_path / "nowhere.png")
    found = read_folder(_settings(tmp_path))
    assert {(d.id, d.reason) for d in found.dropped} == {
        ("my-data/slide01_loose.png", "not in a class folder"),
        ("my-data/fat/other.png", "path does not match the pattern"),
        ("my-data/fat/slide01_notes.txt", "not an image suffix"),
        ("my-data/fat/slide01_gone.png", "image file missing"),
    }
    assert found.samples.num_in == 24


def test_linked_class_folders_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    folder(tmp_path / "elsewhere")
    (tmp_path / "tiles").mkdir()
    for label in ("fat", "gland"):
        (tmp_path / "tiles" / label).symlink_to(tmp_path / "elsewhere" / label)
    (tmp_path / "elsewhere" / "fat" / "back").symlink_to(tmp_path / "elsewhere")
    allowed = _settings(tmp_path / "tiles", image_folders=[str(tmp_path / "elsewhere")])
    assert len(read_folder(allowed).kept) == 20
    with pytest.raises(EosinError, match="image outside the data's folder.*data.image_folders"):
        read_folder(_settings(tmp_path / "tiles"))


def test_no_more_than_so_many_training_samples_of_a_class(tmp_path: Path) -> None:
    found = read_folder(_settings(folder(tmp_path), hold_out={"slide": ["05"]}, max_train_per_class=3))
    assert found.card.counts == {"train": {"fat": 3, "gland": 3}, "test": {"fat": 2, "gland": 2}}
    assert found.samples.reasons() == {"more than max_train_per_class": 10}
    assert found.samples.num_in == 20


def test_embedded_images_need_no_folder(tmp_path: Path) -> None:
    found = read_labelled(_settings(folder(tmp_path), embed_images=True))
    assert {ref.kind for s in found.kept for ref in s.images} == {"bytes"}


def test_a_class_from_one_slide_and_a_class_missing_from_a_split_are_told(tmp_path: Path) -> None:
    folder(tmp_path, ("fat", "gland"), slides=3, each=1)
    for k in range(40):
        tile(tmp_path / "blank" / f"slide01_{k}.png", 1000 + k)
    tile(tmp_path / "blank" / "slide02_0.png", 2000)
    found = read_folder(_settings(tmp_path, hold_out={"slide": ["03"]}))
    assert found.warnings == (
        "The test split has no sample of: blank.",
        "40 of 41 samples of 'blank' come from slide:01.",
    )


def test_one_class_is_no_question(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="at least two classes") as caught:
        read_folder(_settings(folder(tmp_path, ("fat",))))
    assert "1: fat" in str(caught.value)


def test_more_classes_than_letters(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="too many classes"):
        read_folder(_settings(folder(tmp_path, tuple(f"c{i:02d}" for i in range(27)), slides=1, each=1)))


def test_no_folder_and_no_images(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no such folder") as caught:
        read_folder(_settings(tmp_path / "nowhere"))
    assert "data.root=PATH" in str(caught.value)
    with pytest.raises(EosinError, match="no labelled images"):
        read_folder(_settings(tmp_path))


@pytest.mark.parametrize("setting", ["class_text", "descriptions"])
def test_a_misspelt_class_is_named_with_the_nearest(tmp_path: Path, setting: str) -> None:
    value = {"glnad": "gland" if setting == "class_text" else ["Round glands."]}
    with pytest.raises(EosinError, match=setting) as caught:
        read_folder(_settings(folder(tmp_path), **{setting: value}))
    assert "write 'gland' instead" in str(caught.value)


def test_hold_out_of_what_is_not_there(tmp_path: Path) -> None:
    folder(tmp_path)
    with pytest.raises(EosinError, match="column") as caught:
        read_folder(_settings(tmp_path, hold_out={"slides": ["05"]}))
    assert "hold_out: {slide:" in str(caught.value)
    with pytest.raises(EosinError, match="values") as caught:
        read_folder(_settings(tmp_path, hold_out={"slide": ["5"]}))
    assert "01, 02, 03, 04, 05" in str(caught.value)


def test_too_few_groups_for_the_splits(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="too few groups"):
        read_folder(_settings(folder(tmp_path, slides=2), valid_fraction=0.2, test_fraction=0.2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hold_out": {"slide": [5]}}, "quoted"),
        ({"pattern": "("}, "regular expression"),
        ({"pattern": "(?P<colour>x)"}, "named groups"),
        ({"hold_out": {"slide": ["1"]}, "test_fraction": 0.1}, "not both"),
        ({"valid_fraction": 0.5, "test_fraction": 0.5}, "something to train on"),
        ({"descriptions": {"fat": []}}, "no wording"),
        ({"rooot": "x"}, "not permitted"),
        ({"mpp": "0.5"}, "valid number"),
    ],
)
def test_settings_are_strict(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FolderData.model_validate({"root": "x", **changes})
