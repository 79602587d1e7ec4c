"""Sets of CLIP exams in their published layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exam_layouts import BLUE, GREEN, RED, encoded, put

from eosin.core.errors import EosinError
from eosin.evaluate.exams.exam import Asked
from eosin.evaluate.exams.registry import exam_named


@pytest.mark.parametrize("above", ["", "lung_colon_image_set/"])
def test_lungs_of_lc25000_wherever_the_folder_stands(tmp_path: Path, above: str) -> None:
    for i, name in enumerate(("lung_aca", "lung_n", "lung_scc")):
        for k in range(2):
            put(tmp_path / f"{above}lung_image_sets/{name}/{name}{k}.jpeg", encoded((RED, GREEN, BLUE)[i]))
    put(tmp_path / f"{above}lung_image_sets/lung_n/notes.txt", "no picture")
    read = exam_named("lc-lung").samples(Asked(tmp_path))
    assert not read.dropped and [s.label for s in read.kept] == [
        "lung adenocarcinoma", "lung adenocarcinoma", "benign lung tissue", "benign lung tissue",
        "lung squamous cell carcinoma", "lung squamous cell carcinoma",
    ]  # fmt: skip
    assert [s.answer for s in read.kept] == list("AABBCC") and read.kept[0].origin.organ == "lung"


def test_a_class_without_pictures_is_told_and_a_wrong_folder_refused(tmp_path: Path) -> None:
    put(tmp_path / "CRC-VAL-HE-7K/TUM/TUM-1.tif", encoded(RED, "TIFF"))
    put(tmp_path / "NCT-CRC-HE-100K/ADI/ADI-1.tif", encoded(RED, "TIFF"))
    read = exam_named("nct-crc").samples(Asked(tmp_path))
    assert [(s.id, s.label) for s in read.kept] == [
        ("nct-crc/TUM/TUM-1", "colorectal adenocarcinoma epithelium"),
    ]  # fmt: skip
    assert len(read.dropped) == 8 and {d.reason for d in read.dropped} == {"class without a picture"}
    assert exam_named("nct-crc").samples(Asked(tmp_path, split="train")).kept[0].label == "adipose tissue"
    with pytest.raises(EosinError, match="no folder of a class"):
        exam_named("nct-crc").samples(Asked(tmp_path, split="train-nonorm"))


def test_arch_gives_captions_and_keeps_panels_together(tmp_path: Path) -> None:
    books = {
        "0": {"figure_id": "f1", "letter": "A", "caption": "Crypts,\n low power.", "uuid": "u1"},
        "1": {"figure_id": "f1", "letter": "B", "caption": "Nuclei.", "uuid": "u2"},
        "2": {"figure_id": "f2", "letter": "A", "caption": " ", "uuid": "u3"},
        "3": {"figure_id": "f3", "letter": "A", "caption": "Climbs.", "uuid": "../../u1"},
        "4": {"figure_id": "f4", "letter": "A", "caption": "Gone.", "uuid": "u9"},
    }
    put(tmp_path / "books_set/captions.json", json.dumps(books))
    put(tmp_path / "books_set/images/u1.png", encoded(RED, "PNG"))
    put(tmp_path / "books_set/images/u2.jpg", encoded(GREEN))
    put(tmp_path / "pubmed_set/captions.json", json.dumps({"0": {"caption": "A gland.", "uuid": "p1"}}))
    put(tmp_path / "pubmed_set/images/p1.jpg", encoded(BLUE))
    read = exam_named("arch").samples(Asked(tmp_path))
    assert [(s.id, s.caption, s.origin.case) for s in read.kept] == [
        ("arch/books/0", "Crypts, low power.", "f1"), ("arch/books/1", "Nuclei.", "f1"),
        ("arch/pubmed/0", "A gland.", "p1"),
    ]  # fmt: skip
    assert [d.id for d in read.dropped if d.reason == "no caption"] == ["arch/books/2"] and len(read.dropped) == 3
    assert len(exam_named("arch").samples(Asked(tmp_path, subset="pubmed")).kept) == 1
