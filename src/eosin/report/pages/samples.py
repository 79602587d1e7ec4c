"""The page of a data set: its figures, and some samples with thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import load_image
from eosin.core.nouns.sample import Sample, SlideBag, SlideRegion
from eosin.core.store.artifacts import write_text_atomic
from eosin.report.drawing.pictures import MAX_PAGE_BYTES, data_uri
from eosin.report.pages.frame import clean, stylesheet, templates

THUMBNAIL_PX = 192
MAX_TEXT = 1200


def write_samples_page(
    out: Path, *, name: str, facts: Sequence[tuple[str, str]], samples: Sequence[Sample], total: int
) -> None:
    """Write the page, one self-contained HTML file without scripts.

    Args:
        facts: a name and a text each, shown above the samples. total: how many samples there are.

    Raises:
        EosinError: something stands at `out`.
    """
    if out.exists():
        raise EosinError("There is something at this place already.", where=out, next_step="choose another --html")
    views, spent = [], 0
    for sample in samples:
        view = _view(sample, spent < MAX_PAGE_BYTES)
        spent += len(view["uri"] or "")
        views.append(view)
    page = templates().get_template("samples.html.j2").render(
        css=stylesheet(), name=name, facts=facts, samples=views, total=f"{total:,}"
    )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(out, clean(page))


def _view(sample: Sample, has_room: bool) -> dict[str, Any]:
    origin = sample.origin
    known = {
        "split": sample.split, "label": sample.label, "unit": origin.group, "organ": origin.organ,
        "stain": origin.stain, "source": origin.source, "licence": origin.licence,
        "made from": ", ".join(origin.parents),
    }  # fmt: skip
    uri, why_not = _thumbnail(sample) if has_room else (None, "left out to keep this page small")
    return {
        "id": sample.id, "uri": uri, "why_not": why_not,
        "turns": [(m.role, _short(m.text)) for m in sample.messages],
        "choices": [(c.letter, _short(c.text), c.letter == sample.answer) for c in sample.choices],
        "texts": [(k, _short(t)) for k, t in (
            ("answer", None if sample.choices else sample.answer), ("findings", sample.findings),
            ("reasoning", "\n".join(sample.reasoning)), ("caption", sample.caption),
        ) if t],
        "facts": [(k, v) for k, v in known.items() if v],
    }  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ... ({len(text):,} letters)"


def _thumbnail(sample: Sample) -> tuple[str | None, str]:
    if not sample.images:
        return None, "no picture"
    if isinstance(sample.images[0], SlideRegion | SlideBag):
        return None, "a region of a slide, or a whole slide"
    try:
        return data_uri(load_image(sample.images[0]), THUMBNAIL_PX), ""
    except ImageError as exc:
        return None, exc.message
