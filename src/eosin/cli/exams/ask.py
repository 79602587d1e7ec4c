"""`eosin ask`: one question about an image, a region of a slide, or a whole slide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from eosin.core.nouns.sample import SlideRegion

_SHOWN = 8


def ask(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder, or a model's name on the hub.")],
    image: Annotated[Path, typer.Argument(help="An image; a slide; a region of a slide, with --box; a feature file.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    choices: Annotated[
        list[str] | None, typer.Option("--choices", help="An option; give it once for each, or separate by |.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Length cap of the reply, in tokens.")] = 256,
    box: Annotated[str | None, typer.Option(help="Region of a slide in µm: x0,y0,x1,y1 from its upper left.")] = None,
    mpp: Annotated[
        float | None, typer.Option(help="µm per pixel: of that region (default: as scanned), or of level 0 of a slide.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the reading of a slide: page, map, GeoJSON.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where features are kept. Default: beside --out.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Encoder of the patches, name or folder. Default: the checkpoint's.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="File or folder of the encoder's weights.")] = None,
    tile_um: Annotated[
        float | None, typer.Option("--tile-um", help="Side of a patch in µm. Default: the checkpoint's.")
    ] = None,
    tile_mpp: Annotated[
        float | None, typer.Option("--tile-mpp", help="µm per pixel of a patch. Default: the checkpoint's.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="Evidence: sensitivity, features, centred, gradient, rollout. The first is drawn.")
    ] = "sensitivity,centred,rollout",
    answer_only: Annotated[
        bool, typer.Option("--answer-only", help="Evidence of the answer given the reasoning, not of the whole reply.")
    ] = False,
) -> None:
    """Ask a model about an image or a whole slide. Prints its reasoning and its answer, and for a slide where it
    looked. Research use only, not for diagnosis.

    Example: eosin ask CHECKPOINT tile.png "What is the diagnosis?" --choices "normal mucosa|tubular adenoma"
    """
    from eosin.cli.training.run import need

    need("torch")
    from eosin.chain.ask.ask import ask_checkpoint
    from eosin.chain.ask.question import SlideOptions, question_of

    methods = tuple(m.strip() for m in method.split(",") if m.strip())
    slide_mpp = mpp if box is None else None
    options = SlideOptions(
        out, cache, encoder, weights, tile_um, tile_mpp, slide_mpp, methods, "answer" if answer_only else "reply"
    )
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    asked = question_of(question, choices or [], max_new_tokens)
    result = ask_checkpoint(checkpoint, _what(image, box, mpp), asked, options, progress)
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    _show(result)


def _show(result: dict[str, Any]) -> None:
    """The blocks, where the model looked, and what was written."""
    console = Console(highlight=False, soft_wrap=True)
    for tag, text in result["blocks"].items():
        console.print(f"[bold]{tag}[/bold]  {escape(text)}")
    if result["unparsed_reason"]:
        console.print(f"the reply does not follow its form ({result['unparsed_reason']}):")
        console.print(result["reply"], markup=False)
    if "slide" in result:
        _show_evidence(console, result["slide"], result["evidence"])
    for kind, path in result.get("files", {}).items():
        console.print(f"{kind}: {path}", markup=False)
    console.print(result["note"], style="dim")


def _show_evidence(console: Console, slide: dict[str, Any], evidence: dict[str, Any]) -> None:
    console.print(f"read: {slide['num_patches']} patches of {slide['tile_um']:g} µm as {slide['num_tokens']} tokens")
    if "reason" in evidence:
        console.print(f"no evidence: {evidence['reason']}")
        return
    console.print(f"where the {evidence['of']} comes from, by {evidence['method']} (not an explanation):")
    for row in evidence["top"][:_SHOWN]:
        place = f"x {row['x_um']:.0f} µm, y {row['y_um']:.0f} µm"
        console.print(f"  patch {row['patch']:<6} {place:<28} {100 * row['share']:5.1f} % of the evidence")
    if not evidence["top"]:
        console.print("  no patch speaks for it")


def _what(image: Path, box: str | None, mpp: float | None) -> Path | SlideRegion:
    """What is asked about: a file, or a region of a slide."""
    from eosin.core.errors import EosinError
    from eosin.core.nouns.sample import SlideRegion
    from eosin.core.nouns.units import BoxMicrons

    if box is None:
        return image
    try:
        x0, y0, x1, y1 = (float(v) for v in box.split(","))
        return SlideRegion(path=str(image), box=BoxMicrons(x0=x0, y0=y0, x1=x1, y1=y1), mpp=mpp)
    except ValueError:
        raise EosinError(
            "This is no region of a slide.",
            expected="x0,y0,x1,y1 in µm with x1 > x0 and y1 > y0, and a positive --mpp",
            found=box + (f", --mpp {mpp:g}" if mpp is not None else ""), where="--box",
        ) from None  # fmt: skip
