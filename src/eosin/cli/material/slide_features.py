"""`eosin slides features`, `encoders` and `convert`: features of slides, and feature files of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from eosin.core.nouns.outcome import Dropped

Paths = Annotated[list[Path], typer.Argument(help="Slides, and folders of slides.")]
Out = Annotated[Path, typer.Option("--out", help="Job folder as TRIDENT lays it out; resumable.")]
EncoderName = Annotated[str, typer.Option("--encoder", help="Name (eosin slides encoders), or a checkpoint folder.")]
TileMpp = Annotated[float | None, typer.Option("--tile-mpp", help="µm per pixel of a tile. Default: the encoder's.")]
MppLevel0 = Annotated[float | None, typer.Option("--mpp", help="µm per pixel of level 0, where files do not say.")]
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the verbs to `eosin slides`."""
    app.command("features")(features)
    app.command("encoders")(encoders)
    app.command("convert")(convert)


def features(
    paths: Paths,
    out: Out,
    encoder: EncoderName = "colour-texture",
    weights: Annotated[str | None, typer.Option(help="A local file or folder with the encoder's weights.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub.")] = None,
    tile_mpp: TileMpp = None,
    mpp: MppLevel0 = None,
    overlap: Annotated[float, typer.Option(help="Share of the side that neighbours have in common, 0 to 1.")] = 0.0,
    min_tissue: Annotated[float, typer.Option("--min-tissue", help="Smallest share of tissue in a tile.")] = 0.25,
    edge: Annotated[str, typer.Option(help="inside: no tile reaches out of the slide; pad: white outside.")] = "inside",
    skip: Annotated[list[str] | None, typer.Option("--skip", help="Leave out tiles with pen, bubble, border.")] = None,
    max_tiles: Annotated[int | None, typer.Option("--max-tiles", help="At most so many tiles a slide.")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of tiles.")] = 0,
    icc: Annotated[bool, typer.Option("--icc", help="Turn colours to sRGB with the profile in the file.")] = False,
    reader: Annotated[str | None, typer.Option(help="openslide, tifffile, wsidicom or image.")] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Read pictures of one channel too.")] = False,
    depth16: Annotated[str | None, typer.Option(help="More than 8 bits too: stated, or measured range.")] = None,
    store: Annotated[str, typer.Option(help="float32, or float16 for half the disk.")] = "float32",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. Default: the GPU if there is one.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Tiles at a time.")] = 64,
    readers: Annotated[int, typer.Option(help="Processes that open and read slides.")] = 2,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to read a slide.")] = 3600.0,
    engine: Annotated[str, typer.Option(help="local, or ray: spread slides over a cluster.")] = "local",
    cluster: Annotated[str | None, typer.Option(help="Address of a running Ray. Default: start one here.")] = None,
    cluster_workers: Annotated[int | None, typer.Option("--cluster-workers", help="Slides at once on it.")] = None,
    cluster_gpus: Annotated[float, typer.Option("--cluster-gpus", help="GPUs that a worker takes.")] = 0.0,
    tile_px: Annotated[int, typer.Option("--tile-px", help="Side of a tile; only for a checkpoint folder.")] = 224,
) -> None:
    """Features of slides in TRIDENT's h5 layout. A stopped run goes on with the same command.

    Example: eosin slides features slides/ --out features --encoder colour-texture
    """
    from eosin.chain.ask.tower import make_features
    from eosin.core.settings.recipe import check_settings
    from eosin.slides.features.plan import FeatureSettings
    from eosin.slides.open.colours import asked

    values = {
        "encoder": encoder, "weights": weights, "revision": revision, "mpp": tile_mpp, "slide_mpp": mpp,
        "overlap": overlap, "min_tissue": min_tissue, "edge": edge, "skip_flags": tuple(skip or ()),
        "max_tiles": max_tiles, "seed": seed, "icc": icc, "reader": reader, **asked(grey, depth16),
        "store": store, "device": device,
        "batch_size": batch_size, "readers": readers, "timeout_s": timeout_s, "engine": engine,
        "cluster_address": cluster, "cluster_workers": cluster_workers, "cluster_gpus": cluster_gpus,
    }  # fmt: skip
    settings = check_settings(FeatureSettings, values, "eosin slides features")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    done = make_features(paths, out, settings, console, tile_px=tile_px)
    _show_dropped(console, done.dropped)
    lost = sum(len(d.failed) for d in done.done)
    before = sum(d.resumed for d in done.done)
    console.print(
        f"{done.num_in} slides = {len(done.done)} with features{f', {before} of them before' if before else ''} "
        f"+ {len(done.dropped)} set aside; {done.num_tiles} tiles in {done.seconds:.0f} s"
        + (f", {lost} tiles failed and are named in {done.tables[1].name}" if lost else "")
    )
    Console(highlight=False, soft_wrap=True).print(str(done.folder))
    if not done.done:
        raise typer.Exit(1)


def _show_dropped(console: Console, dropped: tuple[Dropped, ...]) -> None:
    from rich.markup import escape

    for item in dropped[:_SHOWN]:
        detail = f" ({escape(item.detail)})" if item.detail else ""
        console.print(f"[yellow]set aside:[/yellow] {escape(item.id)}: {escape(item.reason)}{detail}")
    if len(dropped) > _SHOWN:
        console.print(f"[yellow]... and {len(dropped) - _SHOWN} more")


def encoders() -> None:
    """List the encoders: dimension, scale, tile, licence, and whether the hub asks for consent.

    Example: eosin slides encoders
    """
    from eosin.core.plugins import plugin_names
    from eosin.slides.encoders.records import RECORDS, record_of

    table = Table("name", "dim", "µm/px", "tile px", "hub", "licence", "gated", box=None, padding=(0, 2, 0, 0))
    for r in (*RECORDS, *map(record_of, plugin_names("eosin.encoders"))):
        scales = ", ".join(f"{m:g}" for m in r.mpp) or "any"
        table.add_row(r.name, str(r.dim), scales, str(r.tile_px), r.hub or "-", r.licence, "yes" if r.gated else "no")
    console = Console(highlight=False)
    console.width = max(console.width, 160)  # a table that is wrapped cannot be read by a program
    console.print(table)


def convert(
    files: Annotated[list[Path], typer.Argument(help="SlideChat csv, GigaPath pt, CLAM or TRIDENT h5, zarr stores.")],
    out: Out,
    encoder: Annotated[str, typer.Option("--encoder", help="What the features are of.")],
    tile_mpp: TileMpp = None,
    mpp: MppLevel0 = None,
    tile_px: Annotated[int | None, typer.Option("--tile-px", help="Side of a tile in pixels, as encoded.")] = None,
) -> None:
    """Rewrite feature files of other tools in TRIDENT's layout. No code of a file is run.

    Example: eosin slides convert feats/*.csv --out features --encoder conch --mpp 0.25
    """
    from eosin.slides.encoders.encoder import check_mpp, record_of
    from eosin.slides.features.files import convert as convert_files
    from eosin.slides.features.h5 import TileGeometry

    record = record_of(encoder)
    scale, side = check_mpp(record, tile_mpp), tile_px or record.tile_px
    place = TileGeometry(side, side * scale / mpp if mpp else None, scale, mpp)
    made, dropped = convert_files(files, out, record, place)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    _show_dropped(console, tuple(dropped))
    console.print(f"{len(files)} files = {len(made)} converted + {len(dropped)} set aside")
    if not made:
        raise typer.Exit(1)
