"""Accuracy on held-out samples while a stage trains: greedy replies, the strict reading of the exams."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerState

from eosin.core.draw import subset
from eosin.core.nouns.outcome import Parsed
from eosin.core.nouns.sample import Sample
from eosin.core.settings.stages import KeepBy
from eosin.engines.base import Decoding, Request
from eosin.engines.requests import requests_of
from eosin.engines.transformers_engine import TransformersEngine
from eosin.models.load import Loaded
from eosin.scoring import load_rewards
from eosin.scoring.reading.item import item_from_sample
from eosin.train.data.rows import ImageCache
from eosin.train.monitor import MetricsCallback, StepClock
from eosin.train.stages.base import StageContext


class Keeper(Protocol):
    """What looks at every held-out exam (train.keep_best)."""

    def look(self, model: Any, step: int, answers: Answers) -> None: ...


@dataclass(frozen=True)
class Answers:
    """What the valid questions were answered, one entry a question that could be shown.

    Attributes:
        labels: gold class; "" without classes.
        right: by the strict reading of the exams.
        entities: hardened Dice of findings and reasoning with the gold entities, 0 for a reply that does not parse;
            None where the data has no gold entities.
        num_unparsed: replies that do not obey the grammar.
    """

    labels: tuple[str, ...]
    right: tuple[bool, ...]
    entities: tuple[float | None, ...]
    num_unparsed: int

    @property
    def recalls(self) -> dict[str, float]:
        """Share of right answers by gold class."""
        found: dict[str, list[bool]] = {}
        for label, right in zip(self.labels, self.right, strict=True):
            found.setdefault(label, []).append(right)
        return {label: sum(own) / len(own) for label, own in sorted(found.items())}

    def each(self, by: KeepBy) -> list[float]:
        """What each question is worth, 0..1: `accuracy`, `entities`, or `score`, the mean of both where both are known.

        Questions are weighted so that every class counts the same, and the mean over questions is balanced accuracy.
        """
        counts = Counter(self.labels)
        weights = [len(self.labels) / (len(counts) * counts[label]) for label in self.labels]
        rows = zip(self.right, self.entities, weights, strict=True)
        return [_worth(right * weight, found, by) for right, found, weight in rows]

    def value(self, by: KeepBy) -> float:
        """The figure by which checkpoints are compared, 0..1."""
        return statistics.fmean(self.each(by))

    def as_metrics(self) -> dict[str, float]:
        """What metrics.jsonl says of it."""
        named = [e for e in self.entities if e is not None]
        found = {
            "valid_n": float(len(self.right)), "valid_accuracy": sum(self.right) / len(self.right),
            "valid_balanced_accuracy": statistics.fmean(self.recalls.values()),
            "valid_unparsed": self.num_unparsed / len(self.right), "valid_score": self.value("score"),
        }  # fmt: skip
        return {**found, **({"valid_entities": statistics.fmean(named)} if named else {})}


def _worth(right: float, entities: float | None, by: KeepBy) -> float:
    if entities is None:
        return right if by != "entities" else 0.0
    return {"accuracy": right, "entities": entities, "score": (right + entities) / 2}[by]


@dataclass(frozen=True)
class HeldOut:
    """A small greedy exam: the same questions every time.

    Attributes:
        samples: held-out samples with an answer.
        decoding: greedy, with the length cap of the stage.
    """

    samples: Sequence[Sample]
    ctx: StageContext
    pictures: ImageCache
    decoding: Decoding

    def ask(self, model: Any) -> Answers | None:
        """Put all questions to the model as it stands; None where no question could be shown and judged."""
        requests, shown = self._requests()
        engine = TransformersEngine(Loaded(model, self.ctx.loaded.processor, self.ctx.name))
        replies = list(engine.generate(requests, self.decoding))
        items = [item_from_sample(s, r.text, r.num_tokens, r.truncated) for s, r in zip(shown, replies, strict=True)]
        terms: list[dict[str, Any] | str] = [{"name": "accuracy", "block": "strict"}, "entities"]
        outcomes = load_rewards(terms, self.ctx.grammar).score_batch(items)
        rows = [
            (sample.label or "", outcome.terms["accuracy"] == 1.0, outcome.terms["entities"], parsed)
            for sample, outcome, reply in zip(shown, outcomes, replies, strict=True)
            if outcome.terms["accuracy"] is not None
            for parsed in [isinstance(self.ctx.grammar.parse(reply.text), Parsed)]
        ]
        if not rows:
            return None
        found = [value if value is None or parsed else 0.0 for _, _, value, parsed in rows]
        labels, right = tuple(r[0] for r in rows), tuple(r[1] for r in rows)
        return Answers(labels, right, tuple(found), sum(not r[3] for r in rows))

    def _requests(self) -> tuple[list[Request], list[Sample]]:
        ctx = self.ctx
        requests, faults = requests_of(self.samples, self.pictures.get, ctx.grammar, instruction=ctx.prompt.instruction)
        return requests, [s for s in self.samples if s.id not in faults]


class HeldOutCallback(TrainerCallback):  # type: ignore[misc]
    """Asks a HeldOut before the first step and after every `every` steps, and writes what came to metrics.jsonl.

    Greedy decoding draws no random number, so training goes on exactly as without it. Its time counts neither as
    data nor as compute; `valid_seconds` in each row is what all asking so far has cost, so that
    `seconds - valid_seconds` is the time spent on training.

    Args:
        prompts_seen: tells how many prompts the stage has generated for, groups that were dropped included.
        keeper: told of every answer, with the model that gave it.
    """

    def __init__(
        self,
        exam: HeldOut,
        every: int,
        metrics: MetricsCallback,
        clock: StepClock,
        prompts_seen: Callable[[], int],
        keeper: Keeper | None = None,
    ) -> None:
        self._exam = exam
        self._every = every
        self._metrics = metrics
        self._clock = clock
        self._prompts_seen = prompts_seen
        self._keeper = keeper
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
        plain = getattr(model, "module", model)
        with self._clock.timing("valid"):
            found = self._exam.ask(plain)
        if self._keeper is not None and found is not None:
            self._keeper.look(plain, state.global_step, found)
        self._seconds += time.perf_counter() - begun
        seen = {"prompts_seen": self._prompts_seen(), "valid_seconds": round(self._seconds, 3)}
        aside = len(self._exam.samples) - (len(found.right) if found else 0)
        more = {"valid_set_aside": float(aside)} if aside else {}
        self._metrics.write(state.global_step, {**(found.as_metrics() if found else {}), **more, **seen})


def held_out(
    ctx: StageContext, size: int, max_new_tokens: int, pictures: ImageCache, batch_size: int = 32
) -> HeldOut | None:
    """A seeded subset of the valid split as a small exam; None where no valid sample has an answer."""
    samples = subset([s for s in ctx.valid if s.answer is not None], size, ctx.seed)
    if not samples:
        return None
    return HeldOut(samples, ctx, pictures, Decoding(max_new_tokens=max_new_tokens, batch_size=batch_size))
