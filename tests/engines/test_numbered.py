"""Draws that follow given numbers: the token by hand, the temperature, and what `generate` is afterwards."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import LogitsProcessorList

from eosin.engines.group_decode import uniforms_of
from eosin.engines.numbered import DrawByNumber, numbered_generate
from eosin.engines.reply_automaton import generate_with


@pytest.mark.parametrize(
    ("number", "temperature", "token"),
    [(0.0, 1.0, 0), (0.24, 1.0, 0), (0.26, 1.0, 1), (0.99, 1.0, 1), (0.49, 1e6, 0), (0.51, 1e6, 1), (0.01, 0.1, 1)],
)
def test_the_token_on_which_a_number_falls(number: float, temperature: float, token: int) -> None:
    """Shares of a quarter and three quarters; a high temperature makes them even, a low one leaves the likelier."""
    draw = DrawByNumber(torch.tensor([[number]]), temperature)
    [row] = draw(torch.zeros(1, 1, dtype=torch.long), torch.tensor([[0.0, math.log(3), -math.inf]])).tolist()
    assert [place for place, score in enumerate(row) if score > -math.inf] == [token]


def test_every_token_has_its_own_number() -> None:
    draw = DrawByNumber(torch.tensor([[0.1, 0.9], [0.9, 0.1]]), 1.0)
    even = torch.zeros(2, 2)
    steps = [draw(torch.zeros(2, 1, dtype=torch.long), even).argmax(-1).tolist() for _ in range(2)]
    assert steps == [[0, 1], [1, 0]]


def test_numbers_follow_from_the_seed_of_a_prompt_alone() -> None:
    both, alone = uniforms_of((5, 6), 2, 3), uniforms_of((6,), 2, 3)
    assert both is not None and alone is not None and both.shape == (4, 3)
    assert torch.equal(both[2:], alone) and uniforms_of(None, 2, 3) is None


def test_generate_is_its_own_again() -> None:
    class Model:
        def generate(self, logits_processor: Any = None) -> list[str]:
            return [type(p).__name__ for p in logits_processor or []]

    model = Model()
    hold = DrawByNumber(torch.zeros(1, 1), 1.0)
    with numbered_generate(model, torch.zeros(1, 1), 1.0), generate_with(model, lambda: LogitsProcessorList()):  # type: ignore[arg-type,return-value]
        assert model.generate(logits_processor=[hold]) == ["DrawByNumber", "LogitsProcessorList", "DrawByNumber"]
    with numbered_generate(model, None, 1.0):
        assert model.generate() == []
    assert "generate" not in vars(model)
