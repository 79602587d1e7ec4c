"""Two processes (gloo) train as one with the same global batch: equal losses over 20 steps of every kind of stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support import forked
from tests.support.toys import toy_table

from eosin.core.store import artifacts as store

ROOT = Path(__file__).resolve().parents[2]
STEPS = 20
KINDS = ("pretrain", "sft", "masked", "rl", "clip")


def recipe(folder: Path, processes: int) -> dict[str, Any]:
    """All stages from the warmed-up tower, so that each is compared for itself."""
    each = 8 // processes
    shared = {"steps": STEPS, "start": "warmup", "learning_rate": 1e-3, "batch_size": each, "save_every": 1000,
              "exam": False}  # fmt: skip
    tower = {"layers": 1, "width": 16, "heads": 2}
    return {
        "data": {"source": "table", "name": "toy", "root": str(folder / "tiles"), "label_column": "label",
                 "group_column": "slide", "hold_out": {"slide": ["s2"]}, "valid_fraction": 0.0,
                 "descriptions": {c: [f"First look. The field is {c}. It is even."] for c in ("red", "green", "blue")}},
        "numbered_steps": True,
        "prompt": {"instruction": False, "answer": "text"},
        "model": {"kind": "tiny", "image_px": 56, "vocab_size": 400,
                  "vision": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
                  "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 1, "num_heads": 2,
                           "num_kv_heads": 1}},
        "train": {"log_every": 1, "keep": "last"},
        "stages": {
            "warmup": {"steps": STEPS, "batch_size": 8, "exam": False},
            "pretrain": shared,
            "sft": {**shared, "gradient_accumulation": 2, "batch_size": each // 2},
            "masked": {**shared, "kind": "sft", "trajectory": {"max_variants": 2}},
            "rl": {**shared, "num_generations": 4, "max_new_tokens": 6, "learning_rate": 1e-4,
                   "algorithm": {"name": "dapo", "mask_truncated": False}, "collapse": None,
                   "rewards": [{"name": "tests.support.rewards:hears", "label": "heard", "weight": 1.0}]},
            "clip": {"kind": "clip", "steps": STEPS, "batch_size": each, "exam": False, "log_every": 1,
                     "learning_rate": 1e-3, "keep": "last",
                     "model": {"kind": "tiny", "image_px": 16, "dim": 8, "context_length": 12,
                               "vision": {**tower, "patch_size": 8}, "text": tower}},
        },
        "base_exam": False,
        "report": {"curves": False},
        "exams": {},
    }  # fmt: skip


def run(folder: Path, processes: int) -> Path:
    """The folder of a whole run through the command line."""
    path, out = folder / f"on-{processes}.yaml", folder / f"on-{processes}"
    path.write_text(yaml.safe_dump(recipe(folder, processes), sort_keys=False), "utf-8")
    done = forked.ranks(processes, [*forked.EOSIN, "run", path, "--out", out], cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("equal")
    toy_table(folder / "tiles", num=60)
    return run(folder, 1), run(folder, 2)


def rows_of(out: Path, stage: str) -> list[dict[str, Any]]:
    return [r for r in store.read_jsonl(out / "stages" / stage / "metrics.jsonl") if "loss" in r]


@pytest.mark.parametrize("stage", KINDS)
def test_losses_are_those_of_one_process(stage: str, both: tuple[Path, Path]) -> None:
    one, two = (rows_of(out, stage) for out in both)
    assert [r["step"] for r in one] == [r["step"] for r in two] == list(range(1, STEPS + 1))
    assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in one], abs=1e-5)
    assert len({round(r["loss"], 6) for r in one}) > 2  # something is trained
    for name in ("reward", "completion_length", "groups_kept", "num_tokens", "grad_norm"):
        if stage == "rl" and name == "num_tokens":  # counts what was drawn: two processes may draw more than is missing
            continue
        if name in one[0] and not (stage == "clip" and name == "grad_norm"):
            assert [r[name] for r in two] == pytest.approx([r[name] for r in one], rel=1e-3, abs=1e-5), name


def test_the_warm_up_is_one_process_s(both: tuple[Path, Path]) -> None:
    one, two = (rows_of(out, "warmup") for out in both)
    assert [r["loss"] for r in two] == [r["loss"] for r in one] and one
