"""Other rewards for other sources in one run, and what a training algorithm adds to a reward."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar
from eosin.core.settings.rl import plain_rewards
from eosin.core.settings.stages import RejectionStage, RlStage
from eosin.scoring.reading.item import ScoreItem
from eosin.scoring.sets.compose import Outcome, RewardSet, Weighted, run_async
from eosin.scoring.sets.named import Spec, load_rewards, set_names
from eosin.scoring.terms.base import build_term

DEFAULT = "default"


@dataclass(frozen=True)
class SourceRewards:
    """A reward set a source. It scores as a RewardSet does; a reply has the terms of its own source's set only.

    Attributes:
        sets: source (`sample.origin.source`) to reward set; "default" serves every source that is not named.
    """

    sets: Mapping[str, RewardSet]

    @property
    def label(self) -> str:
        return "{" + ", ".join(f"{source}: {one.label}" for source, one in self.sets.items()) + "}"

    @cached_property
    def names(self) -> list[str]:
        """Names of all terms, each once; a term of one name counts as one term in the logs."""
        return list(dict.fromkeys(name for one in self.sets.values() for name in one.names))

    def described(self) -> dict[str, Any]:
        """What a record says: every set under its source."""
        return {"label": self.label, "sources": {source: one.described() for source, one in self.sets.items()}}

    def set_of(self, source: str) -> RewardSet:
        """The reward set of a source.

        Raises:
            EosinError: the source is not named and there is no default.
        """
        found = self.sets.get(source, self.sets.get(DEFAULT))
        if found is None:
            self.check([source])
        assert found is not None
        return found

    def check(self, sources: Iterable[str]) -> None:
        """Refuse samples of a source without rewards, before anything is generated.

        Raises:
            EosinError: naming every such source.
        """
        lost = sorted({s for s in sources if s not in self.sets and DEFAULT not in self.sets})
        if lost:
            raise EosinError(
                "There are samples from sources that have no rewards.",
                expected=f"one of {', '.join(sorted(self.sets))}",
                found=", ".join(lost),
                where="rewards",
                next_step=f"add these sources to `rewards`, or a set for all others: {DEFAULT}: eosin",
            )

    def score(self, item: ScoreItem, grammar: Grammar | None = None) -> Outcome:
        """Score one reply."""
        return self.score_batch([item], grammar)[0]

    def score_batch(self, items: Sequence[ScoreItem], grammar: Grammar | None = None) -> list[Outcome]:
        """Score replies of any sources, in order; judges of all sets are asked side by side."""
        groups = self._by_set(items)
        if any(one.uses_server for one, _ in groups):
            return run_async(self.ascore_batch(items, grammar))
        scored = [one.score_batch([items[i] for i in places], grammar) for one, places in groups]
        return _in_order(groups, scored)

    async def ascore_batch(self, items: Sequence[ScoreItem], grammar: Grammar | None = None) -> list[Outcome]:
        """The same for callers that have an event loop."""
        groups = self._by_set(items)
        batches = (one.ascore_batch([items[i] for i in places], grammar) for one, places in groups)
        return _in_order(groups, list(await asyncio.gather(*batches)))

    @property
    def uses_server(self) -> bool:
        """Whether a term of any source asks a judge."""
        return any(one.uses_server for one in self.sets.values())

    def _by_set(self, items: Sequence[ScoreItem]) -> list[tuple[RewardSet, list[int]]]:
        groups: dict[int, tuple[RewardSet, list[int]]] = {}
        for place, item in enumerate(items):
            one = self.set_of(item.source)
            groups.setdefault(id(one), (one, []))[1].append(place)
        return list(groups.values())


def _in_order(groups: Sequence[tuple[RewardSet, list[int]]], scored: Sequence[list[Outcome]]) -> list[Outcome]:
    """Outcomes of all sets in the order of the items."""
    outcomes: dict[int, Outcome] = {}
    for (_, places), batch in zip(groups, scored, strict=True):
        outcomes.update(zip(places, batch, strict=True))
    return [outcomes[i] for i in range(len(outcomes))]


Rewards = RewardSet | SourceRewards


def load_source_rewards(spec: Spec | Mapping[str, Spec], grammar: Grammar | str, **injected: Any) -> Rewards:
    """Rewards from a recipe's `rewards`: one set, or {source: set}.

    Args:
        spec: as in `load_rewards`; or a mapping without the key "name" from sources to such specs.
        injected: fields of Resources, for every set.
    """
    if isinstance(spec, Mapping) and "name" not in spec:
        return SourceRewards({str(source): load_rewards(one, grammar, **injected) for source, one in spec.items()})
    return load_rewards(spec, grammar, **injected)


def stage_rewards(
    stage: RlStage | RejectionStage, grammar: Grammar, sources: Iterable[str], **injected: Any
) -> Rewards:
    """The rewards of a stage: its `rewards`, with what an RL stage's algorithm adds.

    Args:
        sources: `sample.origin.source` of the training samples.

    Raises:
        EosinError: an unknown name or option, or a source without rewards.
    """
    injected = {"max_tokens": stage.max_new_tokens} | injected
    rewards = load_source_rewards(plain_rewards(stage.rewards), grammar, **injected)
    if isinstance(rewards, SourceRewards):
        rewards.check(sources)
    if isinstance(stage, RejectionStage):
        return rewards
    cache = stage.algorithm.overlong_tokens(stage.max_new_tokens)
    if not cache or stage.algorithm.overlong_penalty == 0:
        return rewards
    return with_overlong(rewards, stage.max_new_tokens, cache, stage.algorithm.overlong_penalty)


def with_overlong(rewards: Rewards, max_tokens: int, cache_tokens: int, weight: float) -> Rewards:
    """The same rewards with the soft overlong punishment (DAPO, eq. 13) added after gates, as the term `overlong`.

    Args:
        max_tokens: length cap of a completion.
        cache_tokens: tokens before the cap over which the punishment grows from 0 to -1.
        weight: of the punishment in the reward.

    Raises:
        EosinError: the rewards have a term of that name already.
    """
    if isinstance(rewards, SourceRewards):
        sets = {s: _one_overlong(one, max_tokens, cache_tokens, weight) for s, one in rewards.sets.items()}
        return SourceRewards(sets)
    return _one_overlong(rewards, max_tokens, cache_tokens, weight)


def _one_overlong(rewards: RewardSet, max_tokens: int, cache_tokens: int, weight: float) -> RewardSet:
    if "overlong" in rewards.names:
        raise EosinError(
            "The soft overlong punishment stands in the rewards and in the algorithm.",
            found=rewards.label,
            next_step="leave it out of `rewards`, or give the algorithm overlong_buffer: 0",
        )
    term = build_term("overlong", {"max_tokens": max_tokens, "cache_tokens": cache_tokens})
    part = Weighted("overlong", term, weight)
    return replace(rewards, label=f"{rewards.label} + {weight:g} overlong", penalties=(*rewards.penalties, part))


def departures(rewards: Rewards) -> list[str]:
    """In which a named set is not as its paper has it, or as it comes: "pathvlm-r1: process=rules"."""
    labels = [one.label for one in rewards.sets.values()] if isinstance(rewards, SourceRewards) else [rewards.label]
    parts = [label.partition("+{") for label in labels]
    return [f"{name}: {rest.partition('}')[0]}" for name, sign, rest in parts if sign and name in set_names()]


def length_twice(rewards: Rewards) -> list[str]:
    """Sets that punish length both by a term of their own and by the algorithm's: worth a line to the user."""
    sets = rewards.sets.values() if isinstance(rewards, SourceRewards) else [rewards]
    own = (one for one in sets if any(p.name == "overlong" for p in one.penalties))
    return [one.label for one in own if any(p.term.name == "length" and p.weight for p in one.parts)]
