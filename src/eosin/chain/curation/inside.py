"""Curation inside a run: the steps of `data.curate`, done once before the first stage, in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eosin.chain.curation.source import ReadCollection, Source, context_of
from eosin.chain.recipe.layout import Layout
from eosin.core.errors import EosinError
from eosin.core.formats import read_samples
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.core.settings.recipe import Recipe
from eosin.core.store import artifacts as store
from eosin.curate.engine.result import LEDGER
from eosin.curate.engine.run import run_curation
from eosin.sources import Card, Collection


def recipe_inside(recipe: Recipe) -> CurationRecipe:
    """The steps of a run's data as a recipe of their own, with the run's name and seed.

    Raises:
        EosinError: the recipe has none.
    """
    block = recipe.data.curate
    if block is None:
        raise EosinError("The data of this recipe has no steps.", expected="a list of steps", where="data.curate")
    data = recipe.data.model_copy(update={"curate": None})
    return CurationRecipe.model_validate({**block.model_dump(), "name": recipe.name, "seed": recipe.seed, "data": data})


def curated(recipe: Recipe, at: Layout, read: ReadCollection) -> tuple[Collection, dict[str, Any]]:
    """Do what is not yet done of the steps, and read what they left.

    Args:
        read: reads a source that is no file of samples.

    Returns:
        The samples, and what the data card says: `curation`, with the counts of each step. What the steps set aside
        stays in the curation's own folder, and is not among the dropped of the collection.

    Raises:
        EosinError: see `run_curation`.
    """
    inside = recipe_inside(recipe)
    source = Source(inside, read, at.slides)
    run_curation(inside, at.curated, source, context_of(inside), source.about)
    found = read_samples(at.curated)
    if found.dropped:
        raise EosinError(
            "The curated samples of this run were changed after they were written.", found=str(found.reasons()),
            where=at.curated, next_step="start a new run with another --out",
        )  # fmt: skip
    ledger = store.read_object(at.curated / LEDGER)
    facts = ledger["steps"][0]["facts"]
    collection = Collection(
        card=_card(facts.get("cards", []), found.kept).counted(found.kept), samples=found,
        warnings=tuple(facts.get("warnings", ())),
    )  # fmt: skip
    return collection, {"curation": [_told(step) for step in ledger["steps"]]}


def _card(cards: list[dict[str, Any]], samples: Any) -> Card:
    """The source's own card where there is one, else one that names sources and licences."""
    if len(cards) == 1:
        return Card.model_validate(cards[0])
    sources = sorted({s.origin.source for s in samples})
    licences = sorted({s.origin.licence for s in samples})
    return Card(name="+".join(sources)[:80], licence=" / ".join(licences)[:200])


def _told(step: dict[str, Any]) -> dict[str, Any]:
    """A step of the ledger as the data card keeps it."""
    made = step["made"] + step["again"] - step["parents"]
    return {"step": step["step"], "in": step["num_in"], "kept": step["num_kept"], "made": made,
            "out": step["num_out"], "set_aside": step["dropped"]}  # fmt: skip


def plan_inside(recipe: Recipe) -> Iterator[str]:
    """A line a step, for a look at a recipe: what is done before the first stage, and which server it asks."""
    block = recipe.data.curate
    for number, step in enumerate(block.steps if block is not None else (), start=1):
        given = step.model_dump(mode="json", exclude_defaults=True, exclude={"step", "teacher", "checker"})
        asked = [getattr(step, name, None) for name in ("teacher", "checker")]
        servers = [f"asks {s.model} at {s.url}" for s in asked if s is not None]
        settings = ", ".join(f"{k}={v}" for k, v in given.items())
        yield f"{number}. {step.step}" + "".join(f"; {t}" for t in (settings, *servers) if t)


def refuse_paid(recipe: Recipe, place: Path) -> None:
    """For a look at a recipe that makes its samples in a passing folder: no server is asked for that.

    Raises:
        EosinError: a step of `data.curate` asks one.
    """
    block = recipe.data.curate
    if block is not None and block.servers:
        raise EosinError(
            "The samples of this recipe are written by a server, which is not asked for a look.",
            expected="the folder of a run, whose samples stand there", where=place, found="data.curate",
            next_step=f"eosin run {place} --out DIR, then give DIR",
        )  # fmt: skip
