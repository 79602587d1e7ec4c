"""The page of a search: the query, and what was found, as pictures with what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Sample
from eosin.core.store.artifacts import write_text_atomic
from eosin.report.drawing.pictures import data_uri
from eosin.report.pages.frame import clean, stylesheet, templates

THUMBNAIL_PX = 192


def write_search_page(
    out: Path, *, query: str, picture: Image.Image | None, hits: Sequence[tuple[Sample, float, Image.Image | str]],
    facts: Mapping[str, str],
) -> None:  # fmt: skip
    """Write the page, one self-contained HTML file without scripts.

    Args:
        query: the words that were looked for, or where the picture is from.
        picture: the picture that was looked for; None for words.
        hits: samples with their cosine and picture, or the reason why there is none.
        facts: index, model, filters: shown above the pictures.

    Raises:
        EosinError: something stands at `out`.
    """
    if out.exists():
        raise EosinError("There is something at this place already.", where=out, next_step="choose another --html")
    page = templates().get_template("search.html.j2").render(
        css=stylesheet(), query=query, facts=facts, picture=data_uri(picture, THUMBNAIL_PX) if picture else None,
        hits=[_hit(place, *hit) for place, hit in enumerate(hits, 1)],
    )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(out, clean(page))


def _hit(place: int, sample: Sample, score: float, picture: Image.Image | str) -> dict[str, Any]:
    origin = sample.origin
    known = {
        "label": sample.label, "slide": origin.slide, "case": origin.case, "patient": origin.patient,
        "organ": origin.organ, "stain": origin.stain, "source": origin.source, "licence": origin.licence,
    }  # fmt: skip
    return {
        "place": place, "id": sample.id, "score": f"{score:.3f}", "caption": sample.caption or "",
        "uri": None if isinstance(picture, str) else data_uri(picture, THUMBNAIL_PX),
        "why_not": picture if isinstance(picture, str) else "",
        "facts": [(k, v) for k, v in known.items() if v],
    }  # fmt: skip
