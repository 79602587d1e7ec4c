"""A composed reasoner through the command line: its eyes, its projector alone, its language; and how it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from tests.support.composed import write_language
from tests.support.toys import toy_table
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.nouns.prompt import asked_otherwise
from eosin.core.nouns.sample import ImagePart, Message, TextPart
from eosin.core.store import artifacts as store

EYES = {"name": "small", "input_px": 56, "small": {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 14}}


def recipe(language: Path, tiles: Path) -> dict[str, Any]:
    exam = {"max_new_tokens": 4, "probes": [], "bootstrap": 100, "baselines": ["majority"], "max_samples": 6}
    stage = {"steps": 2, "batch_size": 2, "learning_rate": 1e-3, "log_every": 1, "exam": False}
    return {
        "data": {"source": "table", "name": "toy", "root": str(tiles), "label_column": "label",
                 "group_column": "slide", "hold_out": {"slide": ["s2"]}},
        "model": {"kind": "composed", "language": str(language), "eyes": EYES, "projector": {"tokens": 4}},
        "stages": {
            "warmup": {"steps": 2, "batch_size": 4, "freeze_first": 0.5},
            "projector": {"kind": "pretrain", **stage, "freeze": ["vision", "language"]},
            "sft": {**stage, "freeze": ["vision"], "exam": True,
                    "lora": {"r": 2, "alpha": 4, "whole": ["multi_modal_projector"]}},
        },
        "base_exam": False,
        "exams": {
            "heldout": exam,
            "worded": {**exam, "questions": ["What do you see?", "Name the tissue."], "prompt": "chain-of-draft",
                       "earlier_turns": [["Is this a tile?", "Yes."]]},
        },
    }  # fmt: skip


def test_stages_train_what_they_say(tmp_path: Path) -> None:
    tiles = tmp_path / "tiles"
    toy_table(tiles, num=24)
    file, out = tmp_path / "composed.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(recipe(write_language(tmp_path / "language"), tiles), sort_keys=False), "utf-8")
    result = CliRunner().invoke(app, ["run", str(file), "--out", str(out)])
    assert result.exit_code == 0, result.output
    places = {"base": "base", "warmup": "stages/warmup/checkpoint", "projector": "stages/projector/checkpoint"}
    at = {name: load_file(str(out / place / "model.safetensors")) for name, place in places.items()}
    moved = {
        after: {part_of(n) for n, value in at[after].items() if not torch.equal(value, at[before][n])}
        for before, after in (("base", "warmup"), ("warmup", "projector"))
    }
    assert moved == {"warmup": {"eyes, later", "projector"}, "projector": {"projector"}}
    kept = load_file(str(out / "stages" / "sft" / "checkpoint" / "adapter_model.safetensors"))
    whole = {n: v for n, v in kept.items() if "multi_modal_projector" in n}
    assert whole and all("lora" not in n for n in whole)
    before = {n.split("projector.")[-1]: v for n, v in at["projector"].items() if "multi_modal_projector" in n}
    assert any(not torch.equal(v, before[n.split("projector.")[-1]]) for n, v in whole.items())
    asked = {name: questions(out / "evals" / "sft" / name) for name in ("heldout", "worded")}
    assert asked["worded"] <= {"What do you see?", "Name the tissue."}
    assert not asked["worded"] & asked["heldout"]


def questions(exam: Path) -> set[str]:
    return {row["question"] for row in store.read_jsonl(exam / "predictions.jsonl")}


def part_of(name: str) -> str:
    if "multi_modal_projector" in name:
        return "projector"
    if "vision_tower" in name:
        early = any(e in name for e in ("embeddings", "attention"))  # six of twelve layers, as they are built
        return "eyes, early" if early else "eyes, later"
    return "language"


def test_the_same_item_in_other_words() -> None:
    from tests.support.toys import toy_samples

    sample = toy_samples(1, "test")[0]
    other = asked_otherwise(sample, ["Name it."], [("Is this a tile?", "Yes.")], seed=0)
    image = ImagePart(index=0)
    assert other.messages == (
        Message(role="user", parts=(image, TextPart(text="Is this a tile?"))),
        Message(role="assistant", parts=(TextPart(text="Yes."),)),
        Message(role="user", parts=(TextPart(text="Name it."),)),
    )
    assert (other.choices, other.answer, other.images) == (sample.choices, sample.answer, sample.images)
    worded = {asked_otherwise(s, ["a", "b"], [], 0).messages[-1].text for s in toy_samples(12, "test")}
    assert worded == {"a", "b"}
    kept = asked_otherwise(sample, None, [("Is this a tile?", "Yes.")], seed=0)
    assert kept.messages[-1].text == sample.messages[-1].text
