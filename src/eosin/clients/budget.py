"""What a server has cost, and what it may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

from eosin.clients.completion import Completion
from eosin.clients.ledger import Ledger
from eosin.clients.settings import ServerSettings

MAX_NAMES = 8


@dataclass
class Usage:
    """What a server has been asked so far. Costs are in the currency of the given prices.

    Attributes:
        calls: requests sent, with retries.
        retries: of these, not the first of their question.
        cache_hits: questions answered without a request.
        failures: questions without a usable answer.
        prompt_tokens, completion_tokens: as the server counted them.
        cost: of these tokens.
        cost_assumed: worst case of the calls whose tokens the server did not report, such as those that timed out.
        unreported: number of these calls.
        seconds: time of all attempts, side by side ones added up.
        in_words: answers whose schema was asked for in words, as the server knows no other way.
        answered_by: model names in the answers, and how often each.
    """

    calls: int = 0
    retries: int = 0
    cache_hits: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    cost_assumed: float = 0.0
    unreported: int = 0
    seconds: float = 0.0
    in_words: int = 0
    answered_by: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All counts, as JSON can hold them."""
        return asdict(self)

    def restore(self, counts: Mapping[str, Any]) -> None:
        """Go on from counts that `as_dict` gave, as of a stage that was cut off."""
        for name, value in counts.items():
            setattr(self, name, value)

    def name(self, model: str | None) -> None:
        """Count an answer under the model that it names."""
        name = model or "no name"
        if name not in self.answered_by and len(self.answered_by) >= MAX_NAMES:
            name = "others"
        self.answered_by[name] = self.answered_by.get(name, 0) + 1


class Budget:
    """Admits calls as long as their worst case fits, so that no number of calls side by side exceeds the limit.

    Lives in one event loop; nothing here is locked.
    """

    def __init__(self, settings: ServerSettings, usage: Usage, ledger: Ledger | None = None) -> None:
        self.settings = settings
        self.usage = usage
        self.ledger = ledger
        self._running: list[float] = []
        self._changed = asyncio.Event()

    def worst(self, num_bytes: int, num_images: int, max_tokens: int) -> float:
        """The most that a call can cost: a token is at least a byte of the request, an answer is cut at its limit."""
        tokens_in = num_bytes + num_images * self.settings.image_tokens
        return (tokens_in * self.settings.price_in + max_tokens * self.settings.price_out) / 1e6

    async def call(self, worst: float, *, again: bool) -> Call | str:
        """Permission for one call, or which budget is spent. Waits where calls that now run may leave enough."""
        while True:
            if self.settings.max_calls is not None and self.usage.calls >= self.settings.max_calls:
                return "budget spent (max_calls)"
            if self._fits(worst):
                break
            if not self._running:
                return "budget spent (max_cost)"
            await self._changed.wait()
        self.usage.calls += 1
        self.usage.retries += again
        self._running.append(worst)
        return Call(self, worst, 0 if self.ledger is None else self.ledger.admitted(worst, again=again))

    def _fits(self, worst: float) -> bool:
        if self.settings.max_cost is None:
            return True
        committed = self.usage.cost + self.usage.cost_assumed + sum(self._running)
        return committed + worst <= self.settings.max_cost * (1 + 1e-9)

    def finished(self, worst: float) -> None:
        """A call has ended, and its cost is known; those that wait look again."""
        self._running.remove(worst)
        self._changed.set()
        self._changed = asyncio.Event()


class Call:
    """One admitted call. Unless told otherwise at its end, it is taken to have cost its worst case."""

    def __init__(self, budget: Budget, worst: float, number: int = 0) -> None:
        self._budget = budget
        self._worst = worst
        self._number = number
        self._settled = False
        self._counts: dict[str, Any] = {}

    def free(self) -> None:
        """The server did no work for it."""
        self._settled = True

    def counted(self, completion: Completion) -> None:
        """The server said what it used."""
        if completion.prompt_tokens is None or completion.completion_tokens is None:
            return
        settings = self._budget.settings
        cost = completion.prompt_tokens * settings.price_in + completion.completion_tokens * settings.price_out
        self._counts = {
            "prompt_tokens": completion.prompt_tokens, "completion_tokens": completion.completion_tokens,
            "cost": cost / 1e6,
        }  # fmt: skip
        self._settled = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._settled:
            self._counts = {"cost_assumed": self._worst, "unreported": 1}
        usage = self._budget.usage
        for name, value in self._counts.items():
            setattr(usage, name, getattr(usage, name) + value)
        self._budget.finished(self._worst)
        if self._budget.ledger is not None:
            self._budget.ledger.ended(self._number, self._counts)
