"""The usual order: validate, dedupe, split, decontaminate, every step counted. At the end entities get concept ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eosin.core.images import RegionReader
from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.core.nouns.sample import Sample
from eosin.curate.decontaminate import decontaminate
from eosin.curate.dedupe import NearPair, dedupe
from eosin.curate.hashes import remembering
from eosin.curate.keep import StepCount, count_step
from eosin.curate.link import link_entities
from eosin.curate.split import split
from eosin.curate.validate import Refuses, validate


@dataclass(frozen=True)
class Cleaned:
    """What is left, what was set aside by which step, and what the user should know."""

    samples: tuple[Sample, ...]
    dropped: tuple[Dropped, ...]
    steps: tuple[StepCount, ...]
    near: tuple[NearPair, ...]
    warnings: tuple[str, ...]


def clean(
    samples: Sequence[Sample],
    *,
    workers: int = 1,
    valid_fraction: float = 0.0,
    test_fraction: float = 0.0,
    seed: int = 0,
    on_conflict: Literal["error", "drop"] = "error",
    max_distance: int = 2,
    perceptual: bool = True,
    read_region: RegionReader | None = None,
    refuses: Refuses | None = None,
) -> Cleaned:
    """Run all steps; see each for its arguments and errors. Kept and dropped sum to the number given."""
    dropped: list[Dropped] = []
    steps: list[StepCount] = []

    def account(step: str, before: Sequence[Sample], result: Filtered[Sample]) -> tuple[Sample, ...]:
        steps.append(count_step(step, len(before), result))
        dropped.extend(result.dropped)
        return result.kept

    checked = validate(samples, workers=workers, read_region=read_region, refuses=refuses)
    valid = account("validate", samples, checked)
    hash_of = remembering()
    deduped = dedupe(valid, max_distance=max_distance, perceptual=perceptual, hash_of=hash_of)
    single = account("dedupe", valid, deduped.samples)
    divided = split(
        single, valid_fraction=valid_fraction, test_fraction=test_fraction, seed=seed, on_conflict=on_conflict
    )
    placed = account("split", single, divided.samples)
    safe = decontaminate(placed, max_distance=max_distance, perceptual=perceptual, hash_of=hash_of)
    left = account("decontaminate", placed, safe)
    warnings = list(divided.warnings)
    if deduped.near:
        warnings.append(
            f"{len(deduped.near)} pairs of images from different groups look nearly the same, "
            f"for example {deduped.near[0].first} and {deduped.near[0].second}."
        )
    return Cleaned(link_entities(left).samples, tuple(dropped), tuple(steps), deduped.near, tuple(warnings))
