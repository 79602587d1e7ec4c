"""Stops a stage in which too many replies have no reward, as in an outage of the judge, and says how to go on.

A reply without a reward is out of the loss and never a number. A few of them cost a little signal; where most are
missing the steps are wasted, and what is left may be another reward than the one that was asked for.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from eosin.core.errors import EosinError
from eosin.core.settings.scoring import OutageStop


class Scores(Protocol):
    """What is counted of a reward: replies so far, and how many of them had no total, by reason."""

    num_replies: int
    unscored: Counter[str]


class OutageCallback(TrainerCallback):  # type: ignore[misc]
    """Ends training after `stop.steps` optimiser steps in a row with a larger share of unscored replies than allowed.

    The state is saved first, so that the same command goes on from there. Steps that draw no replies count for
    nothing. All processes stop together.

    Args:
        cycle: optimiser steps that one generation serves; the stage stops at the end of one.
        stage: for the message.

    Raises:
        EosinError: at the end of training, where it was stopped.
    """

    def __init__(self, scores: Scores, stop: OutageStop, cycle: int, stage: str) -> None:
        self._scores, self._stop, self._cycle, self._stage = scores, stop, cycle, stage
        self._seen, self._reasons = (0, 0), Counter[str]()
        self._in_a_row = 0
        self._found: tuple[int, float] | None = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._seen = self._now()
        self._reasons = Counter(self._scores.unscored)

    def _now(self) -> tuple[int, int]:
        return self._scores.num_replies, sum(self._scores.unscored.values())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = self._now()
        own = (now[0] - self._seen[0], now[1] - self._seen[1])
        self._seen = now
        replies, unscored = (sum(n) for n in zip(*gather_object([own]), strict=True))
        if replies:
            share = unscored / replies
            self._in_a_row = self._in_a_row + 1 if share > self._stop.max_unscored else 0
            if self._in_a_row == 0:
                self._reasons = Counter(self._scores.unscored)
            elif self._in_a_row >= self._stop.steps and self._found is None:
                self._found = (state.global_step, share)
        if self._found is not None and state.global_step % self._cycle == 0:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        if self._found is None:
            return
        step, share = self._found
        reasons = (self._scores.unscored - self._reasons).most_common(3)
        raise EosinError(
            "Too many replies have no reward, and the stage was stopped.",
            expected=f"at most {self._stop.max_unscored:.0%} of the replies of a step without a reward "
            f"(stages.{self._stage}.outage.max_unscored)",
            found=f"{share:.0%} at step {step}, and more than that share in {self._in_a_row} steps in a row: "
            + "; ".join(f"{n} x {reason}" for reason, n in reasons),
            where=f"stages.{self._stage}, saved at step {state.global_step}",
            next_step="see to the judge (docs/scoring.md), then give the same command again: it goes on from that save",
        )
