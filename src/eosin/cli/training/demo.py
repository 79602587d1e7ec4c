"""`eosin demo`: the newcomer's run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
) -> None:
    """Make phantom tissue, train a small model through all stages, examine it, write a report.

    The same as `eosin run recipes/demo.yaml`. Under ten minutes on two cores, no GPU, no download.

    Example: eosin demo --out runs/demo
    """
    from eosin.cli.training.run import find_recipe, run_file

    run_file(find_recipe("demo"), [], out)
