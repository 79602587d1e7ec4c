"""`eosin rl-data` as a user calls it, with a small model; a recipe then trains on a band of what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.toys import toy_samples
from tests.train.conftest import new_model
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.formats import write_samples
from eosin.core.store.artifacts import open_artifact
from eosin.models import checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates")
    loaded = new_model()
    facts = {"grammar": {"tags": "think/answer", "numbered_steps": False}, "instruction": False}
    checkpoint.save(loaded.model, loaded.processor, folder / "model", facts=facts)
    write_samples([*toy_samples(5, "train"), *toy_samples(2, "test")], folder / "samples.jsonl")
    with (folder / "samples.jsonl").open("a") as handle:
        handle.write("no json\n")
    return folder


def call(folder: Path, *more: str, out: str = "out") -> str:
    words = ["rl-data", str(folder / "model"), str(folder / "samples.jsonl"), "--out", str(folder / out)]
    done = CliRunner().invoke(app, [*words, "--max-new-tokens", "6", *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_table_histogram_and_repetition(made: Path) -> None:
    shown = call(made, "-n", "3", "--reward", "accuracy=0.9", "--reward", "format=0.1")
    # six tokens of random weights hold no whole reply
    assert "0.000        5  ####" in shown and "mean pass rate 0.000" in shown and "n 5" in shown
    assert "unparsed 1.000" in shown and "in the band 0.1 to 0.9: 0 of 5" in shown
    assert "set aside: 1 x" in shown and "not for diagnosis" in shown
    artifact = open_artifact(made / "out", "difficulty", verify=True)
    assert artifact.manifest["parents"][0]["kind"] == "checkpoint"
    assert artifact.manifest["record"]["rewards"]["label"] == "0.9 accuracy+0.1 format"
    assert artifact.manifest["record"]["engine"].startswith("shared prompt")
    rows = [json.loads(line) for line in (made / "out" / "rates.jsonl").open()]
    assert [r["id"] for r in rows] == [f"train-{i}" for i in range(5)]
    assert all(r["num_replies"] == 3 and r["reward_mean"] == 0.0 for r in rows)
    assert call(made, "-n", "3", "--reward", "accuracy=0.9", "--reward", "format=0.1") == shown  # done already
    with pytest.raises(EosinError, match="something at this place"):
        call(made, "-n", "4")


def test_a_subset_of_another_split(made: Path) -> None:
    shown = call(made, "-n", "2", "--split", "test", "--max-samples", "1", out="test")
    assert "n 1" in shown
    with pytest.raises(EosinError, match="no samples in this split"):
        call(made, "--split", "valid", out="valid")
