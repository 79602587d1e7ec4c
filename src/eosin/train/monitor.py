"""What is written while a stage runs: metrics, progress, where the time of a step goes, memory, whole saves."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from eosin.core.store import artifacts as store


class PeakMemory:
    """Highest resident memory of this process and its children while it is entered, in GiB."""

    def __init__(self, every_s: float = 0.5) -> None:
        self.peak_gib = 0.0
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _now(self) -> float:
        me = psutil.Process()
        total = me.memory_info().rss
        for child in me.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.Error:
                continue
        return float(total / 2**30)

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.peak_gib = max(self.peak_gib, self._now())

    def __enter__(self) -> PeakMemory:
        self.peak_gib = self._now()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak_gib = max(self.peak_gib, self._now())


class StepClock:
    """Seconds of training by what they were spent on: data, compute, generate, rewards, judge (waiting), valid."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - start

    @contextmanager
    def inside(self, what: str, outer: str) -> Iterator[None]:
        """Times work that is done inside of other timed work, and takes it out of that."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.move(time.perf_counter() - start, outer, what)

    def move(self, seconds: float, source: str, target: str) -> None:
        """Count seconds under another name than they were counted, or will be."""
        self.seconds[source] -= seconds
        self.seconds[target] += seconds

    def split(self) -> dict[str, float]:
        """Seconds by kind. What a step spends on generation, rewards and a judge is taken out of compute."""
        found = dict(self.seconds)
        rest = found.get("step", 0.0) - sum(found.get(k, 0.0) for k in ("generate", "rewards", "judge"))
        found["compute"] = max(0.0, rest)
        found.pop("step", None)
        return {k: round(v, 3) for k, v in found.items() if v or k not in ("valid", "judge")}


class ClockCallback(TrainerCallback):  # type: ignore[misc]
    """Times the step and the wait for its batch.

    The wait runs from the end of the last event (step, log, evaluation, save) to the begin of the next step:
    in that time the trainer does nothing but fetch the batch. Held-out questions, which another callback puts between
    two steps, count as neither.
    """

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock
        self._mark: float | None = None
        self._begin: float | None = None

    def _now(self) -> float:
        """Seconds that stand still while held-out questions are asked."""
        return time.perf_counter() - self._clock.seconds["valid"]

    def _touch(self, *_: Any, **__: Any) -> None:
        self._mark = self._now()

    on_epoch_begin = on_log = on_evaluate = on_save = on_prediction_step = _touch

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        now = self._now()
        if self._mark is not None:
            self._clock.seconds["data"] += now - self._mark
        self._begin = now

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = self._now()
        if self._begin is not None:
            self._clock.seconds["step"] += now - self._begin
        self._mark = now


class MetricsCallback(TrainerCallback):  # type: ignore[misc]
    """Writes every logged row to metrics.jsonl, with the stage, the step and the seconds since its start.

    The seconds of a resumed stage go on from the last row that it keeps.
    """

    def __init__(self, path: Path, stage: str) -> None:
        self._path = path
        self._stage = stage
        self._start = time.perf_counter()

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._start = time.perf_counter() - self.last("seconds")

    def last(self, name: str) -> float:
        """The largest figure of this name in the rows so far; 0 without one."""
        return float(max((r.get(name, 0.0) for r in store.read_jsonl(self._path)), default=0.0))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        # The Trainer's last row tells of the steps since the last resume alone; the other rows tell all of it.
        if state.is_world_process_zero and "train_runtime" not in (logs or {}):
            self.write(state.global_step, plain_names(logs or {}))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append one row."""
        seconds = round(time.perf_counter() - self._start, 3)
        store.append_jsonl(self._path, [{"stage": self._stage, "step": step, "seconds": seconds, **numbers}])


# TRL's names on the left, ours on the right. docs/rl.md says what each figure is.
_NAMES = {
    "completions/mean_length": "completion_length",
    "completions/min_length": "completion_length_min",
    "completions/max_length": "completion_length_max",
    "completions/mean_terminated_length": "completion_length_ended",
    "completions/clipped_ratio": "truncated_rate",
    "frac_reward_zero_std": "frac_zero_std",
    "clip_ratio/low_mean": "clip_low",
    "clip_ratio/high_mean": "clip_high",
    "clip_ratio/region_mean": "clip_fraction",
    "mean_token_accuracy": "token_accuracy",
    "eval_mean_token_accuracy": "eval_token_accuracy",
}
# Said twice by TRL: our one reward function is the reward, and the extremes over ranks are those of one rank.
_LEFT_OUT = {
    "rewards/eosin/mean",
    "rewards/eosin/std",
    "completions/min_terminated_length",
    "completions/max_terminated_length",
    "clip_ratio/low_min",
    "clip_ratio/high_max",
}


def plain_names(logs: Mapping[str, Any]) -> dict[str, float]:
    """The finite figures of a logged row under Eosin's names."""
    return {
        _NAMES.get(k, k): v
        for k, v in logs.items()
        if k not in _LEFT_OUT and isinstance(v, int | float) and math.isfinite(v)
    }


class StageBar:
    """A bar on a terminal; elsewhere a line every tenth of the way."""

    def __init__(self, stage: str, console: Console | None = None) -> None:
        self._stage = stage
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._task: Any = None
        self._told = 0

    def start(self, total: int, done: int = 0) -> None:
        """Begin at `done` of `total` steps."""
        self._told = 10 * done // max(total, 1)
        if not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=self._console,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._stage, total=total, completed=done, last="")

    def update(self, done: int, total: int, numbers: Mapping[str, float] | None = None) -> None:
        """Show a step and the latest numbers."""
        last = ", ".join(f"{k} {v:.3g}" for k, v in (numbers or {}).items())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, last=last)
            return
        tenth = 10 * done // max(total, 1)
        if tenth > self._told:
            self._told = tenth
            print(f"  {self._stage}: step {done}/{total}  {last}", file=sys.stderr)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Drives a StageBar from a trainer."""

    def __init__(self, stage: str) -> None:
        self._bar = StageBar(stage)
        self._numbers: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._bar.start(state.max_steps, state.global_step)

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **_: Any) -> None:
        shown = {k: logs[k] for k in ("loss", "reward", "eval_loss") if isinstance((logs or {}).get(k), float)}
        self._numbers = shown or self._numbers

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._bar.update(state.global_step, state.max_steps, self._numbers)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._bar.stop()
