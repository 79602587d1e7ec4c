"""Groups of completions as rows in which the prompt stands once: what the packed loss and its trial run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eosin.engines.group_decode import EncodedPrompt, PromptBatch
from eosin.models.shared_prefix import Backend, Packed


@dataclass(frozen=True)
class PackedRows:
    """n groups as rows of [prompt without its last token | G x (last prompt token, completion without its last)].

    Attributes:
        ids, labels: (n, P + G C); labels stand where they are predicted, -100 elsewhere.
        positions: (3 or 1, n, P + G C); every completion goes on from the end of the prompt.
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor
    pattern: Packed
    pixels: dict[str, Tensor]

    @property
    def prompt_length(self) -> int:
        return int(self.pattern.is_prompt.shape[1])


def pack(
    prompts: Sequence[EncodedPrompt], completion_ids: Tensor, in_loss: Tensor, pad_id: int, backend: Backend = "split"
) -> PackedRows:
    """Rows of n groups.

    Args:
        prompts: n prompts.
        completion_ids: (n G, C), padded on the right.
        in_loss: (n G, C), False at padding and in masked completions.
    """
    batch = PromptBatch.of(prompts, pad_id)
    n, length = len(prompts), completion_ids.shape[1]
    num = completion_ids.shape[0] // n
    first = batch.last_ids.repeat_interleave(num)[:, None]
    inputs = torch.cat((first, completion_ids[:, :-1]), 1)
    labels = completion_ids.masked_fill(~in_loss, -100)
    steps = torch.arange(length, device=inputs.device)
    own = (batch.last_positions[:, :, None, None] + steps).expand(-1, -1, num, -1)
    return PackedRows(
        torch.cat((batch.ids, inputs.reshape(n, -1)), 1),
        torch.cat((torch.full_like(batch.ids, -100), labels.reshape(n, -1)), 1),
        torch.cat((batch.positions, own.reshape(own.shape[0], n, -1)), 2),
        Packed(batch.is_prompt, num, length, backend),
        batch.pixels,
    )
