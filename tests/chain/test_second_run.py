"""A second `eosin run` that learns from corrections: both stages see them, and the report says so."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import yaml
from tests.chain.test_run import TINY, eosin
from tests.support.toys import toy_table

from eosin.core.nouns.sample import ImageFile
from eosin.core.store import artifacts as store
from eosin.serve.corrections.body import CorrectedStatement, Correction
from eosin.serve.corrections.store import CorrectionStore

REPLY = "<think>The field is blue.</think>\n<answer>blue</answer>"


def corrected(path: Path, tiles: list[Path]) -> None:
    """Signed corrections of readings that called every tile blue."""
    made = CorrectionStore(path)
    for tile in tiles:
        id, answer = uuid.uuid4().hex, "red"
        reading: dict[str, Any] = {
            "id": id, "slide": "a" * 16, "slide_name": tile.stem, "question": "What is shown?", "created": 1.0,
            "options": ["red", "green", "blue"], "reply": REPLY, "answer": "blue", "statements": [],
        }  # fmt: skip
        made.add_reading(reading, ImageFile(path=str(tile)).model_dump_json())
        said = [CorrectedStatement(id="s1", block="reasoning", text=f"The field is {answer}.", state="edited")]
        made.add(id, Correction(key=id, reader="AB", answer=answer, statements=said, is_signed=True))
    made.close()


def test_a_run_with_corrections_learns_from_them_and_says_so(tmp_path: Path) -> None:
    toy_table(tmp_path / "tiles", num=45)
    shown = [tmp_path / "tiles" / f"tile_{k:03}.png" for k in (0, 15, 30)]  # red ones of slide s0, which trains
    corrected(tmp_path / "c.sqlite", shown)
    settings = {
        **TINY,
        "data": {**TINY["data"], "root": str(tmp_path / "tiles")},  # type: ignore[dict-item]
        "corrections": {"path": str(tmp_path / "c.sqlite"), "weight": 2},
        "stages": {
            "sft": {"steps": 2, "learning_rate": 6e-3, "exam": False},
            "dpo": {"steps": 2, "learning_rate": 1e-3, "batch_size": 3, "sources": ["corrections"], "log_every": 1},
        },
        "exams": {"heldout": {"max_new_tokens": 8, "probe_samples": 1, "bootstrap": 100}},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    done = eosin("run", tmp_path / "toy.yaml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "corrections: 3 corrected readings (AB 3)" in done.stderr
    record = store.read_object(tmp_path / "run" / "stages" / "dpo" / "stage.json")
    assert record["pairs"]["n"] == 6 and record["kind"] == "dpo"  # three, each shown twice
    assert 0 <= record["pairs"]["rewards"]["accuracies"] <= 1
    page = (tmp_path / "run" / "report" / "index.html").read_text("utf-8")
    assert "3 corrected readings (AB 3), 3 of them with the reply that was put right; each shown 2 times" in page
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [s["name"] for s in summary["stages"]] == ["sft", "dpo"]
