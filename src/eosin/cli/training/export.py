"""`eosin export`: a stage of a recipe for another trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    trainer: Annotated[str, typer.Argument(help="verl, ms-swift or llama-factory.")],
    recipe: Annotated[str, typer.Argument(help="A recipe (file or shipped name), or the folder of a run.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must be empty.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value changes")] = None,
    stage: Annotated[str | None, typer.Option(help="Name of the stage; default: the first that fits.")] = None,
) -> None:
    """Write data, rewards and configuration that another trainer takes, with the same rewards. Nothing is started.

    Example: eosin export verl pathvlm-r1 data.path=data.json data.images=images --out for-verl
    """
    from rich.console import Console

    from eosin.chain.export.trainers import export as write
    from eosin.cli.training.run import find_recipe

    place = Path(recipe) if Path(recipe).is_dir() else find_recipe(recipe)
    found = write(trainer, place, overrides or [], out, stage)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    rows = f"{found['train']} training rows, {found['valid']} valid rows"
    console.print(f"{found['stage']} for {trainer}: {rows} in {out}")
    for note in found["notes"]:
        console.print(f"note: {note}")
    console.print(f"start it where {trainer} is installed, and eosin beside it: {found['command']}")
