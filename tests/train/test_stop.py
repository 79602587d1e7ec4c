"""SIGTERM in the middle of a stage: it saves, ends well, and goes on to the same weights."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.train.test_resume import CASES, RL, assert_same, fresh, started

from eosin.core import stopping
from eosin.core.settings.stages import SftStage
from eosin.train.monitor import MetricsCallback
from eosin.train.stages import rl, sft
from eosin.train.stages.base import StageContext
from eosin.train.stages.saves import last_whole_save

Make = Callable[..., StageContext]


@pytest.fixture(autouse=True)
def listening() -> Any:
    before = signal.getsignal(signal.SIGTERM)
    stopping.listen()
    yield
    stopping.listen()
    signal.signal(signal.SIGTERM, before)


def asked_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process a real SIGTERM when a step is logged."""
    write = MetricsCallback.write

    def writing(self: MetricsCallback, now: int, numbers: Any) -> None:
        write(self, now, numbers)
        if now == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(MetricsCallback, "write", writing)


@pytest.mark.parametrize(("case", "at", "saved"), [("sft, accumulated", 5, 6), ("rl, two updates a batch", 3, 4)])
def test_a_stage_that_is_asked_to_end_saves_and_goes_on(
    case: str, at: int, saved: int, context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, settings, _ = CASES[case]
    num = 8 if run is rl.run else 48
    whole, cut = context("whole", num_train=num), context("cut", num_train=num)
    started(run, settings, whole)
    with monkeypatch.context() as patch, pytest.raises(stopping.StopRequested):
        asked_at(at, patch)
        started(run, settings, cut)
    save = last_whole_save(cut.work)
    assert save is not None and save.name == f"checkpoint-{saved}"  # in RL between two generations
    assert not (cut.folder / "checkpoint").exists()
    stopping.listen()
    started(run, settings, fresh(cut))
    assert_same(whole, cut)


def test_outside_a_trainer_it_ends_at_once() -> None:
    with pytest.raises(stopping.StopRequested):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert issubclass(stopping.StopRequested, KeyboardInterrupt) and RL.steps


def test_saves_by_the_clock_and_only_the_last_n_stay(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context("clock", num_train=16)
    settings = SftStage(steps=4, batch_size=4, save_every=1000, save_minutes=1e-9, keep_saves=3, learning_rate=1e-3)
    sft.run(settings, ctx)
    assert sorted(p.name for p in ctx.work.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]
