"""Rewards as TRL calls them. TRL sums a row's missing terms as zeros, so it gets ONE function: total or None.

A None row is masked by TRL itself (its advantage is set to 0 and it is left out of the group's statistics).
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.images import RegionReader, load_image
from eosin.core.nouns.outcome import Unparsed
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageRef, Sample
from eosin.scoring.adapters.ahead import Ahead
from eosin.scoring.reading.item import ScoreItem, item_from_sample
from eosin.scoring.sets.by_source import Rewards, SourceRewards
from eosin.scoring.sets.compose import Outcome
from eosin.scoring.sets.rates import base_rates, summarise

KEPT_OUTCOMES = 4096
KEPT_IMAGES = 8
OnBatch = Callable[[list[ScoreItem], list[Outcome]], None]


def _reason(outcome: Outcome) -> str:
    """Why a reply has no total."""
    return next(iter(outcome.unscored.values()), "no term applies")


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


class ImageOpener:
    """Opens images for rewards. The last few are kept: the replies of a group follow each other on one image."""

    def __init__(self, read_region: RegionReader | None = None, keep: int = KEPT_IMAGES) -> None:
        self._read_region = read_region
        self._keep = keep
        self._kept: OrderedDict[ImageRef, Image.Image] = OrderedDict()

    def __call__(self, ref: ImageRef) -> Image.Image:
        """A copy, so that a reward that draws into it changes nobody else's."""
        if ref not in self._kept:
            self._kept[ref] = load_image(ref, self._read_region)
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        self._kept.move_to_end(ref)
        return self._kept[ref].copy()


