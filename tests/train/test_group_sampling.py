"""Dynamic sampling, masks and counts of the group trainer, with rewards chosen by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support import forked
from tests.train.conftest import new_model
from tests.train.test_shared_prefix import dataset_of, rows_of, trainer_of

from eosin.core.settings.rl import Algorithm
from eosin.core.settings.stages import RewardSpec, RlStage
from eosin.core.store import artifacts as store
from eosin.train.rl.groups import PromptStream, RolloutCounts, reward_std, split_by_group, totals
from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer
from eosin.train.stages import rl
from eosin.train.stages.base import StageContext
from eosin.train.stages.saves import WHOLE

NUM = 4


def test_spread_ignores_unscored_and_needs_two() -> None:
    nan = torch.nan
    assert reward_std(torch.tensor([0.0, 1.0, nan])) == pytest.approx(0.7071, abs=1e-4)
    assert reward_std(torch.tensor([1.0, nan, nan])) == 0
    assert reward_std(torch.tensor([nan, nan])) == 0
    weighed = totals(torch.tensor([[1.0, 2.0], [nan, 2.0], [nan, nan]]), torch.tensor([0.5, 2.0]))
    assert weighed[:2].tolist() == [4.5, 4.0] and weighed[2].isnan()


def test_the_stream_visits_every_prompt_avoids_the_batch_and_goes_on_after_a_resume() -> None:
    stream = PromptStream(10, seed=3)
    seen = [stream.take(1)[0] for _ in range(10)]
    assert sorted(seen) == list(range(10))
    assert not set(stream.take(4, avoid=[1, 2, 3])) & {1, 2, 3}
    first = PromptStream(10, seed=3)
    first.take(3)
    second = PromptStream(10, seed=3, place=first.place)
    assert first.take(5) == second.take(5)
    assert PromptStream(10, seed=4).take(6) != PromptStream(10, seed=3).take(6)
    assert len(set(PromptStream(10, seed=3).take(6))) == 6
    assert PromptStream(2, seed=0).take(2, avoid=[0, 1])  # too few prompts: they come again


def test_counts_survive_a_save(tmp_path: Path) -> None:
    counts = RolloutCounts(prompts_seen=7, groups_dropped=2, short_batches=1)
    counts.save(tmp_path, 11)
    other = RolloutCounts()
    assert other.load(tmp_path) == 11 and other == counts
    assert other.load(tmp_path / "none") == 0


def test_parts_hold_whole_groups() -> None:
    batch = {"a": torch.arange(8), "b": list("abcdefgh"), "n": torch.tensor(5)}
    parts = split_by_group(batch, ["p0", "p1", "p2", "p3"], 2, [2, 0, 3, 1], 2)  # type: ignore[list-item]
    assert parts[0]["a"].tolist() == [4, 5, 0, 1] and parts[1]["b"] == ["g", "h", "c", "d"]
    assert parts[0]["encoded_prompts"] == ["p2", "p0"] and int(parts[1]["n"]) == 5


def dynamic(kind: type[GroupTrainer], folder: Path, score: Callable[..., Any], **changes: Any) -> Any:
    """A trainer on eight prompts whose rewards are `score(prompt number, place in the group)`."""
    rows = rows_of(8, NUM, [1])

    def scored(sample_number: list[int], **_: Any) -> list[float | None]:
        return [score(n, i % NUM) for i, n in enumerate(sample_number)]

    algorithm = Algorithm.model_validate({"name": "dapo", "max_generation_batches": 4, **changes})
    loaded = new_model()
    first = rows[: 2 * NUM]
    trainer = trainer_of(kind, loaded, folder, first, NUM, algorithm=algorithm, mask_truncated_completions=False)
    trainer.reward_funcs = [scored]
    trainer.train_dataset = dataset_of(rows[::NUM])
    trainer.stream = PromptStream(8, 0)
    told: list[str] = []
    trainer._warn = told.append
    trainer.model.train()
    return trainer, first, told


@pytest.mark.parametrize("kind", [GroupTrainer, SharedPrefixTrainer])
def test_groups_without_variance_are_replaced_until_the_batch_is_full(tmp_path: Path, kind: type[GroupTrainer]) -> None:
    def score(n: int, i: int) -> float:  # prompts 0 to 4 earn the same for every reply, up to noise
        return 0.5 + 1e-6 * i if n < 5 else float(i % 2)

    trainer, rows, told = dynamic(kind, tmp_path, score)
    batch = trainer._generate_and_score_completions(rows)
    numbers = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    assert batch["advantages"].shape == (2 * NUM,)
    assert bool((batch["advantages"].abs() > 0.1).all())
    assert numbers["groups_kept"] == 2 and numbers["groups_dropped"] >= 2
    assert numbers["prompts_seen"] == numbers["groups_dropped"] + 2 == trainer.counts.prompts_seen
    assert told == []


def test_at_the_limit_the_batch_is_used_as_it_is_with_a_warning(tmp_path: Path) -> None:
    trainer, rows, told = dynamic(SharedPrefixTrainer, tmp_path, lambda n, i: float(i % 2) if n == 1 else 0.0)
    batch = trainer._generate_and_score_completions(rows)
    numbers = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    assert numbers["generation_batches"] == 4 and numbers["groups_kept"] == 1
    assert (batch["advantages"].abs() > 0.1).sum() == NUM
    assert trainer.counts.short_batches == 1 and "limit of 4" in told[0]


def test_without_dynamic_sampling_nothing_is_replaced(tmp_path: Path) -> None:
    trainer, rows, told = dynamic(GroupTrainer, tmp_path, lambda n, i: 0.0, dynamic_sampling=False)
    trainer._generate_and_score_completions(rows)
    assert "nothing can be learned" in told[0]  # said before the first step
    numbers = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    assert numbers["groups_kept"] == numbers["groups_dropped"] == 0 and numbers["generation_batches"] == 1


@pytest.mark.parametrize("kind", [GroupTrainer, SharedPrefixTrainer])
def test_unscored_completions_leave_loss_normaliser_and_kl(tmp_path: Path, kind: type[GroupTrainer]) -> None:
    def score(n: int, i: int) -> float | None:
        return None if i == 2 else float(i % 2)

    trainer, rows, _ = dynamic(kind, tmp_path, score, dynamic_sampling=False)
    batch = trainer._generate_and_score_completions(rows)
    in_loss = batch["completion_mask"].any(1).tolist()
    assert in_loss == [True, True, False, True] * 2
    assert int(batch["num_items_in_batch"]) == int(batch["completion_mask"].sum())
    assert bool((batch["advantages"][2::4] == 0).all())


def test_two_processes_agree_on_rounds_and_end_with_the_same_weights(tmp_path: Path) -> None:
    """The first process draws only prompts without variance at first; the second never does."""
    done = forked.ranks(
        2, ["-m", "tests.support.two_ranks", tmp_path], env={**os.environ, "ACCELERATE_USE_CPU": "true"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{r}.json").read_text()) for r in range(2))
    assert first["rounds"] == second["rounds"] and max(first["rounds"]) > 1
    assert first["weights"] == second["weights"] != first["start"]
    assert first["prompts_seen"] == second["prompts_seen"]
    assert all(a != b for a, b in zip(first["kept"], second["kept"], strict=True))  # no prompt twice in a step
    assert first["place"] == second["place"] > 0
    assert first["alike"] == second["alike"] == 0


@pytest.mark.parametrize("lacks", [(2, 1), (1, 2), (0, 2), (1, 1)])
def test_processes_together_draw_the_prompts_that_one_would(
    lacks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes its own part of what all lack, and fills up with prompts of its own."""
    from eosin.train.rl import drawing
    from eosin.train.rl.groups import Group

    def process(rank: int, wished: list[int], drawn: list[list[int]]) -> tuple[list[int], PromptStream]:
        told = iter([[n for own in drawn for n in own], wished])
        monkeypatch.setattr(drawing, "gather_object", lambda _own: next(told))
        one = object.__new__(drawing.DrawsGroups)
        one.accelerator, one.num_generations = SimpleNamespace(process_index=rank), 1
        one.stream, one.train_dataset = PromptStream(20, seed=1), [{"sample_number": n} for n in range(20)]
        one._scored = [Group([{"sample_number": n}], [], [], [], None, None) for n in drawn[rank]]
        rows = one._fresh_rows(wished[rank], max(wished))
        assert len(rows) == max(wished) and one._filled == max(wished) - wished[rank]
        return [r["sample_number"] for r in rows], one.stream

    alone, stream = process(0, [sum(lacks)], [[3, 4, 5, 6]])
    found = [process(rank, list(lacks), [[3, 4], [5, 6]]) for rank in range(2)]
    assert [n for own, (rows, _) in zip(lacks, found, strict=True) for n in rows[:own]] == alone
    assert {s.place for _, s in found} == {stream.place}
    assert all(n in ([3, 4], [5, 6])[rank] for rank, own in enumerate(lacks) for n in found[rank][0][own:])


