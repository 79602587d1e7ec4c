"""`eosin ask`: one question about one image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def ask(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder, or a model's name on the hub.")],
    image: Annotated[Path, typer.Argument(help="An image file.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    choices: Annotated[
        list[str] | None, typer.Option("--choices", help="An option; give it once for each, or separate by |.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Length cap of the reply, in tokens.")] = 256,
) -> None:
    """Ask a model about an image. Prints its reasoning and its answer. Research use only, not for diagnosis.

    Example: eosin ask CHECKPOINT tile.png "What is the diagnosis?" --choices "normal mucosa|tubular adenoma"
    """
    from eosin.cli.run import need

    need("torch")
    from eosin.chain.exam import ask_one

    options = [o.strip() for c in choices or [] for o in c.split("|") if o.strip()]
    result = ask_one(checkpoint, image, question, options, max_new_tokens)
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
