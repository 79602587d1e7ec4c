"""The rewards of an exported stage, as another trainer asks for them: read from the folder that `eosin export` wrote.

The folder holds recipe.yaml (resolved) and samples.parquet. A reply is scored by the very reward set that the stage
itself would use, against the whole sample, so that rewards which look at the picture work where the trainer hands over
text alone. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.formats import read_samples
from eosin.core.nouns.sample import Sample
from eosin.core.settings.recipe import load_recipe
from eosin.core.settings.stages import RlStage
from eosin.scoring.adapters.trl import ImageOpener, completion_text
from eosin.scoring.reading.item import ScoreItem, item_from_sample
from eosin.scoring.resources.build import tools_of
from eosin.scoring.sets.by_source import Rewards, stage_rewards
from eosin.scoring.sets.compose import Outcome


class ExportedRewards:
    """The rewards of one stage.

    Args:
        folder: of the export.
        stage: name of the RL stage.
    """

    def __init__(self, folder: str | Path, stage: str) -> None:
        self._folder = Path(folder)
        self._stage = stage
        self._open = ImageOpener()

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """By id."""
        return {s.id: s for s in read_samples(self._folder / "samples.parquet").kept}

    @cached_property
    def rewards(self) -> Rewards:
        """As the stage has them.

        Raises:
            EosinError: the folder's recipe has no such RL stage.
        """
        recipe = load_recipe(self._folder / "recipe.yaml").recipe
        stage = recipe.stages.get(self._stage)
        if not isinstance(stage, RlStage):
            raise EosinError("This export has no such RL stage.", found=self._stage, where=self._folder)
        sources = {s.origin.source for s in self.samples.values()}
        return stage_rewards(stage, recipe.reply_grammar, sources, **tools_of(stage.scoring).as_injected())

    def item(self, id: str, reply: str, num_tokens: int | None = None, truncated: bool = False) -> ScoreItem:
        """A reply with all that is known of its question.

        Raises:
            EosinError: no sample has this id.
        """
        if id not in self.samples:
            raise EosinError("No exported sample has this id.", found=str(id)[:80], where=self._folder)
        return item_from_sample(self.samples[id], reply, num_tokens, truncated, self._open)

    async def verl(
        self, solution_str: str, extra_info: Mapping[str, Any] | None, unscored: float | None
    ) -> dict[str, Any]:
        """What verl's `compute_score` returns: {"score": total, "acc": accuracy, "term/NAME": value}.

        Args:
            extra_info: holds the sample's `id`; and `num_tokens` and `truncated` where somebody puts them there: verl
                itself does not.
            unscored: the reward of a reply that has none, which verl cannot mask; None raises.
        """
        info = dict(extra_info or {})
        item = self.item(str(info.get("id", "")), solution_str, info.get("num_tokens"), bool(info.get("truncated")))
        [outcome] = await self.rewards.ascore_batch([item])
        total = outcome.total if outcome.total is not None else unscored
        if total is None:
            raise EosinError(
                "A reply could not be scored, and verl cannot mask it.",
                found="; ".join(f"{k}: {v}" for k, v in outcome.unscored.items()), where=item.id,
                next_step="mend the data, or give UNSCORED in rewards.py a number and know that it is a reward",
            )  # fmt: skip
        named = {f"term/{k}": v for k, v in outcome.terms.items() if v is not None}
        accuracy = outcome.terms.get("accuracy")
        return {"score": total, **({} if accuracy is None else {"acc": accuracy}), **named}

    async def swift(
        self, completions: Sequence[Any], columns: Mapping[str, Any], max_tokens: int
    ) -> list[float | None]:
        """Totals as an ms-swift reward returns them, None where unscored: its rows hold the column `sample_id`."""
        ids = columns["sample_id"]
        tokens = columns.get("response_token_ids") or [None] * len(completions)
        items = []
        for id, completion, own in zip(ids, completions, tokens, strict=True):
            num = None if own is None else sum(len(turn) if isinstance(turn, list) else 1 for turn in own)
            items.append(self.item(str(id), completion_text(completion), num, num is not None and num >= max_tokens))
        outcomes: list[Outcome] = await self.rewards.ascore_batch(items)
        return [o.total for o in outcomes]
