"""The commands that are tried, on material made once: small enough that a try takes a second or some."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from tests.reliability.kill import Verb, again
from tests.support.slide_files import write_slide
from tests.support.toys import toy_samples, toy_table

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


FURTHER = {"documents", "curate", "clip", "evaluate server"}
CLIP = {
    "data": {"source": "phantom", "train_cases": 6, "valid_cases": 0, "test_cases": 6, "tiles_per_case": 1,
             "tile_px": 64},
    "train": {"save_every": 2},
    "stages": {"clip": {
        "model": {"image_px": 16, "dim": 8, "vision": {"layers": 1, "width": 16, "heads": 2, "patch_size": 8},
                  "text": {"layers": 1, "width": 16, "heads": 2}},
        "steps": 4, "batch_size": 4, "clip_exam": {"few_shot": {"shots": [1], "num_subsets": 2}},
    }},
}  # fmt: skip


def material(folder: Path, wanted: set[str], stack: ExitStack) -> list[Verb]:
    """Make the inputs of the verbs, and say how each is called.

    Args:
        wanted: names of verbs; empty: all.
        stack: ends the server that answers one of them.
    """
    found = [] if wanted and wanted <= FURTHER else local(folder)
    return found + (further(folder, stack) if not wanted or wanted & FURTHER else [])


def further(folder: Path, stack: ExitStack) -> list[Verb]:
    """Documents, a curation, a CLIP run, and an exam of a model behind a server of another process."""
    code, said = again(Verb("material", ["phantom", "documents", str(folder / "papers"), "--num", "1"], ()), folder)
    if code:
        raise SystemExit(f"the documents could not be made: {said[-2000:]}")
    (folder / "clip.yaml").write_text(yaml.safe_dump(CLIP, sort_keys=False), "utf-8")
    dedupe = {"near_image": False, "near_text": None}  # toys look and read alike
    steps = [{"filter": {"min_side_px": 32}}, {"dedupe": dedupe}, {"split": {"valid": 0.2, "test": 0.2}}]
    told = {"data": {"source": "samples", "path": str(folder / "samples.jsonl")}, "shard_samples": 8, "steps": steps}
    (folder / "curate.yaml").write_text(yaml.safe_dump(told, sort_keys=False), "utf-8")
    (folder / "samples.jsonl").write_text("".join(s.model_dump_json() + "\n" for s in toy_samples(30, None)), "utf-8")
    server = subprocess.Popen([sys.executable, "-m", "tests.reliability.server"], stdout=subprocess.PIPE, text=True)
    stack.callback(server.wait)
    stack.callback(server.kill)
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    return [
        Verb("documents", ["documents", str(folder / "papers"), "--out", "OUT/figures", "--no-previews"], ["figures"]),
        Verb("curate", ["curate", str(folder / "curate.yaml"), "--out", "OUT/data"], ["data"]),
        Verb("clip", ["run", str(folder / "clip.yaml"), "--out", "OUT/run"], ["run"]),
        Verb("evaluate server", ["evaluate", address, str(folder / "samples.jsonl"), "--model", "scripted", "--out",
                                 "OUT/eval", "--max-samples", "8", "--probes", "blank", "--in-flight", "1"], ["eval"]),
    ]  # fmt: skip


def local(folder: Path) -> list[Verb]:
    """What needs no server."""
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
    start = {**recipe(folder), "stages": {"sft": {"steps": 2, "learning_rate": 6e-3, "exam": False}}, "exams": {}}
    (folder / "start.yaml").write_text(yaml.safe_dump(start, sort_keys=False), "utf-8")
    features = ["slides", "features", str(folder / "slides"), "--min-tissue", "0.2", "--readers", "0"]
    for argv in (["run", str(folder / "start.yaml"), "--out", "OUT/run"], [*features, "--out", "OUT/features"]):
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
