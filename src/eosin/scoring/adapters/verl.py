"""Rewards as verl calls them: `compute_score(data_source, solution_str, ground_truth, extra_info, **kwargs)`.

In verl's configuration:

    custom_reward_function.path=pkg://eosin.scoring.adapters.verl
    custom_reward_function.name=compute_score
    +custom_reward_function.reward_kwargs.rewards=patho-r1-grpo
    +custom_reward_function.reward_kwargs.grammar=think/answer

verl hands over text, gold answer and extra info, no image; and it cannot mask a reply. So an unscored reply is an
error here, unless `unscored` names the number to put in its place.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Unparsed
from eosin.scoring.reading.item import item_from_row
from eosin.scoring.sets.compose import RewardSet
from eosin.scoring.sets.named import load_rewards

_FIELDS = ("question", "choices", "reference", "entities", "num_tokens", "truncated")


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    rewards: Any = "patho-r1-grpo",
    grammar: str = "think/answer",
    unscored: float | None = None,
    max_tokens: int | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Score one reply.

    Args:
        data_source: verl's name of the data set.
        solution_str: the completion alone.
        ground_truth: the gold answer: a letter, letters, or text.
        extra_info: further fields of an input line of `eosin score` (question, choices, reference, entities, ...).
        rewards, grammar, max_tokens: see `load_rewards`.
        unscored: the reward of a reply that cannot be scored; None raises.

    Returns:
        {"score": total, "acc": accuracy if it is a term, "term/<name>": value}.

    Raises:
        EosinError: the row is malformed or the reply is unscored, and `unscored` is None.
    """
    info = dict(extra_info or {})
    row = {"id": str(info.get("id", info.get("index", ""))), "reply": solution_str, "answer": ground_truth}
    row |= {k: info[k] for k in _FIELDS if info.get(k) is not None}
    item = item_from_row(row | {"source": data_source})
    if isinstance(item, Unparsed):
        return _without_score(unscored, {"row": item.reason})
    outcome = _load(json.dumps(rewards, default=dict), grammar, max_tokens).score(item.value)
    if outcome.total is None:
        return _without_score(unscored, outcome.unscored)
    result: dict[str, Any] = {"score": outcome.total}
    if outcome.terms.get("accuracy") is not None:
        result["acc"] = outcome.terms["accuracy"]
    return result | {f"term/{k}": v for k, v in outcome.terms.items() if v is not None}


def _without_score(unscored: float | None, reasons: Mapping[str, str]) -> dict[str, Any]:
    if unscored is None:
        raise EosinError(
            "A reply could not be scored, and verl cannot mask it.",
            found="; ".join(f"{k}: {v}" for k, v in reasons.items()),
            next_step="mend the data, or give reward_kwargs.unscored a number and know that it is a reward",
        )
    return {"score": unscored}


@functools.lru_cache(maxsize=8)
def _load(spec: str, grammar: str, max_tokens: int | None) -> RewardSet:
    return load_rewards(json.loads(spec), grammar, max_tokens=max_tokens)
