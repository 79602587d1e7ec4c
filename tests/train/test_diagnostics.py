"""What happens inside an RL step, by class, by hand; the noise of a gradient from gradients that were made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.toys import NAMES, toy_samples
from tests.train.conftest import GRAMMAR, new_model
from tests.train.test_rollouts import dapo_stage, run_killed
from tests.train.test_shared_prefix import loss_and_gradients, rows_of, saved, trainer_of

from eosin.core.nouns.classes import Classes
from eosin.core.settings.rl import Algorithm
from eosin.core.settings.stages import RewardSpec, RlStage
from eosin.core.store import artifacts as store
from eosin.scoring.reading.item import ScoreItem, item_from_sample
from eosin.scoring.sets.compose import Outcome
from eosin.train.rl.diagnostics import NO_CLASS, ClassDiary, kl_to_start
from eosin.train.rl.gradient_noise import GroupGradients, measure
from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer
from eosin.train.stages import rl
from eosin.train.stages.base import StageContext

RED, GREEN, BLUE = NAMES


def reply_of(answer: str, *, closed: bool = True) -> str:
    return f"<think>so</think>\n<answer>{answer}{'</answer>' if closed else '</think>'}"


def two_groups() -> tuple[list[ScoreItem], list[Outcome]]:
    """Two groups of four: of red tissue and of blue tissue. The right reply to red slips in its form."""
    red, _, blue = toy_samples(3, "train")
    said = [
        (red, reply_of(RED, closed=False), 0.0, {"format": 0.0, "accuracy": 0.0}),
        (red, reply_of(GREEN), 0.3, {"format": 1.0, "accuracy": 0.0}),
        (red, reply_of(GREEN), 0.3, {"format": 1.0, "accuracy": 0.0}),
        (red, "nothing", 0.0, {"format": 0.0, "accuracy": 0.0}),
        (blue, reply_of(BLUE), 1.3, {"format": 1.0, "accuracy": 1.0}),
        (blue, reply_of(BLUE), 1.3, {"format": 1.0, "accuracy": 1.0}),
        (blue, reply_of(RED), 0.3, {"format": 1.0, "accuracy": 0.0}),
        (blue, reply_of("mud"), None, {"format": 1.0, "accuracy": None}),
    ]
    items = [item_from_sample(s, reply, num_tokens=10 + i) for i, (s, reply, _, _) in enumerate(said)]
    return items, [Outcome(total, terms) for _, _, total, terms in said]  # type: ignore[arg-type]


def diary_at(path: Path, step: int = 6, **changed: Any) -> ClassDiary:
    classes = Classes.of(toy_samples(6, "train"))
    settings = {"stage": "rl", "num_generations": 4, "classes": classes, "grammar": GRAMMAR} | changed
    return ClassDiary(path, step=lambda: step, **settings)  # type: ignore[arg-type]


def test_a_step_by_class_by_hand(tmp_path: Path) -> None:
    diary = diary_at(tmp_path / "by_class.jsonl")
    diary(*two_groups())
    advantages = [-0.9, 0.9, 0.9, -0.9, 0.6, 0.6, -1.2, 0.0]
    # The batch holds the second group first; the last reply carries no loss.
    diary.decided(advantages, [True] * 7 + [False], [4, 5, 6, 7, 0, 1, 2, 3])
    assert not (tmp_path / "by_class.jsonl").exists()  # the loss has not seen them yet
    mask = torch.tensor([[1, 1, 0]] * 4)
    entropies = torch.arange(8.0).unsqueeze(1) + torch.tensor([[0.0, 1.0, 99.0]])
    diary.seen(torch.arange(4), mask, entropies[:4], None)
    assert not (tmp_path / "by_class.jsonl").exists()
    diary.seen(torch.tensor([7, 6, 5, 4]), mask, entropies[[7, 6, 5, 4]], torch.full((4, 3), 0.25))
    blue, red = store.read_jsonl(tmp_path / "by_class.jsonl")
    assert [blue["class"], red["class"]] == [BLUE, RED] and {r["step"] for r in (blue, red)} == {7}
    assert [red[k] for k in ("num_prompts", "num_replies", "num_in_loss")] == [1, 4, 4]
    assert red["reward"] == pytest.approx(0.15) and red["terms"] == {"format": 0.5, "accuracy": 0.0}
    assert red["parse_rate"] == 0.5 and red["right_rate"] == 0.25 and red["unread"] == 0.25
    assert red["length"] == 11.5 and red["advantage"] == red["advantage_sum"] == 0
    assert red["answers"][RED] == {
        "share": 0.25, "n": 1, "num_in_loss": 1, "reward": 0.0, "advantage": -0.9, "advantage_sum": -0.9,
    }  # fmt: skip
    assert red["answers"][GREEN]["advantage_sum"] == pytest.approx(1.8)
    assert {k: v["n"] for k, v in red["kinds"].items()} == {
        "right, form broken": 1, "wrong, form kept": 2, "wrong, form broken": 1,
    }  # fmt: skip
    assert red["kinds"]["right, form broken"]["advantage"] == -0.9
    assert red["term_spread"] == {"format": pytest.approx(np.std([0, 1, 1, 0], ddof=1)), "accuracy": 0.0}
    assert red["entropy"] == pytest.approx(np.mean([4.5, 5.5, 6.5, 7.5])) and red["kl"] == pytest.approx(0.25)
    assert blue["num_in_loss"] == 3 and blue["reward"] == pytest.approx(2.9 / 3)  # one reply had no score
    assert blue["entropy"] == pytest.approx(np.mean([0.5, 1.5, 2.5])) and blue["kl"] is None
    assert blue["unread"] == 0.25  # "mud" is none of the options
    assert blue["terms"] == {"format": 1.0, "accuracy": pytest.approx(2 / 3)}


def test_groups_that_gave_way_count_and_carry_no_advantage(tmp_path: Path) -> None:
    diary = diary_at(tmp_path / "by_class.jsonl")
    items, outcomes = two_groups()
    diary(items[:4], outcomes[:4])  # two calls for one step: dynamic sampling asked again
    diary(items[4:], outcomes[4:])
    diary.decided([None] * 4 + [0.6, 0.6, -1.2, 0.0], [False] * 4 + [True] * 4, [None] * 4 + [0, 1, 2, 3])
    diary.seen(torch.arange(4), torch.ones(4, 2), torch.ones(4, 2), None)
    blue, red = store.read_jsonl(tmp_path / "by_class.jsonl")
    assert red["num_replies"] == 4 and red["num_in_loss"] == 0 and red["advantage"] is None and red["entropy"] is None
    assert blue["num_in_loss"] == 4
    with pytest.raises(ValueError, match="0 replies wait; told of 4"):
        diary.decided([0.0] * 4, [True] * 4, [0, 1, 2, 3])


def test_what_the_loss_never_saw_is_written_all_the_same(tmp_path: Path) -> None:
    diary = diary_at(tmp_path / "a.jsonl")
    for _ in range(2):
        diary(*two_groups())
        diary.decided([0.1] * 8, [True] * 8, list(range(8)))
    assert len(store.read_jsonl(tmp_path / "a.jsonl")) == 2
    diary.close()
    diary.close()
    assert len(store.read_jsonl(tmp_path / "a.jsonl")) == 4
    none = diary_at(tmp_path / "b.jsonl")
    none(*two_groups())
    none.decided([0.0] * 8, [False] * 8, list(range(8)))  # all were cut off: nothing will be seen
    assert len(store.read_jsonl(tmp_path / "b.jsonl")) == 2
    other = diary_at(tmp_path / "c.jsonl", writes=False)
    other(*two_groups())
    other.decided([0.0] * 8, [False] * 8, list(range(8)))
    assert not (tmp_path / "c.jsonl").exists()


def test_answers_that_form_no_classes_are_one(tmp_path: Path) -> None:
    samples = [
        s.model_copy(update={"choices": (), "answer": f"answer {i}", "label": None})
        for i, s in enumerate(toy_samples(8, "train"))
    ]
    diary = diary_at(tmp_path / "open.jsonl", classes=Classes.of(samples))
    replies = [reply_of("Answer  0"), reply_of("answer 9"), reply_of(""), reply_of("answer 0")]
    diary([item_from_sample(samples[0], r) for r in replies], [Outcome(0.0, {})] * 4)
    diary.decided([0.0] * 4, [False] * 4, [0, 1, 2, 3])
    [row] = store.read_jsonl(tmp_path / "open.jsonl")
    assert row["class"] == NO_CLASS and row["answers"] == {} and row["unread"] == 0.25 and row["right_rate"] == 0.5
    assert row["length"] is None and row["reward"] == 0.0 and row["terms"] == {}


def test_kl_is_that_of_the_loss() -> None:
    now, start = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -1.0]])
    assert kl_to_start(now, start).tolist() == [[0.0, pytest.approx(np.e - 2)]]


# -- the noise of the gradient ------------------------------------------------------------------------------------


def test_noise_scale_by_hand() -> None:
    """g1 = (3, 0), g2 = (1, 2), in two parameters: |g|^2 = 5, mean |g_i|^2 = 7."""
    found = GroupGradients()
    found.add([torch.tensor([3.0]), None])
    assert found.figures() == {}
    found.add([torch.tensor([1.0]), torch.tensor([2.0])])
    figures = found.figures()
    assert figures["gradient_signal"] == pytest.approx((2 * 5 - 7) / 1)
    assert figures["gradient_noise"] == pytest.approx((7 - 5) * 2)
    assert figures["noise_scale"] == pytest.approx(4 / 3)
    assert figures["gradient_noise_share"] == pytest.approx(4 / (2 * 5))
    assert figures["gradient_norm_groups"] == pytest.approx(7**0.5)
    assert figures["gradient_norm_mean"] == pytest.approx(5**0.5)


def test_equal_gradients_have_no_noise_and_opposite_ones_no_signal() -> None:
    same, opposite, none = GroupGradients(), GroupGradients(), GroupGradients()
    for _ in range(4):
        same.add([torch.tensor([1.0, 2.0])])
        none.add([torch.zeros(2)])
    for sign in (1, -1):
        opposite.add([sign * torch.tensor([1.0, 2.0])])
    assert same.figures()["noise_scale"] == pytest.approx(0, abs=1e-6)
    assert "noise_scale" not in opposite.figures() and opposite.figures()["gradient_signal"] < 0
    assert "gradient_noise_share" not in opposite.figures()
    assert none.figures() == {
        "gradient_norm_groups": 0.0, "gradient_norm_mean": 0.0, "gradient_signal": 0.0, "gradient_noise": 0.0,
    }  # fmt: skip


def test_estimates_are_unbiased() -> None:
    """g_i = G + e_i with |G|^2 = 4 and tr(S) = 50 * 0.2^2 = 2: means over 800 draws of six groups."""
    draw = torch.Generator().manual_seed(0)
    true = torch.full((50,), (4 / 50) ** 0.5)
    signals, noises = [], []
    for _ in range(800):
        found = GroupGradients()
        for _ in range(6):
            found.add([true + 0.2 * torch.randn(50, generator=draw)])
        signals.append(found.figures()["gradient_signal"])
        noises.append(found.figures()["gradient_noise"])
    assert np.mean(signals) == pytest.approx(4, abs=4 * np.std(signals) / 800**0.5)
    assert np.mean(noises) == pytest.approx(2, abs=4 * np.std(noises) / 800**0.5)


def test_gradients_that_are_held_stay() -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    weight.grad = torch.tensor([7.0])
    figures = measure([{"x": 1.0}, {"x": 3.0}], lambda part: (weight * part["x"]).sum(), [weight])
    assert weight.grad.tolist() == [7.0]
    assert figures["gradient_norm_mean"] == pytest.approx(2) and figures["gradient_signal"] == pytest.approx(3)


@pytest.mark.parametrize("kind", [GroupTrainer, SharedPrefixTrainer])
@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo"])
def test_groups_average_to_the_gradient_of_the_step(tmp_path: Path, kind: type[GroupTrainer], name: str) -> None:
    """The mean over groups is the gradient that the step takes, on both paths and in every loss."""
    loaded = saved(new_model(), tmp_path / "start")
    rows = rows_of(3, 2, [1, 2])
    algorithm = Algorithm.model_validate({"name": name, "mask_truncated": False})
    trainer = trainer_of(kind, loaded, tmp_path / "run", rows, 2, algorithm=algorithm)
    trainer._noise_every = 1
    _, gradients = loss_and_gradients(trainer, rows)
    norm = sum(float(g.square().sum()) for g in gradients.values()) ** 0.5
    found = trainer._metrics["train"]
    assert found["gradient_norm_mean"] == [pytest.approx(norm, rel=1e-3)]
    assert found["gradient_norm_groups"][0] > norm and found["gradient_noise_share"][0] > 0
    assert len(found["entropy"]) == 1  # what the measurement logged on its way is taken back


# -- in a stage ---------------------------------------------------------------------------------------------------


def test_measuring_changes_nothing_that_is_trained(context: Callable[..., StageContext]) -> None:
    own = f"{Path(__file__).parents[1] / 'support' / 'rewards.py'}:share_of_e"
    algorithm = Algorithm.model_validate({"name": "grpo", "beta": 0.02, "mask_truncated": False})
    stage = RlStage(
        algorithm=algorithm, steps=4, batch_size=8, num_generations=4, max_new_tokens=12, log_every=1,
        learning_rate=1e-3, rewards=[RewardSpec(name=own)], collapse=None,
    )  # fmt: skip
    plain, measured = context("plain"), context("measured")
    rl.run(stage, plain)
    rl.run(stage.model_copy(update={"diagnose_every": 2}), measured)
    ours, theirs = (store.read_jsonl(c.metrics_file) for c in (plain, measured))
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3, abs=1e-6)
        assert one["kl"] == pytest.approx(other["kl"], rel=1e-2, abs=1e-6) and one["reward"] == other["reward"]
    assert [("gradient_norm_groups" in r) for r in theirs] == [True, False, True, False]
    assert not any("gradient_norm_groups" in r for r in ours)
    rows = store.read_jsonl(measured.folder / "by_class.jsonl")
    assert sorted({r["step"] for r in rows}) == [1, 2, 3, 4] and {r["stage"] for r in rows} == {"measured"}
    for step, logged in enumerate(theirs, 1):
        of_step = [r for r in rows if r["step"] == step]
        assert sum(r["num_replies"] for r in of_step) == 8
        mean = sum(r["reward"] * r["num_replies"] for r in of_step) / 8
        assert mean == pytest.approx(logged["reward"], abs=1e-5)
        seen = [r for r in of_step if r["num_in_loss"]]
        assert all(r["entropy"] > 0 and r["kl"] >= 0 for r in seen)
        low, high = min(r["entropy"] for r in seen), max(r["entropy"] for r in seen)
        assert low * 0.9 <= logged["entropy"] <= high * 1.1


def test_a_resumed_stage_leaves_the_diary_of_an_unbroken_one(
    context: Callable[..., StageContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DAPO with dynamic sampling, killed at step 5 after the save of step 3."""
    whole, cut = context("whole"), context("cut")
    rl.run(dapo_stage(), whole)
    run_killed(cut, monkeypatch)
    assert max(r["step"] for r in store.read_jsonl(cut.folder / "by_class.jsonl")) == 4
    rl.run(dapo_stage(), replace(cut, loaded=new_model()))
    ours, theirs = (store.read_jsonl(c.folder / "by_class.jsonl") for c in (whole, cut))
    told = ("step", "class", "num_replies", "num_in_loss", "parse_rate")
    assert [[r[k] for k in told] for r in ours] == [[r[k] for k in told] for r in theirs]
    assert [r["reward"] for r in ours] == pytest.approx([r["reward"] for r in theirs], abs=1e-6)
    seen = store.read_jsonl(whole.metrics_file)[-1]["prompts_seen"]
    assert sum(r["num_prompts"] for r in ours) == seen  # every group that was drawn stands in a row
