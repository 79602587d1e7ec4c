"""Files of exactly the layouts that lmms-eval, VLMEvalKit and inspect_ai write are scored as our own replies are."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.support import forked

from eosin.chain.exam import rescore_file
from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Origin, Sample, make_choices, user_prompt
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.evaluate.predictions.layouts import read_log
from eosin.evaluate.predictions.rescore import MISSING, bare, rescore

TEXTS = ("normal mucosa", "adenoma", "carcinoma")
SETTINGS = ExamSettings(bootstrap=100)


def sample(i: int) -> Sample:
    return Sample(
        id=f"q{i}",
        messages=user_prompt(f"What does tile {i:02} show?", 0),
        choices=make_choices(TEXTS),
        answer="ABC"[i % 3],
        origin=Origin(source="made", patient=f"p{i // 2}"),
    )


SAMPLES = [sample(i) for i in range(8)]
# Replies as models write them. Right: 0 to 4, 4 in prose only; 5 is wrong, 6 cannot be read, 7 is missing.
REPLIES = [
    "A",
    "**B**",
    "<think>hm</think>\n(C) carcinoma",
    "<answer>A</answer>",
    "It is surely the adenoma here.",
    "A",
    "",
]


def prompt_of(s: Sample) -> str:
    return s.question + "\n" + "\n".join(f"{c.letter}. {c.text}" for c in s.choices) + "\nAnswer with the letter."


def lmms_eval(folder: Path, **changes: Any) -> Path:
    """`*_samples_TASK.jsonl`: no doc; resps is left out where filtered_resps says the same."""
    rows = []
    for i, reply in enumerate(REPLIES):
        row = {
            "doc_id": i, "target": SAMPLES[i].answer, "filtered_resps": [reply], "doc_hash": "0" * 64,
            "token_counts": [None], "pathology_score": {"pred": "A"}, "input": prompt_of(SAMPLES[i]),
        }  # fmt: skip
        rows.append(row | changes)
    path = folder / "my__model" / "20261127_101500_samples_pathology.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def table(turned: int = 0) -> list[dict[str, Any]]:
    """Rows of VLMEvalKit; the options of row i may be turned by so many places."""
    rows = []
    for i, reply in enumerate(REPLIES):
        order = [TEXTS[(k + turned) % 3] for k in range(3)]
        row = {"index": f"q{i}", "question": SAMPLES[i].question, **dict(zip("ABC", order, strict=True))}
        rows.append(row | {"answer": "ABC"[order.index(TEXTS[i % 3])], "category": "tiles", "prediction": reply})
    return rows


def tsv(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "model_pathology.tsv"
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=[*rows[0], "image"], delimiter="\t")
        writer.writeheader()
        writer.writerows({**r, "image": "iVBOR" * 40_000} for r in rows)  # longer than csv reads by itself
    return path


def xlsx(folder: Path, rows: list[dict[str, Any]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(list(row.values()))
    path = folder / "model_pathology.xlsx"
    book.save(path)
    return path


def inspect_samples() -> list[dict[str, Any]]:
    samples = []
    for i, reply in enumerate(REPLIES):
        content: Any = [{"type": "text", "text": SAMPLES[i].question}]
        message = {"role": "assistant", "content": reply if i % 2 else [{"type": "text", "text": reply}]}
        output = {"model": "m", "choices": [{"message": message, "stop_reason": "stop"}]}
        samples.append(
            {"id": f"q{i}", "epoch": 1, "input": [{"role": "user", "content": content}], "choices": list(TEXTS),
             "target": SAMPLES[i].answer, "output": output, "scores": {"choice": {"value": "C"}}}
        )  # fmt: skip
    samples.append({**samples[0], "epoch": 2})
    return samples


ABOUT = {"version": 2, "status": "success", "eval": {"task": "pathology", "model": "lab/my-model"}}


def inspect_json(folder: Path) -> Path:
    path = folder / "2026-11-27T10-15-00_pathology.json"
    path.write_text(json.dumps({**ABOUT, "samples": inspect_samples()}))
    return path


def inspect_archive(folder: Path) -> Path:
    path = folder / "2026-11-27T10-15-00_pathology.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", json.dumps(ABOUT))
        for s in inspect_samples():
            archive.writestr(f"samples/{s['id']}_epoch_{s['epoch']}.json", json.dumps(s))
        archive.writestr("../../evil.json", "{}")  # never extracted
        archive.writestr("summaries.json", "[]")
        archive.writestr("header.json", json.dumps(ABOUT))
    return path


WRITERS = {
    "lmms-eval": lmms_eval, "tsv": lambda f: tsv(f, table()), "turned tsv": lambda f: tsv(f, table(1)),
    "xlsx": lambda f: xlsx(f, table()), "inspect json": inspect_json, "inspect archive": inspect_archive,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_has_the_score_of_its_replies(name: str, tmp_path: Path) -> None:
    file = WRITERS[name](tmp_path)
    summary, found = rescore(file, SAMPLES, tmp_path / "exam", settings=SETTINGS)
    rows = {r["id"]: r for r in store.read_jsonl(tmp_path / "exam" / "predictions.jsonl")}
    assert list(rows) == [f"q{i}" for i in range(6)]
    # In the turned table these letters stand for other options; "(C) carcinoma" contradicts itself there.
    wanted = [False] * 6 if name == "turned tsv" else [True, True, True, True, False, False]
    assert [r["correct"] for r in rows.values()] == wanted
    assert rows["q4"]["tolerant_correct"] and rows["q4"]["unparsed_reason"] is not None
    assert summary["n"] == 6 and summary["set_aside_reasons"] == {f"no reply: {MISSING}": 2}
    assert summary["cluster"] == "patient" and summary["num_clusters"] == 3
    assert summary["engine"].startswith("predictions:") and summary["grammar"] == "answer"
    further = 1 if name.startswith("inspect") else 0
    assert len(found.dropped) == 1 + further and "no reply in this row" in found.reasons()
    assert store.open_artifact(tmp_path / "exam", "eval").manifest["record"]["harness"] == read_log(file).harness


def test_a_letter_is_read_by_the_options_of_its_file(tmp_path: Path) -> None:
    rows = [r | {"prediction": r["answer"]} for r in table(1)]
    summary, _ = rescore(tsv(tmp_path, rows), SAMPLES, tmp_path / "exam", settings=SETTINGS)
    assert summary["accuracy"] == 1.0 and summary["n"] == 7


def test_rows_that_answer_nothing_here_are_counted(tmp_path: Path) -> None:
    rows = table()
    rows[0]["index"], rows[0]["question"] = "other", "Which stain is it?"
    rows[1]["C"] = "sarcoma"
    rows.append(dict(rows[2]))
    summary, found = rescore(tsv(tmp_path, rows), SAMPLES, tmp_path / "exam", settings=SETTINGS)
    assert found.reasons() == {
        "no reply in this row": 1, "no such question in the exam": 1, "other options than in the exam": 1,
        "a second reply to a question": 1,
    }  # fmt: skip
    assert summary["n"] == 4 and summary["num_set_aside"] == 4


def test_a_place_is_not_trusted_without_its_text(tmp_path: Path) -> None:
    """The samples came in another order: the prompt finds them."""
    summary, _ = rescore(lmms_eval(tmp_path), SAMPLES[::-1], tmp_path / "exam", settings=SETTINGS)
    assert summary["accuracy"] == pytest.approx(4 / 6)
    with pytest.raises(EosinError, match="No row of this file answers"):
        rescore(lmms_eval(tmp_path / "x", input="Something else"), SAMPLES, tmp_path / "other", settings=SETTINGS)


def test_a_place_is_not_trusted_where_the_log_had_another_right_answer(tmp_path: Path) -> None:
    """Tiles that are all asked in the same words: the log is of a part of the exam, and numbers that part."""
    words = user_prompt("What does this tile show?", 0)
    tiles = [s.model_copy(update={"messages": words}) for s in SAMPLES]
    path = tmp_path / "my__model" / "20261127_101500_samples_pathology.jsonl"
    path.parent.mkdir()
    part = tiles[3:6]
    rows = [{"doc_id": i, "target": s.answer, "filtered_resps": [s.answer], "input": prompt_of(s)}
            for i, s in enumerate(part)]  # fmt: skip
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert rescore(path, part, tmp_path / "part", settings=SETTINGS)[0]["accuracy"] == 1.0
    assert rescore(path, tiles, tmp_path / "like", settings=SETTINGS)[0]["accuracy"] == 1.0  # A, B, C there too
    with pytest.raises(EosinError, match="No row of this file answers") as told:
        rescore(path, tiles[1:], tmp_path / "whole", settings=SETTINGS)
    assert "several questions of the exam have this text" in str(told.value)


def test_what_stands_around_the_answer() -> None:
    assert bare("<think>A or B</think> B") == "<answer> B</answer>"
    assert bare("first <answer>C</answer>") == "<answer>C</answer>"
    assert bare("A </answer>") == "<answer>A  </answer>"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", b'{"id": 1}\n'), ("x.jsonl", b""), ("x.tsv", b"a\tb\n1\t2\n"), ("x.xlsx", b"PK\x03\x04junk"),
        ("x.eval", b"no archive"), ("x.json", b"[1]"), ("x.json", b'{"samples": [3]}'), ("x.txt", b"A"),
        ("x.tsv", b"\xff\xfe\x00"),
    ],
)  # fmt: skip
def test_other_files_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EosinError):
        rescore(tmp_path / name, SAMPLES, tmp_path / "exam", settings=SETTINGS)
    assert not (tmp_path / "exam").exists()


def test_baselines_stand_beside_logged_replies_where_the_exam_has_training_samples(tmp_path: Path) -> None:
    train = [sample(i).model_copy(update={"id": f"t{i}", "split": "train", "answer": "A"}) for i in range(20, 24)]
    rows = [*train, *(s.model_copy(update={"split": "test"}) for s in SAMPLES)]
    (tmp_path / "exam.jsonl").write_text("".join(s.model_dump_json() + "\n" for s in rows))
    settings = ExamSettings(bootstrap=100, baselines=["majority"])
    log = inspect_archive(tmp_path)
    found = rescore_file(log, tmp_path / "exam.jsonl", settings, tmp_path / "out", None)
    assert found["baselines"]["majority"]["accuracy"] == 3 / 8  # always A
    assert store.read_json(tmp_path / "out" / "baselines.json") == found["baselines"]
    beside = found["exam"]["against_baselines"]
    assert beside["best"] == "majority" and beside["model"] > beside["baseline"]
    (tmp_path / "alone.jsonl").write_text("".join(s.model_dump_json() + "\n" for s in SAMPLES))
    assert rescore_file(log, tmp_path / "alone.jsonl", settings, tmp_path / "alone", None)["baselines"] is None


def test_the_verb(tmp_path: Path) -> None:
    (tmp_path / "exam.jsonl").write_text("".join(s.model_dump_json() + "\n" for s in SAMPLES))
    done = forked.eosin(
        "evaluate", "--predictions", inspect_archive(tmp_path), tmp_path / "exam.jsonl", "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    assert "set aside 2" in done.stdout and "2 rows of the file were not used" in done.stderr
    assert len(store.read_jsonl(tmp_path / "out" / "dropped.jsonl")) == 2
    more = forked.eosin("evaluate", "--predictions", inspect_json(tmp_path), "MODEL", tmp_path / "exam.jsonl")
    assert more.returncode == 2 and "scored on one exam" in more.stderr
