"""A batch goes out as a table, pictures and shapes, and comes back with verdicts, corrections and agreement."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.support.audited import changed, clean_samples
from typer.testing import CliRunner

from eosin.chain.experts import read_back, write_batch
from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.formats import read_samples, write_samples
from eosin.core.nouns.sample import Entity, Sample
from eosin.core.nouns.units import BoxPixels


def with_box(sample: Sample) -> Sample:
    return changed(sample, entities=(Entity(name="crypt abscess", boxes=(BoxPixels(x0=4, y0=6, x1=20, y1=30),)),))


def filled(batch: Path, name: str, verdicts: dict[int, tuple[str, str]], encoding: str = "utf-8") -> Path:
    """The table of a reader, as a spreadsheet would write it."""
    with (batch / "batch.csv").open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row["verdict"], row["correct_answer"] = verdicts.get(int(row["number"]), ("", ""))
    path = batch.parent / f"{name}.csv"
    with path.open("w", encoding=encoding, newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_verdicts_corrections_and_agreement(tmp_path: Path) -> None:
    samples = [with_box(s) for s in clean_samples(6)]
    assert write_batch(samples, tmp_path / "batch", 6) == 6
    wrong = next(c for c in samples[1].choices if c.letter != samples[1].answer)
    said = {1: ("keep", ""), 2: ("Keep", wrong.text), 3: ("drop", ""), 4: ("keep", ""), 5: ("unsure", "")}
    a = filled(tmp_path / "batch", "a", said)
    b = filled(tmp_path / "batch", "b", {1: ("keep", ""), 2: ("keep", wrong.letter), 3: ("drop", ""), 4: ("drop", "")})
    shapes = tmp_path / "batch" / "shapes" / "0001.geojson"
    value = json.loads(shapes.read_text())
    ring = value["features"][0]["geometry"]["coordinates"][0]
    value["features"][0]["geometry"]["coordinates"][0] = [[x + 2, y] for x, y in ring]
    shapes.write_text(json.dumps(value))

    told = read_back(tmp_path / "batch", [a, b])
    assert [s.id for s in told.samples.kept] == [samples[0].id, samples[1].id]
    reasons = {"experts drop it": 1, "experts are divided": 1, "experts are unsure": 1, "nobody judged it": 1}
    assert told.samples.reasons() == reasons
    assert told.samples.kept[1].answer == wrong.letter and told.changed_answers == 1
    assert told.changed_boxes == 1 and told.samples.kept[0].entities[0].boxes[0].x0 == 6
    pair = told.agreement["a and b"]
    assert pair["n"] == 4 and pair["agreed"] == 0.75
    assert pair["kappa"] == pytest.approx((0.75 - 0.5) / 0.5)  # a: 3 keep 1 drop, b: 2 and 2; by chance 3/8 + 1/8


def test_cells_of_a_stranger_are_no_formulas_and_bad_rows_are_named(tmp_path: Path) -> None:
    sample = changed(clean_samples(1)[0], reasoning=("=HYPERLINK(1)", "So this is it."))
    write_batch([sample], tmp_path / "batch", 5)
    text = (tmp_path / "batch" / "batch.csv").read_text("utf-8-sig")
    assert "'=HYPERLINK" in text
    bad = tmp_path / "x.csv"
    bad.write_text("number,verdict\n7,keep\n1,perhaps\n1,keep\n1,drop\n")
    told = read_back(tmp_path / "batch", [bad])
    assert len(told.problems) == 3 and len(told.samples.kept) == 1
    (tmp_path / "y.csv").write_text("a,b\n1,2\n")
    with pytest.raises(EosinError, match="no batch"):
        read_back(tmp_path / "batch", [tmp_path / "y.csv"])


def test_by_the_command_line(tmp_path: Path) -> None:
    write_samples(clean_samples(8), tmp_path / "d.parquet")
    run = CliRunner().invoke
    sent = run(app, ["experts", "send", str(tmp_path / "d.parquet"), "-n", "4", "--out", str(tmp_path / "b")])
    assert sent.exit_code == 0
    table = filled(tmp_path / "b", "reader", dict.fromkeys((1, 2, 3), ("keep", "")))
    done = run(app, ["experts", "read", str(tmp_path / "b"), str(table), "--out", str(tmp_path / "kept")])
    assert done.exit_code == 0 and "3 kept" in done.output
    assert len(read_samples(tmp_path / "kept").kept) == 3
