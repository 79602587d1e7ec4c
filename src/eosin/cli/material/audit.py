"""`eosin audit`: what is wrong with a data set, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def audit(
    data: Annotated[Path, typer.Argument(help="Samples in any layout, a table, a class folder, or a recipe.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder: index.html and audit.json.")],
    against: Annotated[
        list[str] | None,
        typer.Option("--against", help="Another data set, or an exam (NAME, NAME/SPLIT, NAME=DIR). Repeatable."),
    ] = None,
    sees: Annotated[
        str | None, typer.Option(help="What the images are: he_tile, he_slide or ihc. Default: as samples say.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of samples that state none.")] = None,
    image_folder: Annotated[
        list[str] | None, typer.Option("--image-folder", help="A further folder of images. Repeatable.")
    ] = None,
    shown: Annotated[int, typer.Option(help="Random samples on the page.")] = 50,
    crops: Annotated[bool, typer.Option(help="Look for crops of pictures too.")] = True,
    seed: Annotated[int, typer.Option(help="Of subsets and folds.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="End with status 1 where there is a fault.")] = False,
) -> None:
    """Look at a data set: counts, biases of answers, leaks, what no image shows, copies, licences, samples to read.

    Example: eosin audit data.json --against phantom-tiles --out audit
    """
    from rich.console import Console

    from eosin.chain.audit.run import AuditSettings, write_audit
    from eosin.chain.audit.run import audit as look
    from eosin.core.errors import EosinError
    from eosin.knowledge.linking.visibility import check_sees

    if out.exists():
        raise EosinError("There is something at this place already.", where=out, next_step="choose another --out")
    settings = AuditSettings(
        sees=check_sees(sees) if sees else None, licence=licence, image_folders=tuple(image_folder or ()),
        crops=crops, num_shown=max(0, shown), seed=seed,
    )  # fmt: skip
    progress = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    made = look(data, against or (), settings, progress.print)
    page = write_audit(made, out, settings)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for one in made.found:
        console.print(f"{one.level:<6} {one.name}: {one.said}")
    if not made.faults:
        console.print("no fault found")
    console.print(f"{len(made.faults)} faults, {len(made.found) - len(made.faults)} notes; look at {page}")
    console.print("Research use only, not for diagnosis.")
    if strict and made.faults:
        raise typer.Exit(1)


def reason_templates(
    folder: Annotated[Path, typer.Argument(help="A new folder for the 60 files.")],
) -> None:
    """Write the templates of reasoning chains, to be edited; a recipe's step takes them: reason: {templates: DIR}.

    Example: eosin reason-templates my-templates
    """
    from rich.console import Console

    from eosin.curate.reason.templates import copy_templates

    n = copy_templates(folder)
    Console(highlight=False, soft_wrap=True, markup=False).print(f"{n} templates in {folder}")
