"""`eosin reference`: what a field of a recipe means, and the reference pages of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def reference(
    context: typer.Context,
    field: Annotated[str | None, typer.Argument(help="A field of a recipe, such as stages.rl.temperature.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the reference pages (Markdown) into this folder.")] = None,
) -> None:
    """Say what a field of a recipe means: its type, default, unit and bounds. Without a field: all classes of settings.

    Example: eosin reference stages.rl.temperature
    """
    from rich.console import Console

    from eosin.cli.reference.fields import FieldNote, groups, matching
    from eosin.core.errors import EosinError

    if out is not None:
        from eosin.cli.reference.pages import write_pages

        for path in write_pages(out, context.find_root().command):
            print(path)
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if field is None:
        for group in groups():
            console.print(f"{group.name:<18} {', '.join(p for p in group.places if p) or 'the whole recipe'}")
        return
    found: dict[FieldNote, list[str]] = {}
    for place, note in matching(field):
        found.setdefault(note, []).append(place)
    if not found:
        import difflib

        known = sorted({f.name for g in groups() for f in g.fields})
        near = difflib.get_close_matches(field.split(".")[-1], known, n=1)
        raise EosinError(
            "No recipe field has this name.", found=field, expected="a field such as stages.rl.temperature, or its end",
            next_step=f"eosin reference {near[0]}" if near else "eosin reference   lists all classes of settings",
        )  # fmt: skip
    for note, places in found.items():
        console.print("\n".join(places))
        unit = f"; unit: {note.unit}" if note.unit else ""
        console.print(f"  {note.kind}; default: {note.default}{unit}\n  {note.text}\n")
