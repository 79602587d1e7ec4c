"""The papers' recipes, end to end on data in the papers' own formats, with a very small base in the big one's place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.judge_stub import running_stub
from tests.support.masked_slides import slide_sample
from tests.support.paper_data import pathmmu_file, patho_files
from tests.support.tiny_encoder import write_encoder
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.settings.recipe import load_recipe
from eosin.core.store import artifacts as store

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TINY = (
    "{kind: tiny, image_px: 56, vocab_size: 420, "
    "vision: {depth: 1, hidden_size: 32, intermediate_size: 64, num_heads: 2},"
    " text: {hidden_size: 48, intermediate_size: 96, num_layers: 1, num_heads: 2, num_kv_heads: 1}}"
)
SMALL = ["train.gradient_checkpointing=false", "exams.heldout={max_new_tokens: 6, probes: [], bootstrap: 100}",
         "base_exam=false", "report.curves=false"]  # fmt: skip


def short(recipe: str, *, tokens: int = 6) -> list[str]:
    """Overrides that make every stage of a recipe one or two steps long."""
    settings = load_recipe(RECIPES / f"{recipe}.yaml").recipe.stages
    found = []
    for name, stage in settings.items():
        found += [f"stages.{name}.steps=1", f"stages.{name}.log_every=1", f"stages.{name}.gradient_accumulation=1"]
        if stage.kind == "rl":
            found += [f"stages.{name}.max_new_tokens={tokens}", f"stages.{name}.batch_size=4",
                      f"stages.{name}.num_generations=2", f"stages.{name}.collapse=null"]  # fmt: skip
        else:
            found.append(f"stages.{name}.batch_size=2")
    return found


def run(recipe: str, out: Path, *overrides: str) -> dict[str, dict[str, object]]:
    """stage.json of every stage."""
    done = CliRunner().invoke(app, ["run", str(RECIPES / f"{recipe}.yaml"), *overrides, "--out", str(out)])
    assert done.exit_code == 0, (done.exception, done.output[-2000:])
    assert store.read_json(out / "summary.json")["state"] == "complete"
    assert (out / "report" / "index.html").is_file()
    return {p.parent.name: store.read_object(p) for p in sorted(out.glob("stages/*/stage.json"))}


def test_pathvlm_r1(tmp_path: Path) -> None:
    path = pathmmu_file(tmp_path / "pathmmu")
    no_exam = [f"stages.{n}.exam=false" for n in ("sft", "more-sft", "sft-1000", "grpo-from-base")]
    with running_stub() as judge:
        scoring = f"{{judge: {{url: '{judge.url}', model: stub, answers_as: any, prices: {{input: 1, output: 1}}}}}}"
        stages = run(
            "pathvlm-r1", tmp_path / "run", f"model={TINY}", *SMALL, *short("pathvlm-r1"), *no_exam,
            f"data.path={path}", f"data.images={path.parent / 'images'}", f"scoring={scoring}",
        )  # fmt: skip
    pictures = [p for r in judge.requests for p in r["messages"][1]["content"] if p["type"] == "image_url"]
    assert len(pictures) == len(judge.requests) > 1  # the judge of the process reward sees the image, each time
    record: Any = stages["grpo-process"]
    asked = record["judge"]
    assert asked["failures"] == 0 and asked["calls"] + asked["cache_hits"] > 0, asked
    assert record["rewards"]["label"] == "pathvlm-r1" and record["rewards_changed"] == []
    assert "judge" not in stages["grpo"]  # its terms need none
    starts = {n: s["start"] for n, s in stages.items()}
    assert starts == {"sft": "base", "grpo": "sft", "grpo-process": "grpo", "more-sft": "sft", "sft-1000": "base",
                      "grpo-from-base": "base"}  # fmt: skip
    assert stages["grpo"]["algorithm"] == stages["grpo-from-base"]["algorithm"] == "GRPO"
    terms = {n: [t["name"] for t in stages[n]["rewards"]["terms"]] for n in ("grpo", "grpo-process")}  # type: ignore[index]
    assert terms == {"grpo": ["format", "accuracy"], "grpo-process": ["format", "accuracy", "process"]}
    card = store.read_json(tmp_path / "run" / "samples" / "card.json")
    assert card["split_unit"] == "case" and card["counts"]["test"] > 0  # no picture in two splits


def test_patho_r1(tmp_path: Path) -> None:
    pairs, cot, questions = patho_files(tmp_path / "data")
    stages = run(
        "patho-r1", tmp_path / "run", f"model={TINY}", *SMALL, *short("patho-r1"), f"data.path={pairs}",
        f"data.also=[{cot}, {questions}]", "data.test_fraction=0.0", "think_style=chain-of-draft",
    )  # fmt: skip
    starts = {n: s["start"] for n, s in stages.items()}
    assert starts == {"pretrain": "base", "sft": "pretrain", "grpo": "sft", "dapo": "sft"}
    assert stages["dapo"]["algorithm"] == "DAPO+{overlong_buffer=0.0}"
    labels = {n: stages[n]["rewards"]["label"] for n in ("grpo", "dapo")}  # type: ignore[index]
    assert labels == {"grpo": "patho-r1-grpo", "dapo": "patho-r1-dapo"}
    rollouts = store.read_jsonl(tmp_path / "run" / "stages" / "grpo" / "rollouts.jsonl")
    assert {r["sample_id"].split("-")[0] for r in rollouts} == {"q"}  # the questions of the RL set alone
    shown = store.read_object(tmp_path / "run" / "stages" / "sft" / "checkpoint" / "manifest.json")
    assert shown["grammar"]["think_style"] == "chain-of-draft"


def slide_files(folder: Path, num: int = 12) -> Path:
    """Feature files, and the conversations about them as PathReasoner writes them."""
    folder.mkdir()
    rows = []
    for i in range(num):
        sample = slide_sample(folder, i)
        steps = "\n".join(f"{n}. {s}" for n, s in enumerate(sample.reasoning, 1))
        blocks = {"info": sample.findings, "think": steps, "answer": "Adenocarcinoma."}
        reply = "\n\n".join(f"<{tag}>\n{text}\n</{tag}>" for tag, text in blocks.items())
        turns = [{"from": "human", "value": "What is the diagnosis?\n<image>"}, {"from": "gpt", "value": reply}]
        rows.append({"id": f"train::{i}", "image": f"./X/slide{i}.h5", "conversations": turns})
    path = folder / "pathreasoner.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_pathreasoner_r1(tmp_path: Path) -> None:
    path = slide_files(tmp_path / "slides")
    sizes = "layers: 2, width: 32, heads: 4, ffn: 48, segments: [8, 16], dilations: [1, 2]"
    tower = f"{{preset: pathreasoner-r1-as-published, {sizes}}}"
    bags = [f"stages.sft-bags.pseudo_bags.{k}" for k in ("num_clusters=3", "max_new_tokens=6")]
    encoder = write_encoder(tmp_path / "tiny-bert")
    with running_stub() as judge:
        scoring = f"{{judge: {{url: '{judge.url}', model: stub, answers_as: any}}, encoder: {encoder}}}"
        stages = run(
            "pathreasoner-r1", tmp_path / "run", f"model.base={TINY}", f"model.tower={tower}", *SMALL,
            *short("pathreasoner-r1"), *bags, f"data.root={path.parent}", f"data.manifest={path}", "train.lora=null",
            "data.test_fraction=0.2", "data.valid_fraction=0.1", f"scoring={scoring}",
        )  # fmt: skip
    record: Any = stages["rl"]
    assert record["algorithm"] == "GRPO+{beta=0.01}"
    assert record["rewards"]["label"] == "pathreasoner-r1" and record["rewards_changed"] == []
    assert record["judge"]["failures"] == 0 and judge.requests  # asked once before the first step, if not in it
    terms = {t["name"]: t for t in record["rewards"]["terms"]}
    assert terms["entity"]["similarity"] == "tiny-bert" and terms["semantic"]["by"] == "judge"
    assert stages["sft"]["trajectory"]["num_rows"] == 3 * stages["sft"]["trajectory"]["num_samples"]  # type: ignore[index]
    made = stages["sft-bags"]["pseudo_bags"]
    assert made["settings"]["reward"] == "published" and made["num_changed"] == 0  # type: ignore[index]


ORIGINS = re.compile(r"paper|released code|not published|Eosin's|DAPO|the trainer's")
NUMBER = re.compile(r":\s*\[?-?\d[\d.e-]*")


@pytest.mark.parametrize("name", ["pathvlm-r1", "patho-r1", "pathreasoner-r1"])
def test_every_number_of_a_recipe_says_where_it_is_from(name: str) -> None:
    """A line with a number ends in a comment that names its origin. How often is saved, and how many replies an exam
    draws at a time, are no numbers of a paper."""
    lines = (RECIPES / f"{name}.yaml").read_text("utf-8").splitlines(keepends=True)
    exams = next(i for i, line in enumerate(lines) if line.startswith("exams:"))
    for i, line in enumerate(lines):
        code, _, comment = line.partition("#")
        if "save_every" in code or (i > exams and "batch_size" in code) or not NUMBER.search(code):
            continue
        assert ORIGINS.search(comment), f"{name}.yaml:{i + 1}: {line}"
    assert yaml.safe_load("".join(lines))
