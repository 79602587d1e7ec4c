"""Log-probabilities of completions with the prompt computed once a group, gradients included.

Plain training repeats prompt and image for each of the G completions: G (P + C) tokens a group. Here a group is one
row of P + G C tokens. docs/rl.md derives why the result is the same; tests/train/test_shared_prefix.py holds it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eosin.engines.group_decode import for_model
from eosin.engines.packed_rows import PackedRows
from eosin.engines.reply_automaton import ReplyAutomaton
from eosin.models.shared_prefix import PatternMask


def packed_logprobs(model: Any, rows: PackedRows, held: ReplyAutomaton | None = None) -> tuple[Tensor, Tensor | None]:
    """Log-probability and entropy of every completion token: (n G, C) each, 0 where not in the loss.

    The entropy is None where the model's head does not compute it (a reference model).

    `model` has TRL's fused head (`add_fused_lm_head`), which divides the logits by the sampling temperature and takes
    labels that already stand where they are predicted.

    Args:
        held: the automaton that the model's head is held to (`train.label_head`).
    """
    size, num, length = rows.prompt_length, rows.pattern.num, rows.pattern.length
    states = {} if held is None else {"reply_states": states_of_packed(held, rows.labels, size, num)}
    out = model(
        input_ids=rows.ids, position_ids=for_model(rows.positions), shift_labels=rows.labels, fused_lm_head=True,
        attention_mask=PatternMask.of(rows.pattern, rows.ids.device), **states, **rows.pixels,
    )  # fmt: skip
    shape = (len(rows.ids) * num, length)
    entropy = None if out.entropy is None else out.entropy[:, size:].reshape(shape)
    return out.log_probs[:, size:].reshape(shape), entropy


def states_of_packed(automaton: ReplyAutomaton, labels: Tensor, prompt_length: int, num: int) -> Tensor:
    """States of packed rows: (n, P + G C) of labels that stand where they are predicted (`engines.packed_rows`)."""
    own = labels[:, prompt_length:]
    states = automaton.states(own.reshape(len(own) * num, -1)).reshape(own.shape)
    return torch.cat((torch.zeros_like(labels[:, :prompt_length]), states), 1)
