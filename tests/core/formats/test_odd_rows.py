"""Rows as strangers write them, each with its right value: what is kept, as what, and why the rest is not."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sample_strategies import png

from eosin.core.errors import EosinError
from eosin.core.formats import from_trl, read_samples, write_samples
from eosin.core.formats.options import cut_options, letter_of, option_notes
from eosin.core.nouns.outcome import Dropped, Filtered, Kept
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageBytes, ImageFile, Sample, make_choices, user_prompt
from eosin.curate import validate

ASKED = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a cyst"}]


def talk(question: str, reply: str = "a cyst") -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": reply}]


def row(**changes: Any) -> dict[str, Any]:
    """A good LLaVA row, changed."""
    return {"id": "r", "image": "a.png", "conversations": ASKED} | changes


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    return tmp_path


def read(folder: Path, *rows: Any, name: str = "s.json") -> Filtered[Sample]:
    text = "\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(list(rows))
    (folder / name).write_text(text, "utf-8")
    return read_samples(folder / name)


# ---- kept, with the value that was meant --------------------------------------------------------------------------

KEPT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "split validation": (row(split="validation"), {"split": "valid"}),
    "split val": (row(split="val"), {"split": "valid"}),
    "split dev": (row(split="dev"), {"split": "valid"}),
    "split Test": (row(split="Test"), {"split": "test"}),
    "split TEST with a blank": (row(split="TEST "), {"split": "test"}),
    "split training": (row(split="training"), {"split": "train"}),
    "split of nothing": (row(split=""), {"split": None}),
    "images null beside image": (row(images=None), {"images": 1}),
    "images empty beside image": (row(images=[]), {"images": 1}),
    "image null beside images": (row(image=None, images=["b.png"]), {"images": 1}),
    "image and the same in images": (row(images=["a.png"]), {"images": 1}),
    "id 0": (row(id=0), {"id": "0"}),
    "id of a long number": (row(id=12345678901), {"id": "12345678901"}),
    "id null": (row(id=None), {"id": "s.json:1"}),
    "id true is no id": (row(id=True), {"id": "s.json:1"}),
    "a thought, then the answer": (
        row(conversations=talk("<image>What?", "<think>Round. Dark.</think> a cyst")),
        {"answer": "a cyst", "reasoning": ("Round.", "Dark.")},
    ),
    "options on lines": (
        row(conversations=talk("<image>\nWhat?\nA. adenoma\nB. adenocarcinoma", "B")),
        {"question": "What?", "choices": ["adenoma", "adenocarcinoma"], "answer": "B"},
    ),
    "options in line": (
        row(conversations=talk("<image>What? A) adenoma B) fat C) bone", "C) bone")),
        {"question": "What?", "choices": ["adenoma", "fat", "bone"], "answer": "C"},
    ),
    "options in brackets with commas": (
        row(conversations=talk("<image>What? (A) adenoma, (B) fat, or (C) bone", "fat")),
        {"choices": ["adenoma", "fat", "bone"], "answer": "B"},
    ),
    "options with colons and LLaVA's request": (
        row(conversations=talk("<image>What?\nOptions:\nA: fat\nB: bone\nAnswer with the letter.", "The answer is A.")),
        {"question": "What?\nAnswer with the letter.", "choices": ["fat", "bone"], "answer": "A"},
    ),
    "small letters": (row(conversations=talk("<image>What?\na) fat\nb) bone", "b")), {"answer": "B"}),
    "options before the image": (
        row(conversations=talk("What?\nA. fat\nB. bone\n<image>", "A")), {"question": "What?", "answer": "A"},
    ),
    "yes or no": (
        row(conversations=talk("<image>Is there necrosis? Answer yes or no.", "No.")),
        {"choices": ["yes", "no"], "answer": "B", "question": "Is there necrosis? Answer yes or no."},
    ),
    "yes/no/maybe": (row(conversations=talk("<image>Tumour (yes/no/maybe)?", "maybe")), {"answer": "C"}),
    "a letter that no options explain": (
        row(conversations=talk("<image>Hepatitis A. The B. cells", "many")), {"choices": [], "answer": "many"},
    ),
    "letter and text that disagree": (
        row(conversations=talk("<image>What?\nA. fat\nB. bone", "B. fat")), {"choices": [], "answer": "B. fat"},
    ),
    "roles and contents in OpenAI's words": (
        {"id": "r", "messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "x"}]},
        {"answer": "x", "images": 0},
    ),
    "a line separator in a text": (
        row(conversations=talk("<image>one\u2028two\u0085three")), {"question": "one\u2028two\u0085three"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "right"), KEPT.values(), ids=list(KEPT))
@pytest.mark.parametrize("name", ["s.json", "s.jsonl"])
def test_kept_with_the_value_that_was_meant(folder: Path, name: str, given: dict[str, Any], right: Any) -> None:
    found = read(folder, given, name=name)
    assert not found.dropped
    (sample,) = found.kept
    seen = {
        "choices": [c.text for c in sample.choices],
        "images": len(sample.images),
        "id": sample.id.replace("jsonl", "json"),
    }
    assert {k: seen.get(k, getattr(sample, k)) for k in right} == right


# ---- set aside, with the reason -----------------------------------------------------------------------------------

DROPPED: dict[str, tuple[Any, str]] = {
    "unknown split": (row(split="holdout"), "unknown split"),
    "split of a number": (row(split=1), "unknown split"),
    "split of NaN": (row(split=float("nan")), "unknown split"),
    "image a number": (row(image=7), "image is not a path"),
    "image a list in a list": (row(image=[["a.png"]]), "image is not a path"),
    "image and others in images": (row(images=["b.png"]), "image and images differ"),
    "image above": (row(image="../a.png"), "image outside the data's folder"),
    "image absolute": (row(image="/etc/passwd"), "image outside the data's folder"),
    "image with a null byte": (row(image="a\0.png"), "image outside the data's folder"),
    "image with a lone surrogate": (row(image="a\ud800.png"), "image outside the data's folder"),
    "a row that is a list": ([1, 2], "row is not an object"),
    "a lone surrogate in a text": (row(conversations=talk("<image>\ud800")), "text is no Unicode"),
    "a lone surrogate in another key": (row(note="\udfff"), "extra is not JSON"),
    "turn a list": (row(conversations=[[1]]), "turn is not an object"),
    "conversations a number": (row(conversations=3), "no dialogue"),
    "a tool's turn": (row(conversations=[{"from": "tool", "value": "x"}]), "unknown role"),
    "a thought that is not closed": (
        row(conversations=talk("<image>What?", "<think>Round. a cyst")), "tags of the reply are broken",
    ),
    "two answer blocks": (
        row(conversations=talk("<image>What?", "<answer>a</answer><answer>b</answer>")), "tags of the reply are broken",
    ),
    "our key a number": (row(eosin={"sample": {"images": 3}, "files": [], "turns_sha256": ""}), "row damaged"),
    "our files above": (
        row(eosin={"sample": {"images": [{"kind": "bytes"}]}, "files": ["../../etc/passwd"], "turns_sha256": ""}),
        "image outside the data's folder",
    ),
    "our files absolute": (
        row(eosin={"sample": {"images": [{"kind": "bytes"}]}, "files": ["/etc/passwd"], "turns_sha256": ""}),
        "image outside the data's folder",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "reason"), DROPPED.values(), ids=list(DROPPED))
def test_set_aside_with_its_reason_and_the_row_beside_it_kept(folder: Path, given: Any, reason: str) -> None:
    found = read(folder, given, row(id="good"))
    assert [s.id for s in found.kept] == ["good"]
    assert found.reasons() == {reason: 1}
    json.dumps([found.dropped[0].id, found.dropped[0].detail], ensure_ascii=False).encode("utf-8")


# ---- paths --------------------------------------------------------------------------------------------------------


def test_images_elsewhere_are_taken_only_where_the_user_names_the_folder(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    (other / "a.png").write_bytes(png())
    (home / "link.png").symlink_to(other / "a.png")
    rows = [row(id=str(i), image=p) for i, p in enumerate(["../other/a.png", str(other / "a.png"), "link.png"])]
    refused = read(home, *rows)
    assert refused.reasons() == {"image outside the data's folder": 3}
    assert "data.image_folders" in refused.dropped[0].detail
    allowed = read_samples(home / "s.json", image_folders=[other])
    assert [s.images[0] for s in allowed.kept] == [ImageFile(path=str((other / "a.png").resolve()))] * 3
    by_name = read(home, row(image="a.png"))
    assert str(by_name.kept[0].images[0].path) == str(home / "a.png")  # type: ignore[union-attr]
    assert read_samples(home / "s.json", image_folders=[other]).kept[0].images[0].path == str(other / "a.png")  # type: ignore[union-attr]


def test_bytes_of_our_rows_come_from_the_files_own_folder_only(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"key")
    (tmp_path / "d").mkdir()
    write_samples([_own()], tmp_path / "d" / "s.json")
    rows = json.loads((tmp_path / "d" / "s.json").read_text("utf-8"))
    rows[0]["eosin"]["files"] = ["../secret"]
    assert read(tmp_path / "d", *rows).reasons() == {"image outside the data's folder": 1}


def _own(**changes: Any) -> Sample:
    fields = {"id": "own", "images": (ImageBytes(data=png()),), "messages": user_prompt("What?"), "answer": "A",
              "choices": make_choices(["fat", "bone"]), "origin": {"source": "t", "case": "1"}}  # fmt: skip
    return Sample.model_validate(fields | changes)


# ---- parquet, TRL, datasets ---------------------------------------------------------------------------------------


def parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def said(text: Any, reply: str = "x") -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": reply}]


def test_image_places_in_texts_of_a_messages_parquet(folder: Path) -> None:
    rows = [{"messages": said("<image>\nWhat?"), "images": [{"bytes": png(), "path": None}], "split": "Test"}]
    (sample,) = read_samples(parquet(folder / "m.parquet", rows)).kept
    assert (sample.question, sample.split, len(sample.messages[0].parts)) == ("What?", "test", 2)
    parts = [{"type": "text", "text": "<image>What?"}]
    literal = from_trl({"messages": said(parts), "images": [{"bytes": png()}]}, place="t:1")
    assert isinstance(literal, Kept) and literal.value.question == "What?"


def test_conversations_in_parquet_are_read_too(folder: Path) -> None:
    rows = [{"conversations": ASKED, "image": "a.png"}]
    (sample,) = read_samples(parquet(folder / "m.parquet", rows)).kept
    assert sample.images[0].path == str(folder / "a.png")  # type: ignore[union-attr]


@pytest.mark.parametrize("path", ["../a.png", "/etc/passwd"])
def test_paths_in_parquet_stay_in_its_folder(folder: Path, path: str) -> None:
    rows = [{"messages": said("What?"), "images": [{"bytes": None, "path": path}]}]
    assert read_samples(parquet(folder / "m.parquet", rows)).reasons() == {"image outside the data's folder": 1}


@pytest.mark.parametrize(
    ("changes", "right"),
    [({"id": 0}, "0"), ({"images": None, "image": {"bytes": b"x"}}, "t:1"), ({"images": [], "image": b"x"}, "t:1")],
)
def test_odd_trl_rows(changes: dict[str, Any], right: str) -> None:
    outcome = from_trl({"messages": said("What?"), "images": [{"bytes": b"x"}]} | changes, place="t:1")
    assert isinstance(outcome, Kept)
    assert outcome.value.id == right and len(outcome.value.images) == 1


@pytest.mark.parametrize("cells", [3, {"a": 1}, [3], [[b"x"]], [""], [{"path": 3}]])
def test_odd_images_of_a_trl_row_are_set_aside(cells: Any) -> None:
    outcome = from_trl({"messages": said("What?"), "images": cells}, place="t:1")
    assert isinstance(outcome, Dropped) and outcome.reason in ("image without bytes or path", "row damaged")


def test_one_value_that_is_no_text_costs_its_own_row_only(tmp_path: Path) -> None:
    write_samples([_own(id=f"s{i}") for i in range(5)], tmp_path / "s.parquet", "trl")
    table = pq.read_table(tmp_path / "s.parquet")
    ids = pa.array([b"s0", b"\x9f", b"s2", b"s3", b"s4"]).cast(pa.binary())
    names = pa.Array.from_buffers(pa.string(), 5, ids.buffers())
    pq.write_table(table.set_column(0, "id", names), tmp_path / "bad.parquet")
    found = read_samples(tmp_path / "bad.parquet")
    assert len(found.kept) == 4 and found.reasons() == {"row damaged": 1}
    assert found.dropped[0].id == "bad.parquet:2"


def test_a_damaged_row_group_of_trl_rows_costs_its_own_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write_samples([_own(id=f"s{i}") for i in range(1500)], path, "trl")
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xab" * chunk.total_compressed_size
    path.write_bytes(data)
    found = read_samples(path)
    assert (len(found.kept), found.reasons()) == (500, {"row group damaged": 1000})


def test_parquet_that_unpacks_to_gibibytes_is_set_aside_before_it_is_read(tmp_path: Path) -> None:
    blob = pa.array([b"\0" * 2**20], pa.binary())
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), blob)
    packed = tmp_path / "packed.parquet"
    long = pa.array([b"\0" * (2**28 + 1)], pa.large_binary())
    pq.write_table(
        pa.table({"prompt": ["a"], "image": long}),
        packed,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
    )
    assert packed.stat().st_size < 2**17
    assert read_samples(packed).reasons() == {"row group unpacks to too much": 1}
    repeated = tmp_path / "repeated.parquet"
    pq.write_table(pa.table({"prompt": ["a"] * 3000, "image": images}), repeated, compression="zstd")
    assert repeated.stat().st_size < 2**17
    with pytest.raises(EosinError, match="unpacks to far more"):
        read_samples(repeated)


def test_parquet_that_declares_more_rows_than_bytes_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"prompt": pa.nulls(2 * 10**5, pa.string())}), buffer, compression="zstd")
    (tmp_path / "n.parquet").write_bytes(buffer.getvalue())
    with pytest.raises(EosinError, match="declares more than it can hold"):
        read_samples(tmp_path / "n.parquet")


def test_keys_of_a_folder_of_datasets_name_the_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    part = datasets.Dataset.from_list([{"prompt": "What?", "completion": "x"}])
    datasets.DatasetDict({"train": part, "validation": part, "Test": part}).save_to_disk(str(tmp_path / "d"))
    found = read_samples(tmp_path / "d")
    assert [s.split for s in found.kept] == ["train", "valid", "test"]
    datasets.DatasetDict({"default": part}).save_to_disk(str(tmp_path / "e"))
    with pytest.raises(EosinError, match="name that is no split"):
        read_samples(tmp_path / "e")
    (tmp_path / "d" / "train" / "state.json").write_text("{")
    with pytest.raises(EosinError, match="folder of datasets cannot be opened"):
        read_samples(tmp_path / "d")


def test_small_broken_files_each_of_which_crashed_a_reader(shared_data: Path) -> None:
    seen = 0
    for path in sorted((shared_data / "odd_files").glob("*")):
        if path.name.startswith(("sharegpt-", "trl-", "parquet-")):
            found = read_samples(path)
            assert found.dropped and all(d.reason for d in found.dropped), path.name
            seen += 1
    assert seen == 9


# ---- options: forms, notes, and the reward ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("What?\nA. fat\nB. bone", ("What?", ["fat", "bone"])),
        ("What?\n(A) fat\n(B) bone\n(C) skin", ("What?", ["fat", "bone", "skin"])),
        ("What?\n[A] fat\n[B] bone", ("What?", ["fat", "bone"])),
        ("What?\nA)fat\nB)bone", ("What?", ["fat", "bone"])),
        ("Which vitamin A. is?\nA. one\nB. two", ("Which vitamin A. is?", ["one", "two"])),
        ("What? Choices: A. fat; B. bone; C. skin.", ("What?", ["fat", "bone", "skin."])),
        ("A. fat\nB. bone", ("", ["fat", "bone"])),
        (
            "What?\nA. a text\nof two lines\nB. bone\nand marrow",
            ("What?", ["a text\nof two lines", "bone\nand marrow"]),
        ),
        ("What?\nA. fat\nB. bone\nReply in this form: <think>...</think>", ("What?", ["fat", "bone"])),
        ("What?\nA. fat\nC. bone", None),
        ("What?\nA. fat\nB. fat", None),
        ("What?\nB. fat\nC. bone", None),
        ("What?\nA.\nB.", None),
        ("Only A. is there", None),
    ],
)
def test_options_in_a_text(text: str, right: tuple[str, list[str]] | None) -> None:
    assert cut_options(text) == (right if right is not None else (text, []))


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), ("**B**", "B"), ("B. adenocarcinoma", "B"),
        ("B) Adenocarcinoma.", "B"), ("Option B: adenocarcinoma", "B"), ("The correct answer is B.", "B"),
        ("Answer: B", "B"), ("adenocarcinoma", "B"), ("B adenocarcinoma", "B"), ("B. adenoma", None), ("C", None),
        ("adenocarcinoma of the colon", None), ("Bowel", None), ("", None),
    ],
)  # fmt: skip
def test_the_letter_of_an_answer(answer: str, letter: str | None) -> None:
    assert letter_of(answer, ["adenoma", "adenocarcinoma"]) == letter


def test_options_that_are_letters_of_other_options_are_not_guessed() -> None:
    assert letter_of("A", ["B", "A"]) is None


def test_what_was_read_is_counted_and_what_is_unclear_is_named(folder: Path) -> None:
    found = read(
        folder,
        row(id="one", conversations=talk("<image>What?\nA. fat\nB. bone", "B")),
        row(id="two", conversations=talk("<image>What?\nA. fat\nB. bone", "E")),
        row(id="three", conversations=talk("<image>What is it?", "C")),
        row(id="four"),
        row(id="five", conversations=talk("<image>What?\n1. fat\n2. bone", "2")),
    )
    read_note, unclear = option_notes(found.kept)
    assert "options of 1 questions" in read_note and "one: A. fat / B. bone (right: B)" in read_note
    assert unclear.startswith("3 questions") and "two, three, five" in unclear
    assert option_notes(found.kept[3:4]) == ()
    assert validate(found.kept).reasons() == {"empty choices": 2}


@pytest.mark.parametrize(("reply", "score"), [("B. adenocarcinoma", 1.0), ("B", 1.0), ("adenoma", 0.0)])
def test_a_right_reply_to_options_in_the_text_earns_accuracy(folder: Path, reply: str, score: float) -> None:
    from eosin import load_rewards
    from eosin.scoring.reading.item import item_from_sample

    grammar = Grammar.of("think/answer")
    (sample,) = read(folder, row(conversations=talk("<image>What?\nA. adenoma\nB. adenocarcinoma", "B"))).kept
    text = f"<think>x</think><answer>{reply}</answer>"
    assert load_rewards("accuracy", grammar).score(item_from_sample(sample, text)).total == score
