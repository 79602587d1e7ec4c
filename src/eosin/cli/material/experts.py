"""`eosin experts`: samples go to readers as a table with pictures and shapes, and come back with verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Send samples to experts, and read what comes back.", no_args_is_help=True)


@app.command("send")
def send(
    data: Annotated[Path, typer.Argument(help="Samples in any format.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder: batch.csv, pictures/, shapes/.")],
    num: Annotated[int, typer.Option("-n", "--num", help="How many, drawn with the seed.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
) -> None:
    """Write a batch. Each reader fills in a copy of batch.csv (verdict: keep, drop or unsure), named after the reader.

    Example: eosin experts send samples/cot -n 50 --out batch1
    """
    from rich.console import Console

    from eosin.chain.experts import write_batch
    from eosin.core.formats import read_samples

    made = write_batch(read_samples(data).kept, out, num, seed)
    Console(highlight=False, soft_wrap=True, markup=False).print(f"{made} samples in {out / 'batch.csv'}")


@app.command("read")
def read(
    batch: Annotated[Path, typer.Argument(help="The folder that `eosin experts send` wrote.")],
    tables: Annotated[list[Path], typer.Argument(help="Tables that came back, one a reader.")],
    out: Annotated[Path | None, typer.Option("--out", help="A new samples folder of what is kept.")] = None,
) -> None:
    """Count verdicts, show how far readers agree, and write the samples that they keep, as they corrected them.

    Example: eosin experts read batch1 meier.csv okafor.csv --out samples/checked
    """
    from rich.console import Console

    from eosin.chain.experts import read_back
    from eosin.core.formats import write_artifact

    told = read_back(batch, tables)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for name, counts in told.readers.items():
        console.print(f"{name}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    for pair, row in told.agreement.items():
        kappa = "not defined" if row["kappa"] is None else f"{row['kappa']:.2f}"
        console.print(f"{pair}: {100 * row['agreed']:.0f} % of {row['n']} alike, kappa {kappa}")
    for reason, n in told.samples.reasons().items():
        console.print(f"  {n:>5}  {reason}")
    for problem in told.problems[:20]:
        console.print(f"  not read: {problem}")
    console.print(
        f"{len(told.samples.kept)} kept, {told.changed_answers} answers and {told.changed_boxes} shapes corrected"
    )
    if out is not None:
        write_artifact(told.samples.kept, out, dropped=told.samples.dropped, record=told.as_json())
        console.print(str(out))
