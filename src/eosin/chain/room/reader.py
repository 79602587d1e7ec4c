"""A checkpoint as the reader of the server: what it is shown of a slide, where it looked, how sure it was."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eosin.chain.ask.question import SlideOptions
from eosin.chain.ask.whole_slide import encoder_plan, features_of
from eosin.chain.exam import grammar_of
from eosin.chain.room.regions import region_seen
from eosin.core.errors import EosinError
from eosin.core.nouns.bags import F64, PatchBag
from eosin.core.nouns.sample import SlideBag
from eosin.core.nouns.units import BoxLevel0
from eosin.engines.base import Generation, Request
from eosin.engines.transformers_engine import TransformersEngine
from eosin.evaluate.evidence.maps import mpp_of_level0
from eosin.evaluate.evidence.scores import ModelEvidence
from eosin.evaluate.evidence.tests import AttributionTarget
from eosin.evaluate.exam.option_probabilities import softmax
from eosin.models.checkpoint import facts_of
from eosin.models.load import Loaded, slide_tower
from eosin.serve.questions.base import Seen, Tell
from eosin.slides.features.bags import BagCache
from eosin.slides.features.regions import SlideRegions

METHOD = "sensitivity"
MAX_SLIDES = 8
_OPENING = "<answer>"


class CheckpointReader:
    """See `eosin.serve.questions.base.SlideReader`.

    Args:
        cache: folder of feature files. options: encoder, tiles, and scale of slides that do not state theirs.
    """

    def __init__(self, loaded: Loaded, checkpoint: str, cache: Path, options: SlideOptions | None = None) -> None:
        self._loaded, self._checkpoint, self._cache = loaded, checkpoint, cache
        self._options = options or SlideOptions()
        self.grammar, self.instruction = grammar_of(checkpoint, None)
        self.sees_slides = slide_tower(loaded.model) is not None
        self.max_slides = MAX_SLIDES if self.sees_slides else 1
        self.sees_regions = not self.sees_slides or bool(getattr(loaded.model.config, "sees_images", True))
        self.about: dict[str, Any] = {
            "checkpoint": Path(checkpoint).name,
            **{k: v for k, v in facts_of(checkpoint).items() if k in _TOLD},
        }
        self._bags, self._regions = BagCache(512 * 2**20), SlideRegions(mpp=self._options.slide_mpp)
        self._locks: dict[Path, threading.Lock] = {}
        self._lock = threading.Lock()
        self._engine = TransformersEngine(loaded)
        self._attributor: ModelEvidence | None = None

    def look(self, path: Path, box: BoxLevel0 | None, tell: Tell) -> Seen:
        """The patches of a slide, those of a box, or the pixels of a box. Features are made once a slide."""
        if self.sees_slides:
            return self._patches(path, box, tell)
        if box is None:
            raise EosinError("This model reads regions.", next_step="draw a box, or ask about what the view shows")
        return region_seen(self._regions, path, box, self._options.slide_mpp)

    def _patches(self, path: Path, box: BoxLevel0 | None, tell: Tell) -> Seen:
        with self._lock:
            own = self._locks.setdefault(path, threading.Lock())
        with own:  # two questions about a new slide make its features once
            plan = encoder_plan(self._loaded, self._checkpoint, self._options)
            tell("finding tissue and encoding patches; kept for the next question")
            file = features_of(path, plan, self._cache, self._options, None)
        ref = SlideBag(path=str(file), slide=str(path))
        bag, mpp = self._bags.get(ref), self._options.slide_mpp or mpp_of_level0(ref)
        if box is None:
            return Seen(bag, ref, mpp, len(bag))
        if mpp is None:
            raise EosinError("This slide does not state its scale, so that no region of it can be asked about.")
        low, high = np.array([box.x0, box.y0]) * mpp, np.array([box.x1, box.y1]) * mpp
        inside = np.asarray(((bag.centres_um >= low) & (bag.centres_um < high)).all(axis=1))
        if not inside.any():
            raise EosinError("There is no patch of tissue in this region.", next_step="draw a larger box, on tissue")
        return Seen(bag.take(inside), ref, mpp, int(inside.sum()), is_part=True)

    def evidence(self, request: Request, reply: str, span: tuple[int, int], slide: int = 0) -> F64:
        """`sensitivity` (docs/evidence.md) of every patch of one slide for reply[span]."""
        if self._attributor is None:
            self._attributor = ModelEvidence(self._loaded)
        found = self._attributor.scores(AttributionTarget(request, reply, span, slide), [METHOD])
        return found.scores[METHOD]

    def option_probabilities(self, request: Request, reply: Generation, options: Sequence[str]) -> list[float] | None:
        """As the exam measures it (`evaluate.exam.option_probabilities`): each option in the reply's own form, behind
        the reply's own reasoning."""
        if _OPENING not in reply.text:
            return None
        head, _, said = reply.text.rpartition(_OPENING)
        told = said.partition("</answer>")[0].strip()
        letters = [chr(ord("A") + i) for i in range(len(options))]
        forms = list(options)
        if len(told) <= 3:
            forms = letters
        elif any(told.startswith(f"{k}. ") for k in letters):
            forms = [f"{k}. {o}" for k, o in zip(letters, options, strict=True)]
        return softmax(self._engine.option_logprobs(replace(request, begun=head + _OPENING), forms))


_TOLD = ("stage", "step", "base", "licence", "data")

__all__ = ["CheckpointReader", "PatchBag"]
