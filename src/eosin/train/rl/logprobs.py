"""Log-probabilities of completions as RL needs them, gradients included: with the prompt computed once a group, and
under the mask of the reply grammar.

Plain training repeats prompt and image for each of the G completions: G (P + C) tokens a group. Here a group is one
row of P + G C tokens. docs/rl.md derives why the result is the same; tests/train/test_shared_prefix.py holds it.

`hold` stands in front of TRL's fused forward: for the same call it gives the same fields, of the masked and
renormalised policy (`engines.reply_automaton`). Only positions with a label are projected, a piece at a time, and a
piece's logits are computed anew in the backward pass, so that no logits of a batch are kept.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from trl.trainer.utils import FusedCausalLMOutput

from eosin.core.errors import EosinError
from eosin.engines.group_decode import for_model
from eosin.engines.packed_rows import PackedRows
from eosin.engines.reply_automaton import ReplyAutomaton
from eosin.models.shared_prefix import PatternMask

PIECE = 512
_SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def packed_logprobs(model: Any, rows: PackedRows, held: ReplyAutomaton | None = None) -> tuple[Tensor, Tensor | None]:
    """Log-probability and entropy of every completion token: (n G, C) each, 0 where not in the loss.

    The entropy is None where the model's head does not compute it (a reference model).

    `model` has TRL's fused head (`add_fused_lm_head`), which divides the logits by the sampling temperature and takes
    labels that already stand where they are predicted.

    Args:
        held: the automaton that the model's head is held to (`hold`).
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


def hold(model: Any, automaton: ReplyAutomaton, temperature: float) -> None:
    """Give a transformers model, which has TRL's fused head, log-probabilities under the mask.

    Args:
        temperature: what logits are divided by, as TRL's head was told.

    Raises:
        EosinError: the family multiplies its logits.
    """
    config = model.config.get_text_config()
    scaled = [name for name in _SCALES if getattr(config, name, None) not in (None, 1.0)]
    if scaled:
        raise EosinError("Drawing cannot be held to a grammar with a model that scales its logits.",
                         found=f"{scaled[0]} in its config", next_step="leave constrain out")  # fmt: skip
    softcap = getattr(config, "final_logit_softcapping", None)
    fused = model.forward

    @functools.wraps(fused)
    def held(
        *args: Any, fused_lm_head: bool = False, labels: Tensor | None = None, shift_labels: Tensor | None = None,
        num_items_in_batch: Any = None, reply_states: Tensor | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        given = {"labels": labels, "shift_labels": shift_labels, "num_items_in_batch": num_items_in_batch}
        if not fused_lm_head:
            return fused(*args, **{k: v for k, v in given.items() if v is not None}, **kwargs)
        hidden = model.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state
        if shift_labels is None:
            assert labels is not None
            hidden, shift_labels = hidden[:, :-1], labels[:, 1:]
        states = automaton.states(shift_labels) if reply_states is None else reply_states
        found = _scored(model.get_output_embeddings(), hidden, shift_labels, states, automaton, temperature, softcap)
        return FusedCausalLMOutput(log_probs=found[0], entropy=found[1], label_mask=shift_labels >= 0)

    model.forward = held


def states_of_packed(automaton: ReplyAutomaton, labels: Tensor, prompt_length: int, num: int) -> Tensor:
    """States of packed rows: (n, P + G C) of labels that stand where they are predicted (`engines.packed_rows`)."""
    own = labels[:, prompt_length:]
    states = automaton.states(own.reshape(len(own) * num, -1)).reshape(own.shape)
    return torch.cat((torch.zeros_like(labels[:, :prompt_length]), states), 1)


def _scored(
    head: Any, hidden: Tensor, labels: Tensor, states: Tensor, automaton: ReplyAutomaton, temperature: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Log-probability and entropy (B, T) under the mask; 0 where there is no label."""
    asked = labels >= 0
    chosen, own, at = hidden[asked], labels[asked], states[asked]
    may = automaton.to(hidden.device).may

    def piece(hidden: Tensor, labels: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(hidden).float()
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        masked = (logits / temperature).masked_fill(~may[states], -torch.inf)
        logps = torch.log_softmax(masked, -1)
        entropy = -(logps.exp() * logps.masked_fill(~may[states], 0.0)).sum(-1)
        return logps.gather(1, labels[:, None])[:, 0], entropy.detach()

    parts = [
        checkpoint(piece, chosen[s : s + PIECE], own[s : s + PIECE], at[s : s + PIECE], use_reentrant=False)
        for s in range(0, max(1, len(chosen)), PIECE)
    ]
    empty = hidden.new_zeros(labels.shape, dtype=torch.float32)
    return tuple(empty.masked_scatter(asked, torch.cat([p[i] for p in parts])) for i in (0, 1))  # type: ignore[return-value]
