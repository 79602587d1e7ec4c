"""Rejection sampling, then SFT: of G drawn replies to a question the best one is learned, if it stands out."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from eosin.core.draw import subset
from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.core.nouns.prompt import gold_reply
from eosin.core.nouns.sample import Sample
from eosin.core.settings.stages import RejectionStage
from eosin.core.store import artifacts as store
from eosin.engines.base import Decoding, Generation
from eosin.engines.group_sampler import SamplesGroups, groups_of
from eosin.engines.requests import requests_of
from eosin.scoring.adapters.trl import ImageOpener
from eosin.scoring.reading.item import item_from_sample
from eosin.scoring.sets.by_source import Rewards, SourceRewards, departures, stage_rewards
from eosin.scoring.sets.compose import Outcome
from eosin.train.data.lengths import check_lengths, of_replies
from eosin.train.data.rows import reply_row
from eosin.train.rl.difficulty import seed_of
from eosin.train.rl.rewards import say_rewards, usage_of
from eosin.train.stages.base import StageContext, StageResult
from eosin.train.stages.sft import train_on_pairs

console = Console(stderr=True, highlight=False, soft_wrap=True)

DRAWN = "drawn.jsonl"


def run(settings: RejectionStage, ctx: StageContext) -> StageResult:
    """Draw from the model that `ctx.loaded` holds, then train it on the best replies."""
    asked = subset([s for s in ctx.train if s.answer is not None], settings.max_samples, ctx.seed)
    if not asked:
        raise EosinError("No training sample has an answer.", where=f"stages.{ctx.name}")
    lengths = of_replies(asked, ctx.loaded, ctx.grammar, ctx.prompt, settings.max_new_tokens, ctx.seed)
    record = check_lengths(lengths, settings, f"stages.{ctx.name}")
    rewards = stage_rewards(settings, ctx.grammar, {s.origin.source for s in asked}, **ctx.tools.as_injected())
    described = store.as_json(rewards.described(), f"stages.{ctx.name}.rewards")  # found before anything is drawn
    say_rewards(rewards)
    rows = Drawing(settings, ctx, rewards).run(asked)
    chosen = [choose(row, settings, maximum_of(rewards, row["source"])) for row in rows]
    replies = {row["id"]: reply for row, reply in zip(rows, chosen, strict=True) if isinstance(reply, str)}
    dropped = [reply for reply in chosen if isinstance(reply, Dropped)]
    _refuse_nothing(ctx, replies, dropped)
    learned = with_gold([s for s in asked if s.id in replies], asked, settings, ctx.seed)
    shown = [*learned, *ctx.valid]  # the loss on the valid split is that of its gold replies
    texts = {s.id: replies.get(s.id) or gold_reply(s, ctx.grammar, ctx.prompt.answer) for s in shown}
    facts = facts_of(rows, replies, dropped, len(learned))
    console.print(f"  {facts['num_learned']} of {facts['num_questions']} questions have a reply that stands out")
    result = train_on_pairs(settings, replace(ctx, train=learned), reply_row(ctx.grammar, ctx.prompt, texts))
    result.extra |= {"drawn": facts, "lengths": record, "rewards": described}
    result.extra["rewards_changed"] = departures(rewards)
    if (usage := usage_of(rewards)) is not None:
        result.extra["judge"] = usage.as_dict()
    return result


@dataclass
class Drawing:
    """Draws and scores replies batch by batch into drawn.jsonl; what stands there is not drawn again."""

    settings: RejectionStage
    ctx: StageContext
    rewards: Rewards

    def run(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """One row a question, in the order of `samples`: id, source, replies, rewards (None where unscored)."""
        file = self.ctx.folder / DRAWN
        done = {row["id"]: row for row in store.read_jsonl(file)} if file.exists() else {}
        left = [s for s in samples if s.id not in done]
        size = max(1, self.settings.sample_batch_size // self.settings.num_generations)
        sampler = groups_of(self.ctx.loaded) if left else None
        for start in range(0, len(left), size):
            assert sampler is not None
            rows = self._batch(sampler, left[start : start + size])
            store.append_jsonl(file, rows)
            done |= {row["id"]: row for row in rows}
            console.print(f"  drawn: {len(done)} of {len(samples)} questions", end="\r")
        return [done[s.id] for s in samples]

    def _batch(self, sampler: SamplesGroups, batch: Sequence[Sample]) -> list[dict[str, Any]]:
        pictures = self.ctx.pictures(self.settings.image_cache_gib)
        instruction = self.ctx.prompt.instruction
        requests, faults = requests_of(batch, pictures.get, self.ctx.grammar, instruction=instruction)
        shown = [s for s in batch if s.id not in faults]
        rows: list[dict[str, Any]] = [
            {"id": s.id, "source": s.origin.source, "fault": faults[s.id].message} for s in batch if s.id in faults
        ]
        if requests:
            decoding = Decoding(
                max_new_tokens=self.settings.max_new_tokens, temperature=self.settings.temperature,
                batch_size=self.settings.sample_batch_size, seed=seed_of(self.ctx.seed, batch[0].id),
            )  # fmt: skip
            groups = sampler.sample(requests, self.settings.num_generations, decoding)
            rows += self._scored(shown, groups)
        return rows

    def _scored(self, samples: Sequence[Sample], groups: Sequence[Sequence[Generation]]) -> list[dict[str, Any]]:
        """Rows with the rewards of all replies; a judge is asked about them side by side."""
        opener = ImageOpener(self.ctx.read_region)
        pairs = [(s, g) for s, group in zip(samples, groups, strict=True) for g in group]
        items = [item_from_sample(s, g.text, g.num_tokens, g.truncated, opener) for s, g in pairs]
        outcomes = self.rewards.score_batch(items)
        self._stop_in_an_outage(outcomes)
        totals = iter([None if g.truncated else o.total for (_, g), o in zip(pairs, outcomes, strict=True)])
        return [
            {
                "id": sample.id, "source": sample.origin.source, "replies": [g.text for g in group],
                "rewards": [next(totals) for _ in group],
            }
            for sample, group in zip(samples, groups, strict=True)
        ]  # fmt: skip

    def _stop_in_an_outage(self, outcomes: Sequence[Outcome]) -> None:
        """Refuse replies that were drawn while the judge was away; what was scored before stands on disk."""
        lost = [r for o in outcomes for r in o.unscored.values() if o.total is None and r.startswith("judge:")]
        limit = self.settings.outage
        if limit is not None and len(lost) > limit.max_unscored * len(outcomes):
            raise EosinError(
                "Too many replies have no reward, and the stage was stopped.",
                expected=f"at most {limit.max_unscored:.0%} of the replies drawn together (outage.max_unscored)",
                found=f"{len(lost)} of {len(outcomes)}: {max(set(lost), key=lost.count)}",
                where=f"stages.{self.ctx.name}",
                next_step="see to the judge (docs/scoring.md), then give the same command again",
            )


def maximum_of(rewards: Rewards, source: str) -> float:
    """The largest reward that a reply to a question of this source can earn."""
    return (rewards.set_of(source) if isinstance(rewards, SourceRewards) else rewards).maximum


def choose(row: Mapping[str, Any], settings: RejectionStage, maximum: float) -> str | Dropped:
    """The best reply of a group, or why none is learned. Of equal ones the first that was drawn.

    Args:
        row: of drawn.jsonl.
        maximum: the largest reward that a reply to this question can earn.
    """
    step = "rejection"
    if "fault" in row:
        return Dropped(row["id"], "the image cannot be read", row["fault"], step)
    scored = [(value, -i) for i, value in enumerate(row["rewards"]) if value is not None]
    if not scored:
        return Dropped(row["id"], "no reply could be scored", step=step)
    best, place = max(scored)
    mean = statistics.fmean(value for value, _ in scored)
    if best < settings.min_share * maximum:
        return Dropped(row["id"], "the best reply earns too little", f"{best:.3f} of {maximum:g}", step)
    if best - mean <= settings.margin:
        return Dropped(row["id"], "no reply stands out", f"{best:.3f}, mean {mean:.3f}", step)
    return str(row["replies"][-place])


def with_gold(learned: list[Sample], asked: Sequence[Sample], settings: RejectionStage, seed: int) -> list[Sample]:
    """The learned questions, and so many others, with their gold replies, that these are `gold_share` of all."""
    known = {s.id for s in learned}
    others = [s for s in asked if s.id not in known]
    num = round(len(learned) * settings.gold_share / (1 - settings.gold_share))
    return learned + (subset(others, num, seed) if num else [])


def facts_of(
    rows: Sequence[Mapping[str, Any]], replies: Mapping[str, str], dropped: Sequence[Dropped], num_rows: int
) -> dict[str, Any]:
    """What stage.json says of the drawing; learned and dropped add up to the questions."""
    scored = [[v for v in row.get("rewards", []) if v is not None] for row in rows]
    scored = [values for values in scored if values]
    return {
        "num_questions": len(rows), "num_learned": len(replies), "num_rows": num_rows,
        "dropped": Filtered((), tuple(dropped)).reasons(),
        "mean_reward": statistics.fmean(statistics.fmean(v) for v in scored) if scored else None,
        "mean_best": statistics.fmean(max(v) for v in scored) if scored else None,
    }  # fmt: skip


def _refuse_nothing(ctx: StageContext, replies: Mapping[str, str], dropped: Sequence[Dropped]) -> None:
    if replies:
        return
    reasons = {d.reason for d in dropped}
    raise EosinError(
        "No drawn reply is worth learning.", expected="replies whose reward stands out of their group",
        found=", ".join(sorted(reasons)), where=f"stages.{ctx.name}",
        next_step="raise temperature, lower margin or min_share, or train longer in the sft stage",
    )  # fmt: skip
