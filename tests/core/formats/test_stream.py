"""Streamed samples: the index, the order that is computed, the reader, and shards with faults."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.support.toys import toy_samples

from eosin.core.errors import EosinError
from eosin.core.formats import parquet
from eosin.core.formats.exchange.webdataset import write_webdataset
from eosin.core.formats.rows import Outcome
from eosin.core.formats.stream import scan as scans
from eosin.core.formats.stream.index import Index, open_index, write_index
from eosin.core.formats.stream.order import Order, Part
from eosin.core.formats.stream.reader import StreamReader
from eosin.core.formats.stream.scan import ANSWER, CAPTION, TRAIN, scan, shards_of
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample


def every(sample: Sample, file: Path) -> Outcome:
    return Kept(sample)


def index_of(folder: Path, dropped: list[Dropped] | None = None) -> Index:
    place = folder / "index"
    place.mkdir(exist_ok=True)
    aside = dropped if dropped is not None else []
    return write_index(place, (scan(str(p), every) for p in shards_of(folder / "data")), aside.extend)


@pytest.fixture
def blocks_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr(scans, "BLOCK_ROWS", 4)


@pytest.fixture
def mixed(tmp_path: Path, blocks_of_four: None) -> tuple[Path, list[Sample]]:
    """Three shards: two of parquet, one tar; training samples, and two valid ones in the middle."""
    samples = toy_samples(50, "train")
    (tmp_path / "data").mkdir()
    parquet.write_parquet(samples[:13], tmp_path / "data" / "a.parquet")
    parquet.write_parquet([*samples[13:30], *toy_samples(2, "valid")], tmp_path / "data" / "b.parquet")
    write_webdataset(samples[30:], tmp_path / "data" / "c.tar")
    return tmp_path, samples


def test_every_row_is_the_sample_that_was_written(mixed: tuple[Path, list[Sample]]) -> None:
    folder, samples = mixed
    index = index_of(folder)
    reader = StreamReader(index, 1)  # holds one block at most
    assert list(reader.samples(Part(index).some(1000, 0))) == samples
    assert [s.id for s in reader.samples(index.rows_with(scans.VALID))] == ["valid-0", "valid-1"]
    assert index.facts["counts"] == {"train": 50, "valid": 2, "test": 0}
    assert len(reader._kept) <= 1 and pickle.loads(pickle.dumps(reader))._kept == {}
    again = open_index(folder / "index")
    assert np.array_equal(again.flags, index.flags) and again.shards == index.shards


def test_an_epoch_holds_every_row_once_and_others_stand_elsewhere(mixed: tuple[Path, list[Sample]]) -> None:
    index = index_of(mixed[0])
    part = Part(index)
    size = int(index.blocks[:, 3].mean())
    order = Order(part, seed=3, window_bytes=2 * size)
    epochs = [list(order.iterate(e)) for e in range(3)]
    assert all(sorted(rows) == part.some(1000, 0) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 3
    assert list(Order(part, seed=3, window_bytes=2 * size).iterate(1)) == epochs[1]  # of nothing but seed and epoch
    assert list(Order(part, seed=4, window_bytes=2 * size).iterate(1)) != epochs[1]
    for start in (0, 1, 17, 49, 50):
        assert list(order.iterate(2, start)) == epochs[2][start:]
    assert order.at(1, 7) == epochs[1][7]
    with pytest.raises(IndexError):
        order.at(1, 50)


def test_a_window_is_shuffled_whole_and_no_further(mixed: tuple[Path, list[Sample]]) -> None:
    """By hand: the rows of one window are those of its blocks, in another order, and come before the next window's."""
    index = index_of(mixed[0])
    order = Order(Part(index), seed=0, window_bytes=int(index.blocks[:, 3].sum()) // 3)
    rows, place = list(order.iterate(0)), 0
    windows = order.windows(0)
    assert len(windows) >= 2 and sorted(b for w in windows for b in w) == list(range(len(index.blocks)))
    for blocks in windows:
        own = [int(r) for b in blocks for r in Part(index).rows_of(b)]
        shown = rows[place : place + len(own)]
        assert sorted(shown) == sorted(own)
        assert shown != own or len(own) < 4
        place += len(own)


def test_a_reader_reads_a_block_once_a_window(
    mixed: tuple[Path, list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = index_of(mixed[0])
    window = 3 * int(index.blocks[:, 3].max())
    reader, read = StreamReader(index, window + int(index.blocks[:, 3].max())), Counter[int]()
    group = reader._group

    def counted(path: Path, block: int) -> object:
        read[block] += block not in reader._kept
        return group(path, block)

    monkeypatch.setattr(reader, "_group", counted)
    for row in Order(Part(index), 0, window).iterate(0):
        assert isinstance(reader.get(row), Kept)
    assert set(read.values()) == {1}
    assert reader._bytes <= reader.limit_bytes


def test_a_part_has_what_a_stage_needs(tmp_path: Path, blocks_of_four: None) -> None:
    samples = toy_samples(12, "train")
    samples[2] = samples[2].model_copy(update={"answer": None})
    samples[5] = samples[5].model_copy(update={"caption": None})
    origin = samples[7].origin.model_copy(update={"source": "other"})
    samples[7] = samples[7].model_copy(update={"origin": origin})
    (tmp_path / "data").mkdir()
    parquet.write_parquet(samples, tmp_path / "data" / "a.parquet")
    index = index_of(tmp_path)
    assert 2 not in Part(index, TRAIN | ANSWER).some(99, 0) and len(Part(index, TRAIN | ANSWER)) == 11
    assert 5 not in Part(index, TRAIN | CAPTION).some(99, 0)
    assert Part(index, TRAIN, ("other",)).some(99, 0) == [7]
    with pytest.raises(EosinError, match="no such source"):
        len(Part(index, TRAIN, ("nobody",)))
    assert len(Part(index).some(5, 0)) == 5 and Part(index).some(5, 0) == Part(index).some(5, 0)


def test_what_cannot_be_used_is_set_aside_with_its_reason(tmp_path: Path, blocks_of_four: None) -> None:
    samples = toy_samples(9, "train")
    data = tmp_path / "data"
    data.mkdir()
    parquet.write_parquet(samples, data / "a.parquet")
    parquet.write_parquet([samples[4], *toy_samples(3, "test")], data / "b.parquet")  # an id that stands in a
    (data / "c.parquet").write_bytes(b"PAR1 nothing PAR1")
    write_webdataset(toy_samples(6, "train", seed=1)[3:], data / "d.tar")  # ids that stand in a
    whole = (data / "d.tar").read_bytes()
    (data / "e.tar").write_bytes(whole[: len(whole) // 2])
    with tarfile.open(data / "f.tar", "w") as tar:
        for name, content in (
            ("x.txt", b"no picture"),
            ("y.png", b"\x89PNG"),
            ("z.png", b"\x89PNG"),
            ("z.txt", b"A gland."),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    dropped: list[Dropped] = []
    index = index_of(tmp_path, dropped)
    reasons = Counter(d.reason for d in dropped)
    assert reasons["shard cannot be read"] == 1 and reasons["tar cut off or damaged"] == 1
    assert reasons["no image"] == reasons["no caption"] == 1
    assert reasons["duplicate id"] == 1 + 3 + 1  # of b, d, and the one whole sample of e
    assert [s.id for s in StreamReader(index, 1).samples(Part(index).some(99, 0))] == [*(s.id for s in samples), "f/z"]
    rows = sum(s["rows"] for s in index.shards)
    assert rows == index.facts["counts"]["train"] + index.facts["counts"]["test"] + 5 + 2


def test_a_group_in_two_splits_is_refused(tmp_path: Path) -> None:
    train, test = toy_samples(6, "train"), toy_samples(3, "test")
    test = [s.model_copy(update={"origin": train[0].origin}) for s in test]
    (tmp_path / "data").mkdir()
    parquet.write_parquet([*train, *test], tmp_path / "data" / "a.parquet")
    with pytest.raises(EosinError, match="held out too") as told:
        index_of(tmp_path)
    assert "3 training samples, the first is row 1" in str(told.value)


def test_a_shard_that_was_changed_is_named(mixed: tuple[Path, list[Sample]]) -> None:
    folder, samples = mixed
    index = index_of(folder)
    index.check()
    parquet.write_parquet(samples[:12], folder / "data" / "a.parquet")
    with pytest.raises(EosinError, match=r"not the one(?s:.)*a\.parquet"):
        index.check()
    (folder / "data" / "a.parquet").unlink()
    with pytest.raises(EosinError, match="not the one"):
        index.check()


@pytest.mark.parametrize("name", ["missing", "empty", "rows.jsonl"])
def test_what_is_no_shard_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(EosinError) as told:
        list(shards_of(tmp_path / name))
    assert told.value.next_step


def test_a_row_group_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_parquet(toy_samples(3, "train"), tmp_path / "a.parquet")
    monkeypatch.setattr(scans, "MAX_BLOCK_BYTES", 100)
    found = scan(str(tmp_path / "a.parquet"), every)
    assert not found.blocks and "too large to be streamed" in found.dropped[0].detail


def test_a_compressed_tar_is_set_aside(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x.txt"))
    found = scan(str(tmp_path / "a.tar"), every)
    assert not len(found.flags) and found.dropped[0].reason == "tar cut off or damaged"
