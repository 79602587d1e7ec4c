"""`eosin phantom`: phantom tiles, slides, documents and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Make PHANTOM tissue: procedural H&E with known truth. No tissue, no patient.", no_args_is_help=True
)


@app.command()
def tiles(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    num_cases: Annotated[int, typer.Option("--cases", help="Number of cases; six make one of each diagnosis.")] = 12,
    tiles_per_case: Annotated[int, typer.Option("--tiles", help="Tiles of each case.")] = 5,
    size_px: Annotated[int, typer.Option("--size", help="Side of a tile in pixels.")] = 224,
    mpp: Annotated[float, typer.Option(help="Microns per pixel.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the series of cases.")] = 0,
) -> None:
    """Write tiles as a samples folder (parquet), with a contact sheet to look at.

    Example: eosin phantom tiles out/tiles --cases 12
    """
    from eosin.chain.phantom import write_tiles
    from eosin.core.settings.data import PhantomData
    from eosin.core.settings.recipe import check_settings

    values = {"train_cases": num_cases, "valid_cases": 0, "test_cases": 1, "tiles_per_case": tiles_per_case,
              "tile_px": size_px, "mpp": mpp}  # fmt: skip
    settings = check_settings(PhantomData, values, "eosin phantom tiles")
    num = write_tiles(out, settings, seed)
    Console(soft_wrap=True, highlight=False).print(f"{num} PHANTOM tiles in {out}; look at {out / 'sheet.png'}")


@app.command()
def slide(
    out: Annotated[Path, typer.Argument(help="A new .tiff file.")],
    case: Annotated[int, typer.Option(help="Number of the case; it decides the diagnosis.")] = 2,
    size_px: Annotated[int, typer.Option("--size", help="Side of level 0 in pixels.")] = 8192,
    mpp: Annotated[float, typer.Option(help="Microns per pixel of level 0.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of the series of cases.")] = 0,
    artefacts: Annotated[
        str, typer.Option(help="What spoils it: pen,fat,faint,border,tears,bubble,dust, some of them, or all.")
    ] = "",
) -> None:
    """Write a pyramidal tiled TIFF that OpenSlide and QuPath open, its truth as GeoJSON, and a report.

    Example: eosin phantom slide out/case2.tiff --case 2 --size 20000 --artefacts pen,fat
    """
    from eosin.slides.extras import need_slides

    need_slides()
    from eosin.phantom.slides.slide import ARTEFACTS, write_slide

    names = ARTEFACTS if artefacts == "all" else tuple(a.strip() for a in artefacts.split(",") if a.strip())
    written = write_slide(out, case_number=case, seed=seed, size_px=size_px, mpp=mpp, artefacts=names)
    for path in written:
        Console(soft_wrap=True, highlight=False).print(str(path))


@app.command()
def documents(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    num: Annotated[int, typer.Option("--num", "-n", help="Number of PDFs; each has eight figures.")] = 4,
    articles: Annotated[int, typer.Option(help="Number of JATS articles with their pictures.")] = 1,
    scans: Annotated[int, typer.Option(help="Number of PDFs whose pages are pictures, as of a scanner.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the series.")] = 0,
) -> None:
    """Write PDFs and JATS articles with figures, panels, captions and references, and truth.jsonl beside them.

    Example: eosin phantom documents out/books --num 4
    """
    from eosin.phantom.documents.series import write_documents

    truths = write_documents(out, num, seed, articles=articles, scans=scans)
    figures = sum(len(t.figures) for t in truths)
    Console(soft_wrap=True, highlight=False).print(f"{len(truths)} PHANTOM documents with {figures} figures in {out}")


@app.command()
def report(
    case: Annotated[int, typer.Option(help="Number of the case; it decides the diagnosis.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the series of cases.")] = 0,
) -> None:
    """Print the written report of a case.

    Example: eosin phantom report --case 4
    """
    from eosin.phantom import case_report, make_case

    print(case_report(make_case(seed, case)), end="")
