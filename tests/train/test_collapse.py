"""The stop on collapse: by hand on rows, and in a real trainer on a very small model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.conftest import GRAMMAR, PROMPT, new_model
from trl import GRPOConfig, GRPOTrainer

from eosin.core.errors import EosinError
from eosin.core.settings.rl import CollapseStop
from eosin.core.settings.stages import RewardSpec, RlStage
from eosin.core.store import artifacts as store
from eosin.train.data.rows import rl_row, rows_dataset
from eosin.train.monitor import StepClock, plain_names
from eosin.train.rl.collapse import (
    LAST_GOOD,
    NOTE,
    CollapseCallback,
    CollapseDetector,
    last_good_of,
    refuse_collapsed,
    signs_in,
)
from eosin.train.stages import rl
from eosin.train.stages.base import StageContext, callbacks, run_trainer, trainer_arguments
from eosin.train.stages.saves import StageState, last_whole_save

Make = Callable[..., StageContext]
Reward = Callable[..., list[float]]
STOP = CollapseStop(steps=3, min_entropy=0.05, min_reward_std=1e-4, max_unparsed=0.5)
GOOD = {"entropy": 1.0, "group_std": 0.3, "unparsed_rate": 0.1}


def test_signs_by_hand() -> None:
    assert signs_in(GOOD, STOP) == []
    assert [s.name for s in signs_in({**GOOD, "entropy": 0.05}, STOP)] == ["entropy"]
    assert [s.name for s in signs_in({**GOOD, "group_std": 0.0}, STOP)] == ["reward_std"]
    assert [s.name for s in signs_in({**GOOD, "unparsed_rate": 0.51}, STOP)] == ["unparsed_rate"]
    assert signs_in({**GOOD, "unparsed_rate": 0.5}, STOP) == []  # above the bound, not at it
    assert signs_in({"loss": 1.0, "entropy": float("nan")}, STOP) == []  # what was not logged says nothing
    assert [s.name for s in signs_in({"reward_std": 0.0}, STOP)] == ["reward_std"]  # without the spread within groups
    assert signs_in({"reward_std": 0.0, "group_std": 0.2}, STOP) == []


def test_window_by_hand() -> None:
    watch = CollapseDetector(STOP)
    flat = {**GOOD, "group_std": 0.0}
    assert [bool(watch.add(i, r)) for i, r in enumerate((flat, flat, GOOD, flat, flat, flat), 1)] == [
        False, False, False, False, False, True,
    ]  # fmt: skip
    assert watch.since == {"reward_std": 4}
    mixed = CollapseDetector(STOP)  # two signs in turn are no window of either
    sharp = {**GOOD, "entropy": 0.0}
    assert not any(mixed.add(i, r) for i, r in enumerate((flat, sharp, flat, sharp), 1))
    sparse = CollapseDetector(STOP)  # a row logged every second step counts as two
    assert [bool(sparse.add(s, flat)) for s in (2, 4)] == [False, True]


def test_unparsed_of_exactly_all_never_stops_where_the_bound_is_one() -> None:
    assert signs_in({"unparsed_rate": 1.0}, STOP.model_copy(update={"max_unparsed": 1.0})) == []


def differing(step: int, count: int) -> list[float]:
    return [float(i % 2) for i in range(count)]


def trainer_of(
    ctx: StageContext,
    rewards: Callable[[int, int], list[float]],
    stop: CollapseStop = STOP,
    steps: int = 24,
    logged: dict[str, Callable[[int], float]] | None = None,
    **changed: Any,
) -> tuple[GRPOTrainer, StepClock]:
    """A real GRPO trainer whose rewards are a function of the step and the number of completions."""
    settings = RlStage(
        steps=steps, batch_size=4, num_generations=2, max_new_tokens=4, log_every=1, collapse=stop,
        **{"learning_rate": 1e-4, "save_every": 4, **changed},
    )  # fmt: skip
    clock = StepClock()

    def reward(completions: list[Any], log_metric: Any = None, **_: Any) -> list[float]:
        step = trainer.state.global_step + 1
        for name, value in (logged or {}).items():
            log_metric(name, value(step))
        return rewards(step, len(completions))

    arguments = {
        **trainer_arguments(settings, ctx, False), "max_steps": steps, "num_generations": 2, "max_completion_length": 4,
        "beta": 0.0, "warmup_steps": 0, "disable_dropout": True,
    }  # fmt: skip
    watchers = callbacks(settings, ctx, clock, StageState())
    trainer = GRPOTrainer(
        model=ctx.loaded.model,
        reward_funcs=[reward],
        args=GRPOConfig(**arguments),
        train_dataset=rows_dataset(ctx.train, rl_row(GRAMMAR, PROMPT), ctx.pictures(0.1)),
        processing_class=ctx.loaded.processor,
        callbacks=[*watchers[:-1], CollapseCallback(settings, ctx), watchers[-1]],
    )
    return trainer, clock


def test_constant_reward_stops_and_names_the_start(context: Make) -> None:
    ctx = context("flat")
    trainer, clock = trainer_of(ctx, lambda step, n: [0.5] * n)
    with pytest.raises(EosinError) as told:
        run_trainer(trainer, ctx, clock)
    error = told.value
    assert trainer.state.global_step == 3  # not one step more than the window
    assert "standard deviation of reward in a group 0, at or below 0.0001, in every step from 1 to 3" in str(error)
    assert "the model that the stage started from" in str(error.where)
    assert "earn the same from the first step (mean 0.5)" in str(error.next_step)
    assert "after 0 steps" not in str(error)
    assert not (ctx.folder / "checkpoint").exists()  # a collapsed stage leaves no checkpoint for the next stage
    assert store.read_json(ctx.folder / NOTE)["causes"] == ["reward_std"]
    assert ctx.metrics_file.exists()


def test_last_good_checkpoint_is_from_before_the_bad_window(context: Make) -> None:
    """Rewards differ until step 15, then never: the kept weights are those of a step before the window."""
    ctx = context("late")
    seen: dict[int, dict[str, torch.Tensor]] = {}
    trainer, clock = trainer_of(ctx, lambda step, n: differing(step, n) if step <= 15 else [1.0] * n)

    from transformers import TrainerCallback

    class Weights(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            seen[state.global_step] = {k: v.detach().clone() for k, v in model.state_dict().items()}

    trainer.add_callback(Weights())
    with pytest.raises(EosinError) as told:
        run_trainer(trainer, ctx, clock)
    assert trainer.state.global_step == 18
    kept = store.open_artifact(ctx.folder / LAST_GOOD, "checkpoint", verify=True)
    step = kept.manifest["step"]
    assert step == 12  # every third step at most; that of step 15 was never shown to be good
    assert f"{ctx.folder / LAST_GOOD} (after 12 steps" in str(told.value.where)
    assert "learning_rate=2.0e-05" in str(told.value.next_step)
    names = load_file(kept.path / "model.safetensors")
    own = sorted(float(v.double().sum()) for v in names.values())
    for other, same in ((step, True), (step + 1, False)):
        then = {k: v for k, v in seen[other].items() if "lm_head" not in k or "lm_head.weight" in names}
        sums = sorted(float(v.double().sum()) for v in then.values())
        assert (len(own) == len(sums) and torch.allclose(torch.tensor(own), torch.tensor(sums), atol=1e-5)) is same
    assert not list(ctx.folder.glob("*candidate*"))
    assert last_good_of(ctx.folder) == ctx.folder / LAST_GOOD


def test_huge_learning_rate_ends_in_low_entropy(context: Make) -> None:
    """A real collapse: with this rate the policy says one token only after a few steps."""
    ctx = context("sharp")
    stop = CollapseStop(steps=2, min_entropy=0.02, min_reward_std=0.0, max_unparsed=1.0)
    wanted = ctx.loaded.processor.tokenizer.encode("a", add_special_tokens=False)[0]

    def count_a(step: int, n: int) -> list[float]:
        return [float(ids.count(wanted)) + 1e-3 * i for i, ids in enumerate(drawn[-n:])]

    drawn: list[list[int]] = []
    trainer, clock = trainer_of(ctx, count_a, stop, steps=60, learning_rate=0.05)
    original = trainer._calculate_rewards

    def keep(inputs: Any, prompts: Any, completions: Any, completion_ids: Any) -> Any:
        drawn.extend(completion_ids)
        return original(inputs, prompts, completions, completion_ids)

    trainer._calculate_rewards = keep
    with pytest.raises(EosinError, match="entropy .* at or below 0.02"):
        run_trainer(trainer, ctx, clock)
    assert trainer.state.global_step < 60
    last = [r for r in store.read_jsonl(ctx.metrics_file) if "entropy" in r][-2:]
    assert all(r["entropy"] <= 0.02 for r in last)


def test_unparsed_over_the_bound_stops(context: Make) -> None:
    ctx = context("unparsed")
    bad_from_5 = {"unparsed_rate": lambda step: 0.9 if step >= 5 else 0.2}
    trainer, clock = trainer_of(ctx, differing, logged=bad_from_5)
    with pytest.raises(EosinError, match="90% of the replies unparsed, above 50%, in every step from 5 to 7"):
        run_trainer(trainer, ctx, clock)


def test_a_collapsed_stage_is_not_resumed(context: Make) -> None:
    ctx = context("again")
    trainer, clock = trainer_of(ctx, lambda step, n: [0.5] * n)
    with pytest.raises(EosinError):
        run_trainer(trainer, ctx, clock)
    for _ in range(2):
        with pytest.raises(EosinError, match="stopped earlier because the policy had collapsed") as told:
            trainer_of(ctx, differing)
        assert NOTE in str(told.value.next_step)
    (ctx.folder / NOTE).unlink()
    refuse_collapsed(ctx)  # what the error says does mend it


def test_a_resumed_stage_counts_its_window_on(context: Make) -> None:
    """Killed in the middle of the window, after a whole save: it stops at the same step as without the kill."""

    class KilledError(Exception):
        pass

    def rewards(step: int, n: int) -> list[float]:
        if step == 6 and not resumed:
            raise KilledError
        return differing(step, n) if step <= 3 else [1.0] * n

    resumed = False
    ctx = context("window")
    trainer, clock = trainer_of(ctx, rewards)
    with pytest.raises(KilledError):
        run_trainer(trainer, ctx, clock)
    assert last_whole_save(ctx.work) == ctx.work / "checkpoint-4"
    resumed = True
    ctx = replace(ctx, loaded=new_model())
    trainer, clock = trainer_of(ctx, rewards)
    with pytest.raises(EosinError, match="in every step from 4 to 6"):
        run_trainer(trainer, ctx, clock)
    assert trainer.state.global_step == 6
    seconds = [r["seconds"] for r in store.read_jsonl(ctx.metrics_file)]
    assert seconds == sorted(seconds)  # the time of a resumed stage goes on


def test_the_stage_of_a_recipe_stops_by_its_defaults(context: Make) -> None:
    """Random weights, and a reward for the form alone: nothing parses, nothing differs."""
    ctx = context("stage")
    settings = RlStage(
        steps=12, batch_size=4, num_generations=2, max_new_tokens=6, log_every=1, rewards=[RewardSpec(name="format")]
    )
    for _ in range(2):  # the second time it is refused before the first step
        with pytest.raises(EosinError) as told:
            rl.run(settings, ctx)
        assert "standard deviation of reward in a group 0" in str(told.value.found)
        assert "100% of the replies unparsed, above 90%" in str(told.value.found)
        assert "train it with an sft stage first" in str(told.value.next_step)
    rows = [r for r in store.read_jsonl(ctx.metrics_file) if "entropy" in r]
    assert [r["step"] for r in rows] == [1, 2, 3, 4, 5]
    assert len(store.read_jsonl(ctx.folder / "rollouts.jsonl")) == 20  # what it said stays on disk
    assert not (ctx.folder / "checkpoint").exists()


def test_a_good_run_is_left_alone(context: Make, tmp_path: Path) -> None:
    ctx = context("fine")
    trainer, clock = trainer_of(ctx, differing, steps=8)
    result = run_trainer(trainer, ctx, clock)
    assert result.num_steps == 8 and store.exists(ctx.folder / "checkpoint")
    assert not (ctx.folder / NOTE).exists() and not list(ctx.folder.glob("*candidate*"))


def test_names_of_figures() -> None:
    row = plain_names(
        {
            "clip_ratio/low_mean": 0.1, "clip_ratio/high_mean": 0.2, "completions/clipped_ratio": 0.3, "entropy": 0.4,
            "frac_reward_zero_std": 0.5, "kl": float("nan"), "loss": float("inf"), "rewards/eosin/mean": 1.0,
            "learning_rate": 1e-4, "note": "text",
        }
    )  # fmt: skip
    assert row == {
        "clip_low": 0.1, "clip_high": 0.2, "truncated_rate": 0.3, "entropy": 0.4, "frac_zero_std": 0.5,
        "learning_rate": 1e-4,
    }  # fmt: skip
