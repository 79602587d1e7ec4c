"""`eosin curate`: samples from a source through steps in a row, with a ledger that adds up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def curate(
    recipe: Annotated[Path, typer.Argument(help="A curation recipe (YAML): data, and steps in a row.")],
    out: Annotated[Path, typer.Option("--out", help="The samples folder to write; it must not exist.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value changes, e.g. seed=1 workers=2")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop; nothing is asked.")] = False,
) -> None:
    """Filter, dedupe, decontaminate, split, mix and write samples, a shard at a time. Resumable.

    A curation that was stopped goes on where it stopped when the same command is given again. The result is a samples
    folder for `eosin run`, with ledger.json, dropped/ by reason, and card.md.

    Example: eosin curate captions.yaml --out samples/captions workers=2
    """
    from rich.console import Console

    from eosin.chain.curation.run import curate as run_curation
    from eosin.chain.curation.run import preview
    from eosin.core.settings.curation.recipe import CurationRecipe
    from eosin.core.settings.recipe import load_settings

    settings = load_settings(CurationRecipe, recipe, overrides or [])
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if dry_run:
        for line in preview(settings, out):
            console.print(line)
        return
    made = run_curation(settings, out)
    for step in made.manifest["ledger"]:
        console.print(f"{step['step']:<14} {step['num_in']:>10,} in {step['num_out']:>10,} out")
    for reason, number in made.manifest["drop_reasons"].items():
        console.print(f"  {number:>8,}  {reason}")
    console.print(f"{out}   (read {out / 'card.md'})")
