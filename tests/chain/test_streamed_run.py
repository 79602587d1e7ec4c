"""A run whose samples are streamed, through the command line: weights as in memory, records, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.support.streams import write_shards
from tests.support.toys import toy_recipe, toy_samples
from typer.testing import CliRunner

from eosin.chain.parts import training_part
from eosin.chain.recipe import streaming
from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.formats.stream.index import open_index
from eosin.core.formats.stream.order import Order, Part
from eosin.core.formats.stream.scan import ANSWER, CAPTION, TRAIN
from eosin.core.settings.recipe import Recipe, load_recipe
from eosin.core.store import artifacts as store
from eosin.train.data.feed import Feed
from eosin.train.data.order import EpochNumber, RowOrder

STAGES = {
    "pretrain": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "exam": False, "log_every": 1},
    "sft": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "exam": False, "log_every": 1, "augment": True},
}


def recipe(folder: Path, **data: Any) -> Path:
    raw = toy_recipe(folder, {}, "text")
    raw |= {"data": {"source": "samples", "path": str(folder / "shards"), "window_mib": 1, **data}, "stages": STAGES}
    path = folder / ("streamed.yaml" if data.get("stream") else "held.yaml")
    path.write_text(yaml.safe_dump(raw, sort_keys=False), "utf-8")
    return path


def run(path: Path, *more: str) -> Path:
    out = path.with_suffix("")
    said = CliRunner().invoke(app, ["run", str(path), "--out", str(out), *more])
    assert said.exit_code == 0, (said.output[-1500:], said.exception)
    return out


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streamed")
    write_shards(toy_samples(40, "train"), folder / "shards")
    return run(recipe(folder, stream=True))


def weights(out: Path, stage: str) -> dict[str, torch.Tensor]:
    return load_file(next((out / "stages" / stage / "checkpoint").glob("*.safetensors")))


def test_weights_are_those_of_the_same_samples_in_memory(streamed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, into = streamed.parent, Feed.into
    index = open_index(streamed / "samples")
    needs = iter((CAPTION, ANSWER))

    def in_its_order(self: Feed, trainer: Any) -> None:
        order, epoch = Order(Part(index, TRAIN | next(needs)), 0, 2**20), EpochNumber()
        trainer.add_callback(epoch)
        self.order = RowOrder(len(order), order.iterate, epoch)  # rows are numbered alike in shards and list
        into(self, trainer)

    monkeypatch.setattr(Feed, "into", in_its_order)
    (folder / "shards" / "manifest.json").unlink(missing_ok=True)
    held = run(recipe(folder, path=str(folder / "shards" / "part-00000.parquet"),
                      also=[str(folder / "shards" / "part-00001.parquet")]))  # fmt: skip
    for stage in STAGES:
        a, b = weights(streamed, stage), weights(held, stage)
        assert a.keys() == b.keys() and all(torch.allclose(a[n], b[n], atol=1e-6) for n in a), stage


def test_the_records_say_that_it_was_streamed(streamed: Path) -> None:
    record = json.loads((streamed / "stages" / "sft" / "stage.json").read_text())
    assert record["stream"] == {"num_samples": 40, "set_aside": 0} and record["num_steps"] == 10
    card = store.read_object(streamed / "samples" / "card.json")
    assert card["streamed"] and card["counts"] == {"train": 40, "valid": 0, "test": 0, "dropped": 0}
    assert store.open_artifact(streamed / "samples", "samples", verify=True).manifest["counts"]["train"] == 40
    assert not (streamed / "samples" / "train.parquet").exists()
    assert "40" in (streamed / "report" / "index.html").read_text()


def test_changed_shards_are_named_when_a_run_goes_on(streamed: Path) -> None:
    shard = streamed.parent / "shards" / "part-00001.parquet"
    (streamed / "stages" / "sft" / "stage.json").rename(streamed / "kept.json")
    (streamed / "summary.json").unlink()
    whole = shard.read_bytes()
    try:
        shard.write_bytes(whole + b" ")
        said = CliRunner().invoke(app, ["run", str(streamed.with_suffix(".yaml")), "--out", str(streamed)])
        assert said.exit_code != 0 and "A shard is not the one" in str(said.exception or "") + said.output
    finally:
        shard.write_bytes(whole)
        (streamed / "kept.json").rename(streamed / "stages" / "sft" / "stage.json")


def test_what_needs_all_samples_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    raw = yaml.safe_load(recipe(tmp_path, stream=True).read_text("utf-8"))
    raw["corrections"] = {"path": "room.sqlite"}
    raw["stages"] = {
        "warmup": {}, "rl": {}, "pretrain": {"part": [0, 0.5], "batches": "by_length"},
        "sft": {"max_samples": 9, "trajectory": {"max_variants": 2}},
    }  # fmt: skip
    told = streaming.problems(Recipe.model_validate({"name": "x", **raw}))
    assert [t.partition(":")[0] for t in told] == [
        "corrections", "stages.warmup", "stages.rl", "stages.pretrain.part", "stages.pretrain.batches",
        "stages.sft.max_samples", "stages.sft.trajectory",
    ]  # fmt: skip
    held = Recipe.model_validate({"name": "x", **raw, "data": {**raw["data"], "stream": False}})
    assert streaming.problems(held) == []
    with pytest.raises(ValueError, match="keep the splits"):
        Recipe.model_validate({**raw, "data": {**raw["data"], "valid_fraction": 0.1}})


def test_no_part_of_a_stream_is_taken_for_the_whole(tmp_path: Path) -> None:
    """What holds all training samples (exports, looks at masks) must not go on with the few that a stream holds."""
    resolved = load_recipe(recipe(tmp_path, stream=True))
    with pytest.raises(EosinError, match="needs all training samples"):
        training_part(resolved.recipe, "sft", toy_samples(3, "train"))


def test_a_stage_without_a_sample_to_learn_is_refused(tmp_path: Path) -> None:
    samples = [s.model_copy(update={"caption": None}) for s in toy_samples(6, "train")]
    write_shards(samples, tmp_path / "shards")
    said = CliRunner().invoke(app, ["run", str(recipe(tmp_path, stream=True)), "--out", str(tmp_path / "run")])
    assert said.exit_code != 0
    assert "a caption and an image" in str(said.exception or "") + said.output
