"""A room whose model is a script: real slides, real server, real store and graph, and no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tests.serve.served import WordEngine

from eosin.core.nouns.bags import F64, PatchBag
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import SlideBag
from eosin.core.nouns.units import BoxLevel0
from eosin.engines.base import Generation, Request
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker
from eosin.serve.app import Room
from eosin.serve.corrections.store import CorrectionStore
from eosin.serve.questions.base import Seen, Tell
from eosin.serve.questions.statements import Knowledge
from eosin.serve.seats import Guest
from eosin.slides.open.slide import open_slide

REPLY = (
    "<info>Desmoplastic stroma is present. Crypts are regular and evenly spaced. Mitoses are frequent.</info>\n"
    "<think>1. Desmoplastic stroma favours adenocarcinoma.\n2. Nuclei are enlarged and crowded.</think>\n"
    "<answer>adenocarcinoma</answer>"
)
OTHER_REPLY = (
    "<info>Glands are round and regular. Goblet cells are present.</info>\n"
    "<think>1. Regular glands with goblet cells speak for normal mucosa.</think>\n"
    "<answer>normal mucosa</answer>"
)
OPTIONS = ["normal mucosa", "tubular adenoma", "adenocarcinoma"]
TILE_UM = 64.0
QUESTIONS = [
    {"question": "What is the diagnosis?", "options": OPTIONS},
    {"question": "Which findings does the slide show?", "options": []},
]


def write_slides(root: Path, *names: str) -> Path:
    """Slides of 1200 x 800 px at 0.5 µm: 600 x 400 µm."""
    y, x = np.mgrid[0:800, 0:1200]
    pixels = np.stack([200 + x % 50, 120 + y % 90, 180 + (x + y) % 60], -1).astype(np.uint8)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(root / name, pixels, tile=(256, 256), photometric="rgb", resolution=(20000, 20000),
                         resolutionunit=3)  # fmt: skip
    return root


class ScriptedReader:
    """Sees a grid of patches on any slide; the evidence of a statement lies on a diagonal that depends on its place."""

    grammar = Grammar.of("info/think/answer", numbered_steps=True)
    instruction = False
    sees_slides = True
    sees_regions = False
    max_slides = 3

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift
        self.about: dict[str, Any] = {"checkpoint": "scripted"}
        self.asked: list[tuple[int, int]] = []

    def look(self, path: Path, box: BoxLevel0 | None, tell: Tell) -> Seen:
        with open_slide(path) as slide:
            mpp, (wide, high) = slide.mpp, slide.size_px
        tell("finding tissue")
        x, y = np.meshgrid(np.arange(TILE_UM / 2, wide * mpp, TILE_UM), np.arange(TILE_UM / 2, high * mpp, TILE_UM))
        centres = np.stack([x.ravel(), y.ravel()], 1)
        bag = PatchBag(path.stem, np.ones((len(centres), 2), np.float32), centres, TILE_UM, mpp)
        ref = SlideBag(path=str(path), slide=str(path))
        if box is None:
            return Seen(bag, ref, mpp, len(bag))
        low, high_um = np.array([box.x0, box.y0]) * mpp, np.array([box.x1, box.y1]) * mpp
        inside = ((centres >= low) & (centres < high_um)).all(1)
        return Seen(bag.take(inside), ref, mpp, int(inside.sum()), is_part=True)

    def evidence(self, request: Request, reply: str, span: tuple[int, int], slide: int = 0) -> F64:
        self.asked.append(span)
        bag = request.images[slide]
        assert isinstance(bag, PatchBag)
        middle = bag.centres_um.min(0) + (bag.centres_um.max(0) - bag.centres_um.min(0)) * (
            0.2 + self.shift + span[0] % 60 / 100
        )
        return np.asarray(np.exp(-(((bag.centres_um - middle) / 90.0) ** 2).sum(1)))

    def option_probabilities(self, request: Request, reply: Generation, options: Sequence[str]) -> list[float] | None:
        return [0.1, 0.2, 0.7][: len(options)] if len(options) == 3 else None


class FixedConfidence:
    """Right as often as it says, and sure from one half on."""

    def of(self, probability: float) -> dict[str, Any]:
        return {"value": probability, "abstains": probability < 0.5, "threshold": 0.5, "max_risk": 0.1,
                "coverage": 1.0, "from": "a script, 0 answers"}  # fmt: skip


def scripted_engine(word_s: float = 0.0, reply: str = REPLY) -> WordEngine:
    return WordEngine(lambda request: reply, lambda step: time.sleep(word_s))


def scripted_room(
    store: Path | None, knowledge: bool = True, beside: str | None = None, beside_engine: WordEngine | None = None,
) -> Room:  # fmt: skip
    """Reader, store and graph; with `beside` a second model of that name: it says OTHER_REPLY, without calibration."""
    second = None
    if beside is not None:
        second = Guest(beside, beside_engine or scripted_engine(0.0, OTHER_REPLY), ScriptedReader(shift=0.25))
    known = None
    if knowledge:
        graph = Graph.builtin()
        known = Knowledge(graph, Linker.of(graph))
    return Room(
        ScriptedReader(), CorrectionStore(store) if store else None, known, FixedConfidence(),
        {"questions": QUESTIONS, "data": {"name": "phantom slides", "licence": "Apache-2.0"}, "run": "demo-slide"},
        second,
    )  # fmt: skip


if __name__ == "__main__":
    import sys

    import uvicorn

    from eosin.serve.app import create_app
    from eosin.serve.settings import ServeSettings

    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    made = create_app(scripted_engine(0.04), ServeSettings(slides=folder), scripted_room(folder / "room.sqlite"))
    uvicorn.run(made, host="127.0.0.1", port=port, log_level="warning")
