"""Readers of slide exams on small folders of exactly the published layouts."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from exam_layouts import BLUE, GREEN, RED, colour_of, encoded, put, put_csv

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import ImageFile, SlideBag
from eosin.evaluate.exams.exam import ALL, Asked
from eosin.evaluate.exams.registry import exam_named

TCGA = "TCGA-GV-A40G-01Z-00-DX1.AD1A709F-A10C-4E69-B4ED-6361777361FD"


def features(path: Path) -> Path:
    """A feature file as CLAM and TRIDENT write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as out:
        out["features"] = np.ones((4, 8), np.float32)
        out["coords"] = np.array([[0, 0], [0, 256], [256, 0], [256, 256]])
    return path


def slidebench_row(number: int, slide: str, answer: str, **more: str) -> dict[str, object]:
    return {
        "ID": number, "Slide": slide, "Task": "Grading", "Question": "Which grade?", "A": "low", "B": "high", "C": "",
        "D": "", "Answer": answer, **more,
    }  # fmt: skip


def test_slidebench_finds_features_thumbnails_and_what_is_missing(tmp_path: Path) -> None:
    features(tmp_path / "features" / f"{TCGA}.h5")
    put(tmp_path / "thumbnails" / "17.png", encoded(GREEN, "PNG"))
    put_csv(
        tmp_path / "SlideBench-VQA-TCGA.csv", [slidebench_row(1, TCGA, "B"), slidebench_row(2, "TCGA-XX-0000", "A")]
    )
    put_csv(tmp_path / "SlideBench-VQA-BCNB.csv", [slidebench_row(1, "17", "low"), slidebench_row(2, "17", "C")])
    found = exam_named("slidebench").samples(Asked(tmp_path))
    tcga, bcnb = found.kept
    assert isinstance(tcga.images[0], SlideBag) and tcga.answer == "B"
    assert (tcga.origin.patient, tcga.extra["subset"], tcga.extra["task"]) == ("TCGA-GV-A40G", "tcga", "Grading")
    assert isinstance(bcnb.images[0], ImageFile) and colour_of(bcnb) == "green"
    assert (bcnb.answer, [c.text for c in bcnb.choices], bcnb.origin.group) == ("A", ["low", "high"], "patient:17")
    assert found.reasons() == {"slide missing": 1, "answer not among the choices": 1}
    only = exam_named("slidebench").samples(Asked(tmp_path, "bcnb"))
    assert [s.extra["subset"] for s in only.kept] == ["bcnb"]
    with pytest.raises(EosinError, match="no question file of SlideBench"):
        exam_named("slidebench").samples(Asked(tmp_path, "tcga-plus"))


def test_slidebench_captions(tmp_path: Path) -> None:
    put(tmp_path / "thumbnails" / "s1.jpg", encoded(RED))
    rows = [
        {"id": "1", "image": ["./BLCA/s1.csv"], "conversations": [
            {"from": "human", "value": "<image>\nDescribe."}, {"from": "gpt", "value": "A papillary tumour."}]},
        {"id": "2", "image": ["./BLCA/s1.csv"], "conversations": []},
    ]  # fmt: skip
    put(tmp_path / "SlideBench-Caption.json", json.dumps(rows))
    found = exam_named("slidebench-caption").samples(Asked(tmp_path))
    (one,) = found.kept
    assert (one.answer, colour_of(one), one.choices) == ("A papillary tumour.", "red", ())
    assert found.reasons() == {"no caption": 1}


def multipath_row(
    task: str, number: int, slide: str, answer: str, options: list[str], **more: object
) -> dict[str, object]:
    prompt = 'What is shown?\n\nSelect from the following options:\n{options}\n\nRespond in JSON:\n{{"answer": X}}'
    return {
        "benchmark_name": task, "benchmark_id": number, "image_path": slide, "answer": answer, "options": repr(options),
        "image_exists": True, "patch_exists": True, "is_valid": True, "metric_type": "accuracy",
        "file_id": slide.split(".")[0], "prompt": prompt, **more,
    }  # fmt: skip


