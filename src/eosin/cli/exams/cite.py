"""`eosin cite`: BibTeX of what a run stands on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def cite(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a recipe file.")],
    out: Annotated[Path | None, typer.Option(help="Write into this file instead of printing.")] = None,
) -> None:
    """Print BibTeX of the methods, the model, the data and the encoder that a run used.

    Example: eosin cite runs/demo
    """
    from eosin.chain.citing.cite import bibtex_of
    from eosin.cli.training.run import find_recipe
    from eosin.core.errors import EosinError
    from eosin.core.store.artifacts import write_text_atomic

    text = bibtex_of(run if run.exists() else find_recipe(str(run)))
    if out is None:
        print(text, end="")
        return
    if out.exists():
        raise EosinError("There is something at this place already, and Eosin never overwrites.", where=out,
                         next_step="choose another --out")  # fmt: skip
    write_text_atomic(out, text)
    print(out)
