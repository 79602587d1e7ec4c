"""When a trainer saves beside its steps: when it is asked to end, and when some minutes have passed."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from eosin.core import stopping


def agreed(*wishes: bool) -> list[bool]:
    """Each wish, if any process has it: all of them then do the same at the same step."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(wishes)
    where = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    flags = torch.tensor([float(w) for w in wishes], device=where)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return [bool(f) for f in flags.tolist()]


class StopCallback(TrainerCallback):  # type: ignore[misc]
    """Saves and ends the training where any process was asked to end; saves where `minutes` have passed since a save.

    Args:
        cycle: steps of one generation; saves fall between generations.
        minutes: None for no saves by the clock.
    """

    def __init__(self, cycle: int = 1, minutes: float | None = None) -> None:
        self._cycle = cycle
        self._minutes = minutes
        self._saved_at = time.monotonic()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._saved_at = time.monotonic()

    def on_save(self, *_: Any, **__: Any) -> None:
        self._saved_at = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self._cycle:
            return
        is_late = self._minutes is not None and time.monotonic() - self._saved_at >= 60 * self._minutes
        ends, saves = agreed(stopping.is_asked(), is_late)
        if ends and state.global_step < state.max_steps:
            control.should_training_stop = True
        if (ends or saves) and state.global_step < state.max_steps:
            control.should_save = True
