"""Accuracy on held-out samples while a stage trains: greedy replies, the strict reading of the exams."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback, TrainerState

from eosin.core.draw import subset
from eosin.core.errors import ImageError
from eosin.core.nouns.outcome import Unparsed
from eosin.core.nouns.prompt import prompt_messages
from eosin.core.nouns.sample import Sample
from eosin.engines.base import Decoding, Request
from eosin.engines.transformers_engine import TransformersEngine
from eosin.models.load import Loaded
from eosin.scoring import load_rewards
from eosin.scoring.reading.item import item_from_sample
from eosin.train.data.rows import PictureStore
from eosin.train.monitor import MetricsCallback, StepClock
from eosin.train.stages.base import StageContext


@dataclass(frozen=True)
class HeldOut:
    """A small greedy exam: the same questions every time.

    Attributes:
        samples: held-out samples with an answer.
        decoding: greedy, with the length cap of the stage.
    """

    samples: Sequence[Sample]
    ctx: StageContext
    pictures: PictureStore
    decoding: Decoding

    def ask(self, model: Any) -> dict[str, float]:
        """Put all questions to the model as it stands.

        Returns:
            `valid_accuracy` (right by the strict reading, over all questions that could be shown), `valid_unparsed`
            (share of replies that do not obey the grammar), `valid_n`, and `valid_set_aside` where images failed.
        """
        requests, shown = self._requests()
        engine = TransformersEngine(Loaded(model, self.ctx.loaded.processor, self.ctx.name))
        replies = list(engine.generate(requests, self.decoding))
        items = [item_from_sample(s, r.text, r.num_tokens, r.truncated) for s, r in zip(shown, replies, strict=True)]
        judge = load_rewards([{"name": "accuracy"}], self.ctx.grammar)
        right = [o.terms["accuracy"] for o in judge.score_batch(items)]
        scored = [v for v in right if v is not None]
        unparsed = sum(isinstance(self.ctx.grammar.parse(r.text), Unparsed) for r in replies)
        found: dict[str, float] = {"valid_n": len(scored)}
        if scored:
            found |= {"valid_accuracy": sum(scored) / len(scored), "valid_unparsed": unparsed / len(replies)}
        aside = len(self.samples) - len(scored)
        return {**found, **({"valid_set_aside": aside} if aside else {})}

    def _requests(self) -> tuple[list[Request], list[Sample]]:
        requests, shown = [], []
        for sample in self.samples:
            try:
                pictures = tuple(self.pictures.get(sample))
            except ImageError:
                continue
            messages = prompt_messages(sample, self.ctx.grammar, instruction=self.ctx.prompt.instruction)
            requests.append(Request(sample.id, messages, pictures))
            shown.append(sample)
        return requests, shown


class HeldOutCallback(TrainerCallback):  # type: ignore[misc]
    """Asks a HeldOut before the first step and after every `every` steps, and writes what came to metrics.jsonl.

    Greedy decoding draws no random number, so training goes on exactly as without it. Its time counts neither as
    data nor as compute; `valid_seconds` in each row is what all asking so far has cost, so that
    `seconds - valid_seconds` is the time spent on training.

    Args:
        prompts_seen: tells how many prompts the stage has generated for, groups that were dropped included.
    """

    def __init__(
        self,
        exam: HeldOut,
        every: int,
        metrics: MetricsCallback,
        clock: StepClock,
        prompts_seen: Callable[[], int],
    ) -> None:
        self._exam = exam
        self._every = every
        self._metrics = metrics
        self._clock = clock
        self._prompts_seen = prompts_seen
        self._seconds = 0.0

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, model: Any = None, **_: Any) -> None:
        self._seconds = self._metrics.last("valid_seconds")
        if state.global_step == 0:
            self._ask(state, model)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._ask(state, model)

    def _ask(self, state: TrainerState, model: Any) -> None:
        if not state.is_world_process_zero:
            return
        begun = time.perf_counter()
        with self._clock.timing("valid"):
            found = self._exam.ask(getattr(model, "module", model))
        self._seconds += time.perf_counter() - begun
        seen = {"prompts_seen": self._prompts_seen(), "valid_seconds": round(self._seconds, 3)}
        self._metrics.write(state.global_step, {**found, **seen})


def held_out(
    ctx: StageContext, size: int, max_new_tokens: int, pictures: PictureStore, batch_size: int = 32
) -> HeldOut | None:
    """A seeded subset of the valid split as a small exam; None where no valid sample has an answer."""
    samples = subset([s for s in ctx.valid if s.answer is not None], size, ctx.seed)
    if not samples:
        return None
    return HeldOut(samples, ctx, pictures, Decoding(max_new_tokens=max_new_tokens, batch_size=batch_size))
