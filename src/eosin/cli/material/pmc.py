"""`eosin pmc`: articles of PubMed Central with their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pmc(
    ids: Annotated[list[str], typer.Argument(help="PMC123, PMC123.1, or a file with one a line.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the articles; what is there stays.")],
    licence: Annotated[
        list[str] | None, typer.Option("--licence", help="Fetch only such, e.g. CC0, CC-BY. Repeatable.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Another address of the service.")] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="The PDF too.")] = False,
    rate: Annotated[float, typer.Option(min=0.01, help="Requests a second at most.")] = 3.0,
) -> None:
    """Fetch articles from PMC's cloud service, politely; `eosin documents` reads the folder. Resumable.

    Example: eosin pmc PMC7289599 --out articles --licence CC0 --licence CC-BY
    """
    from rich.console import Console

    from eosin.core.formats.artifact import DROPPED_FILE, dropped_line
    from eosin.core.store.artifacts import write_text_atomic
    from eosin.documents.fetch.http import Politeness
    from eosin.documents.fetch.pmc import ADDRESS, fetch_articles

    wanted = [w for one in ids for w in _of(one)]
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    done = fetch_articles(
        wanted, out, address=address or ADDRESS, licences=licence or [], pdf=pdf, politeness=Politeness(rate),
        report=console.print,
    )  # fmt: skip
    if done.dropped:
        out.mkdir(parents=True, exist_ok=True)
        write_text_atomic(out / DROPPED_FILE, "".join(dropped_line(d) for d in done.dropped))
    for item in done.dropped[:40]:
        console.print(f"set aside: {item.id}: {item.reason} ({item.detail})")
    if len(done.dropped) > 40:
        console.print(f"... all {len(done.dropped)} in {out / DROPPED_FILE}")
    console.print(f"{len(wanted)} articles = {len(done.articles)} here + {len(done.dropped)} set aside; "
                  f"{done.files} files fetched into {out}")  # fmt: skip
    if not done.articles:
        raise typer.Exit(1)


def _of(one: str) -> list[str]:
    path = Path(one)
    return (
        [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
        if path.is_file()
        else [one]
    )
