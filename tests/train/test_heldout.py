"""Held-out accuracy while a stage trains: right figures, no change to the training, honest time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file
from tests.support.toys import toy_samples
from tests.train.conftest import new_model
from tests.train.test_collapse import differing, trainer_of

from eosin.core.images import load_image
from eosin.core.nouns.prompt import gold_reply, prompt_messages
from eosin.core.nouns.sample import ImageFile
from eosin.core.settings.stages import RewardSpec, RlStage, SftStage
from eosin.core.store import artifacts as store
from eosin.engines.base import Decoding, Generation, Request
from eosin.engines.transformers_engine import TransformersEngine
from eosin.evaluate.exam.grading import is_right, read_answer
from eosin.models.load import Loaded, load
from eosin.train import heldout
from eosin.train.heldout import HeldOutCallback, held_out
from eosin.train.monitor import MetricsCallback
from eosin.train.stages import rl, sft
from eosin.train.stages.base import StageContext, run_trainer

Make = Callable[..., StageContext]


class Told:
    """An engine whose replies are given by sample id; a missing one is out of the grammar."""

    replies: dict[str, str] = {}

    def __init__(self, _: object) -> None: ...

    def generate(self, requests: list[Request], decoding: object) -> list[Generation]:
        return [Generation(r.id, self.replies.get(r.id, "no tags"), 3, False) for r in requests]


def test_accuracy_by_hand(context: Make, monkeypatch: Any) -> None:
    """Of four questions one is right, one wrong, one unparsed, one has no usable image."""
    monkeypatch.setattr(heldout, "TransformersEngine", Told)
    ctx = context("hand", num_valid=4)
    broken = ctx.valid[3].model_copy(update={"images": (ImageFile(path="nowhere.png"),)})
    ctx = replace(ctx, valid=[*ctx.valid[:3], broken])
    wrong = next(s for s in toy_samples(9, "train") if s.answer_text != ctx.valid[1].answer_text)
    Told.replies = {
        ctx.valid[0].id: gold_reply(ctx.valid[0], ctx.grammar, "text"),
        ctx.valid[1].id: gold_reply(wrong, ctx.grammar, "text"),
    }
    exam = held_out(ctx, 10, 8, ctx.pictures(0.1))
    assert exam is not None
    answers = exam.ask(None)
    assert answers is not None
    assert (answers.right, answers.num_unparsed) == ((True, False, False), 1)
    found = answers.as_metrics()
    assert (found["valid_n"], found["valid_accuracy"], found["valid_unparsed"]) == (3, 1 / 3, 1 / 3)


def graded(loaded: Loaded, ctx: StageContext) -> float:
    """Accuracy on the valid samples as an exam grades it."""
    requests = [
        Request(s.id, prompt_messages(s, ctx.grammar, instruction=False), (load_image(s.images[0]),)) for s in ctx.valid
    ]
    replies = TransformersEngine(loaded).generate(requests, Decoding(max_new_tokens=40))
    right = [is_right(read_answer(r.text, s, ctx.grammar), s) for r, s in zip(replies, ctx.valid, strict=True)]
    return sum(right) / len(right)


def test_no_valid_split_gives_none_and_a_subset_is_seeded(context: Make) -> None:
    assert held_out(context("none"), 8, 8, context("none").pictures(0.1)) is None
    ctx = context("some", num_valid=12)
    chosen = [held_out(ctx, 5, 8, ctx.pictures(0.1)) for _ in range(2)]
    assert chosen[0] is not None and chosen[1] is not None
    assert [s.id for s in chosen[0].samples] == [s.id for s in chosen[1].samples]
    assert len(chosen[0].samples) == 5


def test_a_trained_model_scores_and_nothing_else_changes(context: Make) -> None:
    start = context("sft")
    sft.run(SftStage(steps=60, batch_size=16, learning_rate=1e-2, log_every=60), start)
    left = {}
    for asks in (False, True):
        ctx = context(f"rl-{asks}", load(start.folder / "checkpoint"), num_valid=9)
        trainer, clock = trainer_of(ctx, differing, steps=4)
        if asks:
            exam = held_out(ctx, 9, 40, ctx.pictures(0.1))
            assert exam is not None
            metrics = next(c for c in trainer.callback_handler.callbacks if isinstance(c, MetricsCallback))
            seen = lambda: 2 * trainer.state.global_step  # noqa: E731, B023
            callback = HeldOutCallback(exam, 2, metrics, clock, seen)
            trainer.callback_handler.callbacks.insert(-1, callback)
        result = run_trainer(trainer, ctx, clock)
        left[asks] = load_file(ctx.folder / "checkpoint" / "model.safetensors")
    assert all((left[False][k] == left[True][k]).all() for k in left[False])
    rows = [r for r in store.read_jsonl(ctx.metrics_file) if "valid_accuracy" in r]
    assert [(r["step"], r["prompts_seen"]) for r in rows] == [(0, 0), (2, 4), (4, 8)]
    assert rows[0]["valid_accuracy"] == graded(load(start.folder / "checkpoint"), ctx) > 0
    assert rows[0]["valid_unparsed"] < 0.5  # the toy model keeps to the grammar by now
    spent = [r["valid_seconds"] for r in rows]
    assert spent == sorted(spent) and spent[0] > 0
    assert all(r["seconds"] >= r["valid_seconds"] for r in rows)
    assert result.step_time["valid"] > 0
    first_step = next(r for r in store.read_jsonl(ctx.metrics_file) if r["step"] == 1)
    assert "entropy" in first_step  # the trainer's own rows stay whole


def test_a_stage_asks_its_own_policy(context: Make) -> None:
    """Through the whole stage, on whichever path it takes: the last row is what the checkpoint scores."""
    start = context("sft")
    sft.run(SftStage(steps=60, batch_size=16, learning_rate=1e-2, log_every=60), start)
    ctx = context("rl", load(start.folder / "checkpoint"), num_valid=9)
    settings = RlStage(
        steps=2, batch_size=8, num_generations=4, max_new_tokens=40, log_every=1, learning_rate=2e-3, valid_every=2,
        valid_samples=9, rewards=[RewardSpec(name="format"), RewardSpec(name="accuracy")], collapse=None, keep="last",
    )  # fmt: skip
    result = rl.run(settings, ctx)
    rows = [r for r in store.read_jsonl(ctx.metrics_file) if "valid_accuracy" in r]
    assert [(r["step"], r["prompts_seen"]) for r in rows] == [(0, 0), (2, 4)]
    assert rows[0]["valid_accuracy"] == graded(load(start.folder / "checkpoint"), ctx)
    assert rows[1]["valid_accuracy"] == graded(load(ctx.folder / "checkpoint"), ctx)
    assert result.step_time["valid"] == pytest.approx(rows[-1]["valid_seconds"], abs=0.05)


def test_a_resumed_stage_does_not_ask_again_before_its_first_step(context: Make) -> None:
    ctx = context("resumed", new_model(), num_valid=3)
    exam = held_out(ctx, 3, 4, ctx.pictures(0.1))
    assert exam is not None
    trainer, clock = trainer_of(ctx, differing, steps=4)
    metrics = MetricsCallback(ctx.metrics_file, ctx.name)
    store.append_jsonl(ctx.metrics_file, [{"step": 2, "seconds": 50.0, "valid_seconds": 20.0}])
    callback = HeldOutCallback(exam, 2, metrics, clock, lambda: 8)
    trainer.state.global_step = 2
    callback.on_train_begin(None, trainer.state, None, model=ctx.loaded.model)
    metrics.on_train_begin(None, trainer.state, None)
    trainer.state.global_step = 4
    callback.on_step_end(None, trainer.state, None, model=ctx.loaded.model)
    rows = store.read_jsonl(ctx.metrics_file)
    assert [r["step"] for r in rows] == [2, 4]
    assert rows[1]["seconds"] >= 50 and rows[1]["valid_seconds"] > 20


def test_pictures_are_those_of_training(context: Make) -> None:
    ctx = context("pictures", num_valid=2)
    exam = held_out(ctx, 2, 4, ctx.pictures(0.1))
    assert exam is not None
    requests, shown = exam._requests()
    assert [r.id for r in requests] == [s.id for s in shown]
    assert all(isinstance(r.images[0], Image.Image) for r in requests)
