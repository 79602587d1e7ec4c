"""Log-probabilities of the tokens in the loss, and of no others; on request under the mask of the reply grammar.

`score_labels_alone` stands in front of the fused head that TRL gives every model it trains, and returns the same fields
for the same call. On a GPU TRL's head projects the positions with a label alone; on a CPU it projects all of them,
prompts included, which with a vocabulary of 50,000 and more is a good part of a step (docs/benchmarks.md). Positions go
through the head a piece at a time, and a piece's logits are computed anew in the backward pass, so that no logits of a
batch are kept.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from trl.trainer.utils import FusedCausalLMOutput

from eosin.core.errors import EosinError
from eosin.engines.reply_automaton import ReplyAutomaton

PIECE = 512
_SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def why_not(model: Any) -> str | None:
    """Why a model keeps TRL's head: what of it this one does not compute. None where nothing is in the way."""
    config = model.config.get_text_config()
    scaled = [name for name in _SCALES if getattr(config, name, None) not in (None, 1.0)]
    if scaled:
        return f"it scales its logits ({scaled[0]} in its config)"
    return "it is a mixture of experts" if hasattr(config, "output_router_logits") else None


def score_labels_alone(model: Any, temperature: float = 1.0, held: ReplyAutomaton | None = None) -> None:
    """Let a transformers model, which has TRL's fused head, score the positions with a label and no others.

    Args:
        temperature: what logits are divided by, as TRL's head was told.
        held: log-probabilities and entropies are those under its mask; a call may give `reply_states` (B, T), the
            states before each label, else every row holds one reply behind its prompt.

    Raises:
        EosinError: `held` with a model that keeps TRL's head.
    """
    if (reason := why_not(model)) is not None:
        if held is None:
            return
        raise EosinError("Drawing cannot be held to a grammar with this model.", found=reason,
                         next_step="leave constrain out")  # fmt: skip
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    fused = model.forward

    @functools.wraps(fused)
    def forward(
        *args: Any, fused_lm_head: bool = False, labels: Tensor | None = None, shift_labels: Tensor | None = None,
        num_items_in_batch: Any = None, reply_states: Tensor | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        if not fused_lm_head:
            given = {"labels": labels, "shift_labels": shift_labels, "num_items_in_batch": num_items_in_batch}
            return fused(*args, **{k: v for k, v in given.items() if v is not None}, **kwargs)
        hidden = model.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state
        if shift_labels is None:
            if labels is None:
                raise ValueError("the head needs labels or shift_labels")
            hidden, shift_labels = hidden[:, :-1], labels[:, 1:]
        may = None
        if held is not None:
            states = held.states(shift_labels) if reply_states is None else reply_states
            may = held.to(hidden.device).may, states
        found = _scored(model.get_output_embeddings(), hidden, shift_labels, may, temperature, softcap)
        mask = shift_labels >= 0
        loss = -found[0].sum() / (mask.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch)
        return FusedCausalLMOutput(
            loss=loss, log_probs=found[0], entropy=found[1], is_top1=found[2].bool(), label_mask=mask
        )

    model.forward = forward


def _scored(
    head: Any, hidden: Tensor, labels: Tensor, may: tuple[Tensor, Tensor] | None, temperature: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Log-probability, entropy and whether it is the likeliest, (B, T) each; 0 where there is no label."""
    asked = labels >= 0
    chosen, own = hidden[asked], labels[asked]
    states = own if may is None else may[1][asked]

    def piece(hidden: Tensor, labels: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = head(hidden).float()
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        logits = logits / temperature
        if may is not None:
            logits = logits.masked_fill(~may[0][states], -torch.inf)
        logps = torch.log_softmax(logits, -1)
        seen = logps.detach()
        entropy = -(seen.exp() * seen.masked_fill(seen == -torch.inf, 0.0)).sum(-1)
        return logps.gather(1, labels[:, None])[:, 0], entropy, (seen.argmax(-1) == labels).float()

    parts = [
        checkpoint(piece, chosen[s : s + PIECE], own[s : s + PIECE], states[s : s + PIECE], use_reentrant=False)
        for s in range(0, max(1, len(chosen)), PIECE)
    ]
    empty = hidden.new_zeros(labels.shape, dtype=torch.float32)
    first, second, third = (empty.masked_scatter(asked, torch.cat([p[i] for p in parts])) for i in range(3))
    return first, second, third
