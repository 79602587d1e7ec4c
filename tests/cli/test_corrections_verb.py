"""`eosin corrections`: what was signed comes out whole, and regions come back in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.serve.test_corrections import corrected, correction, keep
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.formats import read_samples
from eosin.core.nouns.prompt import REJECTED
from eosin.serve.corrections.store import CorrectionStore


def eosin(*args: object) -> str:
    done = CliRunner().invoke(app, ["corrections", *map(str, args)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_signed_corrections_are_exported_compared_and_taken_back(tmp_path: Path) -> None:
    where = tmp_path / "c.sqlite"
    store = CorrectionStore(where)
    id = keep(store, correction("AB", answer="normal", statements=corrected()), correction("CD", answer="Normal"))
    keep(store, correction(answer=" "))
    eosin("export", where, tmp_path / "out")
    [sample] = read_samples(tmp_path / "out" / "samples.jsonl").kept
    assert sample.answer == "Normal" and sample.extra["reader"] == "CD" and REJECTED in sample.extra
    pairs = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    assert [p["id"] for p in pairs] == [sample.id]
    dropped = (tmp_path / "out" / "dropped.jsonl").read_text()
    assert dropped.count("\n") == 2 and "no answer" in dropped and "another reader signed the same" in dropped
    shapes = json.loads((tmp_path / "out" / "annotations" / "a.geojson").read_text())
    assert {f["properties"]["name"].partition(":")[0] for f in shapes["features"]} == {"s1"}
    assert len(json.loads((tmp_path / "out" / "labelstudio.json").read_text())) == 2
    with pytest.raises(EosinError):
        eosin("export", where, tmp_path / "out")  # nothing is overwritten
    assert json.loads(eosin("agreement", where, "AB", "CD"))["answer"]["same"] == 1.0

    eosin("take-in", where, id, tmp_path / "out" / "annotations" / "a.geojson", "--reader", "AB")
    versions = CorrectionStore(where).versions(id, "AB")
    assert [v.correction.is_signed for v in versions] == [True, False]
    assert versions[-1].correction.statements[0].regions
    with pytest.raises(EosinError, match="no correction of this reading"):
        eosin("take-in", where, id, tmp_path / "out" / "annotations" / "a.geojson", "--reader", "XY")
    with pytest.raises(EosinError, match="no such store"):
        eosin("export", tmp_path / "none.sqlite", tmp_path / "other")


def test_an_export_of_one_reader_holds_no_other_and_pairs_have_one_form(tmp_path: Path) -> None:
    where = tmp_path / "c.sqlite"
    store = CorrectionStore(where)
    closed = {"options": ["adenoma", "normal"], "grammar": {"tags": "think/answer", "numbered_steps": False}}
    mine = keep(store, correction("AB", answer="normal", statements=corrected()), correction("CD"), **closed)
    keep(store, correction("CD", answer="normal"))
    told = eosin("export", where, tmp_path / "out", "--reader", "AB")
    assert "1 samples, 1 of them pairs" in told
    for name in ("pairs.jsonl", "versions.jsonl", "readings.jsonl", "labelstudio.json"):
        text = (tmp_path / "out" / name).read_text()
        assert mine in text and "CD" not in text, name
    [pair] = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    assert pair["prompt"][0]["content"] == "What is it?\nA. adenoma\nB. normal"
    assert pair["chosen"][0]["content"].startswith("<think>")  # as the rejected one was asked for
    eosin("export", where, tmp_path / "other", "--reader", "AB", "--grammar", "info/think/answer")
    assert "<info>" in (tmp_path / "other" / "pairs.jsonl").read_text()