class TrlReward:
    """A TRL reward function: `GRPOTrainer(reward_funcs=[TrlReward(rewards, items=samples_by_id)])`.

    The data set needs the column `id`; the sample is looked up by it. TRL passes `completion_ids`, from which
    the token count comes, and `log_extra` and `log_metric`, through which every term is logged under its own name.

    Where a judge is asked, a trainer may say early which completions there are (`begin`): their judge is then asked
    while the others are drawn. Without that all completions of a call are asked about side by side.

    Attributes:
        num_replies, unscored: replies scored so far; and how many of them had no total, by reason.

    Args:
        rewards: the reward set, or a set a source (`by_source.stage_rewards` makes either from a recipe).
        samples: id to sample. Rewards see the whole sample and can open its images.
        grammar: another grammar than the set's.
        max_tokens: a completion with this many tokens and without the end token counts as truncated.
        eos_token_ids: end tokens, to tell a truncated completion from one that just fits.
        on_batch: called with items and outcomes, for rollouts on disk.
        read_region: how slide regions are read, for rewards that look at the image.

    Raises:
        EosinError: samples of a source that has no rewards.
    """

    def __init__(
        self,
        rewards: Rewards,
        samples: Mapping[str, Sample],
        *,
        grammar: Grammar | None = None,
        max_tokens: int | None = None,
        eos_token_ids: Sequence[int] = (),
        on_batch: OnBatch | None = None,
        read_region: RegionReader | None = None,
    ) -> None:
        if isinstance(rewards, SourceRewards):
            rewards.check(s.origin.source for s in samples.values())
        self.rewards = rewards
        self.open_ref = ImageOpener(read_region)
        self.samples = samples
        self.grammar = grammar
        self.max_tokens = max_tokens
        self.eos_token_ids = frozenset(eos_token_ids)
        self.on_batch = on_batch
        self.last: deque[Outcome] = deque(maxlen=KEPT_OUTCOMES)
        self.ahead = Ahead(rewards, grammar)
        self.num_replies = 0
        self.unscored: Counter[str] = Counter()
        self.__name__ = "eosin"

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Totals in order, None where unscored."""
        if "id" not in columns:
            raise EosinError(
                "The rows of the trainer have no ids, so no sample can be found for them.",
                expected="the column id",
                found=", ".join(sorted(columns)) or "no columns",
                next_step="give GRPOConfig remove_unused_columns=False and a data set with the column id",
            )
        items = self.items(completions, completion_ids, columns["id"])
        outcomes = self.ahead.take(items)
        self.last.extend(outcomes)
        self.num_replies += len(outcomes)
        self.unscored.update(_reason(o) for o in outcomes if o.total is None)
        self._log(items, outcomes, columns.get("log_extra"), columns.get("log_metric"))
        if self.on_batch is not None:
            self.on_batch(items, outcomes)
        return [o.total for o in outcomes]

    def begin(
        self,
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None,
        ids: Sequence[str],
        places: Sequence[int] | None = None,
    ) -> None:
        """Ask the judge about completions whose rewards will be asked for later; nothing without a judge.

        Args:
            places: the order in which their rewards will be needed.
        """
        self.ahead.begin(self.items(completions, completion_ids, ids), places)

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
                    self.open_ref,
                )
            )
        return made

    def _truncated(self, tokens: Sequence[int] | None) -> bool:
        if not tokens or self.max_tokens is None or len(tokens) < self.max_tokens:
            return False
        return int(tokens[-1]) not in self.eos_token_ids

    def _log(self, items: list[ScoreItem], outcomes: list[Outcome], log_extra: Any, log_metric: Any) -> None:
        if log_extra is not None:
            for name in self.rewards.names:
                log_extra(name, [o.terms.get(name) for o in outcomes])
        if log_metric is not None:
            for key, value in self.metrics(items, outcomes).items():
                log_metric(key, value)

    def metrics(self, items: Sequence[ScoreItem], outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Numbers of one batch: mean and unscored share of every term, over the replies that have it; base rates of
        events; the share of replies that do not parse; and the mean total of every source, where there are several."""
        found: dict[str, float] = {}
        for name in self.rewards.names:
            values = [o.terms[name] for o in outcomes if name in o.terms]
            scored = [v for v in values if v is not None]
            if scored:
                found[f"reward/{name}"] = sum(scored) / len(scored)
            if values:
                found[f"reward/{name}/unscored"] = 1 - len(scored) / len(values)
        found |= {f"reward/{event}": rate["rate"] for event, rate in base_rates(outcomes).items()}
        if items:
            found["unscored_rate"] = sum(o.total is None for o in outcomes) / len(outcomes)
            found["unparsed_rate"] = sum(self._is_unparsed(i) for i in items) / len(items)
        if isinstance(self.rewards, SourceRewards):
            for source in sorted({i.source for i in items}):
                totals = [
                    o.total for i, o in zip(items, outcomes, strict=True) if i.source == source and o.total is not None
                ]
                if totals:
                    found[f"reward_of/{source}"] = sum(totals) / len(totals)
        return found

    def _is_unparsed(self, item: ScoreItem) -> bool:
        rewards = self.rewards.set_of(item.source) if isinstance(self.rewards, SourceRewards) else self.rewards
        return isinstance((self.grammar or rewards.grammar).parse(item.reply), Unparsed)

    def kept(self) -> dict[str, Any]:
        """The last outcomes and the counts as JSON can hold them, for the save of a stage under way."""
        rows = [{k: v for k, v in o.as_row("").items() if k != "id"} for o in self.last]
        counts = {"num_replies": self.num_replies, "unscored": self.unscored, "waited_s": self.ahead.waited_s}
        found: dict[str, Any] = json.loads(json.dumps({"last": rows, **counts}, default=str))
        return found

    def keep(self, kept: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Take back what `kept` gave: a resumed stage's rates and counts are those of all its replies."""
        found: Mapping[str, Any] = kept if isinstance(kept, Mapping) else {"last": kept}
        self.last.clear()
        self.last.extend(Outcome(**row) for row in found["last"])
        self.num_replies = int(found.get("num_replies", 0))
        self.unscored = Counter(found.get("unscored", {}))
        self.ahead.waited_s = float(found.get("waited_s", 0.0))

    def summary(self) -> dict[str, Any]:
        """Spread, base rates and nearly constant terms over the last outcomes, for the record of a run."""
        return summarise(self.last)
