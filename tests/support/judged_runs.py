"""Tiny runs whose rewards or exams ask a judge, through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tests.support.toys import toy_table
from typer.testing import CliRunner

from eosin.cli.main import app

# A policy of random weights says nothing that a judge would be asked about; what it says is replaced by this.
REPLY = (
    "<think>I see glands, one after another. {words} Blue is ruled out by the colour. This is a hallmark.</think>"
    "<answer>{answer}</answer>"
)


def judged_recipe(folder: Path, judge: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    """A recipe of one small RL stage on toy tiles. `changes` are fields of the stage; `exams`, `scoring`, ... replace
    fields of the recipe."""
    if not (folder / "tiles").is_dir():
        toy_table(folder / "tiles", num=36)
    outer = {k: changes.pop(k) for k in ("exams", "scoring", "base_exam") if k in changes}
    stage = {
        "kind": "rl", "steps": 3, "batch_size": 8, "num_generations": 4, "max_new_tokens": 24, "exam": False,
        "log_every": 1, "save_every": 1, "rewards": "pathvlm-r1", "collapse": None, "learning_rate": 1e-4,
    }  # fmt: skip
    return {
        "data": {"source": "table", "name": "toy", "root": str(folder / "tiles"), "label_column": "label",
                 "group_column": "slide", "hold_out": {"slide": ["s2"]}, "hold_out_valid": {"slide": ["s4"]}},
        "prompt": {"instruction": False, "answer": "letter and text"},
        "model": {"kind": "tiny", "image_px": 56, "vocab_size": 400,
                  "vision": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
                  "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 1, "num_heads": 2,
                           "num_kv_heads": 1}},
        "stages": {"rl": {**stage, **changes}},
        "base_exam": False,
        "exams": {},
        **({"scoring": {"judge": judge}} if judge is not None else {}),
        **outer,
    }  # fmt: skip


def judge_at(url: str, **more: Any) -> dict[str, Any]:
    """Settings of a stub judge that fails fast."""
    return {"url": url, "model": "stub", "retries": 0, "backoff_s": 0.01, "timeout_s": 5.0, **more}


def run_recipe_file(recipe: dict[str, Any], folder: Path, out: str = "run", *more: str) -> Any:
    """`eosin run` on a recipe, in this process."""
    path = folder / "judged.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    return CliRunner().invoke(app, ["run", str(path), "--out", str(folder / out), *more])
