"""Rejection sampling, then SFT: which reply is learned, and that a model learns from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.core.settings.rl import RewardSpec
from eosin.core.settings.stages import RejectionStage, SftStage
from eosin.core.store import artifacts as store
from eosin.models.load import load
from eosin.train.stages import rejection, sft
from eosin.train.stages.base import StageContext
from eosin.train.stages.rejection import choose, with_gold

Make = Callable[..., StageContext]
ROW: dict[str, Any] = {"id": "1", "source": "toy", "replies": ["a", "b", "c", "d"]}


@pytest.mark.parametrize(
    ("rewards", "learned"),
    [
        ([0.0, 1.0, 0.5, 1.0], "b"),  # of equal ones the first
        ([0.0, None, 0.9, None], "c"),
        ([1.0, 1.0, 1.0, 1.0], "no reply stands out"),
        ([0.4, 0.0, 0.0, 0.0], "the best reply earns too little"),
        ([None] * 4, "no reply could be scored"),
    ],
)
def test_the_best_reply_is_learned_if_it_stands_out(rewards: list[float | None], learned: str) -> None:
    found = choose({**ROW, "rewards": rewards}, RejectionStage(), 1.0)
    assert (found.reason if isinstance(found, Dropped) else found) == learned


def test_an_image_that_cannot_be_read_is_set_aside() -> None:
    found = choose({"id": "1", "source": "toy", "fault": "broken"}, RejectionStage(), 1.0)
    assert isinstance(found, Dropped) and found.detail == "broken"


def test_gold_replies_come_from_other_questions(context: Make) -> None:
    samples = list(context("gold").train)
    found = with_gold(samples[:4], samples, RejectionStage(gold_share=0.5), 0)
    assert found[:4] == samples[:4]
    assert len(found) == 8 and not {s.id for s in found[4:]} & {s.id for s in samples[:4]}


def stage() -> RejectionStage:
    return RejectionStage(
        steps=6, batch_size=8, num_generations=4, max_new_tokens=40, learning_rate=1e-3, keep="last", margin=0.0,
        sample_batch_size=32, rewards=[RewardSpec(name="format"), RewardSpec(name="accuracy")], log_every=1,
        temperature=1.5,
    )  # fmt: skip


def test_a_model_learns_from_its_own_best_replies(context: Make) -> None:
    start = context("sft")
    sft.run(SftStage(steps=60, batch_size=16, learning_rate=1e-2, log_every=60), start)
    ctx = context("rejection", load(start.folder / "checkpoint"), num_valid=3)
    result = rejection.run(stage(), ctx)
    facts = result.extra["drawn"]
    assert facts["num_questions"] == len(ctx.train)
    assert facts["num_learned"] + sum(facts["dropped"].values()) == facts["num_questions"]
    assert 0 < facts["mean_reward"] < facts["mean_best"] <= 2
    assert result.num_steps == 6 and result.checkpoint is not None
    rows = store.read_jsonl(ctx.folder / "drawn.jsonl")
    assert all(len(r["replies"]) == 4 for r in rows)
    # What was drawn is not drawn again: the same rows, however the model stands now.
    again = rejection.Drawing(stage(), replace(ctx, loaded=load(ctx.folder / "checkpoint")), None)  # type: ignore[arg-type]
    assert again.run(ctx.train) == rows


def test_nothing_to_learn_is_an_error(context: Make) -> None:
    with pytest.raises(EosinError, match="No drawn reply is worth learning"):
        rejection.run(stage(), context("untrained"))
