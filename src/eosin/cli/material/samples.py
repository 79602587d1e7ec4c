"""`eosin samples`: look at a data set, count it, and write it as other programs take it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Samples of any format: a page with thumbnails, figures, conversion. Research use only, not for diagnosis.",
    no_args_is_help=True,
)
Dataset = Annotated[Path, typer.Argument(help="Samples: folder, parquet, JSON, JSON lines, or webdataset tar.")]
Folders = Annotated[list[str] | None, typer.Option("--image-folder", help="A further folder of its pictures.")]


@app.command("stats")
def stats(
    dataset: Dataset,
    image_folder: Folders = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Count samples by split, source, licence, label and more; lengths in words; what could not be read.

    Example: eosin samples stats samples/captions
    """
    from rich.console import Console

    from eosin.chain.curation.anyform import iter_any
    from eosin.chain.curation.facts import facts_of

    facts = facts_of(iter_any(dataset, tuple(image_folder or ())))
    if as_json:
        print(json.dumps(facts.as_json(), ensure_ascii=False, indent=1))
        return
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for name, text in facts.rows():
        console.print(f"{name:<22} {text}")


@app.command("show")
def show(
    dataset: Dataset,
    html: Annotated[Path, typer.Option("--html", help="The page to write.")] = Path("samples.html"),
    number: Annotated[int, typer.Option("--number", help="How many samples are shown.", min=1, max=500)] = 50,
    seed: Annotated[int, typer.Option(help="Of the draw of samples.")] = 0,
    image_folder: Folders = None,
) -> None:
    """Write a page with the figures of a data set and a random draw of its samples, with thumbnails.

    Example: eosin samples show samples/captions --html captions.html
    """
    from rich.console import Console

    from eosin.chain.curation.anyform import iter_any
    from eosin.chain.curation.facts import drawn
    from eosin.report.pages.samples import write_samples_page

    facts, some = drawn(iter_any(dataset, tuple(image_folder or ())), number, seed)
    write_samples_page(html, name=dataset.name, facts=facts.rows(), samples=some, total=facts.num)
    Console(highlight=False, soft_wrap=True, markup=False).print(f"{len(some)} of {facts.num:,} samples: {html}")


@app.command("convert")
def convert(
    dataset: Dataset,
    to: Annotated[
        str,
        typer.Option(
            "--to", help="parquet, jsonl, artifact, sharegpt, trl, datasets, llamafactory, swift, verl or webdataset."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file or folder to write; it must not exist.")],
    split: Annotated[str | None, typer.Option(help="Write this split only.")] = None,
    grammar: Annotated[str, typer.Option(help="Form of the gold reply, where the format holds one.")] = "think/answer",
    instruction: Annotated[bool, typer.Option(help="Say the form of the reply in the question.")] = True,
    image_folder: Folders = None,
) -> None:
    """Write a data set in another format. What it cannot hold is counted by reason.

    Example: eosin samples convert samples/captions --to webdataset --out captions.tar
    """
    from collections import Counter
    from collections.abc import Iterator

    from rich.console import Console

    from eosin.chain.curation.anyform import iter_any
    from eosin.core.formats.exchange.convert import convert as write
    from eosin.core.nouns.outcome import Dropped
    from eosin.core.nouns.reply import Grammar
    from eosin.core.nouns.sample import Sample

    aside: Counter[str] = Counter()

    def wanted() -> Iterator[Sample]:
        for outcome in iter_any(dataset, tuple(image_folder or ())):
            if isinstance(outcome, Dropped):
                aside[outcome.reason] += 1
            elif split is None or (outcome.value.split or "train") == split:
                yield outcome.value

    count, dropped = write(wanted(), out, to, grammar=Grammar.of(grammar), instruction=instruction)
    aside.update(d.reason for d in dropped)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{count:,} samples written as {to}: {out}")
    for reason, n in aside.most_common():
        console.print(f"  {n:>8,}  {reason}")
    if not count:
        raise typer.Exit(1)
