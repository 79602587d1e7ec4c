"""Tiny runs whose rewards or exams ask a judge, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from eosin.cli.main import app
from tests.support.judge_stub import EVENTS, Handler, payload_of
from tests.support.misbehaviour import Behaviour, answers, status
from tests.support.toys import toy_recipe, toy_table

COLOURS = ("red", "green", "blue")


def names_the_colour(model: str | None = "stub") -> Behaviour:
    """A judge that quotes "tile shows green" or the like as what is seen, and finds nothing else."""

    def behave(handler: Handler, verdict: str) -> None:
        reply = payload_of(handler.asked)["reply"]
        seen = next((f"tile shows {c}" for c in COLOURS if f"tile shows {c}" in reply), "")
        found = {n: {"happened": n == "image_features" and bool(seen), "evidence": ""} for n in EVENTS}
        found["image_features"]["evidence"] = seen
        said = json.loads(verdict)
        text = json.dumps(said if "grade" in said else found)
        answers(message={"content": text}, model=model if model is not None else "left out")(handler, verdict)

    return behave


def fails_between(first: int, last: int, otherwise: Behaviour) -> Behaviour:
    """503 for the requests from number `first` to `last` (from 1), else an ordinary answer."""

    def behave(handler: Handler, verdict: str) -> None:
        if first <= handler.number <= last:
            status("503 Service Unavailable")(handler, verdict)
        else:
            otherwise(handler, verdict)

    return behave


def trained_policy(folder: Path) -> Path:
    """A tiny model that mostly keeps the reply grammar, as a checkpoint: a policy whose replies a judge is asked about.

    Its replies are "<think>The tile shows red.</think><answer>B. red</answer>" and the like.
    """
    recipe = judged_recipe(folder, None)
    recipe["stages"] = {"sft": {"steps": 110, "batch_size": 16, "learning_rate": 3e-3, "exam": False}}
    done = run_recipe_file(recipe, folder, "policy")
    assert done.exit_code == 0, done.exception
    return folder / "policy" / "stages" / "sft" / "checkpoint"


def judged_recipe(
    folder: Path, judge: dict[str, Any] | None, policy: Path | None = None, **changes: Any
) -> dict[str, Any]:
    """A recipe of one small RL stage on toy tiles. `changes` are fields of the stage; `exams`, `scoring`, ... replace
    fields of the recipe."""
    if not (folder / "tiles").is_dir():
        toy_table(folder / "tiles", num=36)
    outer = {k: changes.pop(k) for k in ("exams", "scoring", "base_exam") if k in changes}
    if policy is not None:
        outer["model"] = {"kind": "hub", "name": str(policy)}
    stage = {
        "kind": "rl", "steps": 3, "batch_size": 8, "num_generations": 4, "max_new_tokens": 40, "exam": False,
        "temperature": 0.4, "keep": "last",
        "log_every": 1, "save_every": 1, "rewards": "pathvlm-r1", "collapse": None, "learning_rate": 1e-4,
    }  # fmt: skip
    scoring = {"scoring": {"judge": judge}} if judge is not None else {}
    return {**toy_recipe(folder / "tiles", {**stage, **changes}, "letter_and_text"), **scoring, **outer}


def judge_at(url: str, **more: Any) -> dict[str, Any]:
    """Settings of a stub judge that fails fast."""
    return {"url": url, "model": "stub", "retries": 0, "backoff_s": 0.01, "timeout_s": 5.0, **more}


def run_recipe_file(recipe: dict[str, Any], folder: Path, out: str = "run", *more: str) -> Any:
    """`eosin run` on a recipe, in this process."""
    path = folder / "judged.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    return CliRunner().invoke(app, ["run", str(path), "--out", str(folder / out), *more])