def test_a_killed_stage_with_dynamic_sampling_draws_the_same_prompts_again(
    context: Callable[..., StageContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"{Path(__file__).parents[1] / 'support' / 'rewards.py'}:share_of_e"
    algorithm = {
        "name": "dapo", "min_group_std": 0.06, "max_generation_batches": 3, "mask_truncated": False,
        "overlong_buffer": 0.0,
    }  # fmt: skip
    settings = RlStage(
        steps=4, batch_size=8, num_generations=4, max_new_tokens=12, log_every=1, save_every=2, learning_rate=1e-3,
        rewards=[RewardSpec(name=own)], collapse=None, freeze=["vision"], algorithm=Algorithm.model_validate(algorithm),
    )  # fmt: skip
    whole, cut = context("whole"), context("cut")
    result = rl.run(settings, whole)
    assert result.extra["rollouts"]["groups_dropped"] > 0

    class KilledError(Exception):
        pass

    def stop(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(StageContext, "save", stop)
        with pytest.raises(KilledError):
            rl.run(settings, cut)
    (cut.work / "checkpoint-4" / WHOLE).unlink()  # as if killed while writing it
    again = rl.run(settings, replace(cut, loaded=new_model()))
    assert again.extra["rollouts"] == result.extra["rollouts"]
    seen = [[(r["step"], r["sample_id"]) for r in store.read_jsonl(c.folder / "rollouts.jsonl")] for c in (whole, cut)]
    assert seen[0] == seen[1]
    a, b = (load_file(c.folder / "checkpoint" / "model.safetensors") for c in (whole, cut))
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_with_several_updates_a_batch_the_ratio_leaves_one_after_the_first(
    context: Callable[..., StageContext],
) -> None:
    own = f"{Path(__file__).parents[1] / 'support' / 'rewards.py'}:share_of_e"
    settings = RlStage(
        steps=4, batch_size=8, num_generations=4, max_new_tokens=12, log_every=1, learning_rate=0.05,
        warmup_fraction=0.0, rewards=[RewardSpec(name=own)], collapse=None, freeze=["vision"], updates_per_batch=2,
        algorithm=Algorithm.model_validate({"name": "grpo", "beta": 0.0, "epsilon": 1e-4, "mask_truncated": False}),
    )  # fmt: skip
    ctx = context("rl")
    rl.run(settings, ctx)
    rows = [r for r in store.read_jsonl(ctx.metrics_file) if "clip_fraction" in r]
    assert [r["clip_fraction"] > 0 for r in rows] == [False, True, False, True]
    assert [r.get("prompts_seen") for r in rows] == [4.0, None, 8.0, None]


def test_rl_raises_a_reward_that_it_can_reach(context: Callable[..., StageContext]) -> None:
    """The sign of the whole chain: from rewards over advantages and packed log-probabilities to the optimiser."""
    own = f"{Path(__file__).parents[1] / 'support' / 'rewards.py'}:share_of_e"
    settings = RlStage(
        steps=24, batch_size=32, num_generations=8, max_new_tokens=16, log_every=4, learning_rate=4e-3,
        warmup_fraction=0.1, rewards=[RewardSpec(name=own)], collapse=None, freeze=["vision"],
        algorithm=Algorithm.model_validate({"name": "grpo", "beta": 0.0, "mask_truncated": False}),
    )  # fmt: skip
    ctx = context("rl")
    rl.run(settings, ctx)
    rewards = [r["reward"] for r in store.read_jsonl(ctx.metrics_file) if "reward" in r]
    assert rewards[-1] > 1.3 * rewards[0]
