"""Reward terms in an exam: its greedy replies scored as in training, by rules, an encoder or a judge.

They stand beside the exam's own score and never change it. A reply that a judge gave no verdict on has no number; where
too many have none, the exam stops and nothing is written. Verdicts that are kept on disk are not asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.images import RegionReader
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.statistics.mean_intervals import mean_interval
from eosin.scoring.adapters.trl import ImageOpener
from eosin.scoring.reading.item import item_from_sample
from eosin.scoring.sets.compose import Outcome, RewardSet
from eosin.scoring.sets.rates import summarise

Row = Mapping[str, Any]
BATCH = 256


def score_terms(
    rewards: RewardSet,
    samples: Sequence[Sample],
    rows: Mapping[str, Row],
    settings: ExamSettings,
    read_region: RegionReader | None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of every term, and a row a reply.

    Args:
        rows: graded rows by sample id, with `reply`, `num_tokens`, `truncated` and `group`.

    Returns:
        For summary.json: label; for the total and each term n, unscored, mean and its interval over clusters; reasons;
        base rates of events; how a judge's events agree with the rules'; what the judge was asked and cost.

    Raises:
        EosinError: more than `settings.max_unscored` of the replies have no score of a term for want of a judge.
    """
    opener = ImageOpener(read_region)
    outcomes: list[Outcome] = []
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        outcomes += rewards.score_batch(
            [
                item_from_sample(s, rows[s.id]["reply"], rows[s.id]["num_tokens"], rows[s.id]["truncated"], opener)
                for s in batch
            ]
        )
        _stop_in_an_outage(outcomes, settings, rewards)
    groups = [str(rows[s.id]["group"]) for s in samples]
    spread = summarise(outcomes)
    figures = {
        "rewards": rewards.described(),
        "total": _figure([o.total for o in outcomes], groups, settings),
        "terms": {n: _figure([o.terms.get(n) for o in outcomes], groups, settings) for n in rewards.names},
        "unscored": spread["unscored"],
        "base_rates": spread["base_rates"],
        "judge_and_rules": spread.get("judge_and_rules", {}),
        "judge": _judge(rewards),
    }
    return figures, [{**o.as_row(s.id), "group": g} for s, o, g in zip(samples, outcomes, groups, strict=True)]


def _figure(values: Sequence[float | None], groups: Sequence[str], settings: ExamSettings) -> dict[str, Any]:
    pairs = [(v, g) for v, g in zip(values, groups, strict=True) if v is not None]
    found: dict[str, Any] = {"n": len(pairs), "unscored": len(values) - len(pairs), "mean": None, "ci95": None}
    if not pairs:
        return found
    mean, interval = mean_interval(
        [v for v, _ in pairs], [g for _, g in pairs], resamples=settings.bootstrap, seed=settings.seed
    )
    return found | {"mean": mean, "ci95": interval.pair}


def _judge(rewards: RewardSet) -> dict[str, Any] | None:
    judge = rewards.resources.judge
    return judge.described() if rewards.uses_server and judge is not None else None


def _stop_in_an_outage(outcomes: Sequence[Outcome], settings: ExamSettings, rewards: RewardSet) -> None:
    """Refuse figures of the few replies that a judge answered on in an outage."""
    asked = [p.name for p in rewards.all_parts if p.term.uses_server(rewards.resources)]
    for name in asked:
        lost = [o.unscored[name] for o in outcomes if o.unscored.get(name, "").startswith("judge:")]
        if len(lost) > settings.max_unscored * len(outcomes):
            raise EosinError(
                "The judge gave no verdict on too many replies of this exam.",
                expected=f"at most {settings.max_unscored:.0%} of the replies without a score of {name} (max_unscored)",
                found=f"{len(lost)} of {len(outcomes)}: {max(set(lost), key=lost.count)}",
                next_step="see to the judge, then give the same command again: verdicts that were kept are not asked "
                "for again",
            )
