"""PathMMU-like files of questions: right values, splits by picture, and broken rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.paper_data import pathmmu_file

from eosin.core.errors import EosinError
from eosin.core.formats.rows import BadRowError
from eosin.core.nouns.sample import ImageFile
from eosin.core.settings.data import QuestionsData
from eosin.curate import clean
from eosin.sources.questions import options_of, read_questions_file


def rows_file(folder: Path, rows: list[Any], name: str = "rows.json") -> Path:
    path = folder / name
    text = "\n".join(json.dumps(r) for r in rows) if name.endswith("l") else json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


GOOD = {"img": "a.png", "question": "What is it?", "options": ["A) lipoma", "B) melanoma"], "answer": "B) melanoma",
        "explanation": "Nests are seen. They hold pigment."}  # fmt: skip


def test_values_of_a_row(tmp_path: Path) -> None:
    found = read_questions_file(QuestionsData(path=str(rows_file(tmp_path, [GOOD])), images=str(tmp_path / "x")))
    [sample] = found.kept
    assert [c.text for c in sample.choices] == ["lipoma", "melanoma"] and sample.answer == "B"
    assert sample.reasoning == ("Nests are seen.", "They hold pigment.") and sample.question == "What is it?"
    assert sample.images == (ImageFile(path=str(tmp_path / "x" / "a.png")),)
    assert sample.origin.case == "image a.png" and sample.split is None


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["lipoma", "melanoma"], "B"),
        (["A. lipoma", "B. melanoma"], "melanoma"),
        ({"A": "lipoma", "B": "melanoma"}, "B"),
        ("A. lipoma\nB. melanoma", "B. melanoma"),
        (["(a) lipoma", "(b) melanoma"], "b"),
    ],
)
def test_options_and_answers_in_all_their_forms(tmp_path: Path, options: Any, answer: str) -> None:
    row = {**GOOD, "options": options, "answer": answer}
    for name in ("rows.json", "rows.jsonl"):
        [sample] = read_questions_file(QuestionsData(path=str(rows_file(tmp_path, [row], name)))).kept
        assert [c.text for c in sample.choices] == ["lipoma", "melanoma"] and sample.answer == "B"


def test_names_above_rows_are_sets_and_splits(tmp_path: Path) -> None:
    path = pathmmu_file(tmp_path)
    both = QuestionsData(path=str(path), images=str(tmp_path / "images"), name="pathmmu", sets=["PubMed", "EduContent"])
    found = read_questions_file(both)
    assert len(found.kept) == 40 and {s.id.split("/")[1] for s in found.kept} == {"PubMed", "EduContent"}
    own = read_questions_file(both.model_copy(update={"own_splits": True}))
    assert {s.split for s in own.kept} == {"valid", "test"}
    with pytest.raises(EosinError, match="no such set"):
        read_questions_file(both.model_copy(update={"sets": ["PubMedd"]}))


def test_all_questions_about_one_picture_stay_in_one_split(tmp_path: Path) -> None:
    path = pathmmu_file(tmp_path)
    found = read_questions_file(QuestionsData(path=str(path), images=str(tmp_path / "images")))
    cleaned = clean(found.kept, workers=1, test_fraction=0.3)
    by_picture: dict[str, set[str | None]] = {}
    for sample in cleaned.samples:
        by_picture.setdefault(str(sample.origin.case), set()).add(sample.split)
    assert len(by_picture) == 30 and all(len(splits) == 1 for splits in by_picture.values())
    assert {s for splits in by_picture.values() for s in splits} == {"train", "test"}


def test_a_column_may_name_the_article(tmp_path: Path) -> None:
    path = rows_file(tmp_path, [{**GOOD, "pmcid": "PMC1"}, {**GOOD, "id": "2"}])
    found = read_questions_file(QuestionsData(path=str(path), group_column="pmcid"))
    assert [s.origin.group for s in found.kept] == ["article:PMC1"]
    assert found.samples.reasons() == {"no group": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": " "}, "no question"),
        ({"answer": None}, "no answer"),
        ({"answer": "C"}, "answer not among the choices"),
        ({"answer": "A) melanoma"}, "answer not among the choices"),
        ({"options": ["only"]}, "no options"),
        ({"options": 5}, "no options"),
        ({"options": ["same", "same"], "answer": "same"}, "two choices with the same text"),
        ({"options": {"A": "x", "C": "y"}, "answer": "A"}, "choices not lettered A, B, C"),
        ({"img": "../a.png"}, "image outside the data's folder"),
    ],
)
def test_broken_rows_are_set_aside_with_the_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = rows_file(tmp_path, [GOOD, {**GOOD, "id": "bad", **change}, "no row"])
    found = read_questions_file(QuestionsData(path=str(path)))
    assert len(found.kept) == 1
    assert found.samples.reasons() == {reason: 1, "row is not an object": 1}


def test_files_that_are_none(tmp_path: Path) -> None:
    for text, match in (("{", "not valid JSON"), ("[]", "No question"), ('{"a": {"b": []}}', "No question")):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(EosinError, match=match):
            read_questions_file(QuestionsData(path=str(tmp_path / "x.json")))
    with pytest.raises(EosinError, match="cannot be read"):
        read_questions_file(QuestionsData(path=str(tmp_path / "none.json")))
    with pytest.raises(BadRowError):
        options_of(None)
