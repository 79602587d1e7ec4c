"""The commands that are tried, on material made once: small enough that a try takes a second or some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.reliability.kill import Verb, again
from tests.support.slide_files import write_slide
from tests.support.toys import toy_table

OBO = "format-version: 1.2\n\n[Term]\nid: X:1\nname: necrosis\n\n[Term]\nid: X:2\nname: tissue\nis_a: X:1 ! n\n"


def recipe(folder: Path) -> dict[str, Any]:
    """All kinds of stages, exams, a report: every file that a run writes."""
    return {
        "data": {
            "source": "table", "name": "toy", "root": str(folder / "tiles"), "label_column": "label",
            "group_column": "slide", "hold_out": {"slide": ["s2"]}, "hold_out_valid": {"slide": ["s4"]},
            "descriptions": {c: [f"The field is {c}."] for c in ("red", "green", "blue")},
        },
        "prompt": {"instruction": False, "answer": "text"},
        "model": {
            "kind": "tiny", "image_px": 56, "vocab_size": 400,
            "vision": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
            "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1},
        },
        "train": {"batch_size": 8, "log_every": 2, "save_every": 2},
        "stages": {
            "warmup": {"epochs": 1, "batch_size": 16, "augment": True},
            "sft": {"steps": 4, "learning_rate": 6e-3, "augment": True, "exam": False},
            "rl": {"steps": 4, "num_generations": 4, "max_new_tokens": 8, "updates_per_batch": 2},
        },
        "base_exam": False,
        "report": {"curves": False},
        "exams": {"heldout": {"max_new_tokens": 8, "probes": ["blank"], "bootstrap": 100, "batch_size": 4}},
    }  # fmt: skip


def material(folder: Path) -> list[Verb]:
    """Make the inputs of all verbs, and say how each is called."""
    toy_table(folder / "tiles", num=36)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe(folder), sort_keys=False), "utf-8")
    (folder / "slides").mkdir()
    for i in range(2):
        write_slide(folder / "slides" / f"s{i}.tiff", 512, seed=i)
    (folder / "small.obo").write_text(OBO, "utf-8")
    replies = [{"id": str(i), "reply": "<think>x</think><answer>A</answer>", "choices": {"A": "a", "B": "b"},
                "answer": "A"} for i in range(40)]  # fmt: skip
    (folder / "replies.jsonl").write_text("".join(json.dumps(r) + "\n" for r in replies), "utf-8")
    made = folder / "made"
    made.mkdir()
    features = ["slides", "features", str(folder / "slides"), "--min-tissue", "0.2", "--readers", "0"]
    for argv in (["run", str(folder / "tiny.yaml"), "--out", "OUT/run"], [*features, "--out", "OUT/features"]):
        code, said = again(Verb("material", argv, ()), made)
        if code:
            raise SystemExit(f"the material could not be made: {said[-2000:]}")
    checkpoint, samples = str(made / "run" / "stages" / "sft" / "checkpoint"), str(made / "run" / "samples")
    return [
        Verb("run", ["run", str(folder / "tiny.yaml"), "--out", "OUT/run"], ["run"]),
        Verb("evaluate", ["evaluate", checkpoint, samples, "--out", "OUT/eval", "--max-new-tokens", "8",
                          "--max-samples", "6", "--probes", "blank", "--batch-size", "2"], ["eval"]),
        Verb("rl-data", ["rl-data", checkpoint, samples, "--out", "OUT/rates", "-n", "2", "--max-new-tokens", "8",
                         "--max-samples", "6", "--batch-size", "2"], ["rates"]),
        Verb("slides features", [*features, "--out", "OUT/features"], ["features"]),
        Verb("slides tiles", ["slides", "tiles", str(folder / "slides"), "--out", "OUT/tiles", "--min-tissue", "0.2"],
             ["tiles"]),
        Verb("knowledge build", ["knowledge", "build", "OUT/graph", "--source", f"obo:{folder / 'small.obo'}"],
             ["graph"], once=True),
        Verb("phantom tiles", ["phantom", "tiles", "OUT/tiles", "--cases", "2"], ["tiles"], once=True),
        Verb("score", ["score", str(folder / "replies.jsonl"), "--reward", "accuracy", "--out", "OUT/scores.jsonl"],
             ["scores.jsonl"], once=True),
    ]  # fmt: skip
