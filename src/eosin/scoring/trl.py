"""Rewards as TRL calls them. TRL sums a row's missing terms as zeros, so it gets ONE function: total or None.

A None row is masked by TRL itself (its advantage is set to 0 and it is left out of the group's statistics).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eosin.core.reply import Grammar
from eosin.core.sample import Sample
from eosin.scoring.compose import Outcome, RewardSet
from eosin.scoring.item import ScoreItem, item_from_sample
from eosin.scoring.rates import base_rates, summarise

KEPT_OUTCOMES = 4096
OnBatch = Callable[[list[ScoreItem], list[Outcome]], None]


def completion_text(completion: object) -> str:
    """The text of a TRL completion: a string, or a list of messages with text content."""
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Mapping):
        completion = [completion]
    if not isinstance(completion, Sequence):
        return ""
    return "".join(_content(m.get("content")) for m in completion if isinstance(m, Mapping))


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(str(p.get("text", "")) for p in content if isinstance(p, Mapping) and p.get("type") == "text")
    return ""


class TrlReward:
    """A TRL reward function: `GRPOTrainer(reward_funcs=[TrlReward(rewards, items=samples_by_id)])`.

    The data set needs the column `id`; the sample is looked up by it. TRL passes `completion_ids`, from which
    the token count comes, and `log_extra` and `log_metric`, through which every term is logged under its own name.

    Args:
        rewards: the reward set.
        samples: id to sample.
        grammar: another grammar than the set's.
        max_tokens: a completion with this many tokens and without the end token counts as truncated.
        eos_token_ids: end tokens, to tell a truncated completion from one that just fits.
        on_batch: called with items and outcomes, for rollouts on disk.
    """

    def __init__(
        self,
        rewards: RewardSet,
        samples: Mapping[str, Sample],
        *,
        grammar: Grammar | None = None,
        max_tokens: int | None = None,
        eos_token_ids: Sequence[int] = (),
        on_batch: OnBatch | None = None,
    ) -> None:
        self.rewards = rewards
        self.samples = samples
        self.grammar = grammar
        self.max_tokens = max_tokens
        self.eos_token_ids = frozenset(eos_token_ids)
        self.on_batch = on_batch
        self.last: deque[Outcome] = deque(maxlen=KEPT_OUTCOMES)
        self.__name__ = "eosin"

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Totals in order, None where unscored."""
        items = self.items(completions, completion_ids, columns["id"])
        outcomes = self.rewards.score_batch(items, self.grammar)
        self.last.extend(outcomes)
        self._log(outcomes, columns.get("log_extra"), columns.get("log_metric"))
        if self.on_batch is not None:
            self.on_batch(items, outcomes)
        return [o.total for o in outcomes]

    def items(
        self, completions: Sequence[Any], completion_ids: Sequence[Sequence[int]] | None, ids: Sequence[str]
    ) -> list[ScoreItem]:
        """The completions as items. `len(completions) == len(ids)`."""
        made = []
        for i, (completion, id) in enumerate(zip(completions, ids, strict=True)):
            tokens = completion_ids[i] if completion_ids is not None else None
            made.append(
                item_from_sample(
                    self.samples[id],
                    completion_text(completion),
                    None if tokens is None else len(tokens),
                    self._truncated(tokens),
                )
            )
        return made

    def _truncated(self, tokens: Sequence[int] | None) -> bool:
        if not tokens or self.max_tokens is None or len(tokens) < self.max_tokens:
            return False
        return int(tokens[-1]) not in self.eos_token_ids

    def _log(self, outcomes: list[Outcome], log_extra: Any, log_metric: Any) -> None:
        for name in self.rewards.names:
            values = [o.terms[name] for o in outcomes]
            if log_extra is not None:
                log_extra(name, values)
            scored = [v for v in values if v is not None]
            if log_metric is not None:
                if scored:
                    log_metric(f"reward/{name}", sum(scored) / len(scored))
                log_metric(f"reward/{name}/unscored", 1 - len(scored) / max(1, len(values)))
        if log_metric is not None:
            for event, rate in base_rates(outcomes).items():
                log_metric(f"reward/{event}", rate["rate"])

    def summary(self) -> dict[str, Any]:
        """Spread, base rates and nearly constant terms over the last outcomes, for the record of a run."""
        return summarise(self.last)
