"""Terms become one reward. A missing term is never summed as if it were zero."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Scored, Unscored
from eosin.core.nouns.reply import Grammar
from eosin.scoring.reading.item import ScoreItem
from eosin.scoring.terms.base import BlocksRead, NoGold, Resources, ScoreContext, Term, too_long

R = TypeVar("R")
Gate = Literal["none", "both", "both_or_minus_one"]
MissingGold = Literal["unscored", "drop"]
CANCELLED_WITHIN_S = 2.0
"""How long an interrupted scoring is waited for. A call that cannot be cancelled stays in its daemon thread."""


@dataclass(frozen=True)
class Outcome:
    """The reward of one reply.

    Attributes:
        total: the reward; None where it must be masked from the loss.
        terms: every term's value; None where unscored.
        unscored: reason of every None.
        events: what each term saw.
    """

    total: float | None
    terms: dict[str, float | None]
    unscored: dict[str, str] = field(default_factory=dict)
    events: dict[str, dict[str, object]] = field(default_factory=dict)

    def as_row(self, id: str) -> dict[str, Any]:
        """One line of the output of `eosin score`."""
        return {
            "id": id, "total": self.total, "terms": self.terms, "unscored": self.unscored, "events": self.events,
        }  # fmt: skip


@dataclass(frozen=True)
class Weighted:
    """A term, its name in the logs, and its weight in the sum. Weight 0 only logs it."""

    name: str
    term: Term
    weight: float


@dataclass(frozen=True)
class RewardSet:
    """A weighted sum of terms, or a gated one.

    Attributes:
        label: name that tells the truth: "patho-r1-grpo", or "patho-r1-grpo+{gate=both}" when changed.
        parts: terms and weights.
        grammar: the reply grammar, unless a call gives another.
        resources: what was injected.
        gate: "both": the sum counts only where all of `gate_terms` reach 1, else 0;
            "both_or_minus_one": else -1.
        gate_terms: names of the gating terms. They are never dropped.
        missing_gold: what happens where the data (not the reply) has no gold for a term. "unscored" masks the
            item; "drop" leaves the term out for every reply to that item and rescales the other weights.
        penalties: terms that the training algorithm adds after the gate and after `missing_gold` (`with_overlong`).
        read: which blocks of a reply with broken form the terms are shown (`ScoreContext`).
        known_faults: cheats that pay in the reward as published, and why; `prove` shows them apart.
    """

    label: str
    parts: tuple[Weighted, ...]
    grammar: Grammar
    resources: Resources = field(default_factory=Resources)
    gate: Gate = "none"
    gate_terms: tuple[str, ...] = ("format", "accuracy")
    missing_gold: MissingGold = "unscored"
    penalties: tuple[Weighted, ...] = ()
    read: BlocksRead = "readable"
    known_faults: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_parts(self) -> tuple[Weighted, ...]:
        """Terms of the reward and of the algorithm."""
        return self.parts + self.penalties

    @property
    def names(self) -> list[str]:
        return [p.name for p in self.all_parts]

    def described(self) -> dict[str, Any]:
        """What a record says of this reward: label, gate, terms, weights, options and means."""
        return {
            "label": self.label,
            "grammar": self.grammar.name,
            "gate": self.gate,
            **({} if self.gate == "none" else {"gate_terms": list(self.gate_terms)}),
            **({} if self.read == "readable" else {"read": self.read}),
            "missing_gold": self.missing_gold,
            "terms": [{"name": p.name, "weight": p.weight, **p.term.described(self.resources)} for p in self.parts],
        } | ({"penalties": self._penalties()} if self.penalties else {})

    def _penalties(self) -> list[dict[str, Any]]:
        return [{"name": p.name, "weight": p.weight, **p.term.described(self.resources)} for p in self.penalties]

    @property
    def maximum(self) -> float:
        """The largest reward a reply can have."""
        return sum(p.weight * (p.term.high if p.weight > 0 else p.term.low) for p in self.all_parts)

    @property
    def minimum(self) -> float:
        """The smallest reward a reply can have."""
        least = sum(p.weight * (p.term.low if p.weight > 0 else p.term.high) for p in self.parts)
        gated = {"none": least, "both": min(least, 0.0), "both_or_minus_one": min(least, -1.0)}[self.gate]
        return gated + sum(p.weight * p.term.low for p in self.penalties)

    @property
    def uses_server(self) -> bool:
        """Whether a term asks a judge, so that replies are scored side by side."""
        return any(p.term.uses_server(self.resources) for p in self.all_parts)

    def score(self, item: ScoreItem, grammar: Grammar | None = None) -> Outcome:
        """Score one reply. Terms that ask a judge are waited for."""
        return self.score_batch([item], grammar)[0]

    def score_batch(self, items: Sequence[ScoreItem], grammar: Grammar | None = None) -> list[Outcome]:
        """Score replies in order; judge calls run side by side. Safe inside a running event loop."""
        if not self.uses_server:
            return [self._combine(context, self._rules(context)) for context in self._contexts(items, grammar)]
        return run_async(self.ascore_batch(items, grammar))

    async def ascore_batch(self, items: Sequence[ScoreItem], grammar: Grammar | None = None) -> list[Outcome]:
        """The same for callers that have an event loop."""
        return list(await asyncio.gather(*(self._ascore(context) for context in self._contexts(items, grammar))))

    def _contexts(self, items: Sequence[ScoreItem], grammar: Grammar | None) -> list[ScoreContext]:
        return [ScoreContext(item, grammar or self.grammar, self.resources, self.read) for item in items]

    def _rules(self, context: ScoreContext) -> dict[str, Scored | Unscored]:
        results: dict[str, Scored | Unscored] = {}
        for part in self.all_parts:
            if too_long(context.item):
                results[part.name] = Unscored("reply too long to be a completion")
            elif not part.term.uses_server(self.resources):
                results[part.name] = _guarded(part.term, context)
        return results

    async def _ascore(self, context: ScoreContext) -> Outcome:
        results = self._rules(context)
        waiting = [p for p in self.all_parts if p.name not in results]
        values = await asyncio.gather(*(_aguarded(p.term, context) for p in waiting))
        results.update({p.name: v for p, v in zip(waiting, values, strict=True)})
        return self._combine(context, results)

    def _combine(self, context: ScoreContext, results: dict[str, Scored | Unscored]) -> Outcome:
        terms: dict[str, float | None] = {}
        unscored: dict[str, str] = {}
        events: dict[str, dict[str, object]] = {}
        for part in self.all_parts:
            result = results[part.name]
            if isinstance(result, Scored) and result.value == result.value:
                terms[part.name] = result.value
                if result.events:
                    events[part.name] = result.events
            else:
                terms[part.name] = None
                unscored[part.name] = result.reason if isinstance(result, Unscored) else "not a number"
        total = self._total(results, terms)
        for part in self.penalties:
            value = terms[part.name]
            total = None if total is None or value is None else total + part.weight * value
        return Outcome(total, terms, unscored, events)

    def _total(self, results: dict[str, Scored | Unscored], terms: dict[str, float | None]) -> float | None:
        total = applicable = 0.0
        for part in self.parts:
            value = terms[part.name]
            core = part.name in self.gate_terms
            if value is None:
                if part.weight == 0 and not (core and self.gate != "none"):
                    continue
                if self.missing_gold == "drop" and isinstance(results[part.name], NoGold) and not core:
                    continue
                return None
            total += part.weight * value
            applicable += part.weight
        if self.gate != "none" and any((terms[name] or 0.0) < 1.0 for name in self.gate_terms):
            return 0.0 if self.gate == "both" else -1.0
        whole = sum(p.weight for p in self.parts)
        if self.missing_gold == "drop":
            return total * whole / applicable if applicable > 0 else None
        return total


def _guarded(term: Term, context: ScoreContext) -> Scored | Unscored:
    """A user's reward may fail; then the term is unscored with the fault's name."""
    try:
        return term.score(context)
    except EosinError as exc:
        return Unscored(exc.message)
    except Exception as exc:
        return Unscored(f"the reward failed: {type(exc).__name__}: {str(exc)[:200]}")


async def _aguarded(term: Term, context: ScoreContext) -> Scored | Unscored:
    """The same for a term that waits for a server. A cache that cannot be written, or the like, ends the scoring."""
    try:
        return await term.ascore(context)
    except EosinError:
        raise
    except Exception as exc:
        return Unscored(f"the reward failed: {type(exc).__name__}: {str(exc)[:200]}")


def run_async(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine to its end, in a thread of its own where a loop already runs here. Ctrl-C ends it at once."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return _in_a_thread(coroutine)


def _in_a_thread(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run it beside the running loop. What is cut short is cancelled, and given a moment to end."""
    outcome: Future[R] = Future()
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)

    def drive() -> None:
        try:
            outcome.set_result(loop.run_until_complete(task))
        except BaseException as exc:  # handed over: raised where the result is asked for
            outcome.set_exception(exc)
        finally:
            loop.close()

    thread = threading.Thread(target=drive, name="eosin-scoring", daemon=True)
    thread.start()
    try:
        return outcome.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(timeout=CANCELLED_WITHIN_S)
        raise
