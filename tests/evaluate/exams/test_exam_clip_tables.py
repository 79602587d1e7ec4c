"""Sets of CLIP exams whose classes stand in names, tables and HDF5 files, in their published layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import openpyxl
import pytest
from exam_layouts import BLUE, GREEN, RED, encoded, put, put_csv

from eosin.core.errors import EosinError
from eosin.core.images import load_image
from eosin.evaluate.exams.exam import Asked
from eosin.evaluate.exams.registry import exam_named
from eosin.evaluate.exams.verify import verify


@pytest.mark.parametrize("above", ["1.training", "WSSS4LUAD/1.training", "."])
def test_tiles_of_one_tissue_are_asked_and_mixed_ones_set_aside(tmp_path: Path, above: str) -> None:
    names = ["436219-7159-48057-[1, 0, 0]", "436219-1-2-[0, 1, 0]", "1031280-9-9-[0 0 1]", "1031280-8-8-[1, 1, 0]",
             "1031280-7-7-[0, 0, 0]", "1031280-6-6"]  # fmt: skip
    for name in names:
        put(tmp_path / above / f"{name}.png", encoded(RED, "PNG"))
    read = exam_named("wsss4luad").samples(Asked(tmp_path))
    assert {s.id: (s.label, s.origin.slide) for s in read.kept} == {
        "wsss4luad/436219-7159-48057-[1, 0, 0]": ("lung adenocarcinoma", "436219"),
        "wsss4luad/436219-1-2-[0, 1, 0]": ("tumour-associated stroma", "436219"),
        "wsss4luad/1031280-9-9-[0 0 1]": ("normal lung tissue", "1031280"),
    }
    assert sorted(d.reason for d in read.dropped) == [
        "name without its class", "tile of no kind of tissue", "tile of several kinds of tissue",
    ]  # fmt: skip


def test_smears_are_classed_by_the_begin_of_their_name(tmp_path: Path) -> None:
    folder = tmp_path / "Brown Multicellular ThinPrep Database - images"
    for name, colour in (("HSIL_1.JPG", RED), ("LSIL 2.JPG", GREEN), ("NIL_3.jpg", BLUE), ("ASC_4.JPG", RED)):
        put(folder / name, encoded(colour))
    read = exam_named("bmt").samples(Asked(tmp_path))
    assert {s.id: (s.answer, s.label) for s in read.kept} == {
        "bmt/HSIL_1": ("A", "high-grade squamous intraepithelial lesion"),
        "bmt/LSIL 2": ("B", "low-grade squamous intraepithelial lesion"),
        "bmt/NIL_3": ("C", "negative for intraepithelial lesion or malignancy"),
    }
    assert [d.id for d in read.dropped] == ["bmt/ASC_4"]
    with pytest.raises(EosinError, match="no picture of the set"):
        exam_named("bmt").samples(Asked(put(tmp_path / "empty" / "x.txt", "").parent))


def test_sicapv2_reads_the_official_partition(tmp_path: Path) -> None:
    header = ["image_name", "NC", "G3", "G4", "G5", "G4C"]
    rows: list[list[Any]] = [
        ["16B0001851_Block_Region_1_0_0_xini_6803_yini_59786.jpg", 1, 0, 0, 0, 0],
        ["16B0001851_Block_Region_1_0_1_xini_1_yini_2.jpg", 0, 0, 1.0, 0, 1], ["18B0_a.jpg", 0, 1, 0, 1, 0],
        ["18B0_b.jpg", 0, 0, 0, 0, 0], ["18B0_gone.jpg", 0, 0, 0, 1, 0], [None, 1, 0, 0, 0, 0],
    ]  # fmt: skip
    for name, part in (("Test", rows), ("Train", [["17B_c.jpg", 0, 0, 0, 1, 0]])):
        book = openpyxl.Workbook()
        for row in (header, *part):
            book.active.append(row)
        (tmp_path / "SICAPv2/partition/Test").mkdir(parents=True, exist_ok=True)
        book.save(tmp_path / f"SICAPv2/partition/Test/{name}.xlsx")
    for row in (*rows[:4], ["17B_c.jpg"]):
        put(tmp_path / "SICAPv2/images" / row[0], encoded(GREEN))
    read = exam_named("sicapv2").samples(Asked(tmp_path))
    assert [(s.label, s.answer, s.origin.slide) for s in read.kept] == [
        ("non-cancerous prostate tissue", "A", "16B0001851"), ("Gleason pattern 4", "C", "16B0001851"),
    ]  # fmt: skip
    assert sorted((d.reason, d.detail) for d in read.dropped if d.reason == "not one grade") == [
        ("not one grade", "G3, G5"), ("not one grade", "none"),
    ]  # fmt: skip
    assert {d.reason for d in read.dropped} == {"not one grade", "image file missing", "row without a picture's name"}
    assert exam_named("sicapv2").samples(Asked(tmp_path, split="train")).kept[0].label == "Gleason pattern 5"
    put(tmp_path / "SICAPv2/partition/Test/Test.xlsx", "no spreadsheet")
    with pytest.raises(EosinError, match="spreadsheet cannot be read"):
        exam_named("sicapv2").samples(Asked(tmp_path))


@pytest.mark.parametrize("is_above", [True, False])
def test_skin_tiles_by_their_table(tmp_path: Path, is_above: bool) -> None:
    kinds = ["tumor_skin_naevus_naevus", "nontumor_skin_dermis_dermis", "tumor_skin_epithelial_bcc", "tumor_skin_new"]
    rows = [{"file": f"data/tiles/{k}/{i}.jpg", "class": k, "malignicy": "x", "set": ("Test", "Train")[i // 3]}
            for i, k in enumerate((*kinds[:3], kinds[1]))]  # fmt: skip
    rows += [{"file": "data/tiles/odd.jpg", "class": kinds[3], "malignicy": "x", "set": "Test"}]
    for row in rows:
        put(tmp_path / row["file"], encoded(BLUE))
    put_csv(tmp_path / "data/tiles-v2.csv", rows)
    root = tmp_path if is_above else tmp_path / "data"
    read = exam_named("skincancer").samples(Asked(root))
    assert [s.label for s in read.kept] == ["naevus", "dermis", "basal cell carcinoma"] and len(
        read.kept[0].choices
    ) == 16
    assert [(d.reason, d.detail) for d in read.dropped] == [("unknown class", "tumor_skin_new")]
    tumours = exam_named("skincancer").samples(Asked(root, subset="tumour"))
    assert [s.label for s in tumours.kept] == ["naevus", "basal cell carcinoma"] and len(tumours.kept[0].choices) == 4
    assert [s.label for s in exam_named("skincancer").samples(Asked(root, split="train")).kept] == ["dermis"]


def pcam(root: Path, split: str, tiles: np.ndarray, labels: list[int], slides: list[str] | None) -> None:
    root.mkdir(exist_ok=True)
    stem = f"camelyonpatch_level_2_split_{split}"
    for part, data in (("x", tiles), ("y", np.asarray(labels, np.uint8).reshape(-1, 1, 1, 1))):
        with h5py.File(root / f"{stem}_{part}.h5", "w") as file:
            file.create_dataset(part, data=data, compression="gzip")
    if slides is not None:
        put_csv(root / f"{stem}_meta.csv", [{"": i, "coord_y": 0, "tumor_patch": "True", "wsi": s}
                                            for i, s in enumerate(slides)])  # fmt: skip


def test_pcam_gives_each_tile_with_its_label_and_slide(tmp_path: Path) -> None:
    num = 300  # more than one block
    tiles = np.zeros((num, 96, 96, 3), np.uint8)
    tiles[:, :, :, 0] = np.arange(num)[:, None, None] % 256
    pcam(
        tmp_path,
        "test",
        tiles,
        [i % 2 for i in range(num - 1)] + [7],
        [f"camelyon16_test_{i // 100}" for i in range(num)],
    )
    read = exam_named("pcam").samples(Asked(tmp_path))
    assert len(read.kept) == num - 1 and [d.reason for d in read.dropped] == ["label is neither 0 nor 1"]
    for i in (0, 1, 255, 256, 298):
        sample = read.kept[i]
        assert sample.label == ("lymph node without metastasis", "lymph node metastasis")[i % 2]
        assert np.asarray(load_image(sample.images[0], None))[5, 5].tolist() == [i % 256, 0, 0]
        assert sample.origin.slide == f"camelyon16_test_{i // 100}"
    assert len(exam_named("pcam").samples(Asked(tmp_path, limit=5)).kept) == 5
    assert verify(exam_named("pcam"), tmp_path).unread == ["valid", "train"]


def test_pcam_that_does_not_match_is_refused(tmp_path: Path) -> None:
    tiles = np.zeros((4, 96, 96, 3), np.uint8)
    pcam(tmp_path, "test", tiles, [0, 1, 0], None)
    with pytest.raises(EosinError, match="do not match"):
        exam_named("pcam").samples(Asked(tmp_path))
    pcam(tmp_path, "test", tiles, [0, 1, 0, 1], ["a", "b"])
    with pytest.raises(EosinError, match="table of slides"):
        exam_named("pcam").samples(Asked(tmp_path))
    pcam(tmp_path / "bare", "test", tiles, [0, 1, 0, 1], None)
    assert {s.origin.slide for s in exam_named("pcam").samples(Asked(tmp_path / "bare")).kept} == {None}
