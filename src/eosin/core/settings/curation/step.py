"""What the settings of all steps of a curation share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eosin.core.settings.base import Settings


class StepSettings(Settings):
    """Settings of one step. `step` is its name in a recipe.

    A recipe writes a step as `- dedupe`, as `- dedupe: {near_text: 0.8}`, or as `- {step: dedupe, near_text: 0.8}`.
    """

    step: str


def spelled_out(value: Any) -> Any:
    """A step in any of the three spellings as a mapping with its name under `step`; what is none of them, as it is."""
    if isinstance(value, str):
        return {"step": value}
    if isinstance(value, Mapping) and "step" not in value and len(value) == 1:
        [(name, settings)] = value.items()
        if settings is None:
            return {"step": name}
        if isinstance(settings, Mapping):
            return {"step": name, **settings}
    return value
