"""Rows of unequal length in one row without padding: each sees itself alone, at positions of its own.

A batch of B rows padded to the longest costs B x max(T) tokens; here it costs the sum of the T. Attention runs sample
by sample (the mask would be block-diagonal), everything else on all tokens at once. Values and gradients are those of
the padded batch but for rounding; tests/train/test_ragged.py holds it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from eosin.models import shared_prefix
from eosin.models.shared_prefix import AttentionPattern, PatternMask, causal

LENGTHS = "row_lengths"
"""Name of the batch's field with the length of each sample: int64 (B,)."""


@dataclass(frozen=True)
class Ragged(AttentionPattern):
    """One row of samples one after the other; a token sees its own sample up to itself."""

    lengths: tuple[int, ...]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        parts = zip(*(states.split(self.lengths, 2) for states in (query, key, value)), strict=True)
        return torch.cat([causal(q, k, v, scale) for q, k, v in parts], 2)


def positions_of_rows(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Positions of a padded batch as the model would give them: (3, B, T) with M-RoPE, else (1, B, T)."""
    mask = batch["attention_mask"]
    index = getattr(model.base_model, "get_rope_index", None)
    counted = (mask.cumsum(-1) - 1).clamp(min=0)[None]
    if index is None:
        return counted
    if "image_grid_thw" not in batch:
        return counted.expand(3, -1, -1)
    found, _ = index(
        batch["input_ids"], mm_token_type_ids=batch.get("mm_token_type_ids"), image_grid_thw=batch["image_grid_thw"],
        attention_mask=mask,
    )  # fmt: skip
    positions: Tensor = found
    return positions


def without_padding(model: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A padded batch as one row (1, sum of T), with `position_ids` and the samples' lengths.

    The first token of a sample is nobody's label: the last one of the sample before must not be asked for it.
    """
    real = batch["attention_mask"].bool()
    size, lengths = batch["input_ids"].shape, real.sum(1)
    positions = positions_of_rows(model, batch)[:, real][:, None]
    row = {k: v[real][None] if torch.is_tensor(v) and v.shape == size else v for k, v in batch.items()}
    starts = lengths.cumsum(0) - lengths
    row["labels"] = row["labels"].index_fill(1, starts, -100)
    return {**row, "position_ids": positions if len(positions) > 1 else positions[0], LENGTHS: lengths}


@contextmanager
def reads_ragged(model: PreTrainedModel) -> Iterator[None]:
    """While entered, the model takes batches of `without_padding`, and others as before.

    Its `forward` is replaced, as TRL's head does, and not hooked: adapters call `forward` itself.
    """
    before, was_own = model.forward, "forward" in vars(model)
    was_enabled = shared_prefix.is_enabled(model)

    @functools.wraps(before)
    def forward(*args: Any, **kwargs: Any) -> Any:
        lengths = kwargs.pop(LENGTHS, None)
        if lengths is not None:
            pattern = Ragged(tuple(int(n) for n in lengths.tolist()))
            kwargs["attention_mask"] = PatternMask.of(pattern, kwargs["input_ids"].device)
        return before(*args, **kwargs)

    shared_prefix.enable(model)
    model.forward = forward
    try:
        yield
    finally:
        if was_own:
            model.forward = before
        else:
            del model.forward
        if not was_enabled:
            shared_prefix.disable(model)


def unsuited(model: PreTrainedModel) -> str | None:
    """Why this model cannot be given rows without padding, as far as its settings tell, or None."""
    if hasattr(model, "slide_tower") or hasattr(model.base_model, "slide_tower"):
        return "patches of slides stand at places of their own"
    return shared_prefix.unsuited(model)
