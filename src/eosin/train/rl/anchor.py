"""An anchor inside RL: beside the policy loss, cross-entropy of gold replies, so that what SFT taught is not unlearnt.

The loss of an optimiser step is L + w C: L the policy's, w the weight, and C the mean over the tokens of this step's
gold replies of -log pi(token), at temperature 1. It is the supervised term that InstructGPT mixes into its policy
gradient (arXiv 2203.02155, eq. 2), with gold replies to the stage's own questions in place of pretraining text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import ProcessorMixin

from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.ranks import num_ranks, rank
from eosin.core.settings.rl import AnchorSettings
from eosin.train.data.collate import MaskedCollator
from eosin.train.rl.groups import row_at


class Anchor:
    """Gold replies of a stage, in an order that follows from the seed, and their loss.

    Args:
        rows: question and gold reply of every sample that may be drawn (`train.data.rows.sft_row`).
        seed: of the order: one permutation after the other, another than the trainer's.
    """

    def __init__(self, settings: AnchorSettings, rows: Dataset, processor: ProcessorMixin, seed: int) -> None:
        self.weight, self.num = settings.weight, settings.batch_size
        self._rows, self._seed = rows, seed
        self._collate = MaskedCollator(processor)

    def rows_of(self, step: int, part: int, parts: int) -> list[int]:
        """Row numbers of a micro-batch of this process: a function of seed and place, so a resumed stage goes on."""
        begin = ((step * parts + part) * num_ranks() + rank()) * self.num
        return [row_at(place, len(self._rows), self._seed, 78) for place in range(begin, begin + self.num)]

    def loss(self, model: Any, rows: Sequence[int], device: torch.device) -> Tensor:
        """Mean cross-entropy (nats a token) of the gold replies of these rows; a scalar with a gradient."""
        shown = self._rows[list(rows)]
        batch = self._collate([{key: shown[key][i] for key in shown} for i in range(len(rows))])
        found: Tensor = model(**{k: v.to(device) for k, v in batch.items()}).loss
        return found


class Anchored:
    """What a trainer with an anchor adds to the loss: a mixin before `GRPOTrainer`, idle without an anchor.

    Attributes:
        anchor: the gold replies, or None.
    """

    anchor: Anchor | None = None
    _anchored: tuple[int, int] = (-1, -1)  # step and part of the last loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """TRL's loss, plus the weighted loss of this micro-batch's gold replies."""
        me: Any = self
        loss: Tensor = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        if self.anchor is None or not me.model.training:
            return loss
        step, parts = me.state.global_step, me.current_gradient_accumulation_steps
        part = self._anchored[1] + 1 if self._anchored[0] == step else 0
        self._anchored = step, part
        gold = self.anchor.loss(model, self.anchor.rows_of(step, part, parts), loss.device)
        me._metrics["train"]["anchor_loss"].append(me.accelerator.gather(gold.detach()).mean().item())
        return loss + self.anchor.weight * gold / parts


def anchor_samples(train: Sequence[Sample], grammar: Grammar, where: str) -> list[Sample]:
    """Those whose gold reply is whole: with reasoning, where the reply has it.

    Raises:
        EosinError: none is.
    """
    whole = [s for s in train if s.reasoning or "think" not in grammar.tags]
    if not whole:
        raise EosinError(
            "An anchor needs samples with a gold chain.", expected="samples with `reasoning`",
            found=f"{len(train)} samples without", where=where, next_step="take anchor out of the stage",
        )  # fmt: skip
    return whole
