"""Small exams with a known right answer: each class is one colour, so that a mock can really look."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from eosin.core.images import encode_png
from eosin.core.nouns.prompt import gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageBytes, ImageRef, Origin, Sample, make_choices, user_prompt
from eosin.engines.base import Request

CLASSES = {"normal mucosa": (200, 120, 160), "adenoma": (120, 60, 140), "carcinoma": (80, 30, 90)}
LABELS = {"normal mucosa": "normal", "adenoma": "adenoma", "carcinoma": "cancer"}


def tile(colour: tuple[int, int, int], seed: int, side: int = 16) -> ImageRef:
    """A tile of one colour with a little noise."""
    noise = np.random.default_rng(seed).integers(-6, 7, size=(side, side, 3))
    pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
    return ImageBytes(data=encode_png(Image.fromarray(pixels)))


def make_samples(num_cases: int = 12, per_case: int = 2, split: str | None = "test") -> list[Sample]:
    """Cases of one class each, classes in turn; the options of item i are turned by i places."""
    samples = []
    for case in range(num_cases):
        text = list(CLASSES)[case % len(CLASSES)]
        for k in range(per_case):
            turned = [list(CLASSES)[(j + case + k) % len(CLASSES)] for j in range(len(CLASSES))]
            samples.append(
                Sample(
                    id=f"{split}-{case}-{k}",
                    images=(tile(CLASSES[text], 100 * case + k),),
                    messages=user_prompt("What does this tile show?"),
                    choices=make_choices(turned),
                    answer=chr(ord("A") + turned.index(text)),
                    reasoning=("The glands are seen.", "This fits."),
                    findings="glands",
                    label=LABELS[text],
                    origin=Origin(source="colours", case=f"{split}{case}"),
                    split=split,
                )
            )
    return samples


def option_of(request: Request, text: str) -> str:
    """The option line of the prompt that gives this text: "B. adenoma"."""
    lines = request.messages[-1].text.splitlines()
    return next(x for x in lines if x[1:3] == ". " and x[3:] == text)


def reply_of(answer: str) -> str:
    return f"<think>seen</think><answer>{answer}</answer>"


def looking(request: Request) -> str:
    """A model that reads the colour: nearest class of the first image; without an image the first option."""
    if not request.images:
        return reply_of("A")
    mean = np.asarray(request.images[0], dtype=float).reshape(-1, 3).mean(axis=0)
    nearest = min(CLASSES, key=lambda c: float(np.abs(mean - np.asarray(CLASSES[c])).sum()))
    return reply_of(option_of(request, nearest))


@pytest.fixture
def grammar() -> Grammar:
    return Grammar.of("think/answer")


@pytest.fixture
def samples() -> list[Sample]:
    return make_samples()


@pytest.fixture
def make() -> Callable[..., list[Sample]]:
    return make_samples


@pytest.fixture
def look() -> Callable[[Request], str]:
    return looking


@pytest.fixture
def gold(samples: list[Sample], grammar: Grammar) -> Callable[[Request], str]:
    """A mock's reply function that knows every answer by id and never looks."""
    replies = {s.id: gold_reply(s, grammar) for s in samples}
    return lambda request: replies[request.id]
