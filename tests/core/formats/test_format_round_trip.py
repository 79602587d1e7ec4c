"""Every format gives back the equal sample, whatever stands in it."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_strategies import image_bytes, image_files, png, regions, sample_lists

from eosin.core.errors import EosinError, ImageError
from eosin.core.formats import from_trl, kind_of, read_samples, to_trl, write_samples
from eosin.core.formats.trl import decoded
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import (
    ImageBytes,
    ImageFile,
    ImagePart,
    Message,
    Origin,
    Sample,
    TextPart,
    make_choices,
    user_prompt,
)

FILES = {"parquet": "s.parquet", "jsonl": "s.jsonl", "sharegpt": "s.json", "trl": "t.parquet", "artifact": "folder"}
needs_datasets = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="the package datasets is not installed"
)
relaxed = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", FILES)
@relaxed
@given(st.data())
def test_round_trip(name: str, data: st.DataObject) -> None:
    samples = data.draw(sample_lists())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILES[name]
        assert write_samples(samples, path, name) == len(samples)
        assert kind_of(path) == name or not samples
        result = read_samples(path)
    assert result.dropped == ()
    assert list(result.kept) == samples


@relaxed
@given(sample_lists())
def test_plain_trl_rows(samples: list[Sample]) -> None:
    for sample in samples:
        assert from_trl(to_trl(sample), place="x") == Kept(sample)


@needs_datasets
def test_datasets_folder(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png(1))
    refs = image_bytes | regions | st.just(ImageFile(path=str(file)))
    found: list[list[Sample]] = []

    @settings(max_examples=3, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(sample_lists(refs, 4).filter(lambda s: len(s) > 1))
    def collect(samples: list[Sample]) -> None:
        found.append(samples)

    collect()
    for i, samples in enumerate(found[:2]):
        path = tmp_path / f"d{i}"
        assert write_samples(samples, path, "datasets") == len(samples)
        assert kind_of(path) == "datasets"
        assert list(read_samples(path).kept) == samples


@needs_datasets
def test_datasets_opens_our_parquet_and_decodes_its_images(tmp_path: Path) -> None:
    import datasets

    samples = [_closed("s0", ImageBytes(data=png(7, 24)))]
    for name in ("parquet", "trl"):
        path = tmp_path / f"{name}.parquet"
        write_samples(samples, path, name)
        opened = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
        assert opened[0]["images"][0].size == (24, 24)
        assert opened[0]["images"][0].getpixel((0, 0)) == (7, 80, 120)


@needs_datasets
def test_a_dataset_that_travelled_without_its_image_files_holds_them_as_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png(9))
    write_samples([_closed("s0", ImageFile(path=str(file)))], tmp_path / "d", "datasets")
    file.unlink()
    (sample,) = read_samples(tmp_path / "d").kept
    assert sample.images == (ImageBytes(data=png(9)),)


@needs_datasets
def test_writing_a_dataset_with_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="missing") as caught:
        write_samples([_closed("s0", ImageFile(path="/nowhere/x.png"))], tmp_path / "d", "datasets")
    assert caught.value.found == "/nowhere/x.png"


def _closed(name: str, *images: ImageBytes | ImageFile) -> Sample:
    return Sample(
        id=name,
        images=images,
        messages=user_prompt("What is it?", len(images)),
        choices=make_choices(["tumour", "fat"]),
        answer="B",
        reasoning=("Large empty cells.",),
        origin=Origin(source="test"),
    )


def test_what_a_trl_row_looks_like() -> None:
    row = to_trl(_closed("s0", ImageBytes(data=png())), instruction=False)
    assert row["prompt"] == [
        {
            "role": "user",
            "content": [
                {"type": "image", "text": None},
                {"type": "text", "text": "What is it?\nA. tumour\nB. fat"},
            ],
        }
    ]
    text = "<think>Large empty cells.</think>\n<answer>B. fat</answer>"
    assert row["completion"] == [{"role": "assistant", "content": [{"type": "text", "text": text}]}]
    assert row["images"] == [{"bytes": png(), "path": None}]
    assert decoded(row)["images"][0].size == (16, 16)


def test_decoding_a_row_with_a_slide_region_says_so() -> None:
    with pytest.raises(ImageError, match="slide reader"):
        decoded({"images": [None]})


def test_what_a_llava_row_looks_like(tmp_path: Path) -> None:
    import json

    literal = Message(role="user", parts=(ImagePart(index=0), TextPart(text="What does <image> mean?")))
    sample = _closed("s0", ImageBytes(data=png())).model_copy(update={"messages": (literal,)})
    write_samples([sample], tmp_path / "s.json")
    (row,) = json.loads((tmp_path / "s.json").read_text("utf-8"))
    human, gpt = row["conversations"]
    assert human["from"] == "human"
    assert human["value"].startswith("<image>What does &lt;image> mean?\nA. tumour")
    assert human["value"].count("<image>") == 1
    assert gpt == {"from": "gpt", "value": "<think>Large empty cells.</think>\n<answer>B. fat</answer>"}
    assert (tmp_path / row["image"]).read_bytes() == png()


def test_image_paths_in_llava_json_are_relative_and_move_with_the_folder(tmp_path: Path) -> None:
    import json

    old = tmp_path / "old"
    (old / "img").mkdir(parents=True)
    (old / "img" / "a.png").write_bytes(png())
    sample = _closed("s0", ImageFile(path=str(old / "img" / "a.png")))
    write_samples([sample], old / "s.json")
    assert json.loads((old / "s.json").read_text())[0]["image"] == "img/a.png"
    old.rename(tmp_path / "new")
    (read,) = read_samples(tmp_path / "new" / "s.json").kept
    assert read.images == (ImageFile(path=str(tmp_path / "new" / "img" / "a.png")),)


def test_a_text_that_holds_a_tag_of_the_grammar_is_refused_with_the_sample_id(tmp_path: Path) -> None:
    sample = _closed("s7").model_copy(update={"reasoning": ("He said </think>.",)})
    with pytest.raises(EosinError, match="s7"):
        write_samples([sample], tmp_path / "s.json")
    assert list(tmp_path.iterdir()) == []
    assert write_samples([sample], tmp_path / "s.json", grammar=Grammar.of("answer")) == 1
    assert read_samples(tmp_path / "s.json").kept == (sample,)


@relaxed
@given(sample_lists(image_files, 2), sample_lists(image_files, 2))
def test_a_row_changed_by_another_program_is_dropped_not_guessed(a: list[Sample], b: list[Sample]) -> None:
    for sample in (*a, *b):
        row = to_trl(sample)
        row["prompt"] = [*row["prompt"], {"role": "user", "content": "one more question"}]
        outcome = from_trl(row, place="x")
        assert isinstance(outcome, Dropped)
        assert (outcome.id, outcome.reason) == (sample.id, "row changed by another program")


def test_row_groups_stay_bounded(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from eosin.core.formats import iter_parquet
    from eosin.core.formats.parquet import BYTES_PER_GROUP, ROWS_PER_GROUP

    small = [_closed(f"s{i}") for i in range(ROWS_PER_GROUP + 1)]
    write_samples(small, tmp_path / "a.parquet")
    assert pq.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups == 2
    big = ImageBytes(data=b"\0" * (BYTES_PER_GROUP // 2))
    write_samples([_closed(f"s{i}", big) for i in range(4)], tmp_path / "b.parquet")
    assert pq.ParquetFile(tmp_path / "b.parquet").metadata.num_row_groups == 2
    first = next(iter(iter_parquet(tmp_path / "a.parquet")))
    assert first == Kept(small[0])


def test_a_changed_parquet_column_is_a_changed_sample(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_samples([_closed("s0")], tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    at = table.column_names.index("split")
    pq.write_table(table.set_column(at, "split", pa.array(["test"])), tmp_path / "b.parquet")
    assert read_samples(tmp_path / "b.parquet").kept[0].split == "test"


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="not a format"):
        write_samples([], tmp_path / "x", "csv")  # type: ignore[arg-type]
