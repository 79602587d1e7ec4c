"""The first step of a run: samples from their source, cleaned, split, and written as one artifact."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from eosin.chain.curation.inside import curated
from eosin.chain.data_card import card_of, reasons_of
from eosin.chain.recipe.layout import Layout
from eosin.chain.recipe.streaming import held, make_stream, opened, streams
from eosin.core.errors import EosinError
from eosin.core.formats import read_samples, write_parquet
from eosin.core.formats.options import option_notes
from eosin.core.formats.rows import unique
from eosin.core.images import RegionReader
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import Sample
from eosin.core.nouns.splits import SPLITS
from eosin.core.plugins import plugin, plugin_names
from eosin.core.settings.data import (
    DataSettings,
    FolderData,
    PhantomData,
    PhantomDomainData,
    PhantomSlidesData,
    PluginData,
    QuestionsData,
    ReportsData,
    SamplesData,
    SlidesData,
    TableData,
)
from eosin.core.settings.documents import CaptionsData, DocumentsData
from eosin.core.settings.recipe import Recipe
from eosin.core.store import artifacts as store
from eosin.curate import StepCount, clean, write_dropped
from eosin.slides.extras import need_slides
from eosin.sources import Card, Collection, read_labelled
from eosin.sources.files import keep_inside

console = Console(stderr=True, highlight=False, soft_wrap=True)


def prepare(recipe: Recipe, at: Layout, read_region: RegionReader | None = None) -> dict[str, list[Sample]]:
    """Samples by split: read from the run's artifact, which is made first where it is missing."""
    if not store.exists(at.samples):
        (make_stream if streams(recipe) else _make)(recipe, at, read_region)
    if streams(recipe):
        return _with_all(recipe, held(recipe, at, opened(at)))
    read = read_samples(at.samples)
    if read.dropped:
        raise EosinError(
            "The samples of this run were changed after they were written.",
            found=str(read.reasons()),
            where=at.samples,
            next_step="start a new run with another --out",
        )
    splits: dict[str, list[Sample]] = {name: [] for name in SPLITS}
    for sample in read.kept:
        splits[sample.split or "train"].append(sample)
    return _with_all(recipe, splits)


def _with_all(recipe: Recipe, splits: dict[str, list[Sample]]) -> dict[str, list[Sample]]:
    """The splits, if the train split and those of the exams hold samples."""
    for name in {"train", *(e.split for e in recipe.exams.values())}:
        if not splits[name]:
            raise EosinError(
                f"There are no samples in the {name} split.",
                expected="hold_out, a fraction, or a split column that gives every split some groups",
                where="data",
                next_step="see docs/bring-your-own.md",
            )
    return splits


def _make(recipe: Recipe, at: Layout, read_region: RegionReader | None) -> None:
    if recipe.data.curate is None:
        collection, ground_steps = grounded(read_source(recipe.data, recipe.seed, at.slides), recipe.data, recipe.seed)
        curated_facts: dict[str, Any] = {}
    else:
        collection, curated_facts = curated(recipe, at, read_grounded)
        ground_steps = ()
    fractions = _fractions(recipe.data)
    from eosin.chain.base.pictures import picture_refusals

    cleaned = clean(
        collection.kept,
        workers=min(2, os.cpu_count() or 1),
        seed=getattr(recipe.data, "seed", None) or recipe.seed,
        perceptual=not isinstance(recipe.data, PhantomData | PhantomDomainData),
        read_region=read_region,
        refuses=picture_refusals(recipe.model),
        **fractions,
    )
    corrected, corrected_facts = _corrected(recipe, cleaned.samples)
    dropped = (*collection.dropped, *cleaned.dropped, *corrected[1])
    warnings = tuple(dict.fromkeys((*collection.warnings, *cleaned.warnings)))
    print_warnings(warnings)
    with store.writing(at.samples, "samples", record={"recipe": recipe.name, "seed": recipe.seed}) as writer:
        for split in SPLITS:
            part = [s for s in (*cleaned.samples, *corrected[0]) if (s.split or "train") == split]
            writer.counts[split] = len(part)
            write_parquet(part, writer.dir / f"{split}.parquet")
        writer.counts["dropped"] = len(dropped)
        write_dropped(writer.dir / "dropped.jsonl", dropped)
        card = card_of(collection.card, cleaned, dropped, ground_steps, warnings)
        store.write_json(writer.dir / "card.json", card | corrected_facts | curated_facts)
    counts = ", ".join(f"{writer.counts[s]} {s}" for s in SPLITS)
    console.print(f"samples: {counts}, {len(dropped)} set aside {reasons_of(dropped) or ''}")


def _corrected(
    recipe: Recipe, samples: Sequence[Sample]
) -> tuple[tuple[list[Sample], tuple[Dropped, ...]], dict[str, Any]]:
    """Experts' corrections for the train split, what was set aside of them, and what the data card says."""
    if recipe.corrections is None:
        return ([], ()), {}
    from eosin.chain.room.corrected import read_corrections, told

    found = read_corrections(recipe.corrections, samples)
    console.print(f"corrections: {told(found.facts)}")
    return (found.samples, found.dropped), {"corrections": told(found.facts)}


