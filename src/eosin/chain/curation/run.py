"""`eosin curate`: a recipe from its source to the samples artifact; and what it would do."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from eosin.chain.curation.source import Source, context_of
from eosin.chain.recipe.data import read_grounded
from eosin.core.nouns.outcome import Kept
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.core.store import artifacts as store
from eosin.curate.engine.run import run_curation, work_of
from eosin.curate.steps.registry import make_step

NUM_PREVIEWED = 10


def curate(recipe: CurationRecipe, out: Path, tools: Mapping[str, Any] | None = None) -> store.Artifact:
    """Run a curation recipe; killed at any point, the same call goes on.

    Args:
        tools: what steps may use instead of making it from their settings, such as "clip" (image, texts) -> cosines.

    Raises:
        EosinError: see `run_curation`.
    """
    source = Source(recipe, read_grounded, work_of(out) / "slides")
    return run_curation(recipe, out, source, context_of(recipe, tools), source.about)


def preview(recipe: CurationRecipe, out: Path) -> list[str]:
    """The plan: the whole recipe, and what each step says of the first ten samples. Nothing is asked or paid.

    Args:
        out: steps may write files to look at into `OUT.preview/`.
    """
    told = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
    lines = [*told.splitlines(), ""]
    source = Source(recipe, read_grounded, out.with_name(f"{out.name}.preview") / "slides")
    first = [o.value for o in islice(source(), NUM_PREVIEWED) if isinstance(o, Kept)]
    num = source.num_samples
    lines.append(f"# {num:,} samples in the source" if num else "# the number of samples is known once they are read")
    for i, settings in enumerate(recipe.steps, start=1):
        folder = out.with_name(f"{out.name}.preview") / f"{i:02d}-{settings.step}"
        step = make_step(settings, context_of(recipe), folder)
        lines += [f"# {i}. {settings.step}", *(f"#    {t}" for t in step.preview(first, num, folder))]
    return lines
