"""`eosin corrections`: what experts said in the reading room, as samples, pairs, shapes; and how far two agree."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from eosin.serve.corrections.store import CorrectionStore

app = typer.Typer(help="Corrections of the reading room. Research use only, not for diagnosis.", no_args_is_help=True)
StoreArgument = Annotated[
    str, typer.Argument(help="SQLite file or URL of the store, such as RUN/room/corrections.sqlite.")
]


@app.command()
def export(
    store: StoreArgument,
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    reader: Annotated[list[str] | None, typer.Option(help="Initials to take; repeatable. Default: all.")] = None,
    grammar: Annotated[
        str | None, typer.Option(help="Form of the chosen replies in pairs.jsonl. Default: that of the rejected one.")
    ] = None,
) -> None:
    """Write what was signed: samples.jsonl (to train on), pairs.jsonl (preferences, TRL's form), versions.jsonl (all
    versions), annotations/*.geojson (QuPath), labelstudio.json, dropped.jsonl (with reasons).

    Example: eosin corrections export runs/demo-slide/room/corrections.sqlite corrections
    """
    from eosin.core.formats import write_samples
    from eosin.core.nouns.reply import Grammar
    from eosin.core.store import artifacts
    from eosin.curate import write_dropped
    from eosin.serve.corrections.archive import files_of
    from eosin.serve.corrections.samples import samples_of

    opened = _opened(store)
    found = samples_of(opened, reader)
    files = files_of(opened, Grammar.of(grammar) if grammar else None, readers=reader)
    with artifacts.writing(out, "corrections", record={"store": opened.plain_where}) as writer:
        write_samples(found.kept, writer.dir / "samples.jsonl")
        write_dropped(writer.dir / "dropped.jsonl", found.dropped)
        for name, text in files.items():
            (writer.dir / name).parent.mkdir(exist_ok=True)
            (writer.dir / name).write_text(text, "utf-8")
        writer.counts = {"samples": len(found.kept), "dropped": len(found.dropped)}
    pairs = files["pairs.jsonl"].count("\n")
    _say(
        f"{len(found.kept)} samples, {pairs} of them pairs, in {out}; set aside {len(found.dropped)} {found.reasons()}"
    )


@app.command()
def agreement(
    store: StoreArgument,
    first: Annotated[str, typer.Argument(help="Initials of one reader.")],
    second: Annotated[str, typer.Argument(help="Initials of the other.")],
) -> None:
    """Cohen's kappa of two readers with its 95 % interval over slides: answers, statements kept or not, ratings.

    Example: eosin corrections agreement corrections.sqlite AB CD
    """
    from eosin.serve.corrections.agreement import agreement as agreed

    print(json.dumps(agreed(_opened(store), first, second), indent=1))


@app.command("take-in")
def take_in(
    store: StoreArgument,
    reading: Annotated[str, typer.Argument(help="Id of the reading.")],
    shapes: Annotated[Path, typer.Argument(help="GeoJSON as QuPath saved it.")],
    reader: Annotated[str, typer.Option(help="Initials of the reader whose last version gets the regions.")],
) -> None:
    """Take regions back from QuPath: a new, unsigned version of that reader.

    Example: eosin corrections take-in corrections.sqlite 3f0c... regions.geojson --reader AB
    """
    from eosin.core.errors import EosinError
    from eosin.serve.corrections.shapes import with_shapes
    from eosin.slides.annotations.geojson_read import read_geojson

    opened = _opened(store)
    versions = opened.versions(reading, reader)
    if not versions:
        raise EosinError("There is no correction of this reading by this reader.", found=f"{reading}, {reader}")
    read = read_geojson(shapes)
    made, aside = with_shapes(versions[-1].correction, read.kept, uuid.uuid4().hex)
    kept = opened.add(reading, made)
    aside += [f"{d.id}: {d.reason}" for d in read.dropped]
    _say(f"version {kept.version} of {reader}" + (f"; set aside: {'; '.join(aside)}" if aside else ""))


def _opened(where: str) -> CorrectionStore:
    """The store, which must be there."""
    from eosin.core.errors import EosinError
    from eosin.core.extras import need
    from eosin.serve.corrections.store import CorrectionStore

    need("sqlalchemy", "serve")
    if "://" not in where and not Path(where).is_file():
        raise EosinError("There is no such store.", where=where, next_step="it is made by: eosin serve RUN")
    return CorrectionStore(where)


def _say(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)
