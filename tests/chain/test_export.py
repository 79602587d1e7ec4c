"""Exports for other trainers: the same rewards on a table of replies, rows that their readers take, true settings."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import types
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from tests.support.toys import toy_recipe, toy_table
from typer.testing import CliRunner

from eosin.chain.export.trainers import export
from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.formats import read_samples
from eosin.core.settings.recipe import load_recipe
from eosin.core.settings.stages import RlStage
from eosin.scoring.reading.item import item_from_sample
from eosin.scoring.sets.by_source import stage_rewards

REPLIES = (
    "<think>The field is red.</think><answer>red</answer>", "<think>It is green.</think><answer>green</answer>",
    "<think></think><answer>blue</answer>", "red", "", "<answer>red</answer><answer>green</answer>",
    "<think>red red red red red red red red</think><answer>red</answer>", "<think>x</think><answer>" + "y" * 5000,
)  # fmt: skip
RL = {
    "rewards": [{"name": "accuracy", "weight": 0.7}, {"name": "format", "weight": 0.2}, {"name": "repetition"}],
    "num_generations": 4, "batch_size": 8, "updates_per_batch": 2, "steps": 5, "max_new_tokens": 64,
    "learning_rate": 2e-6,
    "algorithm": {"name": "dapo", "overlong_buffer": 0.0, "beta": 0.01},
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    toy_table(folder / "tiles", num=15)
    raw = toy_recipe(folder / "tiles", RL, "text")
    raw["stages"]["sft"] = {"epochs": 2, "batch_size": 4, "freeze": ["vision"], "lora": {"r": 8}}
    raw["data"]["descriptions"] = {c: [f"An <image> of {c}."] for c in ("red", "green", "blue")}
    (folder / "r.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), "utf-8")
    return folder / "r.yaml"


def module_of(path: Path) -> types.ModuleType:
    """As verl and ms-swift load a file by its path."""
    spec = importlib.util.spec_from_file_location(f"exported_{path.parent.name.replace('-', '_')}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def expected(out: Path) -> dict[tuple[str, str], float | None]:
    """Totals of the stage's own reward set."""
    stage = load_recipe(out / "recipe.yaml").recipe.stages["rl"]
    assert isinstance(stage, RlStage)
    samples = read_samples(out / "samples.parquet").kept
    rewards = stage_rewards(stage, load_recipe(out / "recipe.yaml").recipe.reply_grammar, {"toy"})
    return {(s.id, r): rewards.score(item_from_sample(s, r)).total for s in samples for r in REPLIES}


def test_verl_is_given_the_same_rewards(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "for-verl"
    found = export("verl", recipe, [], out)
    module, totals = module_of(out / "rewards.py"), expected(out)
    module.UNSCORED = -7.0
    rows = pq.read_table(out / "train.parquet").to_pylist()
    assert found["train"] == len(rows) > 4
    for row in rows:
        gold, info = row["reward_model"]["ground_truth"], row["extra_info"]
        for reply in REPLIES:
            said = asyncio.run(module.compute_score(row["data_source"], reply, gold, info))
            want = totals[(info["id"], reply)]
            assert said["score"] == (-7.0 if want is None else pytest.approx(want, abs=1e-12))
    assert len({round(t, 6) for t in totals.values() if t is not None}) > 3
    module.UNSCORED = None
    with pytest.raises(EosinError, match="has this id"):
        asyncio.run(module.compute_score("toy", "x", "red", {"id": "nobody"}))


def test_rows_of_verl_hold_a_mark_a_picture_and_its_bytes(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "for-verl"
    export("verl", recipe, [], out)
    for row in pq.read_table(out / "train.parquet").to_pylist():
        text = "".join(m["content"] for m in row["prompt"])
        assert text.count("<image>") == len(row["images"]) == 1
        assert row["images"][0]["bytes"].startswith(b"\x89PNG")
        assert [m["role"] for m in row["prompt"]][-1] == "user" and row["reward_model"]["ground_truth"]


def test_settings_of_verl_are_those_of_the_stage(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "for-verl"
    found = export("verl", recipe, ["launch=processes:4"], out)
    text = (out / "run.sh").read_text("utf-8")
    for line in ("data.train_batch_size=4", "actor_rollout_ref.actor.ppo_mini_batch_size=2", "rollout.n=4",
                 "clip_ratio_high=0.28", "loss_agg_mode=token-mean", "use_kl_loss=True", "kl_loss_coef=0.01",
                 'reward.custom_reward_function.path="$PWD"/rewards.py', "trainer.n_gpus_per_node=4",
                 "trainer.total_training_steps=5", "data.max_response_length=64"):  # fmt: skip
        assert line in text
    assert any("dynamic sampling" in n for n in found["notes"])


def test_ms_swift_is_given_the_same_rewards(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewards = types.ModuleType("swift.rewards")
    rewards.AsyncORM, rewards.orms = type("AsyncORM", (), {}), {}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swift", types.ModuleType("swift"))
    monkeypatch.setitem(sys.modules, "swift.rewards", rewards)
    out = tmp_path / "for-swift"
    export("ms-swift", recipe, [], out, "rl")
    module_of(out / "rewards.py")
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text("utf-8").splitlines()]
    ids = [row["sample_id"] for row in rows for _ in REPLIES]
    said = asyncio.run(rewards.orms["eosin"]()(list(REPLIES) * len(rows), sample_id=ids, trainer_state=None))  # type: ignore[attr-defined]
    assert said == [expected(out)[(id, reply)] for id, reply in zip(ids, list(REPLIES) * len(rows), strict=True)]
    for row in rows:
        assert sum(m["content"].count("<image>") for m in row["messages"]) == len(row["images"]) == 1
        assert (out / row["images"][0]).is_file()
    text = (out / "run.sh").read_text("utf-8")
    assert "--dynamic_sample true" in text and "--external_plugins rewards.py" in text and "--beta 0.01" in text


def test_llama_factory_finds_its_rows_pictures_and_settings(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "for-llama"
    export("llama-factory", recipe, [], out)
    info, settings = (
        json.loads((out / "dataset_info.json").read_text("utf-8")),
        yaml.safe_load((out / "train.yaml").read_text("utf-8")),
    )
    assert settings["dataset"] in info and settings["lora_rank"] == 8 and settings["freeze_vision_tower"] is True
    rows = json.loads((out / info[settings["dataset"]]["file_name"]).read_text("utf-8"))
    for row in rows:
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
        assert sum(m["content"].count("<image>") for m in row["messages"]) == len(row["images"]) == 1
        assert (out / row["images"][0]).is_file() and "<answer>" in row["messages"][1]["content"]


def test_what_cannot_be_exported_is_refused(recipe: Path, tmp_path: Path) -> None:
    for trainer, stage, words in (("verl", "sft", "cannot take this stage"), ("llama-factory", "rl", "cannot take"),
                                  ("trlx", None, "no such export")):  # fmt: skip
        with pytest.raises(EosinError, match=words):
            export(trainer, recipe, [], tmp_path / "none", stage)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    said = CliRunner().invoke(app, ["export", "verl", str(recipe), "--out", str(tmp_path / "full")])
    assert isinstance(said.exception, EosinError) and "not empty" in str(said.exception)
