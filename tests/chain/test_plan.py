"""`eosin plan`: parameters as published, memory as measured, refusals with what would fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from eosin.chain.plan.gpus import GPUS, machine_of
from eosin.chain.plan.memory import bytes_of, memory_of, trained
from eosin.chain.plan.plan import plan_recipe
from eosin.chain.plan.shapes import KNOWN, shape_of
from eosin.chain.plan.workload import Assumed, Work
from eosin.chain.recipe.run import shipped_recipes
from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.settings.launch import Launch
from eosin.core.settings.model import HubModel, TinyModel
from eosin.core.settings.recipe import Recipe, load_recipe
from eosin.core.settings.stages import Lora, SftStage
from eosin.models.load import freeze as freeze_model
from eosin.models.tiny import build_tiny
from eosin.train.muon import muon_of

ROOT = Path(__file__).resolve().parents[2]
# Billions, from the models' cards: what is in their safetensors files.
PUBLISHED = {
    "Qwen/Qwen2.5-VL-3B-Instruct": 3.75, "Qwen/Qwen2.5-VL-7B-Instruct": 8.29, "Qwen/Qwen2.5-VL-32B-Instruct": 33.5,
    "Qwen/Qwen2.5-VL-72B-Instruct": 73.4, "Qwen/Qwen3-VL-2B-Instruct": 2.13, "Qwen/Qwen3-VL-4B-Instruct": 4.44,
    "Qwen/Qwen3-VL-8B-Instruct": 8.77, "Qwen/Qwen3-VL-32B-Instruct": 33.4, "Qwen/Qwen2.5-0.5B-Instruct": 0.494,
    "Qwen/Qwen2.5-7B-Instruct": 7.62, "smollm2-135m": 0.1345,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_are_as_published(name: str) -> None:
    assert KNOWN[name].parameters / 1e9 == pytest.approx(PUBLISHED[name], rel=0.01)


def test_bytes_of_a_parameter() -> None:
    alone, copies = bytes_of(Launch(), 1), bytes_of(Launch.model_validate("processes:8"), 8)
    assert (alone.weights, alone.gradients, alone.optimiser) == (2, 2, 4)
    assert copies.gradients == 4  # DDP's buckets hold each gradient again
    zero2, zero3 = (bytes_of(Launch.model_validate(n), 8) for n in ("zero2-7b", "zero3-7b"))
    assert (zero2.weights, zero2.optimiser) == (2, 12 / 8)
    assert (zero3.weights, zero3.gradients, zero3.optimiser) == (2 / 8, 2 / 8, 12 / 8)
    assert bytes_of(Launch.model_validate("fsdp-7b"), 4).optimiser == 8 / 4


def test_an_adapter_trains_alone_and_in_fp32() -> None:
    shape = KNOWN["Qwen/Qwen2.5-7B-Instruct"]
    counts = trained(SftStage(lora=Lora(r=16)), shape)
    # 28 layers of rank 16: q and o 2 x (3584 + 3584), k and v 2 x (3584 + 512), the MLP 3 x (3584 + 18944)
    assert counts.adapters == 28 * 16 * (4 * 3584 + 2 * 4096 + 3 * 22_528)
    assert counts.own == 0
    work = Work(10, 1, 1, 1, 0, 0, 0, 100, 20)
    memory = memory_of(SftStage(lora=Lora(r=16)), shape, work, Launch(), 1)
    assert memory.parts["optimiser"] == 8 * counts.adapters


@pytest.mark.parametrize("freeze", [[], ["vision"], ["language"]])
def test_muon_keeps_one_moment_of_a_matrix(freeze: list[str]) -> None:
    settings = TinyModel.model_validate(SMALL)
    model, _ = build_tiny(["tissue of the colon"], settings, seed=0)
    freeze_model(model, set(freeze))
    stage, plain = (SftStage.model_validate({"freeze": freeze, "optimizer": o}) for o in ("muon", "adamw"))
    shape, work = shape_of(settings), Work(10, 1, 1, 1, 0, 0, 0, 100, 20)
    planned, twice = (memory_of(s, shape, work, Launch(), 1, on_cpu=True).parts["optimiser"] for s in (stage, plain))
    optimizer = muon_of(model, lr=1e-3, weight_decay=0.0)
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    optimizer.step()
    kept = sum(t.nbytes for state in optimizer.state.values() for t in state.values() if t.ndim)
    words = (shape.text.vocab - model.config.text_config.vocab_size) * shape.text.hidden * 8  # fewer learned
    assert planned == pytest.approx(kept + (0 if "language" in freeze else words), rel=0.1) and planned < 0.75 * twice


SMALL = {"image_px": 112, "vocab_size": 512,
         "vision": {"depth": 4, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4},
         "text": {"hidden_size": 192, "intermediate_size": 512, "num_layers": 4, "num_heads": 4,
                  "num_kv_heads": 2}}  # fmt: skip
CASES: list[dict[str, Any]] = [
    # 20 M parameters and few tokens; then few parameters and many tokens, also with checkpointing
    {"model": {"image_px": 56, "vocab_size": 512,
               "vision": {"depth": 2, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4},
               "text": {"hidden_size": 512, "intermediate_size": 1536, "num_layers": 6, "num_heads": 8,
                        "num_kv_heads": 2}}, "stage": {"batch_size": 2}},
    {"model": SMALL, "stage": {"batch_size": 16, "gradient_checkpointing": True}},
    {"model": SMALL, "stage": {"batch_size": 16}},
]  # fmt: skip


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of parts of a process are Linux's")
def test_memory_is_within_20_percent_of_measured_steps(tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text(json.dumps(CASES), "utf-8")
    command = [sys.executable, "-m", "tests.support.peak_of_steps", str(tmp_path / "cases.json"), str(tmp_path / "out")]
    # What is freed goes back at once: resident memory is then what lives, as in an allocator that uses it again.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for case, found in zip(CASES, json.loads((tmp_path / "out").read_text("utf-8")), strict=True):
        shape, stage = shape_of(TinyModel.model_validate(case["model"])), SftStage.model_validate(case["stage"])
        assert shape.parameters == pytest.approx(found["parameters"], rel=0.02)  # the tokenizer learns fewer words
        rows = stage.batch_size
        work = Work(16, 2, rows, 1, 0, found["patches"] // rows, 0, found["tokens"], 0)
        memory = memory_of(stage, shape, work, Launch(), 1, on_cpu=True)
        assert memory.peak == pytest.approx(found["bytes"], rel=0.2), (memory.gib(), found)


@pytest.mark.parametrize(("text", "num"), [("8xH100", 8), ("h200", 1), ("4 X a100", 4)])
def test_machines_by_name(text: str, num: int) -> None:
    machine = machine_of(text, nodes=2)
    assert machine.num == 2 * num and machine.gpu in GPUS.values()


@pytest.mark.parametrize("text", ["8xV100", "H100x8", "", "0xH100", "-1xH100"])
def test_machines_that_are_not_known_are_refused(text: str) -> None:
    with pytest.raises(EosinError, match="not known"):
        machine_of(text)


def test_what_does_not_fit_is_refused_and_what_would_fit_does() -> None:
    recipe = shipped_recipes()["patho-r1"]
    said = CliRunner().invoke(app, ["plan", str(recipe), "--gpus", "8xH100", "--samples", "sft=500000"])
    assert isinstance(said.exception, EosinError) and "do not fit" in str(said.exception)
    plans = plan_recipe(load_recipe(recipe).recipe, machine_of("8xH100"), Assumed())
    sft = next(p for p in plans if p.name == "sft")
    assert not sft.fits and sft.remedies
    for remedy in sft.remedies:
        words = remedy.split()
        launch = [f"launch={words[words.index('--launch') + 1]}"] if "--launch" in words else []
        changed = load_recipe(recipe, [*launch, *(w for w in words if w.startswith("stages."))]).recipe
        again = next(p for p in plan_recipe(changed, machine_of("8xH100"), Assumed()) if p.name == "sft")
        assert again.fits, remedy


def test_time_follows_from_samples_and_cards() -> None:
    recipe = load_recipe(shipped_recipes()["patho-r1"]).recipe
    one, eight = (
        plan_recipe(recipe, machine_of(g), Assumed(samples=(("sft", 512_000),)))[1] for g in ("H100", "8xH100")
    )
    assert one.work.steps == 512_000 // 64 and eight.work.steps == 512_000 // 64 // 8
    assert one.seconds == pytest.approx(8 * eight.seconds)
    assert eight.tokens_per_second == pytest.approx(8 * one.tokens_per_second)


def test_a_small_model_waits_for_its_kernels() -> None:
    """Arithmetic alone would make the demo's SFT step 0.3 ms on an H100; 7 layers are started, forward and backward."""
    plans = {p.name: p for p in plan_recipe(load_recipe(shipped_recipes()["demo"]).recipe, machine_of("H100"))}
    assert plans["sft"].step.seconds == pytest.approx(3 * 7 * 60 / 28 / 1000, rel=1e-6)
    assert plans["warmup"].step.seconds == pytest.approx(3 * 4 * 60 / 28 / 1000, rel=1e-6)


