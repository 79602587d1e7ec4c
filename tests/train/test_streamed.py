"""Stages that stream: the order of workers and restarts, pictures that fail, weights as of samples in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.support.streams import stream_of, write_shards
from tests.support.toys import toy_samples
from tests.train.conftest import GRAMMAR, PROMPT
from tests.train.test_resume import assert_same, fresh, killed_before_the_checkpoint, started, weights
from torch.utils.data import DataLoader

from eosin.core.nouns.sample import ImageBytes
from eosin.core.settings.stages import PretrainStage, SftStage
from eosin.core.store import artifacts as store
from eosin.train.data.feed import Feed
from eosin.train.data.order import RowOrder
from eosin.train.data.rows import Augmentation, ImageCache, sft_row
from eosin.train.data.streamed import StreamedRows
from eosin.train.stages import pretrain, sft
from eosin.train.stages.base import StageContext

Make = Callable[..., StageContext]
SFT = SftStage(epochs=2, batch_size=8, learning_rate=1e-3, save_every=5, log_every=1, augment=True)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_shards(toy_samples(48, "train"), tmp_path / "shards")
    return tmp_path / "shards"


def streamed(ctx: StageContext, shards: Path) -> StageContext:
    return replace(ctx, stream=stream_of(shards))


def shown(shards: Path, num_workers: int, tmp_path: Path, epoch: int, batch: int = 8) -> list[tuple[int, bytes]]:
    """Every row of an epoch as a data loader gives it: its number and the pixels of its augmented picture."""
    stream, augment = stream_of(shards), Augmentation(7)
    rows = StreamedRows(
        stream, sft_row(GRAMMAR, PROMPT), ImageCache(None, 0.0), lambda w, h: None, tmp_path / "aside.jsonl", augment
    )
    order = RowOrder(len(rows), stream.order.iterate, augment)
    augment.on_epoch_begin(None, SimpleNamespace(epoch=float(epoch)), None)
    loader = DataLoader(rows, batch_size=batch, sampler=order, num_workers=num_workers, collate_fn=list)
    return [(row["sample_number"], row["images"][0].tobytes()) for rows in loader for row in rows]


def test_rows_and_pictures_are_the_same_with_any_number_of_workers(shards: Path, tmp_path: Path) -> None:
    alone = shown(shards, 0, tmp_path, epoch=1)
    assert shown(shards, 1, tmp_path, 1) == alone and shown(shards, 2, tmp_path, 1, batch=4) == alone
    assert sorted(n for n, _ in alone) == list(range(48))
    assert [n for n, _ in shown(shards, 0, tmp_path, epoch=2)] != [n for n, _ in alone]
    other = dict(shown(shards, 0, tmp_path, epoch=2))
    assert all(other[n] != pixels for n, pixels in alone)  # another epoch, other pictures


def test_a_picture_that_fails_is_set_aside_and_the_next_row_takes_its_place(tmp_path: Path) -> None:
    samples = toy_samples(12, "train")
    samples[6] = samples[6].model_copy(update={"images": (ImageBytes(data=b"no picture"),)})
    write_shards(samples, tmp_path / "shards")
    stream, aside = stream_of(tmp_path / "shards"), tmp_path / "aside.jsonl"
    rows = StreamedRows(stream, sft_row(GRAMMAR, PROMPT), ImageCache(None, 0.0), lambda w, h: None, aside)
    assert rows[6]["images"][0].tobytes() == rows[7]["images"][0].tobytes() != rows[5]["images"][0].tobytes()
    assert [(r["id"], r["reason"]) for r in store.read_jsonl(aside)] == [("train-6", "not an image")]
    refusing = StreamedRows(stream, sft_row(GRAMMAR, PROMPT), ImageCache(None, 0.0), lambda w, h: "too odd", aside)
    with pytest.raises(Exception, match="No sample of this block can be read"):
        refusing[0]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_streamed_stage_that_was_killed_ends_the_same(
    num_workers: int, shards: Path, context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SFT.model_copy(update={"num_workers": num_workers})
    whole, cut = (streamed(context(name), shards) for name in ("whole", "cut"))
    one = started(sft.run, SFT, whole)  # without workers, whatever the other has
    killed_before_the_checkpoint(sft.run, settings, cut, monkeypatch)
    saves = sorted(int(p.name.split("-")[1]) for p in cut.work.glob("checkpoint-*"))
    assert saves == [10, 12]
    shutil.rmtree(cut.work / "checkpoint-12")
    two = started(sft.run, settings, fresh(cut))
    assert_same(whole, cut)
    assert one.extra["stream"] == two.extra["stream"] == {"num_samples": 48, "set_aside": 0}
    assert one.num_steps == two.num_steps == 12


def test_a_resume_in_the_first_epoch_goes_on_with_the_next_sample(
    shards: Path, context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SFT.model_copy(update={"epochs": 1.0, "save_every": 2})
    seen: dict[str, list[int]] = {"whole": [], "resumed": []}
    now = "whole"
    get = StreamedRows.__getitem__

    def noted(self: StreamedRows, number: int) -> Any:
        seen[now].append(number)
        return get(self, number)

    monkeypatch.setattr(StreamedRows, "__getitem__", noted)
    ctx = streamed(context("one"), shards)
    killed_before_the_checkpoint(sft.run, settings, ctx, monkeypatch)
    shutil.rmtree(ctx.work / "checkpoint-6")
    now = "resumed"
    started(sft.run, settings, fresh(ctx))
    assert len(seen["whole"]) == 48 and seen["resumed"] == seen["whole"][32:]  # four steps of eight rows were done


@pytest.mark.parametrize("kind", ["sft", "pretrain"])
def test_weights_are_those_of_samples_in_memory_in_the_same_order(
    kind: str, shards: Path, context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Any = sft.run if kind == "sft" else pretrain.run
    settings = SFT if kind == "sft" else PretrainStage(**{k: getattr(SFT, k) for k in ("epochs", "learning_rate")})
    stream = streamed(context("stream"), shards)
    started(run, settings, stream)
    held = context("held")
    into = Feed.into
    assert stream.stream is not None
    order = stream.stream.order

    def in_its_order(self: Feed, trainer: Any) -> None:
        epoch = Augmentation(0)
        trainer.add_callback(epoch)
        self.order = RowOrder(len(order), order.iterate, epoch)  # rows are numbered alike in the shards and the list
        into(self, trainer)

    monkeypatch.setattr(Feed, "into", in_its_order)
    started(run, settings, held)
    a, b = weights(stream), weights(held)
    assert a.keys() == b.keys() and all(torch.allclose(a[n], b[n], atol=1e-6) for n in a)
    monkeypatch.undo()
    other = context("other")
    started(run, settings, other)
    assert any(not torch.allclose(a[n], v, atol=1e-6) for n, v in weights(other).items())  # the order tells