def read_source(settings: DataSettings, seed: int, slides: Path | None = None) -> Collection:
    """Samples of whatever the recipe's `data` names.

    Args:
        slides: where slides that the source makes, and their features, stand.
    """
    if isinstance(settings, PhantomSlidesData):
        return _phantom_slides(settings, seed, slides)
    if isinstance(settings, PhantomData):
        from eosin.sources.phantom import read_phantom

        return read_phantom(settings, seed)
    if isinstance(settings, PhantomDomainData):
        from eosin.sources.phantom_domains import read_phantom_domain

        return read_phantom_domain(settings, seed)
    if isinstance(settings, SlidesData):
        from eosin.sources.slide_folder import read_slides

        return read_slides(settings)
    if isinstance(settings, QuestionsData):
        from eosin.sources.questions import read_questions_file

        return read_questions_file(settings)
    if isinstance(settings, ReportsData):
        from eosin.sources.reports.read import read_reports

        return read_reports(settings)
    if isinstance(settings, (DocumentsData, CaptionsData)):
        from eosin.chain.captions import read_pairs

        return read_pairs(settings, seed, slides.parent / "documents" if slides is not None else None)
    if isinstance(settings, (FolderData, TableData)):
        return read_labelled(settings)
    if isinstance(settings, PluginData):
        return _plugin_samples(settings, seed)
    return _samples_of(settings)


def _plugin_samples(settings: PluginData, seed: int) -> Collection:
    """Samples of a source that an installed package brings: a function of its options and a seed."""
    read = plugin("eosin.sources", settings.plugin)
    if read is None:
        names = plugin_names("eosin.sources")
        raise EosinError(
            "No installed package brings this data source.", expected=", ".join(names) or "a package with an entry "
            "point in eosin.sources", found=settings.plugin, where="data.plugin",
            next_step="pip install the package; docs/add-a-data-set.md says how to write one",
        )  # fmt: skip
    found = read(settings.options, seed if settings.seed is None else settings.seed)
    if not isinstance(found, Collection):
        raise EosinError(
            f"The data source {settings.plugin!r} gave something else than samples.", expected="a Collection",
            found=type(found).__name__, where="data.plugin", next_step="see docs/add-a-data-set.md",
        )  # fmt: skip
    return found


def _samples_of(settings: SamplesData) -> Collection:
    """Samples of one or more files or folders of samples."""
    outcomes: list[Kept[Sample] | Dropped] = []
    for place in (settings.path, *settings.also):
        path = Path(place)
        read = read_samples(path, image_folders=settings.image_folders)
        part = keep_inside(read, path if path.is_dir() else path.parent, settings.image_folders)
        outcomes += [*(Kept(s) for s in part.kept), *part.dropped]
    found = filtered(unique(outcomes))
    if not found.kept:
        first = f"; the first: {found.dropped[0].detail}" if found.dropped else ""
        where = ", ".join((settings.path, *settings.also))
        raise EosinError("No sample could be read.", found=f"{found.reasons()}{first}", where=where)
    sources = sorted({s.origin.source for s in found.kept})
    licences = sorted({s.origin.licence for s in found.kept})
    card = Card(name="+".join(sources)[:80], licence=" / ".join(licences)[:200])
    return Collection(card=card, samples=found, warnings=option_notes(found.kept))


def print_warnings(warnings: Sequence[str]) -> None:
    """Print what the user should know about the data."""
    for warning in warnings:
        console.print("[yellow]note:[/yellow]", Text(warning))


def _phantom_slides(settings: PhantomSlidesData, seed: int, slides: Path | None) -> Collection:
    need_slides()
    from eosin.sources.phantom_slides import read_phantom_slides

    if slides is None:
        raise EosinError("Phantom slides need a folder to stand in.", next_step="run the recipe with --out FOLDER")
    return read_phantom_slides(settings, seed, slides, console=console)


def grounded(collection: Collection, settings: DataSettings, seed: int) -> tuple[Collection, tuple[StepCount, ...]]:
    """The same collection with reasoning that stands on the knowledge graph, where the recipe asks for it."""
    aliases: dict[str, str] = {}
    if isinstance(settings, PhantomSlidesData):
        from eosin.sources.phantom_slides import CONCEPT_NAMES

        aliases = CONCEPT_NAMES
    elif not (isinstance(settings, SlidesData) and settings.reasoning == "grounded"):
        return collection, ()
    from eosin.curate.grounding import GroundingSettings, ground_reasoning

    made = ground_reasoning(collection.kept, GroundingSettings(seed=seed, aliases=aliases))
    if collection.kept and not made.samples.kept:
        raise EosinError(
            "No sample could be grounded in the knowledge graph.", found=str(made.samples.reasons()), where="data",
            next_step="set data.reasoning to none, or look at docs/knowledge.md",
        )  # fmt: skip
    samples = Filtered(made.samples.kept, (*collection.dropped, *made.samples.dropped))
    card = collection.card.counted(samples.kept)
    return collection.model_copy(update={"samples": samples, "card": card}), made.steps


def read_grounded(settings: DataSettings, seed: int, slides: Path) -> Collection:
    """What `data` names, with its reasoning grounded where it asks for that."""
    return grounded(read_source(settings, seed, slides), settings, seed)[0]


def _fractions(settings: DataSettings) -> dict[str, Any]:
    if isinstance(settings, SamplesData | SlidesData | QuestionsData | DocumentsData | CaptionsData | PluginData):
        return {"valid_fraction": settings.valid_fraction, "test_fraction": settings.test_fraction}
    return {}
