"""`eosin report`: the page of a run, built again from what is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run, complete or not.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write. Default: report/index.html in the run.")
    ] = None,
) -> None:
    """Write the report of a run: one HTML page that needs nothing else. Research use only, not for diagnosis.

    Example: eosin report runs/demo
    """
    from eosin.report import build

    page = build(run_dir, out).resolve()
    print(f"report: {page}")
