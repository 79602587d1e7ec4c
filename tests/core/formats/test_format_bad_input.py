"""A bad row becomes Dropped with its reason, and the good rows beside it are kept. A bad file is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sample_strategies import png

from eosin.core.errors import EosinError
from eosin.core.formats import from_trl, iter_parquet, read_dropped, read_samples, write_artifact, write_samples
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import ImageBytes, ImageFile, Origin, Sample, make_choices, user_prompt


def _sample(name: str = "good", **changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "id": name,
        "images": (ImageBytes(data=png()),),
        "messages": user_prompt("What is it?"),
        "choices": make_choices(["tumour", "fat"]),
        "answer": "A",
        "origin": Origin(source="test", case="7"),
    }
    return Sample(**(fields | changes))


def _row(name: str, **changes: Any) -> dict[str, Any]:
    return json.loads(_sample(name).model_dump_json()) | changes


BAD_ROWS = [
    (_row("b", answer="C"), "answer not among the choices"),
    (_row("b", choices=[{"letter": "A", "text": ""}, {"letter": "B", "text": "x"}]), "empty choice"),
    (
        _row("b", choices=[{"letter": "A", "text": "x"}, {"letter": "C", "text": "y"}]),
        "choices not lettered A, B, C",
    ),
    (
        _row("b", choices=[{"letter": "A", "text": "Fat"}, {"letter": "B", "text": "fat "}]),
        "two choices with the same text",
    ),
    (_row("b", images=[]), "message shows a missing image"),
    (
        _row("b", messages=[{"role": "assistant", "parts": [{"type": "text", "text": "hi"}]}]),
        "no question at the end",
    ),
    (_row("b", nonsense=1), "not a valid sample"),
    (_row("b", schema_version=2), "not a valid sample"),
    ({k: v for k, v in _row("b").items() if k != "origin"}, "field missing"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS, ids=[r for _, r in BAD_ROWS])
def test_bad_json_line(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in (_row("one"), row, _row("two"))))
    result = read_samples(path)
    assert [s.id for s in result.kept] == ["one", "two"]
    assert [(d.id, d.reason, d.step) for d in result.dropped] == [("b", reason, "read")]
    assert result.num_in == 3


def test_lines_that_are_no_json_at_all(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    good = json.dumps(_row("one")).encode()
    path.write_bytes(good + b"\n{cut off\n\n[1, 2]\n\xff\xfe\n" + b'"text"\n')
    result = read_samples(path)
    assert len(result.kept) == 1
    assert [d.id for d in result.dropped] == ["s.jsonl:2", "s.jsonl:4", "s.jsonl:5", "s.jsonl:6"]
    assert result.reasons() == {"not valid JSON": 4}


@pytest.mark.parametrize("name", ["s.jsonl", "s.parquet", "s.json"])
def test_duplicate_ids(tmp_path: Path, name: str) -> None:
    first, other = _sample("a"), _sample("a", answer="B")
    write_samples([first, other, first, _sample("b")], tmp_path / name)
    result = read_samples(tmp_path / name)
    assert result.kept == (first, _sample("b"))
    assert [d.reason for d in result.dropped] == ["duplicate id", "exact duplicate"]
    assert "answer" in result.dropped[0].detail
    assert result.num_in == 4


def test_parquet_row_with_damaged_json_or_missing_bytes(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_samples([_sample(n) for n in "abc"], tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    rows = table.to_pylist()
    rows[0]["sample"] = "{broken"
    rows[1]["images"] = [{"bytes": None, "path": None}]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "b.parquet")
    result = read_samples(tmp_path / "b.parquet")
    assert [s.id for s in result.kept] == ["c"]
    assert [(d.id, d.reason) for d in result.dropped] == [("a", "row damaged"), ("b", "row damaged")]
    assert "no bytes" in result.dropped[1].detail


def test_a_damaged_row_group_costs_its_own_rows_only(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    write_samples([_sample(f"s{i}") for i in range(1500)], path)
    column = next(
        c for i in range(8) if (c := pq.ParquetFile(path).metadata.row_group(0).column(i)).path_in_schema == "sample"
    )
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xab" * column.total_compressed_size
    path.write_bytes(data)
    outcomes = list(iter_parquet(path))
    assert len(outcomes) == 1500
    bad = [o for o in outcomes if isinstance(o, Dropped)]
    assert {o.reason for o in bad} == {"row group damaged"}
    assert len(bad) == 1000
    assert bad[0].id == "a.parquet:1"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.parquet", b"PAR1 not really", "cannot be opened"),
        ("s.json", b"[{", "not valid JSON"),
        ("s.json", b'{"a": 1}', "list of rows"),
        ("s.json", b'["\xe9"]', "not UTF-8"),
        ("s.txt", b"hello", "no kind of samples"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EosinError, match=message) as caught:
        read_samples(tmp_path / name)
    assert name in str(caught.value)


def test_a_failed_reading_leaves_the_collector_on(tmp_path: Path) -> None:
    import gc

    (tmp_path / "s.parquet").write_bytes(b"no")
    with pytest.raises(EosinError):
        read_samples(tmp_path / "s.parquet")
    assert gc.isenabled()


def test_missing_path_and_half_written_folder(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no such file"):
        read_samples(tmp_path / "nothing.parquet")
    with pytest.raises(EosinError, match="no kind of samples"):
        read_samples(tmp_path)


def test_parquet_of_someone_else(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(EosinError, match="no samples of Eosin") as caught:
        read_samples(tmp_path / "a.parquet")
    assert caught.value.found == "x"


def test_an_artifact_keeps_what_was_dropped_and_counts_it(tmp_path: Path) -> None:
    dropped = [Dropped("x", "image truncated or damaged", "line\u2028two", "validate")]
    artifact = write_artifact(
        [_sample("a", split="train"), _sample("b", split="test")], tmp_path / "s", dropped=dropped, card={"name": "t"}
    )
    assert artifact.manifest["counts"] == {"samples": 2, "dropped": 1}
    assert artifact.manifest["splits"] == {"train": 1, "test": 1}
    assert artifact.manifest["drop_reasons"] == {"image truncated or damaged": 1}
    assert read_dropped(tmp_path / "s") == tuple(dropped)
    assert len(read_samples(tmp_path / "s").kept) == 2


def _llava(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "quiz.json"
    path.write_text(json.dumps(rows), encoding="utf-8-sig")
    return path


def test_foreign_llava_row(tmp_path: Path) -> None:
    path = _llava(
        tmp_path,
        {
            "id": 12,
            "image": "img/a.jpg",
            "patient": "p1",
            "task": "vqa",
            "conversations": [
                {"from": "human", "value": "<image>\nIs there necrosis?"},
                {"from": "gpt", "value": "Yes."},
                {"from": "human", "value": "Where?"},
                {"from": "gpt", "value": "In the centre."},
            ],
        },
    )
    (sample,) = read_samples(path).kept
    assert sample.id == "12"
    assert sample.images == (ImageFile(path=str(tmp_path / "img/a.jpg")),)
    assert [(m.role, m.text) for m in sample.messages] == [
        ("user", "Is there necrosis?"),
        ("assistant", "Yes."),
        ("user", "Where?"),
    ]
    assert sample.messages[0].parts[0].type == "image"
    assert sample.answer == "In the centre."
    assert sample.origin.group == "patient:p1"
    assert sample.origin.source == "quiz"
    assert sample.extra == {"task": "vqa"}


def test_foreign_sharegpt_row_with_reasoning_and_images_without_places(tmp_path: Path) -> None:
    path = _llava(
        tmp_path,
        {
            "images": ["a.png", "b.png"],
            "messages": [
                {"role": "system", "content": "You are careful."},
                {"role": "user", "content": "Compare."},
                {"role": "assistant", "content": "<think>One. Two.</think><answer>B. fat</answer>"},
            ],
        },
    )
    (sample,) = read_samples(path).kept
    assert sample.id == "quiz.json:1"
    assert [p.type for p in sample.messages[1].parts] == ["image", "image", "text"]
    assert sample.reasoning == ("One.", "Two.")
    assert sample.answer == "B. fat"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (7, "row is not an object"),
        ({"id": "b"}, "no dialogue"),
        ({"id": "b", "conversations": [{"from": "martian", "value": "x"}]}, "unknown role"),
        ({"id": "b", "conversations": [{"from": "human", "value": None}]}, "turn without text"),
        ({"id": "b", "conversations": ["hello"]}, "turn is not an object"),
        ({"id": "b", "conversations": [{"from": "gpt", "value": "x"}]}, "no question"),
        (
            {"id": "b", "image": "a.png", "conversations": [{"from": "human", "value": "<image><image>"}]},
            "image places and images differ",
        ),
        ({"id": "b", "image": 5, "conversations": [{"from": "human", "value": "x"}]}, "image is not a path"),
        ({"id": "b", "eosin": {}, "conversations": [{"from": "human", "value": "x"}]}, "row damaged"),
    ],
)
def test_bad_foreign_rows(tmp_path: Path, row: Any, reason: str) -> None:
    good = {"id": "ok", "conversations": [{"from": "user", "value": "Hm?"}]}
    result = read_samples(_llava(tmp_path, row, good))
    assert [s.id for s in result.kept] == ["ok"]
    assert result.reasons() == {reason: 1}


def test_our_llava_row_whose_image_file_is_gone(tmp_path: Path) -> None:
    write_samples([_sample("a")], tmp_path / "s.json")
    next((tmp_path / "s_images").iterdir()).unlink()
    result = read_samples(tmp_path / "s.json")
    assert [(d.id, d.reason) for d in result.dropped] == [("a", "image file missing")]


def test_foreign_trl_rows() -> None:
    from PIL import Image

    row = {"id": "t", "prompt": "What is it?", "completion": "fat", "image": Image.new("RGB", (9, 9))}
    outcome = from_trl(row, place="x", source="quiz")
    assert isinstance(outcome, Kept)
    assert outcome.value.answer == "fat"
    assert outcome.value.images[0].kind == "bytes"
    content = [{"type": "image"}, {"type": "text", "text": "And this?"}]
    several = {"messages": [{"role": "user", "content": content}], "images": [{"bytes": None, "path": "a.png"}]}
    outcome = from_trl(several, place="f:3")
    assert isinstance(outcome, Kept)
    assert (outcome.value.id, outcome.value.answer) == ("f:3", None)
    assert outcome.value.images == (ImageFile(path="a.png"),)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no dialogue"),
        ({"prompt": 5}, "turn is not an object"),
        ({"prompt": "x", "images": [None]}, "image without bytes or path"),
        ({"prompt": [{"role": "user", "content": [{"type": "video"}]}]}, "unknown content part"),
        ({"prompt": "x", "eosin": "{"}, "row damaged"),
    ],
)
def test_bad_trl_rows(row: dict[str, Any], reason: str) -> None:
    outcome = from_trl(row, place="f:1")
    assert isinstance(outcome, Dropped)
    assert (outcome.id, outcome.reason) == ("f:1", reason)


@pytest.mark.parametrize("name", ["s.parquet", "s.jsonl", "s.json", "folder"])
def test_a_fault_on_the_way_leaves_what_stood_there(tmp_path: Path, name: str) -> None:
    def samples() -> Iterator[Sample]:
        yield _sample("new", images=(), messages=user_prompt("?", 0))
        raise ZeroDivisionError

    if name != "folder":
        write_samples([_sample("old", images=(), messages=user_prompt("?", 0))], tmp_path / name)
    with pytest.raises(ZeroDivisionError):
        write_samples(samples(), tmp_path / name)
    if name == "folder":
        assert list(tmp_path.iterdir()) == []
    else:
        assert [p.name for p in tmp_path.iterdir()] == [name]
        assert [s.id for s in read_samples(tmp_path / name).kept] == ["old"]


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for name in ("s.parquet", "s.jsonl", "s.json", "folder"):
        with pytest.raises(EosinError, match="disk is full"):
            write_samples([], tmp_path / name)
    assert list(tmp_path.iterdir()) == []
