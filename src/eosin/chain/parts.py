"""Which of the samples a stage sees."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from eosin.core.draw import part_of
from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Sample
from eosin.core.settings.data import SamplesData
from eosin.core.settings.recipe import Recipe


def training_part(recipe: Recipe, name: str, train: Sequence[Sample]) -> list[Sample]:
    """The training samples that stage `name` sees.

    Raises:
        EosinError: they are streamed, so that nobody holds them; an unknown source; an empty part.
    """
    if isinstance(recipe.data, SamplesData) and recipe.data.stream:
        raise EosinError(
            "This needs all training samples at once, and this recipe streams them.", expected="data.stream: false",
            where="data.stream", next_step="data.stream=false on a part of the data (docs/scale.md)",
        )  # fmt: skip
    part, known = recipe.stages[name].part, {s.origin.source for s in train}
    missing = [s for s in recipe.stages[name].sources or () if s not in known]
    if missing:
        raise EosinError(
            "The training samples have no such source.", expected=", ".join(sorted(known)), found=", ".join(missing),
            where=f"stages.{name}.sources",
            next_step="name one of these; samples/dropped.jsonl says what was set aside, and why",
        )  # fmt: skip
    found = part_of(of_sources(recipe, name, train), part, recipe.seed)
    if not found:
        raise EosinError(
            "This part of the training samples is empty.", expected="patients enough for the part", found=str(part),
            where=f"stages.{name}.part",
        )  # fmt: skip
    return weighed(found, recipe.seed)


def weighed(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Samples as often as `extra["weight"]` says, copies right behind one another: 2.5 is twice, and once more for half
    of such samples, drawn by seed and id."""
    shown: list[Sample] = []
    for sample in samples:
        weight = sample.extra.get("weight", 1.0) if sample.origin.source == "corrections" else 1.0
        digest = hashlib.sha256(f"{seed}:{sample.id}".encode()).digest()
        drawn = int.from_bytes(digest[:6], "big") / 2**48
        shown += [sample] * (int(weight) + (drawn < weight % 1))
    return shown


def of_sources(recipe: Recipe, name: str, samples: Sequence[Sample]) -> list[Sample]:
    """The samples of the data sets that stage `name` sees."""
    wanted = recipe.stages[name].sources
    return [s for s in samples if wanted is None or s.origin.source in wanted]
