"""`eosin slides`: open whole slides, find tissue, cut tiles, compute features, audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from eosin.cli.material import slide_features

if TYPE_CHECKING:
    from eosin.slides.batch.folder import FolderRun

app = typer.Typer(
    help="Whole slides: info, thumbnail, tissue, tiles, features, audit. Research use only.", no_args_is_help=True
)

Paths = Annotated[list[Path], typer.Argument(help="Slides, and folders of slides.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of the results. What is done there is not done again.")]
MaybeOut = Annotated[Path | None, typer.Option("--out", help="Also write the table to this folder.")]
MppLevel0 = Annotated[
    float | None, typer.Option("--mpp", help="µm per pixel of level 0, where the files do not say. Never guessed.")
]
Grey = Annotated[bool, typer.Option("--grey", help="Read pictures of one channel too, as three equal colours.")]
Depth16 = Annotated[
    str | None, typer.Option(help="Read more than 8 bits too, scaled by the range that is 'stated', or 'measured'.")
]
Icc = Annotated[bool, typer.Option("--icc", help="Turn colours to sRGB with the profile in the file.")]
Reader = Annotated[str | None, typer.Option(help="openslide, tifffile, wsidicom, image. Default: who can.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds a slide may take before it is set aside.")]
Workers = Annotated[int, typer.Option("--workers", help="Slides that are handled at once.")]
WithLabel = Annotated[bool, typer.Option("--with-label", help="Also what can hold names: label and macro images.")]
TileMpp = Annotated[float | None, typer.Option("--tile-mpp", help="µm per pixel of a tile. Default: 0.5.")]
TilePx = Annotated[int, typer.Option("--tile-px", help="Side of a tile in pixels.")]
TileUm = Annotated[float | None, typer.Option("--tile-um", help="Side of a tile in µm, instead of --tile-mpp.")]
Overlap = Annotated[float, typer.Option(help="Share of the side that neighbours have in common, 0 to 1.")]
MinTissue = Annotated[float, typer.Option("--min-tissue", help="Smallest share of tissue in a tile.")]
Edge = Annotated[str, typer.Option(help="inside: no tile reaches out of the slide; pad: white outside.")]


@app.command()
def info(
    paths: Paths,
    out: MaybeOut = None,
    mpp: MppLevel0 = None,
    reader: Reader = None,
    grey: Grey = False,
    depth16: Depth16 = None,
    properties: Annotated[bool, typer.Option("--properties", help="All that the file says, without names.")] = False,
    with_label: WithLabel = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
    timeout_s: Timeout = 60.0,
    workers: Workers = 1,
) -> None:
    """Size, scale, levels and format of slides.

    Example: eosin slides info slides/
    """
    settings = {
        "mpp": mpp,
        "reader": reader,
        "grey": grey,
        "depth16": depth16,
        "properties": properties,
        "with_label": with_label,
    }
    done = _run("info", paths, out, settings, timeout_s, workers)
    if as_json:
        for row in done.rows:
            print(json.dumps(row, ensure_ascii=False))
    else:
        for row in done.rows:
            for name, value in (row.pop("properties", None) or {}).items():
                print(f"{name} = {value}")
        columns = ("slide", "reader", "format", "width_px", "height_px", "mpp", "width_mm", "height_mm", "levels",
                   "objective", "associated")  # fmt: skip
        _show(done, columns)
        for row in done.rows:
            if row["notes"]:
                _console().print(f"[yellow]{row['slide']}: {row['notes']}")
            if row["mpp"] == "":
                _console().print(f"[yellow]{row['slide']}: no µm per pixel: {row['mpp_note']}; state it with --mpp")
    _finish(done, out, "info")


@app.command()
def thumbnail(
    paths: Paths,
    out: Out,
    size_px: Annotated[int, typer.Option("--size", help="Longer side in pixels.")] = 1024,
    icc: Icc = False,
    reader: Reader = None,
    grey: Grey = False,
    depth16: Depth16 = None,
    with_label: WithLabel = False,
    timeout_s: Timeout = 300.0,
    workers: Workers = 1,
) -> None:
    """A picture of each whole slide.

    Example: eosin slides thumbnail slides/ --out out/thumbs
    """
    settings = {
        "size_px": size_px,
        "icc": icc,
        "reader": reader,
        "grey": grey,
        "depth16": depth16,
        "with_label": with_label,
    }
    done = _run("thumbnail", paths, out, settings, timeout_s, workers)
    _finish(done, out, "thumbnail")


@app.command()
def tissue(
    paths: Paths,
    out: Out,
    mpp: MppLevel0 = None,
    icc: Icc = False,
    reader: Reader = None,
    grey: Grey = False,
    depth16: Depth16 = None,
    min_area_um2: Annotated[float, typer.Option("--min-area", help="Smaller parts are dirt, µm².")] = 20_000.0,
    max_hole_um2: Annotated[float, typer.Option("--max-hole", help="Smaller holes are filled, µm².")] = 15_000.0,
    keep_pen: Annotated[bool, typer.Option("--keep-pen", help="Count felt pen as tissue.")] = False,
    timeout_s: Timeout = 600.0,
    workers: Workers = 1,
) -> None:
    """Outlines of tissue as GeoJSON for QuPath, and a picture to look at.

    Example: eosin slides tissue slides/ --out out/tissue
    """
    values = {"min_area_um2": min_area_um2, "max_hole_um2": max_hole_um2, "keep_pen": keep_pen}
    _check_tissue(values)
    settings = {"mpp": mpp, "icc": icc, "reader": reader, **_beside(grey, depth16), "tissue": values}
    done = _run("tissue", paths, out, settings, timeout_s, workers)
    _show(done, ("slide", "tissue_mm2", "tissue_share", "parts", "pen_share", "border_share"))
    _finish(done, out, "tissue")


@app.command()
def tiles(
    paths: Paths,
    out: Out,
    tile_px: TilePx = 256,
    tile_mpp: TileMpp = None,
    tile_um: TileUm = None,
    overlap: Overlap = 0.0,
    min_tissue: MinTissue = 0.25,
    edge: Edge = "inside",
    mpp: MppLevel0 = None,
    icc: Icc = False,
    reader: Reader = None,
    grey: Grey = False,
    depth16: Depth16 = None,
    quality: Annotated[bool, typer.Option("--quality", help="Read every tile and flag those out of focus.")] = False,
    pictures: Annotated[bool, typer.Option("--pictures", help="Write every tile as PNG.")] = False,
    sample: Annotated[int | None, typer.Option(help="Only so many tiles of a slide.")] = None,
    sample_how: Annotated[str, typer.Option("--sample-how", help="uniform, or stratified by colour.")] = "uniform",
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    timeout_s: Timeout = 1800.0,
    workers: Workers = 1,
) -> None:
    """Tiles with tissue: coordinates as CSV and GeoJSON, and a contact sheet to look at.

    Example: eosin slides tiles slides/ --out out/tiles --tile-px 256 --tile-mpp 0.5
    """
    from eosin.core.errors import EosinError

    if sample_how not in ("uniform", "stratified"):
        raise EosinError("No such way to sample.", expected="uniform or stratified", found=sample_how)
    grid = grid_settings(tile_px, tile_mpp, tile_um, overlap, min_tissue, edge)
    settings = {"mpp": mpp, "icc": icc, "reader": reader, **_beside(grey, depth16), "tissue": {}, "grid": grid,
                "quality": quality, "pictures": pictures, "sample": sample, "sample_how": sample_how,
                "seed": seed}  # fmt: skip
    done = _run("tiles", paths, out, settings, timeout_s, workers)
    _show(done, ("slide", "tissue_mm2", "parts", "tiles", "mpp", "flagged", "failed"))
    _finish(done, out, "tiles")


@app.command()
def audit(
    paths: Paths,
    out: MaybeOut = None,
    mpp: MppLevel0 = None,
    reader: Reader = None,
    grey: Grey = False,
    depth16: Depth16 = None,
    scrub: Annotated[
        Path | None, typer.Option(help="Write clean copies here: no names, dates or label images. Never in place.")
    ] = None,
    timeout_s: Timeout = 600.0,
    workers: Workers = 1,
) -> None:
    """What is wrong with slides, before it costs a day: scale, damage, focus, ink, names, dates, labels, copies.

    Example: eosin slides audit slides/ --out out/audit --scrub clean/
    """
    from dataclasses import replace

    from eosin.core.store.artifacts import write_text_atomic
    from eosin.slides.batch.audit import with_copies
    from eosin.slides.batch.folder import table_text

    done = _run("audit", paths, out, {"mpp": mpp, "reader": reader, **_beside(grey, depth16)}, timeout_s, workers)
    done = replace(done, rows=tuple(with_copies(done.rows)))
    if out is not None and done.rows:
        columns = list(done.rows[0])
        write_text_atomic(out / "audit.csv", table_text(columns, [[r.get(c, "") for c in columns] for r in done.rows]))
    _show(done, ("slide", "format", "mpp", "tissue_mm2", "tiles_read", "tiles_failed", "blurred", "issues"))
    if scrub is not None:
        from eosin.cli.material.scrub import scrub_all

        scrub_all(paths, scrub, out)
    _finish(done, out, "audit")


slide_features.register(app)


def grid_settings(
    tile_px: int, tile_mpp: float | None, tile_um: float | None, overlap: float, min_tissue: float, edge: str
) -> dict[str, Any]:
    """Settings of TileGrid from the options, checked before any slide is opened."""
    from eosin.core.settings.recipe import check_settings
    from eosin.slides.tiles.grid import TileGrid

    values = {"tile_px": tile_px, "mpp": tile_mpp, "tile_um": tile_um, "overlap": overlap, "min_tissue": min_tissue,
              "edge": edge}  # fmt: skip
    given = {k: v for k, v in values.items() if v is not None}
    check_settings(TileGrid, given, "eosin slides")
    return given


def _check_tissue(values: Any) -> None:
    from eosin.core.settings.recipe import check_settings
    from eosin.slides.tissue.segmentation import TissueSettings

    check_settings(TissueSettings, values, "eosin slides tissue")


def _run(
    verb: str, paths: list[Path], out: Path | None, settings: dict[str, Any], timeout_s: float, workers: int
) -> FolderRun:
    """Handle all slides with a line of progress."""
    import eosin.slides.batch.audit as audit_module
    import eosin.slides.batch.work as work_module
    from eosin.slides.batch.folder import run_folder

    work: Callable[..., Any] = audit_module.audit if verb == "audit" else getattr(work_module, verb)
    with _progress(verb) as report:
        return run_folder(verb, work, paths, out, settings, timeout_s=timeout_s, workers=workers, report=report)


class _progress:  # noqa: N801  used as `with _progress(verb) as report`
    """A line that says how many slides are done and how long the rest will take."""

    def __init__(self, verb: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[slide]}"))
        self._bar = Progress(TextColumn(verb), *columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(verb, total=None, slide="")

    def __enter__(self) -> Callable[[int, int, str], None]:
        self._bar.start()
        return lambda done, total, slide: self._bar.update(self._task, completed=done, total=total, slide=slide[:40])

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _show(done: FolderRun, columns: tuple[str, ...]) -> None:
    if not done.rows:
        return
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for row in done.rows:
        table.add_row(*(_cell(row.get(c, "")) for c in columns))
    console = _console()
    console.width = max(console.width, 160)  # a table that is wrapped cannot be read
    console.print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    return f"{value:.6g}" if isinstance(value, float) else escape(str(value))


def _finish(done: FolderRun, out: Path | None, verb: str) -> None:
    """What was set aside, and the sum. Status 1 where no slide could be used."""
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True, stderr=True)
    for item in done.dropped[:20]:
        console.print(f"[yellow]set aside:[/yellow] {escape(item.id)}: {item.reason}"
                      + (f" ({escape(item.detail)})" if item.detail else ""))  # fmt: skip
    if len(done.dropped) > 20:
        console.print(f"[yellow]... and {len(done.dropped) - 20} more")
    before = f", {done.num_before} of them before" if done.num_before else ""
    console.print(f"{done.num_found} found = {len(done.rows)} done{before} + {len(done.dropped)} set aside"
                  + (f"; tables in {out}" if out else ""))  # fmt: skip
    if not done.rows:
        raise typer.Exit(1)


def _beside(grey: bool, depth16: str | None) -> dict[str, object]:
    from eosin.slides.open.colours import asked

    return asked(grey, depth16)
