"""`eosin train`: what training is given, shown before it is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from eosin.train.masking.show_mask import ShownRow

app = typer.Typer(name="train", help="Look at what a training stage is given.", no_args_is_help=True)

IN_LOSS, CONTEXT = "bold black on pale_green3", "grey50"


@app.callback()
def _group() -> None:
    """Look at what a training stage is given."""


@app.command("show-mask")
def show_mask(
    place: Annotated[str, typer.Argument(help="A recipe (file or shipped name), or the folder of a run.")],
    sample: Annotated[str | None, typer.Option(help="Only rows of this sample.")] = None,
    variant: Annotated[int | None, typer.Option(min=1, help="Only rows whose loss begins at this step.")] = None,
    num: Annotated[int, typer.Option(min=1, help="How many rows.")] = 3,
    stage: Annotated[str | None, typer.Option(help="Name of the stage; default: the first that masks.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write the coloured text to this file.")] = None,
) -> None:
    """Coloured text of the tokens in the loss, decoded from the very batch that the trainer is given.

    Green is in the loss, grey is context without loss. For any pretrain or sft stage.

    Example: eosin train show-mask runs/demo-slide --variant 2
    """
    from eosin.cli.training.run import find_recipe, need
    from eosin.core.errors import EosinError

    if html is not None and html.exists():
        raise EosinError("There is something at this place already.", where=html, next_step="choose another --html")
    need("torch", "trl", "datasets")
    from rich.console import Console

    from eosin.chain.recipe.masks import stage_to_show
    from eosin.models.load import quiet
    from eosin.train.masking.show_mask import shown_rows

    quiet()
    found = Path(place) if Path(place).is_dir() else find_recipe(place)
    with stage_to_show(found, stage) as (settings, ctx):
        rows = shown_rows(settings, ctx, sample=sample, variant=variant, num=num)
        name = ctx.name
    console = Console(record=html is not None, highlight=False, soft_wrap=html is None)
    console.print(f"stage {name}: green is in the loss, grey is context without loss", markup=False)
    for row in rows:
        console.print(headline(row), markup=False, style="bold")
        console.print(coloured(row))
        console.print()
    console.print("Research use only, not for diagnosis.", markup=False)
    if html is not None:
        html.write_text(console.export_html(), "utf-8")
        Console(stderr=True).print(f"written to {html}", markup=False, highlight=False)


def headline(row: ShownRow) -> str:
    """What a row is, in one line."""
    which = "whole reply" if row.first_step == 1 else f"loss from step {row.first_step} of {row.num_steps} on"
    gone = f", without cluster {', '.join(map(str, row.without))}" if row.without else ""
    cut = ", END CUT OFF by the length cap" if row.cut_off else ""
    return (
        f"{row.sample_id}: {which}{gone}; {row.num_in_loss} of {row.num_tokens} tokens in the loss, "
        f"{row.num_pictures} stand for pictures{cut}"
    )


def coloured(row: ShownRow) -> Text:
    """The row's text, tokens in the loss marked."""
    from rich.text import Text

    shown = Text()
    for text, in_loss in row.pieces:
        shown.append(text, style=IN_LOSS if in_loss else CONTEXT)
    return shown
