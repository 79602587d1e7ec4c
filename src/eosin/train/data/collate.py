"""The batch that SFT is given: TRL's own, with what stands before a row's cut taken out of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import ProcessorMixin
from trl.data_utils import apply_chat_template
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from eosin.core.errors import EosinError

NOT_IN_LOSS = -100


class MaskedCollator:
    """TRL's vision-language collator, whose labels are then -100 up to a row's cut.

    A row may hold `cut`: the number of characters at the beginning of the assistant's text that are context without
    loss. A token that straddles the cut is in the loss. Rows without it are as TRL gives them. Images and bags alike:
    only labels are touched, and the tokens of a row are the same whatever its cut.

    Args:
        max_length: tokens after which a row is cut off; None for none.
    """

    def __init__(self, processor: ProcessorMixin, max_length: int | None = None) -> None:
        self.processor = processor
        self.whole = DataCollatorForVisionLanguageModeling(
            processor=processor, max_length=max_length, completion_only_loss=True
        )

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """A batch: input_ids, attention_mask, labels (B, T), pixels, and what else the processor makes."""
        cuts = [int(row.get("cut") or 0) for row in rows]
        contexts = [self.context(row, cut) if cut else [] for row, cut in zip(rows, cuts, strict=True)]
        batch: dict[str, Tensor] = self.whole([dict(row) for row in rows])
        for i, context in enumerate(contexts):
            self._mask(batch, i, context)
        return batch

    def _mask(self, batch: dict[str, Tensor], i: int, context: list[int]) -> None:
        in_loss = (batch["labels"][i] != NOT_IN_LOSS).nonzero()[:, 0]
        if not context or not len(in_loss):
            return
        start = int(in_loss[0])  # where the reply begins
        stop = min(start + len(context), batch["labels"].shape[1])
        if batch["input_ids"][i, start:stop].tolist() != context[: stop - start]:
            raise EosinError(
                "The tokens of a reply are not those of its text: the loss cannot be masked.",
                expected=self.processor.tokenizer.decode(context)[:80],
                found=self.processor.tokenizer.decode(batch["input_ids"][i, start:stop])[:80],
                next_step="take trajectory out of the stage, or use a tokenizer that keeps texts as they are",
            )
        batch["labels"][i, start:stop] = NOT_IN_LOSS

    def context(self, row: dict[str, Any], cut: int) -> list[int]:
        """The tokens of a row's reply that end at or before character `cut` of the assistant's text.

        Raises:
            EosinError: the chat template changes the reply, or the tokenizer cannot tell where its tokens lie.
        """
        reply = "".join(p["text"] for p in row["completion"][-1]["content"])
        rendered = apply_chat_template({"prompt": row["prompt"], "completion": row["completion"]}, self.processor)[
            "completion"
        ]
        begin = rendered.find(reply)
        if begin < 0:
            raise EosinError(
                "The chat template of this model changes the reply: the loss cannot be masked within it.",
                expected=reply[:80], found=rendered[:80], next_step="take trajectory out of the stage",
            )  # fmt: skip
        tokenizer = self.processor.tokenizer
        if not tokenizer.is_fast:
            raise EosinError(
                "This tokenizer does not tell which characters its tokens stand for.", expected="a fast tokenizer",
                found=type(tokenizer).__name__, next_step="take trajectory out of the stage",
            )  # fmt: skip
        coded = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
        num = sum(end <= begin + cut for _, end in coded["offset_mapping"])
        return list(coded["input_ids"][:num])


def spans_in_loss(labels_T: Tensor) -> list[tuple[int, int, bool]]:
    """Runs of a row (first, behind the last, in loss), in order and without gaps."""
    in_loss = labels_T != NOT_IN_LOSS
    edges = [0, *((in_loss[1:] != in_loss[:-1]).nonzero()[:, 0] + 1).tolist(), len(in_loss)]
    return [(a, b, bool(in_loss[a])) for a, b in zip(edges[:-1], edges[1:], strict=True) if b > a]


def trim_padding(batch: dict[str, Tensor], i: int) -> tuple[Tensor, Tensor]:
    """Tokens and labels of one row without padding."""
    real = batch["attention_mask"][i].to(torch.bool)
    return batch["input_ids"][i][real], batch["labels"][i][real]
