"""`eosin clip embed | search`: an index of tiles on disk, and what is like a picture or like words in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from eosin.cli.clip.exams import BatchOption, CheckpointArgument, SamplesArgument, free, loaded, numbers, prepared, read

if TYPE_CHECKING:
    from PIL import Image


def embed(
    checkpoint: CheckpointArgument,
    samples: SamplesArgument,
    out: Annotated[Path, typer.Option(help="Folder of the index.")],
    split: Annotated[str, typer.Option(help="Split that is embedded; `all` for every sample.")] = "all",
    batch_size: BatchOption = 64,
) -> None:
    """Embed samples into an index on disk, for `eosin clip search`. Pictures that fail are counted and left out.

    Example: eosin clip embed runs/mine/stages/clip/checkpoint runs/mine/samples --out tiles.index
    """
    free(out)
    clip, seen = prepared(checkpoint, read(samples), split, batch_size)
    from eosin.core.nouns.outcome import Filtered
    from eosin.evaluate.search.index import identity_of, write_index

    write_index(seen, identity_of(checkpoint, clip.dim), out)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{len(seen.samples)} embedded; set aside: {Filtered((), seen.dropped).reasons() or 'none'}")
    console.print(f"written to {out}")


def search(
    checkpoint: CheckpointArgument,
    index: Annotated[Path, typer.Argument(help="Folder that `eosin clip embed` wrote.")],
    words: Annotated[str | None, typer.Option(help="Look for pictures like these words.")] = None,
    image: Annotated[Path | None, typer.Option(help="Look for pictures like this image file.")] = None,
    slide: Annotated[
        Path | None, typer.Option(help="Look for pictures like a region of this slide; give --box.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="Region as x0,y0,x1,y1 in pixels of level 0.")] = None,
    num: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 12,
    where: Annotated[
        list[str] | None, typer.Option(help="Filter, such as slide=05, organ=colon, licence=CC0-1.0. Repeatable.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compute all products instead of asking the graph.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with the pictures.")] = None,
) -> None:
    """Find tiles like a picture, like a region of a slide, or like words.

    Example: eosin clip search CHECKPOINT tiles.index --words "pools of mucin" --where slide=05 --html found.html
    """
    filters = _filters(where or [])
    if html is not None and html.exists():
        from eosin.core.errors import EosinError

        raise EosinError("There is something at this place already.", where=html, next_step="choose another --html")
    clip = loaded(checkpoint)
    from eosin.evaluate.search.index import Index, identity_of

    opened = Index(index, identity_of(checkpoint, clip.dim))
    query, picture, said = _query(clip, words, image, slide, box)
    hits = opened.search(query, num, where=filters, exact=exact)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for place, hit in enumerate(hits, 1):
        told = " ".join(
            str(x) for x in (hit.sample.label or "", hit.sample.origin.slide or hit.sample.origin.case or "")
        )
        console.print(f"{place:>3}. {hit.score:.3f}  {hit.sample.id}  {told}")
    if html is not None:
        _page(html, said, picture, hits, {"index": f"{index.name}, {len(opened)} pictures", "model": checkpoint,
                                          "filters": ", ".join(where or []) or "none"})  # fmt: skip
        console.print(f"written to {html}")
    console.print("Research use only, not for diagnosis.")


def _filters(where: list[str]) -> dict[str, str]:
    from eosin.core.errors import EosinError

    strange = [w for w in where if "=" not in w]
    if strange:
        raise EosinError(
            "A filter is written field=value.", expected="such as slide=05", found=strange[0], where="--where"
        )
    return dict(w.split("=", 1) for w in where)


def _query(
    clip: Any, words: str | None, image: Path | None, slide: Path | None, box: str | None
) -> tuple[Any, Image.Image | None, str]:
    """The query's vector (D,), its picture if it is one, and how it is named."""
    from eosin.core.errors import EosinError
    from eosin.core.images import load_image
    from eosin.core.nouns.sample import ImageFile, SlideRegion
    from eosin.core.nouns.units import BoxLevel0

    given = [name for name, value in (("--words", words), ("--image", image), ("--slide", slide)) if value]
    if len(given) != 1 or (slide is None) != (box is None):
        raise EosinError("Say what to look for.", expected="one of --words, --image, or --slide with --box",
                         found=", ".join(given) or "none")  # fmt: skip
    if words is not None:
        if clip.tokens([words]).num_cut:
            Console(stderr=True).print("  the words are longer than the text tower reads; their end is left out")
        return clip.embed_texts([words])[0], None, words
    if image is not None:
        picture = load_image(ImageFile(path=str(image)), None)
        return clip.embed_images([picture])[0], picture, image.name
    from eosin.slides.features.regions import SlideRegions

    assert slide is not None and box is not None
    corners = numbers(box, "--box")
    if len(corners) != 4 or corners[2] <= corners[0] or corners[3] <= corners[1]:
        raise EosinError(
            "A box has four corners, x1 > x0 and y1 > y0.", expected="x0,y0,x1,y1", found=box, where="--box"
        )
    x0, y0, x1, y1 = corners
    region = SlideRegion(path=str(slide), box=BoxLevel0(x0=x0, y0=y0, x1=x1, y1=y1))
    picture = load_image(region, SlideRegions())
    return clip.embed_images([picture])[0], picture, f"{slide.name}, {box}"


def _page(html: Path, said: str, picture: Any, hits: Any, facts: dict[str, str]) -> None:
    from eosin.core.errors import ImageError
    from eosin.core.images import load_image
    from eosin.report.pages.search import write_search_page
    from eosin.slides.features.regions import SlideRegions

    regions = SlideRegions()

    def shown(sample: Any) -> Any:
        try:
            return load_image(sample.images[0], regions)
        except ImageError as exc:
            return exc.message

    write_search_page(html, query=said, picture=picture, facts=facts,
                      hits=[(h.sample, h.score, shown(h.sample)) for h in hits])  # fmt: skip
