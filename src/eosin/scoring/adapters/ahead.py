"""Replies whose judge is asked while other work goes on: the rest of the batch is drawn, other replies are learnt from.

A reply is begun when it is there and taken when its reward is needed. In between only the clients' thread works, on the
network; everything of ours and of the user's runs in the caller's thread, at `begin` and at `take`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Hashable, Sequence

from eosin.clients.turns import needed
from eosin.core.nouns.reply import Grammar
from eosin.scoring.reading.item import ScoreItem
from eosin.scoring.sets.by_source import Rewards
from eosin.scoring.sets.compose import Outcome

# Turns of the loop until every term waits for its server: a task a batch, a reply, a term, and the judge's own.
_TURNS = 12


class Ahead:
    """Scores replies in two steps. Where no server is asked, or a loop runs in this thread, nothing is begun early.

    Args:
        rewards: the reward set, or a set a source.
        grammar: another grammar than the set's.

    `waited_s` is the time that `take` has waited so far.
    """

    def __init__(self, rewards: Rewards, grammar: Grammar | None = None) -> None:
        self._rewards = rewards
        self._grammar = grammar
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun: dict[Hashable, list[asyncio.Task[list[Outcome]]]] = {}
        self.waited_s = 0.0

    @property
    def num_begun(self) -> int:
        """Replies that were begun and not taken."""
        return sum(map(len, self._begun.values()))

    def begin(self, items: Sequence[ScoreItem], places: Sequence[int] | None = None) -> None:
        """Score by rules, and ask the judge without waiting for it. What is begun already is left as it is.

        Args:
            places: in which order the rewards will be needed; of the replies that wait for a turn at the judge the
                lowest goes first.
        """
        loop = self._own_loop()
        if loop is None:
            return
        known = Counter({key: len(tasks) for key, tasks in self._begun.items()})
        new = []
        for item, place in zip(items, places or [0] * len(items), strict=True):
            if known[_key(item)] > 0:
                known[_key(item)] -= 1
            else:
                new.append((item, place))
        for item, place in new:
            self._begun.setdefault(_key(item), []).append(loop.create_task(self._one(item, place)))
        if new:
            loop.run_until_complete(_turns())

    def take(self, items: Sequence[ScoreItem]) -> list[Outcome]:
        """Outcomes of replies in order; waits for the judge's verdicts on them."""
        loop = self._own_loop()
        if loop is None:
            return self._rewards.score_batch(items, self._grammar)
        self.begin(items)
        tasks = [self._begun[_key(item)].pop(0) for item in items]
        self._begun = {key: left for key, left in self._begun.items() if left}
        started = time.perf_counter()
        try:
            return [batch[0] for batch in loop.run_until_complete(_all(tasks))]
        finally:
            self.waited_s += time.perf_counter() - started

    def forget(self) -> None:
        """Give up what was begun and never taken."""
        if self._loop is None or self._loop.is_closed():
            return
        tasks = [t for waiting in self._begun.values() for t in waiting]
        self._begun.clear()
        for task in tasks:
            task.cancel()
        with contextlib.suppress(RuntimeError):  # a loop of somebody else runs here by now
            self._loop.run_until_complete(_ended(tasks))
            self._loop.close()

    async def _one(self, item: ScoreItem, place: int) -> list[Outcome]:
        needed.set(place)
        return await self._rewards.ascore_batch([item], self._grammar)

    def _own_loop(self) -> asyncio.AbstractEventLoop | None:
        """A loop of our own, that runs only while we wait in it; None where there is nothing to wait for."""
        if not self._rewards.uses_server or _runs_here():
            return None
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        return self._loop


async def _all(tasks: Sequence[asyncio.Task[list[Outcome]]]) -> list[list[Outcome]]:
    return list(await asyncio.gather(*tasks))


async def _ended(tasks: Sequence[asyncio.Task[list[Outcome]]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


def _runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _key(item: ScoreItem) -> Hashable:
    return item.id, item.reply, item.num_tokens, item.truncated
