"""`eosin documents`: figures, captions and what the text says of them, from PDFs and articles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Licences = Annotated[
    list[str] | None, typer.Option("--licence", help="Keep only such licences, e.g. CC0, CC-BY. Repeatable.")
]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", help='Keep only such figures, e.g. "histology H&E". Repeatable.')
]
DoclingLayout = Annotated[
    str | None, typer.Option("--docling-layout", help="A layout engine that a package adds to docling.")
]
SecondReader = Annotated[
    tuple[str, str],
    typer.Option("--second-reader", help="URL and name of a vision-language model that reads figures again."),
]
SecondRefines = Annotated[
    bool, typer.Option("--second-refines", help="Let its kinds and panels stand, not only beside the rules.")
]


def documents(
    paths: Annotated[list[Path], typer.Argument(help="PDFs, JATS articles, EPUB, HTML, packages (.tar.gz), folders.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder: the samples artifact.")],
    name: Annotated[str, typer.Option(help="Name of the data set; the front of every sample's id.")] = "documents",
    licence: Licences = None,
    assume_licence: Annotated[
        str | None, typer.Option("--assume-licence", help="Licence of documents that state none.")
    ] = None,
    keep_by_permission: Annotated[
        bool, typer.Option("--keep-by-permission", help="Keep figures that are shown by permission of others.")
    ] = False,
    keep_retracted: Annotated[bool, typer.Option("--keep-retracted", help="Keep retracted articles.")] = False,
    kind: Kinds = None,
    kind_score: Annotated[float, typer.Option("--kind-score", help="Below it a kind is not believed, 0 to 1.")] = 0.5,
    min_side_px: Annotated[int, typer.Option("--min-side", help="Smallest side of a picture in pixels.")] = 64,
    panels: Annotated[str, typer.Option(help="Samples are: whole figures, panels apart, or both.")] = "whole",
    without_labels: Annotated[
        bool, typer.Option("--without-labels", help='Leave "Figure 3." out of captions.')
    ] = False,
    backend: Annotated[str, typer.Option(help="What finds the figures of PDFs: rules or docling.")] = "rules",
    docling_layout: DoclingLayout = None,
    ocr: Annotated[str, typer.Option(help="For pages without text: none, rapidocr or tesseract.")] = "none",
    second_reader: SecondReader = ("", ""),
    second_refines: SecondRefines = False,
    previews: Annotated[bool, typer.Option(help="Draw the pages with what was found.")] = True,
    workers: Annotated[int, typer.Option(help="Documents read at a time.")] = 1,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds that one document may take.")] = 900.0,
) -> None:
    """Figures with captions, panels and references as a samples folder, with pages to look at. Resumable.

    Example: eosin documents articles/ book.pdf --out figures --licence CC0 --licence CC-BY
    """
    from rich.console import Console

    from eosin.core.settings.documents import DocumentsData
    from eosin.core.settings.recipe import check_settings
    from eosin.documents.work.run import make_documents

    values = {
        "path": str(paths[0]), "also": [str(p) for p in paths[1:]], "name": name, "licences": licence or [],
        "assume_licence": assume_licence, "keep_by_permission": keep_by_permission, "keep_retracted": keep_retracted,
        "kinds": kind or [], "kind_score": kind_score, "min_side_px": min_side_px, "panels": panels,
        "without_labels": without_labels, "backend": backend, "docling_layout": docling_layout, "ocr": ocr,
        "second_url": second_reader[0] or None,
        "second_model": second_reader[1], "second_refines": second_refines, "previews": previews, "workers": workers,
        "timeout_s": timeout_s,
    }  # fmt: skip
    settings = check_settings(DocumentsData, values, "eosin documents")
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

    def report(done: int, total: int, key: str, said: str) -> None:
        console.print(f"{done}/{total}  {key}  {said}")

    made, read = make_documents(paths, out, settings, report)
    if read is None:
        console.print("These documents were read already; nothing was done.")
    _show(made.manifest["summary"], out)
    if not made.manifest["counts"]["samples"]:
        raise typer.Exit(1)


def _show(summary: dict[str, object], out: Path) -> None:
    """What was found and what was set aside, by reason."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"{summary['documents']} documents, {summary['pages']} pages: {summary['figures']} figures found, "
        f"{summary['samples']} samples, {summary['references']} references, {summary['dropped']} set aside"
    )
    reasons = summary["drop_reasons"]
    for reason, n in reasons.items() if isinstance(reasons, dict) else ():
        console.print(f"  {n:>6}  {reason}")
    console.print(f"{out}   (look at {out / 'index.html'})")
