"""Which class does which step. They are imported when a recipe names them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from eosin.core.settings.curation.step import StepSettings
from eosin.curate.steps.base import Context, Step

# name of the step -> module below eosin.curate.steps, and class
STEPS: dict[str, tuple[str, str]] = {
    "filter": ("filter", "FilterSamples"),
    "dedupe": ("dedupe", "DedupeSamples"),
    "decontaminate": ("decontaminate", "DecontaminateSamples"),
    "split": ("split", "SplitSamples"),
    "mixture": ("mixture", "MixSamples"),
    "reason": ("reason", "ReasonSamples"),
    "questions": ("questions", "AskQuestions"),
    "rl-set": ("rl_set", "DrawRlSet"),
    "ground": ("ground", "GroundSamples"),
}


def step_class(name: str) -> type[Step[Any]]:
    """The class of a step."""
    module, found = STEPS[name]
    made: type[Step[Any]] = getattr(importlib.import_module(f"eosin.curate.steps.{module}"), found)
    return made


def make_step(settings: StepSettings, context: Context, state: Path) -> Step[Any]:
    """A step, ready to be run."""
    return step_class(settings.step)(settings, context, state)
