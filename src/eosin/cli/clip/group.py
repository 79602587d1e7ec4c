"""`eosin clip`: the group of its verbs."""

from __future__ import annotations

import typer

from eosin.cli.clip.exams import export, few_shot, retrieve, zero_shot
from eosin.cli.clip.search import embed, search

app = typer.Typer(name="clip", help="Images and words in one space: exams and search.", no_args_is_help=True)
app.command("zero-shot")(zero_shot)
app.command("few-shot")(few_shot)
app.command("retrieve")(retrieve)
app.command("embed")(embed)
app.command("search")(search)
app.command("export")(export)


@app.callback()
def _group() -> None:
    """Images and words in one space: exams and search."""
