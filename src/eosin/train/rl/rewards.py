"""What a stage says of its rewards: before its first step, and in its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from accelerate.utils import gather_object
from rich.console import Console

from eosin.core.store import artifacts as store
from eosin.scoring.adapters.trl import TrlReward
from eosin.scoring.sets.by_source import Rewards, SourceRewards, departures
from eosin.train.stages.saves import StageState

console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class Usage(Protocol):
    """The counts of a judge's client (`clients.budget.Usage`)."""

    def as_dict(self) -> dict[str, Any]: ...

    def restore(self, counts: Mapping[str, Any]) -> None: ...


def say_rewards(rewards: Rewards) -> None:
    """The rewards in one line, and what in them is not as published or as the set comes."""
    changed = departures(rewards)
    told = f"; NOT AS PUBLISHED OR AS IT COMES: {'; '.join(changed)}" if changed else ""
    console.print(f"  rewards: {rewards.label}{told}")


def keep_counts(state: StageState, reward: TrlReward) -> None:
    """Let a resumed stage count on: replies, outcomes, and what the judge was asked, which its budget goes by.

    Of several processes each goes on from the counts of the first.
    """
    state.add("rewards", reward.kept, reward.keep)
    if (usage := usage_of(reward.rewards)) is not None:
        state.add("judge", usage.as_dict, usage.restore)


def usage_of(rewards: Rewards) -> Usage | None:
    """What the judge of these rewards has been asked so far; None where none is asked."""
    sets = rewards.sets.values() if isinstance(rewards, SourceRewards) else [rewards]
    judges = (one.resources.judge for one in sets if one.uses_server)
    return next((usage for judge in judges if (usage := getattr(judge, "usage", None)) is not None), None)


def rewards_in_record(reward: TrlReward, where: str) -> dict[str, Any]:
    """Fields of stage.json: the rewards as they were used, how they spread, and what the judge did.

    With several processes each asks for its own replies; the judge's counts are those of all of them. `not_taken` is
    the number of replies that the judge was told of and no reward was asked for.
    """
    not_taken = reward.ahead.num_begun
    reward.ahead.forget()
    found: dict[str, Any] = {
        "rewards": store.as_json(reward.rewards.described(), where),
        "rewards_changed": departures(reward.rewards),
        "base_rates": reward.summary(),
        "unscored": {
            "num_replies": sum(gather_object([reward.num_replies])),
            "reasons": _added(gather_object([dict(reward.unscored)])),
        },
    }
    usage = usage_of(reward.rewards)
    if usage is not None:
        waited = sum(gather_object([reward.ahead.waited_s]))
        found["judge"] = {
            **_added(gather_object([usage.as_dict()])),
            "waited_s": round(waited, 2),
            "not_taken": not_taken,
        }
    return found


def _added(counts: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of several processes as one: numbers added up, mappings by their keys."""
    total: dict[str, Any] = {}
    for one in counts:
        for name, value in one.items():
            if isinstance(value, dict):
                total[name] = _added([total.get(name, {}), value])
            else:
                total[name] = total.get(name, 0) + value
    return total
