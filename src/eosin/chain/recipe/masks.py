"""What stands ready for a look at the mask of a stage: its settings, samples and processor, from a recipe or a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eosin.chain.curation.inside import refuse_paid
from eosin.chain.parts import of_sources, training_part
from eosin.chain.recipe import data as chain_data
from eosin.chain.recipe.layout import Layout
from eosin.chain.recipe.run import Run
from eosin.core.errors import EosinError
from eosin.core.settings.data import PhantomData, PhantomSlidesData
from eosin.core.settings.recipe import Resolved, load_recipe
from eosin.core.settings.stages import PretrainStage, SftStage
from eosin.core.store import artifacts as store
from eosin.train.stages.base import StageContext

FEW_CASES = ("data.train_cases=12", "data.valid_cases=0", "data.test_cases=6")

Shown = tuple[SftStage | PretrainStage, StageContext]


@contextmanager
def stage_to_show(place: Path, stage: str | None) -> Iterator[Shown]:
    """The settings and the context of a stage of a run's folder, or of a recipe.

    A recipe's samples and small model are made in a temporary folder, of phantom data a few cases (so that the small
    model's tokenizer, which learns from the samples, may cut words otherwise than in the run). A run's are read, and
    nothing is written but what its stage would write too.

    Args:
        stage: its name; by default the first pretrain or SFT stage with a mask of its own, else the first.

    Raises:
        EosinError: no such recipe, run or stage, or a stage without a loss on text.
    """
    if place.is_dir():
        if not (place / "recipe.yaml").is_file():
            raise EosinError("This folder holds no run.", expected="recipe.yaml in it", where=place)
        yield _shown(load_recipe(place / "recipe.yaml"), Layout(place), stage)
        return
    resolved = load_recipe(place)
    refuse_paid(resolved.recipe, place)
    if isinstance(resolved.recipe.data, PhantomData | PhantomSlidesData):
        resolved = load_recipe(place, FEW_CASES)
    with tempfile.TemporaryDirectory(prefix="eosin-mask-") as folder:
        yield _shown(resolved, Layout(Path(folder)), stage)


def _shown(resolved: Resolved, at: Layout, stage: str | None) -> Shown:
    name = _named(resolved, stage)
    settings = resolved.recipe.stages[name]
    assert isinstance(settings, SftStage | PretrainStage)
    run = Run(resolved, at)
    run.splits = chain_data.prepare(resolved.recipe, at, run.read_region)
    run.base_model()
    start = resolved.recipe.start_of(name)
    whole = start if start == "base" or store.exists(at.checkpoint(start)) else "base"
    at.stage(name).mkdir(parents=True, exist_ok=True)
    return settings, StageContext(
        name=name, folder=at.stage(name), loaded=run.load(whole),
        train=training_part(resolved.recipe, name, run.splits["train"]),
        valid=of_sources(resolved.recipe, name, run.splits["valid"]),
        grammar=resolved.recipe.reply_grammar, prompt=resolved.recipe.prompt,
        seed=resolved.recipe.seed, parents=run.parents(whole), read_region=run.read_region,
    )  # fmt: skip


def _named(resolved: Resolved, stage: str | None) -> str:
    fitting = {n: s for n, s in resolved.recipe.stages.items() if isinstance(s, SftStage | PretrainStage)}
    if stage is not None and stage in fitting:
        return stage
    if stage is not None or not fitting:
        raise EosinError(
            "This is no stage with a loss on text.", expected=", ".join(fitting) or "a pretrain or sft stage",
            found=stage or ", ".join(resolved.recipe.stages), where=resolved.recipe.name,
        )  # fmt: skip
    masked = [n for n, s in fitting.items() if isinstance(s, SftStage) and (s.trajectory or s.pseudo_bags)]
    return (masked or list(fitting))[0]
