"""Sampled rollouts on disk: whole groups, every reward term, and the advantage that each reply got."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosin.core import store
from eosin.scoring.compose import Outcome
from eosin.scoring.item import ScoreItem


@dataclass
class RolloutWriter:
    """Writes every n-th group of scored completions to rollouts.jsonl.

    Attributes:
        step: tells the trainer's step when a batch is scored.
        keep_every: write every n-th group.
    """

    path: Path
    stage: str
    num_generations: int
    keep_every: int
    step: Callable[[], int]
    groups_seen: int = 0

    def __call__(self, items: list[ScoreItem], outcomes: list[Outcome]) -> None:
        rows = [self._row(item, outcome) for item, outcome in zip(items, outcomes, strict=True)]
        for start in range(0, len(rows), self.num_generations):
            number = self.groups_seen
            self.groups_seen += 1
            if number % self.keep_every == 0:
                store.append_jsonl(self.path, with_advantage(rows[start : start + self.num_generations], number))

    def _row(self, item: ScoreItem, outcome: Outcome) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "step": self.step(),
            "sample_id": item.id,
            "question": item.question,
            "answer": item.answer,
            "reply": item.reply,
            "reward": outcome.total,
            "terms": dict(outcome.terms),
            "unscored": dict(outcome.unscored),
            "num_tokens": item.num_tokens,
            "truncated": item.truncated,
        }


def with_advantage(group: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Add the group's number and A_i = (r_i - mean(r)) / (std(r) + 1e-4), as TRL computes it (sample std)."""
    totals = [r["reward"] for r in group if r["reward"] is not None]
    mean = statistics.fmean(totals) if totals else 0.0
    std = statistics.stdev(totals) if len(totals) > 1 else 0.0
    return [
        {**r, "group": number, "advantage": None if r["reward"] is None else (r["reward"] - mean) / (std + 1e-4)}
        for r in group
    ]
