"""Stops a policy that has collapsed, and keeps the last checkpoint from before it did.

A collapsed policy says one thing only (entropy at zero), earns the same for every reply of a group (no advantage, so
no gradient), or has lost the form of the reply (nothing can be parsed). None of these mends itself: what follows is
wasted time, and every later checkpoint is worse than an earlier one.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from eosin.core.errors import EosinError
from eosin.core.settings.rl import CollapseStop
from eosin.core.settings.stages import RlStage
from eosin.core.store import artifacts as store
from eosin.train.monitor import plain_names
from eosin.train.stages.base import StageContext

LAST_GOOD = "last_good"
NOTE = "collapse.json"
_CANDIDATE = "last_good_candidate"


@dataclass(frozen=True)
class Sign:
    """One figure that is out of its bound.

    Attributes:
        name: logged name of the figure.
        words: the figure and its bound in words.
    """

    name: str
    words: str


def signs_in(row: Mapping[str, Any], stop: CollapseStop) -> list[Sign]:
    """What in a row of metrics says that the policy has collapsed. A figure that was not logged says nothing.

    Args:
        row: one row by our names: `entropy` (nats per token), `group_std` (mean standard deviation of the rewards
            within a group, groups that were dropped included; else `reward_std`), `unparsed_rate` (share).
    """
    found = []
    entropy, unparsed = _number(row, "entropy"), _number(row, "unparsed_rate")
    spread = _number(row, "group_std")
    spread = _number(row, "reward_std") if spread is None else spread
    if entropy is not None and entropy <= stop.min_entropy:
        found.append(Sign("entropy", f"entropy {entropy:.3g} nats a token, at or below {stop.min_entropy:g}"))
    if spread is not None and spread <= stop.min_reward_std:
        words = f"standard deviation of reward in a group {spread:.3g}, at or below {stop.min_reward_std:g}"
        found.append(Sign("reward_std", words))
    if unparsed is not None and unparsed > stop.max_unparsed:
        found.append(Sign("unparsed_rate", f"{unparsed:.0%} of the replies unparsed, above {stop.max_unparsed:.0%}"))
    return found


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


@dataclass
class CollapseDetector:
    """Counts, for each sign, over how many optimiser steps in a row it was seen.

    A row logged every n steps is a mean over n steps, and counts as n.
    """

    stop: CollapseStop
    last_step: int = 0

    def __post_init__(self) -> None:
        self.since: dict[str, int] = {}
        self.seen: list[Sign] = []

    def add(self, step: int, row: Mapping[str, Any]) -> list[Sign]:
        """Take in a row; returns the signs that have lasted `stop.steps` steps."""
        self.seen = signs_in(row, self.stop)
        names = {s.name for s in self.seen}
        self.since = {n: self.since.get(n, self.last_step + 1) for n in names}
        self.last_step = step
        return [s for s in self.seen if step - self.since[s.name] + 1 >= self.stop.steps]


@dataclass(frozen=True)
class Collapse:
    """What was seen, as it stands in collapse.json.

    Attributes:
        since: first step of the window in which it was seen.
        last_good: path of the last good checkpoint relative to the stage's folder, or absolute where it is the one
            that the stage started from; None where that is a model by name.
        last_good_step: steps of this stage that it has had.
    """

    step: int
    since: int
    seen: tuple[str, ...]
    causes: tuple[str, ...]
    reward: float | None
    learning_rate: float
    beta: float
    last_good: str | None
    last_good_step: int

    def error(self, ctx: StageContext, *, again: bool = False) -> EosinError:
        """The error that ends the stage.

        Args:
            again: the same command was given again in the same folder.
        """
        good = "the model that the stage started from"
        if self.last_good is not None:
            when = f"after {self.last_good_step} steps of this stage" if self.last_good_step else "its start"
            good = f"{ctx.folder / self.last_good} ({when})"
        what = "This stage stopped earlier because the policy had collapsed; the same settings would end the same."
        return EosinError(
            what if again else "The policy has collapsed, and the stage was stopped.",
            expected="spread of reward within groups, entropy above zero, replies that can be parsed "
            f"(stages.{ctx.name}.collapse)",
            found="; ".join(self.seen) + f", in every step from {self.since} to {self.step}",
            where=f"stages.{ctx.name}, step {self.step}; last good checkpoint: {good}",
            next_step=self._advice(ctx.name)
            + (f"; or remove {ctx.folder / NOTE} to go on from the last save all the same" if again else ""),
        )

    def _advice(self, stage: str) -> str:
        from_start = self.since <= 1
        if "unparsed_rate" in self.causes and from_start:
            return (
                "the starting model does not keep to the reply grammar: train it with an sft stage first, "
                f"or give the format reward more weight; stages.{stage}.collapse.max_unparsed=1 lets it try"
            )
        if self.causes == ("reward_std",) and from_start:
            return (
                f"all replies to a prompt earn the same from the first step (mean {_shown(self.reward)}): look at the "
                "rewards in rollouts.jsonl, keep prompts of middling difficulty (eosin rl-data), "
                "or train longer in the sft stage"
            )
        beta = "" if self.beta >= 0.04 else ", raise algorithm.beta (the paper's GRPO has 0.04)"
        return (
            f"lower the learning rate{beta}, or take fewer steps: "
            f"eosin run RECIPE stages.{stage}.learning_rate={self.learning_rate / 5:.1e} --out NEW_FOLDER"
        )


def _shown(value: float | None) -> str:
    return "not logged" if value is None else f"{value:.3g}"


def refuse_collapsed(ctx: StageContext) -> None:
    """Refuse to resume a stage that has collapsed: from its last save it would collapse again.

    Raises:
        EosinError: with what was seen then, the last good checkpoint and what to change.
    """
    note = ctx.folder / NOTE
    if note.is_file():
        found = store.read_object(note)
        raise Collapse(**{**found, "seen": tuple(found["seen"]), "causes": tuple(found["causes"])}).error(
            ctx, again=True
        )


class CollapseCallback(TrainerCallback):  # type: ignore[misc]
    """Stops the trainer on collapse and raises when it has ended; keeps one checkpoint from before the bad window.

    Weights after step s are shown to be good by the rollouts of step s + 1. So a checkpoint waits as a candidate
    until the next logged row is good, and only then takes the place of `last_good`. A candidate is taken about every
    eighth of the run, no less than `stop.steps` and no more than `save_every` steps apart; so at most two are on disk.

    A resumed stage counts its window on from the rows of metrics.jsonl that it keeps. A collapsed one is not resumed:
    `refuse_collapsed`.

    Raises:
        EosinError: at the end of training, where it was stopped; and when it is made, in the folder of a stage that
            has collapsed.
    """

    def __init__(self, settings: RlStage, ctx: StageContext) -> None:
        assert settings.collapse is not None
        refuse_collapsed(ctx)
        self._settings = settings
        self._ctx = ctx
        self._watch = CollapseDetector(settings.collapse)
        self._stop = settings.collapse
        self._candidate: int | None = None
        self._taken = 0
        self._collapse: Collapse | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._drop_candidate(state)
        self._watch = CollapseDetector(self._stop)
        self._taken = state.global_step
        for row in store.read_jsonl(self._ctx.metrics_file):
            if 0 < row["step"] <= state.global_step and _is_training_row(row):
                self._watch.add(row["step"], row)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        model: Any = None,
        **_: Any,
    ) -> None:
        row = plain_names(logs or {})
        if not _is_training_row(row) or self._collapse is not None:
            return
        step = state.global_step
        lasting = self._watch.add(step, row)
        if self._watch.seen:
            self._drop_candidate(state)
        else:
            self._promote(state, step)
            self._take_candidate(args, state, model)
        if lasting:
            self._collapse = self._found(step, lasting, row)
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._drop_candidate(state)
        if self._collapse is None:
            return
        if state.is_world_process_zero:
            store.write_json(self._ctx.folder / NOTE, asdict(self._collapse))
        raise self._collapse.error(self._ctx)

    def _found(self, step: int, lasting: list[Sign], row: Mapping[str, Any]) -> Collapse:
        good, good_step = self._last_good()
        return Collapse(
            step=step,
            since=max(self._watch.since[s.name] for s in lasting),
            seen=tuple(s.words for s in lasting),
            causes=tuple(s.name for s in lasting),
            reward=_number(row, "reward"),
            learning_rate=self._settings.learning_rate,
            beta=self._settings.algorithm.beta,
            last_good=good,
            last_good_step=good_step,
        )

    def _last_good(self) -> tuple[str | None, int]:
        """The kept checkpoint and its step; else the checkpoint that the stage started from."""
        if store.exists(self._ctx.folder / LAST_GOOD):
            kept = store.open_artifact(self._ctx.folder / LAST_GOOD)
            return LAST_GOOD, int(kept.manifest["step"])
        start = next((p.path for p in self._ctx.parents if p.manifest.get("kind") == "checkpoint"), None)
        return (None if start is None else str(start.resolve())), 0

    def _take_candidate(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        every = max(self._stop.steps, min(int(args.save_steps), state.max_steps // 8))
        if state.global_step - self._taken < every or not state.is_world_process_zero:
            return
        self._ctx.save(_CANDIDATE, getattr(model, "module", model), state.global_step, replace=True)
        self._candidate = self._taken = state.global_step

    def _promote(self, state: TrainerState, step: int) -> None:
        if self._candidate is not None and step > self._candidate and state.is_world_process_zero:
            store.put_in_place(self._ctx.folder / _CANDIDATE, self._ctx.folder / LAST_GOOD)
            self._candidate = None

    def _drop_candidate(self, state: TrainerState) -> None:
        self._candidate = None
        if state.is_world_process_zero:
            shutil.rmtree(self._ctx.folder / _CANDIDATE, ignore_errors=True)


def _is_training_row(row: Mapping[str, Any]) -> bool:
    return any(name in row for name in ("entropy", "group_std", "reward_std", "unparsed_rate"))


def last_good_of(folder: Path) -> Path | None:
    """The checkpoint that a stage kept from before a collapse, or None."""
    return folder / LAST_GOOD if store.exists(folder / LAST_GOOD) else None
