"""Formats of other trainers: each gives back the equal sample, and says what those programs look for."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from eosin.chain.curation.anyform import iter_any
from eosin.chain.curation.facts import drawn, facts_of
from eosin.core.errors import EosinError
from eosin.core.formats.exchange.convert import SUFFIX, convert
from eosin.core.images import encode_png
from eosin.core.nouns.outcome import Kept
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, make_choices, user_prompt
from eosin.report.pages.samples import write_samples_page


def samples() -> list[Sample]:
    def made(number: int, colour: str) -> Sample:
        image = ImageBytes(data=encode_png(Image.new("RGB", (16, 16), colour)))
        return Sample(
            id=f"q/{number}", images=(image,), messages=user_prompt("What is shown? <image> is no place here"),
            choices=make_choices(["fat", "gland"]), answer="B", caption="A gland of the colon", split="train",
            reasoning=("Cells lie in a ring.",), origin=Origin(source="t", licence="CC0-1.0", case=f"c{number}"),
        )  # fmt: skip

    return [made(1, "red"), made(2, "blue")]


@pytest.mark.parametrize("form", ["llamafactory", "swift", "verl", "webdataset", "trl", "sharegpt", "parquet", "jsonl"])
def test_each_format_gives_back_the_equal_sample(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"out{SUFFIX[form]}"
    count, dropped = convert(samples(), path, form)
    assert (count, dropped) == (2, [])
    assert [o.value for o in iter_any(path) if isinstance(o, Kept)] == samples()
    with pytest.raises(EosinError, match="never overwrites"):
        convert(samples(), path, form)


def test_rows_hold_what_the_other_programs_look_for(tmp_path: Path) -> None:
    convert(samples(), tmp_path / "a.jsonl", "swift")
    row = json.loads((tmp_path / "a.jsonl").read_text("utf-8").splitlines()[0])
    assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
    assert sum(m["content"].count("<image>") for m in row["messages"]) == len(row["images"]) == 1
    assert (tmp_path / row["images"][0]).is_file()
    convert(samples(), tmp_path / "b.json", "llamafactory")
    info = json.loads((tmp_path / "dataset_info.json").read_text("utf-8"))
    assert info["b"]["file_name"] == "b.json" and info["b"]["columns"] == {"messages": "messages", "images": "images"}
    convert(samples(), tmp_path / "c.parquet", "verl")
    [first, _] = pq.read_table(tmp_path / "c.parquet").to_pylist()
    assert first["reward_model"] == {"style": "rule", "ground_truth": "B"} and first["data_source"] == "t"
    assert first["prompt"][-1]["content"].count("<image>") == len(first["images"]) == 1
    convert(samples(), tmp_path / "d.tar", "webdataset")
    with tarfile.open(tmp_path / "d.tar") as tar:
        assert tar.getnames()[:3] == ["000000000.png", "000000000.txt", "000000000.json"]


def test_foreign_rows_of_verl_and_trl_lines_are_read(tmp_path: Path) -> None:
    convert(samples(), tmp_path / "a.parquet", "verl")
    table = pq.read_table(tmp_path / "a.parquet").drop_columns(["eosin"])
    pq.write_table(table, tmp_path / "foreign.parquet")
    found = [o.value for o in iter_any(tmp_path / "foreign.parquet") if isinstance(o, Kept)]
    assert [(s.answer, len(s.images)) for s in found] == [("B", 1), ("B", 1)]
    line = {
        "prompt": [{"role": "user", "content": "Is this fat?"}],
        "completion": [{"role": "assistant", "content": "No"}],
    }
    (tmp_path / "b.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    [read] = list(iter_any(tmp_path / "b.jsonl"))
    assert isinstance(read, Kept) and (read.value.question, read.value.answer) == ("Is this fat?", "No")


def test_what_a_format_cannot_hold_is_named(tmp_path: Path) -> None:
    without = samples()[0].model_copy(update={"caption": None})
    count, dropped = convert([without, samples()[1]], tmp_path / "a.tar", "webdataset")
    assert (count, [d.reason for d in dropped]) == (1, ["no caption"])
    with pytest.raises(EosinError, match="another name"):
        convert(samples(), tmp_path / "a.txt", "verl")
    with pytest.raises(EosinError, match="not a format"):
        convert(samples(), tmp_path / "a.csv", "csv")


def test_the_page_shows_samples_and_figures_and_no_markup_of_theirs(tmp_path: Path) -> None:
    odd = samples()[0].model_copy(update={"caption": "<script>alert(1)</script>", "id": "odd"})
    facts, some = drawn([Kept(odd), *(Kept(s) for s in samples())], 2, 0)
    assert len(some) == 2 and facts.num == 3
    write_samples_page(tmp_path / "p.html", name="x", facts=facts.rows(), samples=[odd, *samples()], total=3)
    page = (tmp_path / "p.html").read_text("utf-8")
    assert "<script" not in page and page.count("data:image/jpeg") == 3 and "(answer)" in page
    told = facts_of(Kept(s) for s in samples()).as_json()
    assert told["by"]["answer"] == {"B": 2} and told["words"]["caption"]["median"] == 5