def test_a_grpo_step_takes_what_was_measured_on_an_h100() -> None:
    """docs/benchmarks.md: prompt 1,024, completion 128, G 8, LoRA, checkpointing: 9.63 s a step."""
    rl = {"lora": {}, "gradient_checkpointing": True, "batch_size": 8, "num_generations": 8, "steps": 1,
          "max_new_tokens": 128, "algorithm": {"name": "grpo", "beta": 0.0}, "freeze": ["vision"]}  # fmt: skip
    recipe = Recipe.model_validate({"model": {"kind": "hub"}, "stages": {"rl": rl}})
    [plan] = plan_recipe(recipe, machine_of("H100"), Assumed(image_px=896, prompt_tokens=30))
    assert plan.work.prompt == 1024 + 30
    assert plan.step.seconds == pytest.approx(9.63, rel=0.2)
    assert plan.memory.peak_gib == pytest.approx(17.2, rel=0.2)


def test_a_model_that_nobody_knows_is_refused_and_a_local_config_is_read(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="shape of this model is not known"):
        shape_of(HubModel(name="nobody/nothing"))
    config = {"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
              "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936,
              "tie_word_embeddings": True}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert shape_of(HubModel(name=str(tmp_path))).parameters == KNOWN["Qwen/Qwen2.5-0.5B-Instruct"].parameters


@pytest.mark.parametrize("launch", ["local", "zero3-32b:8"])
@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_planned(name: str, launch: str) -> None:
    recipe = load_recipe(shipped_recipes()[name], [f"launch={launch}"]).recipe
    for machine in (machine_of("H100"), machine_of("8xH100"), machine_of("8xH100", nodes=4)):
        for plan in plan_recipe(recipe, machine, Assumed()):
            assert plan.seconds > 0 and plan.memory.peak > 0
            assert plan.fits or plan.remedies


@pytest.mark.parametrize("nodes", [1, 4])
@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_fits_on_8_gpus_of_80_gb_and_on_4_nodes_of_them(name: str, nodes: int) -> None:
    recipe = load_recipe(shipped_recipes()[name], ["launch=zero2-7b:8"]).recipe
    plans = plan_recipe(recipe, machine_of("8xH100", nodes), Assumed())
    assert [(p.name, p.memory.peak_gib) for p in plans if not p.fits] == []
