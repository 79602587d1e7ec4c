"""Which of the samples a stage sees."""

from __future__ import annotations

from collections.abc import Sequence

from eosin.core.draw import part_of
from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Sample
from eosin.core.settings.recipe import Recipe


def training_part(recipe: Recipe, name: str, train: Sequence[Sample]) -> list[Sample]:
    """The training samples that stage `name` sees."""
    part, known = recipe.stages[name].part, {s.origin.source for s in train}
    missing = [s for s in recipe.stages[name].sources or () if s not in known]
    if missing:
        raise EosinError(
            "The training samples have no such source.", expected=", ".join(sorted(known)), found=", ".join(missing),
            where=f"stages.{name}.sources",
        )  # fmt: skip
    found = part_of(of_sources(recipe, name, train), part, recipe.seed)
    if not found:
        raise EosinError(
            "This part of the training samples is empty.", expected="patients enough for the part", found=str(part),
            where=f"stages.{name}.part",
        )  # fmt: skip
    return found


def of_sources(recipe: Recipe, name: str, samples: Sequence[Sample]) -> list[Sample]:
    """The samples of the data sets that stage `name` sees."""
    wanted = recipe.stages[name].sources
    return [s for s in samples if wanted is None or s.origin.source in wanted]
