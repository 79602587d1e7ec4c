"""Batches without padding for SFT and pretraining, and the trial that decides whether a model may have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eosin.core.errors import EosinError
from eosin.models.ragged import reads_ragged, unsuited, without_padding
from eosin.train.data.collate import MaskedCollator

TRIAL_ROWS = 3


class RaggedCollator:
    """The batch of `MaskedCollator` as one row without padding: the same tokens, labels and pictures, in their order.

    Args:
        model: gives the positions.
    """

    def __init__(self, masked: MaskedCollator, model: Any) -> None:
        self.masked, self.model = masked, model

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        return without_padding(self.model, self.masked(rows))


def why_padded(model: Any, masked: MaskedCollator, rows: Any) -> str | None:
    """Why this model must have padded batches, or None: its settings, then a trial on real rows, whose loss must be
    that of the padded batch (1e-4 a token in fp32, 2e-2 in 16 bits)."""
    reason = unsuited(model)
    if reason is not None:
        return reason
    padded = masked([rows[i] for i in range(min(TRIAL_ROWS, len(rows)))])
    where, was_training = model.device, model.training
    model.eval()
    try:
        with torch.no_grad():
            plain = _loss(model, padded, where)
            with reads_ragged(model):
                ours = _loss(model, without_padding(model, padded), where)
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as exc:
        return f"a trial failed ({type(exc).__name__}: {str(exc)[:80]})"
    finally:
        model.train(was_training)
    limit = 1e-4 if model.dtype == torch.float32 else 2e-2
    return None if abs(plain - ours) <= limit else f"a trial gave another loss ({plain:.6f} padded, {ours:.6f} without)"


def _loss(model: Any, batch: dict[str, Tensor], where: torch.device) -> float:
    return float(model(**{k: v.to(where) for k, v in batch.items()}, use_cache=False).loss)


def collator_for(packing: str, model: Any, masked: MaskedCollator, rows: Any, where: str) -> tuple[Any, str]:
    """(collator, how rows are put together, in words).

    Raises:
        EosinError: `packing: on` with a model that cannot have it.
    """
    reason = "packing is off" if packing == "off" else why_padded(model, masked, rows)
    if reason is None:
        return RaggedCollator(masked, model), "without padding"
    if packing == "on":
        raise EosinError(
            "Rows cannot be put together without padding with this model.", expected="a model whose trial agrees",
            found=reason, where=f"{where}.packing", next_step=f"{where}.packing=auto",
        )  # fmt: skip
    return masked, f"padded ({reason})"
