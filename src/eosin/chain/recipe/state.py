"""What a run in progress holds, and what its steps share: the recipe, the splits, models by stage."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

from eosin.chain.recipe.layout import Layout
from eosin.chain.recipe.streaming import opened
from eosin.core.formats.stream.index import Index
from eosin.core.nouns.sample import Sample
from eosin.core.settings.recipe import Resolved
from eosin.core.store import artifacts as store
from eosin.slides.features.regions import SlideRegions


class RunState:
    """A run in progress, as its stages see it."""

    def __init__(self, resolved: Resolved, layout: Layout) -> None:
        self.recipe = resolved.recipe
        self.resolved = resolved
        self.at = layout
        self.splits: dict[str, list[Sample]] = {}
        self.picture_cache: dict[Any, Any] = {}
        self.read_region = SlideRegions()
        self.started = time.perf_counter()

    @cached_property
    def index(self) -> Index:
        """The index of the training samples, where they are streamed."""
        return opened(self.at)

    def samples_artifact(self) -> store.Artifact:
        return store.open_artifact(self.at.samples, "samples")

    def load(self, stage: str) -> Any:
        """The model that a stage left, with its processor."""
        from eosin.core.settings.model import HubModel
        from eosin.models.load import load

        settings = self.recipe.model
        if stage == "base" and isinstance(settings, HubModel):
            return load(settings.name, revision=settings.revision, max_pixels=settings.max_pixels)
        return load(self.at.checkpoint(stage))

    def parents(self, stage: str) -> tuple[store.Artifact, ...]:
        folder = self.at.checkpoint(stage)
        own = (store.open_artifact(folder, "checkpoint"),) if store.exists(folder) else ()
        return (*own, self.samples_artifact())