def test_multipathqa_reads_texts_numbers_grades_and_thirty_options(tmp_path: Path) -> None:
    for name, colour in (("GTEX-1", RED), ("TCGA-AA-0001-01Z-00-DX1", GREEN), ("p1", BLUE)):
        put(tmp_path / "thumbnails" / f"{name}.png", encoded(colour, "PNG"))
    thirty = [f"tumour {i}" for i in range(30)]
    put_csv(tmp_path / "MultiPathQA.csv", [
        multipath_row("gtex", 1, "GTEX-1.tiff", "Skin", ["Esophagus", "Skin"]),
        multipath_row("tcga_expert_vqa", 2, "TCGA-AA-0001-01Z-00-DX1.svs", "1", ["Low", "Moderate", "High"]),
        multipath_row("panda", 3, "p1.tiff", "0", ["0", "1", "2", "3", "4", "5"]),
        multipath_row("tcga", 4, "TCGA-AA-0001-01Z-00-DX1.svs", "tumour 29", thirty),
        multipath_row("gtex", 5, "GTEX-1.tiff", "Bone", ["Esophagus", "Skin"]),
        multipath_row("gtex", 6, "GTEX-1.tiff", "Skin", ["Esophagus", "Skin"], is_valid=False),
        multipath_row("other", 7, "GTEX-1.tiff", "Skin", ["Esophagus", "Skin"]),
        {**multipath_row("gtex", 8, "GTEX-1.tiff", "9", []), "options": "__import__('os')"},
    ])  # fmt: skip
    found = exam_named("multipathqa").samples(Asked(tmp_path))
    by_task = {str(s.extra["subset"]): s for s in found.kept}
    assert by_task["gtex"].answer_text == "Skin" and colour_of(by_task["gtex"]) == "red"
    assert by_task["gtex"].question == "What is shown?"
    assert by_task["tcga_expert_vqa"].answer_text == "Low"
    assert by_task["panda"].answer_text == "benign (no cancer)" and len(by_task["panda"].choices) == 6
    assert by_task["tcga"].answer == "tumour 29" and not by_task["tcga"].choices
    assert by_task["tcga"].question.endswith("tumour 28; tumour 29.")
    assert by_task["tcga"].origin.patient == "TCGA-AA-0001"
    assert found.reasons() == {
        "answer not among the choices": 1, "marked as not valid by its authors": 1, "unknown task": 1, "no options": 1,
    }  # fmt: skip


def test_pathreasoner_reads_blocks_and_groups(tmp_path: Path) -> None:
    features(tmp_path / "features" / f"{TCGA}.h5")
    reply = (
        "<info>\nSheets of cells.\n</info>\n<think>\nThe cells are large.\n</think>\n"
        "<answer>\nUrothelial carcinoma\n</answer>"
    )
    row = {
        "id": "train::0", "image": f"/path/to/images/{TCGA}.h5",
        "conversations": [{"from": "human", "value": "Analyze.\n<image>"}, {"from": "gpt", "value": reply}],
    }  # fmt: skip
    broken = {**row, "id": "train::1", "conversations": [row["conversations"][0], {"from": "gpt", "value": "<info>x"}]}
    put(tmp_path / "diagnosis_example.json", json.dumps([row, broken]))
    put(tmp_path / "tumour_grade.json", json.dumps([{**row, "id": "train::9"}]))
    found = exam_named("pathreasoner").samples(Asked(tmp_path))
    one = next(s for s in found.kept if s.extra["subset"] == "diagnosis")
    assert (one.answer, one.findings, one.reasoning) == (
        "Urothelial carcinoma",
        "Sheets of cells.",
        ("The cells are large.",),
    )
    assert one.origin.patient == "TCGA-GV-A40G" and isinstance(one.images[0], SlideBag)
    assert sum(found.reasons().values()) == 1
    (graded,) = exam_named("pathreasoner").samples(Asked(tmp_path, "grade")).kept
    assert graded.id.endswith("train::9")


def test_reg2_reads_chain_and_report(tmp_path: Path) -> None:
    put(tmp_path / "thumbnails" / "PIT_01_09887_02.jpg", encoded(RED))
    step = {"question": "What is the organ?", "answer": "Urinary bladder", "next_question": "Is there any abnormality?"}
    chain = [
        step, {**step, "next_question": "another"},
        {"question": "What is the final pathology report?", "answer": "Bladder;\\n  No tumor present",
         "next_question": ""},
    ]  # fmt: skip
    rows = [{"id": "PIT_01_09887_02.tiff", "organ": "bladder", "chain_of_thought": chain},
            {"id": "PIT_01_09887_03.tiff", "chain_of_thought": chain[:2]}]  # fmt: skip
    put(tmp_path / "train_CoT.json", json.dumps(rows))
    found = exam_named("reg2").samples(Asked(tmp_path, ALL, "train"))
    (one,) = found.kept
    assert (one.answer, one.reasoning) == ("Bladder;\n  No tumor present", ("What is the organ? Urinary bladder",))
    assert (one.origin.patient, one.origin.organ, colour_of(one)) == ("PIT_01_09887", "bladder", "red")
    assert found.reasons() == {"chain without a report": 1}
    put(tmp_path / "test_CoT.json", json.dumps({"PIT_01_09887_02.tiff": chain}))
    assert len(exam_named("reg2").samples(Asked(tmp_path)).kept) == 1


def test_a_whole_slide_is_shown_as_one_small_picture(tmp_path: Path) -> None:
    from eosin.phantom.slides.slide import write_slide
    from eosin.slides.features.regions import SlideRegions

    write_slide(tmp_path / "17.tiff", case_number=2, size_px=512, mpp=1.0)
    put_csv(tmp_path / "SlideBench-VQA-BCNB.csv", [slidebench_row(1, "17", "low")])
    (one,) = exam_named("slidebench").samples(Asked(tmp_path, "bcnb")).kept
    picture = SlideRegions()(one.images[0])  # type: ignore[arg-type]
    assert picture.size == (512, 512)
