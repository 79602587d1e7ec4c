"""How a trainer gets the groups of a batch: drawn, scored, and replaced where they teach nothing (dynamic sampling)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl.data_utils import prepare_multimodal_messages

from eosin.core.settings.rl import Algorithm
from eosin.engines.group_decode import EncodedPrompt
from eosin.train.rl.asking import Asking
from eosin.train.rl.groups import (
    NOTHING_VARIES,
    SHORT_BATCH,
    Group,
    PromptStream,
    RolloutCounts,
    flat,
    reward_std,
    totals,
)


class DrawsGroups:
    """The part of `trl_overrides.GroupTrainer` that overrides nothing of TRL's; it stands before TRL's trainer.

    Attributes:
        asking: tells a judge of completions before their rewards are asked for.
        stream, counts: where fresh prompts come from, and what was drawn so far.
    """

    asking: Asking
    algorithm: Algorithm
    counts: RolloutCounts
    stream: PromptStream
    accelerator: Any
    num_generations: int
    reward_weights: Tensor
    train_dataset: Any
    _metrics: Any
    _warn: Callable[[str], None]
    _tokens_drawn: int
    _drawing: list[dict[str, Any]]
    _scored: list[Group]
    _varied: list[bool]
    _filled: int = 0  # groups that were drawn only because another process still lacked some
    _drawn_at: int
    _times_drawn: Counter[int]
    args: Any
    state: Any
    _generate: Callable[..., Any]
    _calculate_rewards: Callable[..., Any]

    def _collect(self, inputs: list[dict[str, Any]]) -> list[Group]:
        """Groups for one batch. With dynamic sampling, groups whose rewards are alike give way to fresh prompts
        (DAPO, arXiv 2503.14476, eq. 11), until every process has enough or the limit is reached.

        Each process draws for the groups that it lacks, from its own part of what all lack: together they choose the
        prompts that one process would. All draw as often, as they wait for each other; what only fills up is not used.
        """
        wanted = len(inputs) // self.num_generations
        self._scored, self._varied, self._filled = [], [], 0
        rows, rounds, own = inputs, 0, wanted
        while True:
            rounds += 1
            sampled = self._sample(rows)
            self._scored += sampled
            self._varied += [varied and i < own for i, varied in enumerate(self._varied_of(sampled))]
            if not self.algorithm.dynamic_sampling:
                chosen = self._scored
                break
            own = max(0, wanted - sum(self._varied))
            missing = self._most(own)
            if missing <= 0 or rounds >= self.algorithm.max_generation_batches:
                chosen = self._varied_first()[:wanted]
                self._tell_short(missing, rounds)
                break
            rows = self._fresh_rows(own, missing)
        self._count(chosen, rounds)
        return chosen

    def _varied_of(self, groups: list[Group]) -> list[bool]:
        return [self.reward_std_of(g) > self.algorithm.min_group_std for g in groups]

    def _varied_first(self) -> list[Group]:
        pairs = list(zip(self._scored, self._varied, strict=True))
        return [g for g, varied in pairs if varied] + [g for g, varied in pairs if not varied]

    def _sample(self, rows: list[dict[str, Any]]) -> list[Group]:
        """Complete and score whole groups of rows."""
        groups = self._draw(rows)
        self._score(groups)
        return groups

    def _draw(self, rows: list[dict[str, Any]]) -> list[Group]:
        """Complete whole groups of rows; a judge begins to read them."""
        return [g for part in self.asking.parts_of(rows, self.num_generations) for g in self._draw_part(part)]

    def _draw_part(self, rows: list[dict[str, Any]]) -> list[Group]:
        self._drawing = rows
        prompts = [prepare_multimodal_messages(r["prompt"], images=r["images"]) for r in rows]
        prompt_ids, completion_ids, _, completions, logprobs, _, images, _ = self._generate(prompts)
        self.asking.drawn(rows, completions, completion_ids)
        self._tokens_drawn += sum(map(len, completion_ids))
        num = self.num_generations
        encoded = self._encoded_prompts()
        return [
            Group(
                rows[i : i + num], prompt_ids[i : i + num], completion_ids[i : i + num], completions[i : i + num],
                None if images is None else images[i : i + num], encoded[i // num] if encoded else None,
                logprobs=None if logprobs is None else logprobs[i : i + num],
            )
            for i in range(0, len(rows), num)
        ]  # fmt: skip

    def _score(self, groups: list[Group]) -> None:
        """Give every completion its rewards."""
        rows, num = flat(g.rows for g in groups), self.num_generations
        prompts = [prepare_multimodal_messages(r["prompt"], images=r["images"]) for r in rows]
        rewards = self._calculate_rewards(
            rows, prompts, flat(g.completions for g in groups), flat(g.completion_ids for g in groups)
        )
        own = rewards[self.accelerator.process_index * len(rows) :][: len(rows)]
        for i, group in enumerate(groups):
            group.rewards = own[i * num : (i + 1) * num]

    def _seeds_of(self, num: int) -> tuple[int, ...] | None:
        """Of every prompt that is drawn for: from seed, step, its row, and how often this step drew for it before. So
        several processes draw what one would have drawn, and a resumed stage what an unbroken one."""
        rows = self._drawing[:: self.num_generations]
        if len(rows) != num:
            return None
        if self._drawn_at != self.state.global_step:
            self._drawn_at, self._times_drawn = self.state.global_step, Counter()
        seeds = []
        for row in rows:
            number = int(row["sample_number"])
            key = [self.args.seed % 2**32, self.state.global_step, number, self._times_drawn[number]]
            seeds.append(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) % 2**63)
            self._times_drawn[number] += 1
        return tuple(seeds)

    def _encoded_prompts(self) -> list[EncodedPrompt] | None:
        return None

    def reward_std_of(self, group: Group) -> float:
        """Standard deviation of a group's totals."""
        return reward_std(totals(group.rewards, self.reward_weights.to(group.rewards.device)))

    def _most(self, number: int) -> int:
        """The largest of this number over all processes, so that all of them go on or stop together."""
        return int(self.accelerator.gather(torch.tensor([number], device=self.accelerator.device)).max())

    def _sum(self, number: float) -> float:
        return float(self.accelerator.gather(torch.tensor([float(number)], device=self.accelerator.device)).sum())

    def _fresh_rows(self, own: int, num: int) -> list[dict[str, Any]]:
        """Rows of `num` prompts, G times each: `own` that are not in the batch yet, then some of this process again."""
        # What all processes have drawn: the stream must advance alike everywhere.
        drawn = [int(g.rows[0]["sample_number"]) for g in self._scored]
        avoid, wished = gather_object(drawn), gather_object([own])
        start = sum(wished[: self.accelerator.process_index])
        numbers = self.stream.take(sum(wished), avoid)[start : start + own]
        numbers += [drawn[i % len(drawn)] for i in range(num - own)]
        self._filled += num - own
        return [row for number in numbers for row in [self.train_dataset[number]] * self.num_generations]

    def _tell_short(self, missing: int, rounds: int) -> None:
        if missing > 0:
            self.counts.short_batches += 1
            self._warn(SHORT_BATCH.format(rounds=rounds, missing=missing))

    def _count(self, chosen: list[Group], rounds: int) -> None:
        num_varied = min(sum(self._varied), len(chosen))
        if self.counts.prompts_seen == 0 and self._sum(sum(self._varied)) == 0:
            self._warn(NOTHING_VARIES)
        seen = len(self._scored) - self._filled
        total, lost = self._sum(seen), self._sum(seen - len(chosen))
        self.counts.prompts_seen += int(total)
        self.counts.groups_dropped += int(lost)
        spreads = [self.reward_std_of(g) for g in self._scored if int((~g.rewards.isnan().all(1)).sum()) > 1]
        scored = self._sum(len(spreads))
        numbers = {
            "groups_kept": self._sum(num_varied),
            "groups_dropped": lost,
            "generation_batches": float(rounds),
        } | ({"group_std": self._sum(sum(spreads)) / scored} if scored else {})
        for name, value in numbers.items():
            self._metrics["train"][name].append(value)
        self._metrics["train"]["prompts_seen"] = [float(self.counts.prompts_seen)]  # a count, not a mean over steps
