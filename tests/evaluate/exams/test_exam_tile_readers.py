"""Readers of picture exams on small folders of exactly the published layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from exam_layouts import (
    BLUE,
    GREEN,
    GREY,
    RED,
    colour_of,
    encoded,
    omnimedvqa,
    pathmmu,
    pathmmu_row,
    put,
    put_csv,
    put_parquet,
    put_zip,
)

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Sample
from eosin.evaluate.exams.exam import ALL, Asked
from eosin.evaluate.exams.registry import exam_named


def read(name: str, root: Path | None, subset: str = ALL, split: str = "", limit: int | None = None) -> list[Sample]:
    return list(exam_named(name).samples(Asked(root, subset, split, limit)).kept)


def reasons(name: str, root: Path, subset: str = ALL, split: str = "") -> dict[str, int]:
    return exam_named(name).samples(Asked(root, subset, split)).reasons()


def right(sample: Sample) -> str | None:
    return sample.answer_text


def test_pathmmu_reads_options_answers_pictures_and_reasoning(tmp_path: Path) -> None:
    samples = read("pathmmu", pathmmu(tmp_path), split="test-tiny")
    by_id = {s.id: s for s in samples}
    assert sorted(by_id) == ["pathmmu/Atlas/test_tiny/1", "pathmmu/PubMed/test_tiny/1", "pathmmu/PubMed/test_tiny/2"]
    second = by_id["pathmmu/PubMed/test_tiny/2"]
    assert [c.text for c in second.choices] == ["normal mucosa", "adenoma", "CD20(+) cells", "carcinoma"]
    assert (second.answer, colour_of(second)) == ("C", "green")
    assert second.reasoning == ("Glands are crowded.", "Nuclei are long.")
    assert second.question == "What is seen, 2?"
    assert by_id["pathmmu/PubMed/test_tiny/1"].origin.group == "case:image a.jpg"
    assert by_id["pathmmu/Atlas/test_tiny/1"].extra == {
        "subset": "Atlas", "exam_split": "test-tiny", "source_img": "x/y.png"
    }  # fmt: skip


def test_pathmmu_takes_a_picture_from_the_archive_and_test_all_is_both(tmp_path: Path) -> None:
    samples = read("pathmmu", pathmmu(tmp_path), "PubMed", "test-all")
    assert [(s.id, s.answer, colour_of(s)) for s in samples] == [
        ("pathmmu/PubMed/test/3", "A", "blue"),
        ("pathmmu/PubMed/test_tiny/1", "B", "red"),
        ("pathmmu/PubMed/test_tiny/2", "C", "green"),
    ]


def test_pathmmu_sets_bad_rows_aside_with_their_reasons(tmp_path: Path) -> None:
    pathmmu(tmp_path)
    data = json.loads((tmp_path / "data.json").read_text())
    data["PubMed"]["test_tiny"] += [
        pathmmu_row(3, "gone.jpg"), pathmmu_row(4, "a.jpg", "E) lymphoma"), pathmmu_row(5, "../../etc/passwd"),
        pathmmu_row(6, ""), "no row", {**pathmmu_row(7, "a.jpg"), "options": ["A) one"]},
        {**pathmmu_row(8, "a.jpg"), "options": ["A) adenoma", "B) adenoma"]},
        {**pathmmu_row(9, "a.jpg"), "answer": None},
    ]  # fmt: skip
    put(tmp_path / "data.json", json.dumps(data))
    assert reasons("pathmmu", tmp_path, "PubMed") == {
        "image file missing": 1, "answer not among the choices": 1, "image outside the exam's folder": 1,
        "no picture named": 1, "row is not an object": 1, "no options": 1, "two choices with the same text": 1,
        "no answer": 1,
    }  # fmt: skip
    assert len(read("pathmmu", tmp_path, "PubMed")) == 2


def test_pathmmu_without_its_file_or_without_a_usable_row_says_so(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no PathMMU question file") as error:
        read("pathmmu", tmp_path)
    assert "data.json" in (error.value.expected or "")
    put(tmp_path / "data.json", json.dumps({"PubMed": {"test_tiny": [pathmmu_row(1, "gone.jpg")]}}))
    with pytest.raises(EosinError, match="No question of pathmmu could be used") as error:
        read("pathmmu", tmp_path)
    assert "1 x image file missing" in (error.value.found or "")
    put(tmp_path / "data.json", "[]")
    with pytest.raises(EosinError, match="none of these subsets"):
        read("pathmmu", tmp_path)
    put(tmp_path / "data.json", "{")
    with pytest.raises(EosinError, match="not valid JSON"):
        read("pathmmu", tmp_path)


def test_an_archive_that_leads_out_of_itself_is_refused_and_counted(tmp_path: Path) -> None:
    pathmmu(tmp_path)
    put_zip(
        tmp_path / "images.zip",
        {"../../evil.jpg": encoded(RED), "/abs.jpg": encoded(RED), "images/c.jpg": encoded(BLUE)},
    )
    found = exam_named("pathmmu").samples(Asked(tmp_path, "PubMed", "test-all"))
    assert found.reasons() == {"name leads out of the archive": 2}
    assert [colour_of(s) for s in found.kept] == ["blue", "red", "green"]
    assert not (tmp_path.parent / "evil.jpg").exists()


def test_an_archive_that_unpacks_to_too_much_or_is_damaged(tmp_path: Path) -> None:
    pathmmu(tmp_path)
    put_zip(tmp_path / "images.zip", {"images/c.jpg": b"\0" * 30_000_000})
    found = exam_named("pathmmu").samples(Asked(tmp_path, "PubMed", "test-all"))
    assert found.reasons() == {"member unpacks to too much": 1, "image file missing": 1}
    put(tmp_path / "images.zip", b"PK\x03\x04 no archive")
    with pytest.raises(EosinError, match="archive cannot be opened"):
        read("pathmmu", tmp_path, split="test-all")


def test_pathvlm_r1_reads_the_rows_of_a_split_file(tmp_path: Path) -> None:
    put(tmp_path / "test.jsonl", json.dumps(pathmmu_row(1, "a.jpg")) + "\nno json\n")
    put(tmp_path / "images" / "a.jpg", encoded(RED))
    found = exam_named("pathvlm-r1").samples(Asked(tmp_path))
    assert [(s.id, right(s), colour_of(s)) for s in found.kept] == [("pathvlm-r1/test/1", "adenoma", "red")]
    assert found.reasons() == {"row is not an object": 1}


def _pathvqa_rows() -> list[dict[str, object]]:
    return [
        {"image": {"bytes": encoded(RED), "path": None}, "question": "Is tissue seen?", "answer": "yes"},
        {"image": {"bytes": encoded(GREEN), "path": None}, "question": "Is bone seen?", "answer": "No"},
        {"image": {"bytes": encoded(BLUE), "path": None}, "question": "What is seen?", "answer": "bone marrow"},
        {"image": None, "question": "Is it?", "answer": "yes"},
    ]


def test_pathvqa_divides_yes_no_from_free_text_in_the_hubs_parquet(tmp_path: Path) -> None:
    put_parquet(tmp_path / "data" / "test-00000-of-00001-abc.parquet", _pathvqa_rows())
    closed = exam_named("pathvqa-yesno").samples(Asked(tmp_path))
    assert [(s.id, s.answer, right(s), colour_of(s)) for s in closed.kept] == [
        ("pathvqa/test/1", "A", "Yes", "red"), ("pathvqa/test/2", "B", "No", "green"),
    ]  # fmt: skip
    assert closed.reasons() == {"image without bytes or path": 1}
    (free,) = read("pathvqa-open", tmp_path)
    assert (free.id, free.answer, free.choices, colour_of(free)) == ("pathvqa/test/3", "bone marrow", (), "blue")


def test_pathvqa_reads_a_folder_that_save_to_disk_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "test"
    folder.mkdir()
    table = pa.Table.from_pylist(_pathvqa_rows())
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as out,
        pa.ipc.new_stream(out, table.schema) as sink,
    ):
        sink.write_table(table)
    put(folder / "state.json", json.dumps({"_data_files": [{"filename": "../test/data-00000-of-00001.arrow"}]}))
    assert [colour_of(s) for s in read("pathvqa-yesno", tmp_path)] == ["red", "green"]


def test_pathvqa_names_the_files_it_looks_for(tmp_path: Path) -> None:
    put(tmp_path / "tests.txt", "x")
    with pytest.raises(EosinError, match="no file of the split test") as error:
        read("pathvqa-yesno", tmp_path)
    assert error.value.found == "tests.txt"
    put(tmp_path / "data" / "test-00000.parquet", b"PAR1 broken")
    with pytest.raises(EosinError, match="cannot be opened"):
        read("pathvqa-yesno", tmp_path)


def test_quiltvqa_reads_parquet_and_the_question_file_with_its_archive(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": encoded(RED), "path": "1.jpg"}, "question": "Is it benign?", "answer": "Yes, it is benign.",
         "answer_type": "CLOSED", "context": "a lecture"},
        {"image": {"bytes": encoded(GREEN), "path": "2.jpg"}, "question": "Why?", "answer": "Because of the glands.",
         "answer_type": "OPEN", "context": ""},
        {"image": {"bytes": encoded(GREEN), "path": "3.jpg"}, "question": "Is it?", "answer": "It depends.",
         "answer_type": "CLOSED", "context": ""},
    ]  # fmt: skip
    put_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", rows)
    closed = exam_named("quiltvqa-yesno").samples(Asked(tmp_path / "hub"))
    assert [(s.id, right(s), colour_of(s)) for s in closed.kept] == [("quiltvqa/1", "Yes", "red")]
    assert closed.reasons() == {"closed answer without yes or no": 1}
    (free,) = read("quiltvqa-open", tmp_path / "hub")
    assert (free.answer, colour_of(free)) == ("Because of the glands.", "green")
    named = [{**rows[0], "image": "1.jpg", "answer": "It is.", "yes_no_answer": "no"}, {**rows[1], "image": "2.jpg"}]
    put(tmp_path / "file" / "quilt_vqa.json", json.dumps(named))
    put_zip(tmp_path / "file" / "quilt_vqa.zip", {"quilt_vqa/1.jpg": encoded(BLUE), "quilt_vqa/2.jpg": encoded(GREY)})
    (only,) = read("quiltvqa-yesno", tmp_path / "file")
    assert (right(only), colour_of(only)) == ("No", "blue")


def test_medxpertqa_takes_its_histology_items_with_all_their_pictures(tmp_path: Path) -> None:
    options = {k: f"disease {k}" for k in "ABCDE"}
    tail = "\nAnswer Choices: (A) disease A (B) disease B (C) disease C (D) disease D (E) disease E"
    rows = [
        {"id": "MM-1", "question": "A biopsy is shown. What is it?" + tail, "options": options, "label": "D",
         "images": ["MM-1-a.jpeg", "MM-1-b.png"], "medical_task": "Diagnosis", "body_system": "Skeletal",
         "question_type": "Reasoning"},
        {"id": "MM-2", "question": "A chest film is shown." + tail, "options": options, "label": "A",
         "images": ["x.png"]},
        {"id": "MM-3", "question": "A smear is shown.", "options": options, "label": "F", "images": ["MM-1-a.jpeg"]},
    ]  # fmt: skip
    put(tmp_path / "MM" / "test.jsonl", "\n".join(map(json.dumps, rows)))
    put_zip(tmp_path / "images.zip", {"images/MM-1-a.jpeg": encoded(RED), "images/MM-1-b.png": encoded(BLUE, "PNG")})
    found = exam_named("medxpertqa").samples(Asked(tmp_path))
    (one,) = found.kept
    assert (one.id, one.answer, len(one.choices)) == ("medxpertqa/MM-1", "D", 5)
    assert one.question == "A biopsy is shown. What is it?"
    assert [colour_of(one, i) for i in (0, 1)] == ["red", "blue"]
    assert found.reasons() == {"answer not among the choices": 1}
    everything = exam_named("medxpertqa").samples(Asked(tmp_path, "everything"))
    assert everything.reasons() == {"answer not among the choices": 1, "image file missing": 1}


@pytest.mark.parametrize("packed", [False, True])
def test_omnimedvqa_by_part_and_by_modality(tmp_path: Path, packed: bool) -> None:
    root = omnimedvqa(tmp_path, packed=packed)
    found = exam_named("omnimedvqa").samples(Asked(root))
    assert {s.id: (right(s), colour_of(s), s.origin.modality) for s in found.kept} == {
        "omnimedvqa/Chest CT Scan/ct_1": ("Adenocarcinoma", "grey", "ct"),
        "omnimedvqa/Retinal OCT-C8/oct_1": ("Drusen", "blue", "oct"),
    }
    assert found.reasons() == {"answer not among the choices": 1}
    assert [len(s.choices) for s in found.kept] == [3, 4]
    for subset in ("oct", "oct-c8", "OCT_C8"):
        assert [s.id for s in read("omnimedvqa", root, subset)] == ["omnimedvqa/Retinal OCT-C8/oct_1"]
    with pytest.raises(EosinError, match="No question of omnimedvqa"):
        read("omnimedvqa", root, "fundus")


def test_dalphin_has_no_gold_whatever_the_table_says(tmp_path: Path) -> None:
    put_csv(tmp_path / "questions.csv", [
        {"id": "q1", "case": "c1", "question": "What is it?", "images": "a.jpg;b.jpg", "options": "",
         "answer": "secret"},
        {"id": "q2", "case": "c1", "question": "Benign?", "images": "b.jpg", "options": "yes|no", "answer": "no"},
        {"id": "q3", "case": "c2", "question": "", "images": "b.jpg", "options": "", "answer": ""},
    ])  # fmt: skip
    put(tmp_path / "images" / "a.jpg", encoded(RED))
    put(tmp_path / "images" / "b.jpg", encoded(GREEN))
    found = exam_named("dalphin").samples(Asked(tmp_path))
    assert [(s.answer, len(s.choices), len(s.images), s.origin.case) for s in found.kept] == [
        (None, 0, 2, "c1"), (None, 2, 1, "c1"),
    ]  # fmt: skip
    assert "secret" not in "".join(s.model_dump_json() for s in found.kept)
    assert found.reasons() == {"no question": 1}


def test_of_a_limit_only_its_pictures_are_looked_for(tmp_path: Path) -> None:
    rows = [pathmmu_row(i, f"{i}.jpg") for i in range(50)]
    put(tmp_path / "data.json", json.dumps({"PubMed": {"test_tiny": rows}}))
    for i in range(50):
        put(tmp_path / "images" / f"{i}.jpg", encoded(RED))
    few, again = (read("pathmmu", tmp_path, limit=7) for _ in range(2))
    assert len(few) == 7 and few == again
    assert {s.id for s in few} < {s.id for s in read("pathmmu", tmp_path)}
