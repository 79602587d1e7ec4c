"""A small slide reader that knows one reading of phantom slides by heart, and a room that serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from eosin.chain.ask.question import SlideOptions
from eosin.chain.ask.whole_slide import EncoderPlan, features_of
from eosin.core.nouns.prompt import prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Origin, Sample, SlideBag, make_choices, user_prompt
from eosin.engines.base import Request
from eosin.evaluate.evidence.tests import AttributionTarget
from eosin.models import checkpoint
from eosin.phantom.slides.slide import write_slide
from eosin.slides.features.bags import read_bag
from tests.support.memorise import memorise
from tests.support.slide_toys import new_reader

MPP, TILE_UM = 2.0, 128.0
QUESTION = "What is the diagnosis?"
OPTIONS = ["normal mucosa", "adenocarcinoma"]
GRAMMAR = Grammar.of("info/think/answer", numbered_steps=True)
REPLY = (
    "<info>Desmoplastic stroma is present. Mitoses are frequent.</info>\n"
    "<think>1. Desmoplastic stroma favours adenocarcinoma.\n2. Mitoses are frequent.</think>\n"
    "<answer>adenocarcinoma</answer>"
)


def write_slides(folder: Path, num: int = 2, size_px: int = 640) -> list[Path]:
    """Phantom slides, the same each time."""
    return [
        write_slide(folder / f"phantom-{k}.tiff", case_number=k, size_px=size_px, mpp=MPP, workers=1)[0]
        for k in range(2, 2 + num)
    ]


def write_reader(slides: list[Path], place: Path, features: Path) -> Path:
    """A checkpoint that gives REPLY to QUESTION with OPTIONS about these slides."""
    made = new_reader(dimension=112, encoder="colour-texture", tile_um=TILE_UM, mpp=MPP, sees_images=False)
    plan = EncoderPlan("colour-texture", None, round(TILE_UM / MPP), MPP)
    bags = [read_bag(SlideBag(path=str(features_of(s, plan, features, SlideOptions(), None)))) for s in slides]
    both = np.concatenate([b.features for b in bags])
    made.model.slide_tower.set_scale(torch.from_numpy(both.mean(0)), torch.from_numpy(both.std(0)))
    rng = np.random.default_rng(0)
    bags += [b.take(rng.permutation(len(b))[: len(b) // 2]) for b in bags]
    asked = [_asked(bag, OPTIONS) for bag in bags]
    memorise(made, asked)
    facts = {"stage": "sft", "step": 0, "grammar": GRAMMAR.as_facts(), "instruction": False}
    checkpoint.save(made.model, made.processor, place, facts=facts)
    return place


def _asked(bag: Any, options: list[str]) -> AttributionTarget:
    sample = Sample(
        id="a", images=(SlideBag(path="x"),), messages=user_prompt(QUESTION), choices=make_choices(options),
        origin=Origin(source="toy"),
    )  # fmt: skip
    request = Request("a", prompt_messages(sample, GRAMMAR, instruction=False), (bag,))
    return AttributionTarget(request, REPLY, (0, len(REPLY)))
