"""A stage that does no harm: of the checkpoints that were asked the valid questions, start included, the best stays.

Chosen on the valid split, never on the split that is reported. What was chosen, and how the end compares with the
start, stands in keep.json while the stage runs and in stage.json when it is done.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from transformers import Trainer

from eosin.core.nouns.classes import is_lost
from eosin.core.settings.stages import KeepBy, RejectionStage, RlStage, SftStage, WatchedStage
from eosin.core.store import artifacts as store
from eosin.train.averaging import StartWeights
from eosin.train.heldout import Answers, HeldOut, HeldOutCallback, held_out
from eosin.train.monitor import MetricsCallback, StepClock
from eosin.train.stages.base import StageContext
from eosin.train.stages.saves import restore_weights

console = Console(stderr=True, highlight=False, soft_wrap=True)

KEPT, NOTE = "kept", "keep.json"
LOOKS = 6
ALL_RIGHT = 0.99


@dataclass(frozen=True)
class Look:
    """One look at the valid split: `each` has what every question is worth, in the order of the questions."""

    step: int
    value: float
    each: tuple[float, ...]
    recalls: dict[str, float]

    def lost_since(self, start: Look) -> list[str]:
        """Classes that the start told and that nothing is left of."""
        return [c for c, recall in start.recalls.items() if is_lost(recall, self.recalls.get(c, 0.0))]


@dataclass(frozen=True)
class Average:
    """What the weights are averaged with, which share it has, and the questions that the mean is asked."""

    start: StartWeights
    share: float
    exam: HeldOut


class BestKeeper:
    """Keeps the weights of the best look as the artifact `kept`.

    A later checkpoint takes the place where its figure is at least as high and no class was lost. A resumed stage goes
    on from keep.json, whose looks after its last whole save are made again.

    Attributes:
        average: what the weights are averaged with at the end; None for nothing.
    """

    def __init__(self, ctx: StageContext, by: KeepBy) -> None:
        self._ctx = ctx
        self._by = by
        self.average: Average | None = None
        self._mean: Look | None = None
        self._note = ctx.folder / NOTE
        self.looks: list[Look] = []
        if self._note.exists() and store.exists(ctx.folder / KEPT):
            self.looks = [_look_of(row) for row in store.read_object(self._note)["looks"]]

    def look(self, model: Any, step: int, answers: Answers) -> None:
        """Take in what the model at `step` answered."""
        self.looks = [x for x in self.looks if x.step < step]
        self.looks.append(self._look(step, answers))
        if step == 0 and self.looks[0].value >= ALL_RIGHT:
            console.print(
                f"  [yellow]warning:[/yellow] the start already answers the valid questions ({self.looks[0].value:.3f} "
                f"of 1): there is nothing to gain; take harder data, or leave the stage {self._ctx.name} out"
            )
        if self.best.step == step:
            self._ctx.save(KEPT, model, step, replace=True)
        rows = [{"step": x.step, "value": x.value, "each": x.each, "recalls": x.recalls} for x in self.looks]
        store.write_json(self._note, {"by": self._by, "looks": rows})

    def _look(self, step: int, answers: Answers) -> Look:
        each = tuple(answers.each(self._by))
        return Look(step, statistics.fmean(each), each, answers.recalls)

    @property
    def best(self) -> Look:
        """The look whose checkpoint stays."""
        start = self.looks[0]
        sound = [x for x in self.looks if not x.lost_since(start)]
        return max(sound, key=lambda x: (x.value, x.step))

    def settle(self, model: Any, last_step: int) -> int:
        """Put the weights that stay into the model; returns the step that they were trained to. The end of training is
        kept as `last` where it is not what stays."""
        if not self.looks:
            return last_step
        best = self.best
        if self.average is None and best.step == last_step:
            return last_step
        self._ctx.save("last", model, last_step, replace=True)
        if self.average is not None and last_step > 0:
            self._mean = self._mean_with_start(model, last_step, self.average)
            if self._is_taken(self._mean):
                return self._mean.step
        restore_weights(model, self._ctx.folder / KEPT)
        return best.step

    def _mean_with_start(self, model: Any, last_step: int, average: Average) -> Look:
        """Put the mean of the start and the end of training into the model, or that of the start and the best look, if
        the valid questions think more of it; gives what it answered."""
        trained = {last_step: "last", **({self.best.step: KEPT} if 0 < self.best.step < last_step else {})}
        found: list[Look] = []
        for step, name in trained.items():
            self._mix(model, name, average)
            answers = average.exam.ask(model)
            assert answers is not None, "the questions were answered before"
            found.append(self._look(step, answers))
        mean = max(found, key=lambda x: (x.value, x.step))
        if mean is not found[-1]:
            self._mix(model, trained[mean.step], average)
        return mean

    def _is_taken(self, mean: Look) -> bool:
        """A mean stays where it is not below the start, not below the best look beyond noise, and no class is lost."""
        change, error = difference(self.best, mean)
        start = self.looks[0]
        return mean.value >= start.value and change >= -2 * error and not mean.lost_since(start)

    def _mix(self, model: Any, name: str, average: Average) -> None:
        restore_weights(model, self._ctx.folder / name)
        average.start.mix_into(model, average.share)

    def record(self) -> dict[str, Any]:
        """What stage.json says: figures of start, end and best, what was kept, and a sentence."""
        if not self.looks:
            return {}
        start, end, best, mean = self.looks[0], self.looks[-1], self.best, self._mean
        taken = mean is not None and self._is_taken(mean)
        kept = "start" if best.step == 0 else "last" if best.step == end.step else f"step {best.step}"
        if mean is not None and taken:
            kept = f"mean of step {mean.step} and the start"
        told = {} if mean is None or self.average is None else {
            "averaged": {"share_of_start": self.average.share, "step": mean.step, "value": mean.value,
                         "classes_lost": mean.lost_since(start), "stays": taken},
        }  # fmt: skip
        return {
            "figure": f"valid_{self._by}", "n": len(start.each), "start": start.value, "end": end.value,
            "best": best.value, "best_step": best.step, "kept": kept, "classes_lost": end.lost_since(start),
            "verdict": verdict(start, end, best, mean if taken else None) + _of_mean(mean, taken), **told,
        }  # fmt: skip


def _look_of(row: dict[str, Any]) -> Look:
    return Look(int(row["step"]), float(row["value"]), tuple(row["each"]), dict(row["recalls"]))


def difference(a: Look, b: Look) -> tuple[float, float]:
    """(mean, standard error) of what the questions of b are worth more than those of a, paired."""
    pairs = [y - x for x, y in zip(a.each, b.each, strict=True)]
    error = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else math.inf
    return statistics.fmean(pairs), error


def verdict(start: Look, end: Look, best: Look, mean: Look | None = None) -> str:
    """One sentence: whether training helped on the valid split, and which weights go on; `mean`: those are a mean."""
    gain, error = difference(start, end)
    place = "its start" if best.step == 0 else f"step {best.step} ({best.value:.3f})"
    if mean is not None:
        place = f"the mean of step {mean.step} and its start ({mean.value:.3f})"
    goes_on = f"the run goes on from {place}"
    shown = f"{start.value:.3f} at the start, {end.value:.3f} at the end on {len(start.each)} valid questions"
    if lost := end.lost_since(start):
        return f"Training lost {', '.join(lost)}: {shown}; {goes_on}."
    if gain < -2 * error:
        return f"The end of training is worse than its start, beyond noise: {shown}; {goes_on}."
    if gain > 2 * error:
        return f"The end of training is better than its start, beyond noise: {shown}; {goes_on}."
    return f"Start and end of training differ by no more than noise: {shown}; {goes_on}."


def _of_mean(mean: Look | None, stays: bool) -> str:
    if mean is None or stays:
        return ""
    return f" The mean of step {mean.step} and the start ({mean.value:.3f}) did harm, and was not taken."


def looks_every(settings: WatchedStage, num_steps: int) -> int | None:
    """Steps between looks at the valid split; None where the stage asks for none."""
    if settings.valid_every is not None:
        return settings.valid_every
    return max(1, round(num_steps / LOOKS)) if settings.keep == "best" else None


def warn_of_valid(ctx: StageContext, num_samples: int, classes: set[str]) -> None:
    """Say before the first step what choosing on this valid split cannot do."""
    where = f"stages.{ctx.name}.keep=last"
    if not num_samples:
        console.print(
            "  [yellow]warning:[/yellow] there is no valid split with answers, so the last step is kept as it is, "
            f"whatever it is worth: give the data valid cases (data.valid_fraction or data.valid_cases), or say {where}"
        )
    elif len(classes) == 1:
        console.print(
            f"  [yellow]warning:[/yellow] the valid split has one class only ({next(iter(classes))}): a checkpoint "
            f"that always says it looks best; give the data more valid cases, or say {where}"
        )


def watch_valid(
    settings: RlStage | SftStage | RejectionStage, ctx: StageContext, trainer: Trainer, clock: StepClock,
    num_steps: int, prompts_seen: Callable[[], int],
) -> BestKeeper | None:  # fmt: skip
    """Let a trainer ask the valid split, where the settings want it; what keeps the best checkpoint, if they do."""
    every = looks_every(settings, num_steps)
    if every is None:
        return None
    exam = held_out(ctx, settings.valid_samples, settings.max_new_tokens, ctx.pictures(settings.image_cache_gib))
    if settings.keep == "best":
        samples = exam.samples if exam is not None else []
        warn_of_valid(ctx, len(samples), {s.label for s in samples if s.label})
    if exam is None:
        return None
    keeper = BestKeeper(ctx, settings.keep_by) if settings.keep == "best" else None
    if keeper is not None and settings.average_with_start and trainer.is_world_process_zero():
        start = StartWeights(trainer.accelerator.unwrap_model(trainer.model), ctx.work)
        keeper.average = Average(start, settings.average_with_start, exam)
    metrics = next(c for c in trainer.callback_handler.callbacks if isinstance(c, MetricsCallback))
    trainer.add_callback(HeldOutCallback(exam, every, metrics, clock, prompts_seen, keeper))
    return keeper


def kept_record(keeper: BestKeeper | None) -> dict[str, Any]:
    """What stage.json says of it, said on the terminal too."""
    record = keeper.record() if keeper is not None else {}
    if not record:
        return {}
    console.print(f"  {record['verdict']}")
    return {"keep": record}
