"""`eosin evaluate` on slides: from samples on disk to the figures of deletion and pointing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.support.memorise import memorise
from tests.support.slide_toys import DIMENSION, MPP, TILE_UM, new_reader, toy_bag
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.nouns.prompt import prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Origin, Sample, SlideBag, user_prompt
from eosin.engines.base import Request
from eosin.evaluate.evidence.tests import AttributionTarget
from eosin.models import checkpoint
from eosin.slides.annotations.geojson import Shape, write_geojson
from eosin.slides.features.bags import read_bag
from eosin.slides.features.h5 import FeatureBag, TileGeometry, write_bag

REPLY = "<think>Glands are seen.</think>\n<answer>tumour glands</answer>"
GRAMMAR = Grammar.of("think/answer")
FACTS = {"stage": "base", "step": 0, "grammar": {"tags": "think/answer", "numbered_steps": False}, "instruction": False}


def make_sample(folder: Path, number: int, rng: np.random.Generator) -> Sample:
    """A slide whose label stands in the first third of its patches; these are the lesion."""
    bag = toy_bag(1, rng, 18)
    side = round(TILE_UM / MPP)
    corners = np.round((bag.centres_um - TILE_UM / 2) / MPP).astype(np.int64)
    file = folder / "features" / f"s{number}.h5"
    write_bag(
        file, FeatureBag(f"s{number}", bag.features, corners, TileGeometry(side, side, MPP, MPP), encoder="toy-encoder")
    )
    squares = [np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], float) for x, y in corners[:6]]
    write_geojson(folder / f"s{number}.geojson", [Shape([[s]], "Lesion") for s in squares])
    return Sample(
        id=f"s{number}",
        images=(SlideBag(path=str(file), encoder="toy-encoder"),),
        messages=user_prompt("Which tissue is this?"),
        answer="tumour glands",
        origin=Origin(source="toy", case=str(number)),
        extra={"truth": str(folder / f"s{number}.geojson")},
    )


@pytest.fixture
def exam(tmp_path: Path) -> tuple[str, str]:
    """A checkpoint that has learned one reply, and the samples that it is asked about."""
    (tmp_path / "features").mkdir()
    rng = np.random.default_rng(0)
    samples = [make_sample(tmp_path, i, rng) for i in range(4)]
    made = new_reader(sees_images=False)
    assert made.model.slide_tower.spec.dimension == DIMENSION
    bags = [read_bag(s.images[0]) for s in samples]  # type: ignore[arg-type]
    prompts = [prompt_messages(s, GRAMMAR, instruction=False) for s in samples]
    asked = [
        AttributionTarget(Request("a", p, (b,)), REPLY, (0, len(REPLY))) for p, b in zip(prompts, bags, strict=True)
    ]
    memorise(made, asked)
    checkpoint.save(made.model, made.processor, tmp_path / "reader", facts=FACTS)
    (tmp_path / "samples.jsonl").write_text("".join(s.model_dump_json() + "\n" for s in samples))
    return str(tmp_path / "reader"), str(tmp_path / "samples.jsonl")


def test_evaluate_measures_and_shows_evidence(exam: tuple[str, str], tmp_path: Path) -> None:
    place = tmp_path / "out"
    done = CliRunner().invoke(app, ["evaluate", *exam, "--evidence", "3", "--probes", "blank", "--out", str(place)])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "deletion sensitivity of the patch features" in done.output and "expected, ratio" in done.output
    found = json.loads((place / "exam" / "summary.json").read_text())["evidence"]
    assert found["n"] == 3 and found["pointing"]["n"] == 3
    assert found["pointing"]["sensitivity"]["expected"] == pytest.approx(1 / 3)
    rows = [json.loads(x) for x in (place / "exam" / "evidence.jsonl").read_text().splitlines()]
    assert [r["num_patches"] for r in rows] == [18] * 3 and {r["answer"] for r in rows} == {"tumour glands"}
    for row in rows:
        assert row["num_slide_tokens"] == 19
        assert row["deletion"]["num_removed"] == [1, 2, 4, 7] and row["deletion"]["full"] == row["logprob"] > -3
        assert (place / "exam" / "evidence" / row["map"]["geojson"]).is_file()
    manifest = json.loads((place / "exam" / "manifest.json").read_text())
    assert "evidence.jsonl" in manifest["parts"] and f"evidence/{rows[0]['id']}.png" in manifest["parts"]
