"""transformers' own `generate`, whose draws follow numbers that are given: the same tokens in whatever batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from eosin.engines.group_decode import by_number
from eosin.engines.reply_automaton import generate_with


class DrawByNumber(LogitsProcessor):
    """Leaves each row the one token that its number falls on, so that what samples afterwards has no choice.

    Args:
        uniforms: numbers in [0, 1), (B, tokens).
        temperature: of the drawing. It is applied here, as transformers does it after this.
    """

    def __init__(self, uniforms: Tensor, temperature: float) -> None:
        self._uniforms, self._temperature, self._step = uniforms, temperature, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """scores (B, V), -inf everywhere but at the chosen token."""
        shares = (scores.float() / self._temperature).softmax(-1)
        chosen = by_number(shares, self._uniforms[:, self._step].to(scores.device))
        self._step += 1
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


@contextmanager
def numbered_generate(model: Any, uniforms: Tensor | None, temperature: float) -> Iterator[None]:
    """What the model's own `generate` draws meanwhile follows these numbers; with None nothing changes.

    A grammar that drawing is held to (`reply_automaton.held_generate`) is entered after this.
    """
    if uniforms is None:
        yield
        return
    with generate_with(model, lambda: DrawByNumber(uniforms, temperature)):
        yield
