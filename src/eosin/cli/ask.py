"""`eosin ask`: one question about one image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from eosin.core.sample import ImageFile, SlideRegion


def ask(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder, or a model's name on the hub.")],
    image: Annotated[Path, typer.Argument(help="An image file; a slide, with --box.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    choices: Annotated[
        list[str] | None, typer.Option("--choices", help="An option; give it once for each, or separate by |.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Length cap of the reply, in tokens.")] = 256,
    box: Annotated[str | None, typer.Option(help="Region of a slide in µm: x0,y0,x1,y1 from its upper left.")] = None,
    mpp: Annotated[float | None, typer.Option(help="µm per pixel of that region. Default: as scanned.")] = None,
) -> None:
    """Ask a model about an image. Prints its reasoning and its answer. Research use only, not for diagnosis.

    Example: eosin ask CHECKPOINT tile.png "What is the diagnosis?" --choices "normal mucosa|tubular adenoma"
    """
    from eosin.cli.run import need

    need("torch")
    from eosin.chain.exam import ask_one

    options = [o.strip() for c in choices or [] for o in c.split("|") if o.strip()]
    result = ask_one(checkpoint, _what(image, box, mpp), question, options, max_new_tokens)
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    console = Console(highlight=False, soft_wrap=True)
    for tag, text in result["blocks"].items():
        console.print(f"[bold]{tag}[/bold]  {text}")
    if result["unparsed_reason"]:
        console.print(f"the reply does not follow its form ({result['unparsed_reason']}):")
        console.print(result["reply"], markup=False)
    console.print(result["note"], style="dim")


def _what(image: Path, box: str | None, mpp: float | None) -> ImageFile | SlideRegion:
    """The picture that is asked about: a file, or a region of a slide."""
    from eosin.core.errors import EosinError
    from eosin.core.sample import ImageFile, SlideRegion
    from eosin.core.units import BoxMicrons

    if box is None:
        if mpp is not None:
            raise EosinError("--mpp says how a region of a slide is read.", next_step="give --box x0,y0,x1,y1 too")
        return ImageFile(path=str(image))
    try:
        x0, y0, x1, y1 = (float(v) for v in box.split(","))
        return SlideRegion(path=str(image), box=BoxMicrons(x0=x0, y0=y0, x1=x1, y1=y1), mpp=mpp)
    except ValueError:
        raise EosinError(
            "This is no region of a slide.",
            expected="x0,y0,x1,y1 in µm with x1 > x0 and y1 > y0, and a positive --mpp",
            found=box + (f", --mpp {mpp:g}" if mpp is not None else ""), where="--box",
        ) from None  # fmt: skip
