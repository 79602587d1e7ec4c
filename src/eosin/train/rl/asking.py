"""A judge reads replies while the trainer does something else: draws the others, or learns from those already scored.

A reply goes to the judge when it ends, and is waited for when its part of the step is learnt from. With
`gradient_accumulation` above 1 a step has several parts, and the judge's time and the loss's run side by side. The
reward of a reply, its advantage and its place in the loss are the same as if all had been waited for first.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from eosin.core.settings.rl import Algorithm
from eosin.engines.group_decode import Ended
from eosin.train.monitor import StepClock

# Losses of which a part needs nothing that is known of the whole step only.
_BY_PART = ("grpo", "bnpo", "dr_grpo")


class AsksAhead(Protocol):
    """A reward that can be told of completions before it is asked for their rewards (`scoring.adapters.trl`)."""

    @property
    def ahead(self) -> Any: ...

    def begin(
        self,
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None,
        ids: Sequence[str],
        places: Sequence[int] | None = None,
    ) -> None: ...


class Asking:
    """What a trainer tells its reward, and when it waits. Does nothing where no judge is asked (`reward` is None).

    Args:
        generation_parts: parts in which the replies of a generation are drawn, one after the other; fewer where there
            are too few groups.
    """

    def __init__(self, reward: AsksAhead | None, clock: StepClock, generation_parts: int = 1) -> None:
        self.reward = reward
        self._clock = clock
        self._parts = generation_parts if reward is not None else 1
        self._first = 0  # place of the part being drawn among the rows of its generation

    def parts_of(self, rows: list[Any], num: int) -> list[list[Any]]:
        """Rows of whole groups (of `num`), in the parts in which they are drawn.

        Each part is as large as all before it together, so that the first is soon there for the judge to read, and
        little is lost by drawing small batches: 16 groups in 4 parts are 2, 2, 4 and 8.
        """
        groups = len(rows) // num
        ends = [groups]
        while len(ends) < self._parts and ends[0] > 1:
            ends.insert(0, -(-ends[0] // 2))
        self._first = 0
        return [rows[start * num : end * num] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def ended(self, rows: Sequence[Any], processor: Any) -> Ended | None:
        """What `sample_groups` tells of completions that end while others are drawn; rows are those being drawn."""
        reward = self.reward
        if reward is None:
            return None

        def tell(ends: list[tuple[int, list[int]]]) -> None:
            with self._clock.inside("rewards", "generate"):
                ids = [tokens for _, tokens in ends]
                texts = processor.batch_decode(ids, skip_special_tokens=True)  # as TRL reads a completion
                places = [self._first + row for row, _ in ends]
                reward.begin([_as_turn(t) for t in texts], ids, [rows[row]["id"] for row, _ in ends], places)

        return tell

    def drawn(self, rows: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[Sequence[int]]) -> None:
        """Completions are there; their rewards will be asked for later."""
        if self.reward is not None:
            with self._clock.timing("rewards"):
                places = [self._first + row for row in range(len(rows))]
                self.reward.begin(completions, completion_ids, [r["id"] for r in rows], places)
                self._first += len(rows)

    def waiting(self) -> AbstractContextManager[None]:
        """Around the call for rewards: time that the judge was waited for is no time of the rewards."""
        return _Waiting(self.reward, self._clock)

    def by_part(self, args: Any, algorithm: Algorithm) -> bool:
        """Whether each part of an optimiser step may wait for its own replies only.

        Not where groups are chosen by their rewards, where a number of the whole step stands in the loss of each part,
        or where a generation serves several steps: the old policy is then that of the first.
        """
        return (
            self.reward is not None
            and 1 < args.steps_per_generation == args.gradient_accumulation_steps
            and not algorithm.dynamic_sampling
            and algorithm.loss_type in _BY_PART
            and algorithm.scale_rewards != "batch"
        )


class _Waiting:
    def __init__(self, reward: AsksAhead | None, clock: StepClock) -> None:
        self._reward, self._clock = reward, clock
        self._before = 0.0

    def __enter__(self) -> None:
        self._before = self._reward.ahead.waited_s if self._reward is not None else 0.0

    def __exit__(self, *_: object) -> None:
        if self._reward is not None:
            self._clock.move(self._reward.ahead.waited_s - self._before, "rewards", "judge")


def _as_turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
