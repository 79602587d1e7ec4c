"""The page of an audit: what was found, figures and charts, and random samples to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eosin.core.errors import EosinError
from eosin.core.images import load_image
from eosin.core.nouns.sample import Sample, SlideBag, SlideRegion
from eosin.core.store.artifacts import write_text_atomic
from eosin.report.drawing.audit_charts import letters_chart
from eosin.report.drawing.pictures import MAX_PAGE_BYTES, data_uri
from eosin.report.pages.frame import clean, stylesheet, templates

THUMBNAIL_PX = 160
MAX_TEXT = 1200


def write_audit_page(path: Path, told: Mapping[str, Any], shown: Sequence[Sample]) -> None:
    """Write one self-contained HTML file without scripts.

    Args:
        told: what `audit.json` holds.
        shown: random samples to read.
    """
    figures = told["figures"]
    answers = figures.get("answers", {})
    page = templates().get_template("audit.html.j2").render(
        css=stylesheet(), name=told["name"], faults=[f for f in told["found"] if f["level"] == "fault"],
        notes=[f for f in told["found"] if f["level"] == "note"], figures=figures, answers=answers,
        source_notes=told["source_notes"], shares=_shares(answers),
        letters=Markup(letters_chart(answers.get("letters", {}))) if len(answers.get("letters", {})) > 1 else None,
        samples=_cards(shown),
    )  # fmt: skip
    write_text_atomic(path, clean(page))


def _shares(answers: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows of the table of biases: what, share, interval, chance, n."""
    names = {
        "commonest_letter": "right answer at its commonest letter", "longest_is_right": "longest option is right",
        "shortest_is_right": "shortest option is right", "yes_no": "commonest answer to yes/no questions",
        "blind": "text-only classifier, no image",
    }  # fmt: skip
    rows = []
    for key, name in names.items():
        told = answers.get(key)
        if told:
            limits = told["ci99"]
            more = told.get("letter") or told.get("commonest") or ""
            rows.append({
                "name": f"{name}{f' ({more})' if more else ''}", "share": f"{100 * told['share']:.1f}",
                "interval": f"{100 * limits[0]:.1f} to {100 * limits[1]:.1f}" if limits else "none",
                "chance": f"{100 * told['chance']:.1f}", "n": f"{told['n']:,}",
            })  # fmt: skip
    return rows


def _cards(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    cards = []
    spent = 0
    for sample in samples:
        uri, why_not = _thumbnail(sample)
        spent += len(uri or "")
        if spent > MAX_PAGE_BYTES and uri:
            uri, why_not = None, "left out to keep this page small"
        origin = sample.origin
        texts = {"findings": sample.findings, "reasoning": "\n".join(sample.reasoning), "caption": sample.caption,
                 "answer": None if sample.choices else sample.answer}  # fmt: skip
        cards.append({
            "id": sample.id, "uri": uri, "why_not": why_not, "question": sample.question[:MAX_TEXT],
            "choices": [(c.letter, c.text, c.letter == sample.answer) for c in sample.choices],
            "texts": [(k, v[:MAX_TEXT]) for k, v in texts.items() if v],
            "facts": [(k, v) for k, v in (("split", sample.split), ("group", origin.group), ("source", origin.source),
                                          ("licence", origin.licence), ("label", sample.label)) if v],
        })  # fmt: skip
    return cards


def _thumbnail(sample: Sample) -> tuple[str | None, str]:
    if not sample.images:
        return None, "no image"
    ref = sample.images[0]
    if isinstance(ref, SlideBag | SlideRegion):
        return None, "a slide"
    try:
        return data_uri(load_image(ref), THUMBNAIL_PX), ""
    except EosinError as exc:
        return None, exc.message
