"""What every export begins with: the stage, its samples with their pictures as files, the recipe beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eosin.chain.curation.inside import refuse_paid
from eosin.chain.parts import of_sources, training_part
from eosin.chain.recipe import data as chain_data
from eosin.chain.recipe.layout import Layout
from eosin.core.errors import EosinError
from eosin.core.images import RegionReader, encode_png, load_image, read_bytes
from eosin.core.nouns.sample import ImageBytes, ImageFile, Sample, SlideBag
from eosin.core.settings.recipe import Recipe, Resolved, load_recipe
from eosin.core.settings.stages import StageSettings
from eosin.slides.features.regions import SlideRegions


@dataclass(frozen=True)
class Prepared:
    """A stage that is about to be exported.

    Attributes:
        train, valid: its samples.
    """

    resolved: Resolved
    name: str
    train: Sequence[Sample]
    valid: Sequence[Sample]
    read_region: RegionReader

    @property
    def recipe(self) -> Recipe:
        return self.resolved.recipe

    @property
    def stage(self) -> StageSettings:
        return self.recipe.stages[self.name]

    def picture(self, sample: Sample, index: int) -> bytes:
        """The bytes of a picture of a sample, as it is stored, or as PNG where it is cut out of a slide."""
        ref = sample.images[index]
        if isinstance(ref, ImageBytes | ImageFile):
            return read_bytes(ref)
        return encode_png(load_image(ref, self.read_region))


@contextmanager
def prepared(place: Path, overrides: Sequence[str], stage: str | None, kinds: tuple[type, ...]) -> Iterator[Prepared]:
    """A stage of a recipe, whose samples are made in a temporary folder, or of a run's folder, whose samples are read.

    Args:
        stage: its name; by default the first of `kinds`.

    Raises:
        EosinError: no such stage, a model that other trainers do not know, or samples that are slides.
    """
    is_run = place.is_dir()
    resolved = load_recipe(place / "recipe.yaml" if is_run else place, overrides)
    if not is_run:
        refuse_paid(resolved.recipe, place)
    fitting = [n for n, s in resolved.recipe.stages.items() if isinstance(s, kinds)]
    name = stage or (fitting[0] if fitting else "")
    if name not in fitting:
        raise EosinError(
            "This trainer cannot take this stage.",
            expected=", ".join(fitting) or "a recipe with another kind of stage",
            found=stage or f"{', '.join(resolved.recipe.stages)}", where=place, next_step="--stage NAME",
        )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="eosin-export-") as folder:
        regions = SlideRegions()
        splits = chain_data.prepare(resolved.recipe, Layout(place if is_run else Path(folder)), regions)
        train = training_part(resolved.recipe, name, splits["train"])
        valid = of_sources(resolved.recipe, name, splits["valid"])
        if any(isinstance(ref, SlideBag) for s in (*train, *valid) for ref in s.images):
            raise EosinError(
                "These samples hold bags of patches, which only Eosin's slide reader takes.", where=place,
                next_step="eosin run trains on them",
            )  # fmt: skip
        yield Prepared(resolved, name, train, valid, regions)


def model_name(recipe: Recipe, at: Path) -> str:
    """The name of the model for another trainer: of the hub, or of a folder that the recipe's own run leaves."""
    name = getattr(recipe.model, "name", None)
    return str(name) if name else str(at / "checkpoint-of-the-stage-before")
