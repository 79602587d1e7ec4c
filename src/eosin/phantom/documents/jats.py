"""Phantom documents as JATS articles with their pictures, in the folders of PMC's cloud service."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from eosin.phantom.documents.pdf import Truth
from eosin.phantom.documents.pictures import panel_boxes, picture
from eosin.phantom.documents.plan import DocumentPlan, FigurePlan, Pointing

_LICENCE = "https://creativecommons.org/publicdomain/zero/1.0/"


def write_article(plan: DocumentPlan, folder: Path, seed: int) -> Truth:
    """Write `PMC<id>.<version>/` with XML and pictures, and its metadata beside it; returns the truth of it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, 79])
    truth = Truth(f"{folder.name}/{folder.name}.xml", plan.language, 1)
    numbers = {f.numbers[0]: i for i, f in enumerate(plan.figures)}
    body = []
    for item in plan.order:
        if isinstance(item, list):
            body.append("<p>" + " ".join(_sentence(s, numbers, truth) for s in item) + "</p>")
        elif isinstance(item, FigurePlan):
            body.append(_figure(item, numbers[item.numbers[0]], folder, rng, truth))
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<article article-type="research-article" '
        'xmlns:xlink="http://www.w3.org/1999/xlink"><front><article-meta>'
        f'<article-id pub-id-type="doi">10.0000/{plan.name}</article-id>'
        f"<title-group><article-title>{escape(plan.title)}</article-title></title-group>"
        f'<permissions><license xlink:href="{_LICENCE}"><license-p>CC0</license-p></license>'
        f"</permissions></article-meta></front><body><sec>{''.join(body)}</sec></body></article>"
    )
    (folder / f"{folder.name}.xml").write_text(text, "utf-8")
    metadata = folder.parent / "metadata"
    metadata.mkdir(exist_ok=True)
    told = {"pmcid": folder.name.split(".")[0], "license_code": "CC0", "is_retracted": False,
            "media_urls": [f"{folder.name}/fig{i + 1}.png" for i in range(len(plan.figures))]}  # fmt: skip
    (metadata / f"{folder.name}.json").write_text(json.dumps(told), "utf-8")
    return truth


def _sentence(sentence: Pointing, numbers: dict[str, int], truth: Truth) -> str:
    if not sentence.to:
        return escape(sentence.text)
    told = [{"number": n, "panels": list(p)} for n, p in sentence.to]
    truth.sentences.append({"text": sentence.text, "page": 0, "to": told})

    def linked(match: re.Match[str]) -> str:
        known = numbers.get(match["number"])
        return match.group() if known is None else f'<xref ref-type="fig" rid="f{known}">{match.group()}</xref>'

    text = escape(sentence.text)
    start = re.search(r"(?:Figs?\.|Abb\.) ", text)
    if start is None:
        return text
    tail = re.sub(r"(?P<number>\d+(?:-\d+)?)(?:[A-Za-z](?:\u2013[A-Za-z])?)?", linked, text[start.end() :])
    return text[: start.end()] + tail


def _figure(plan: FigurePlan, index: int, folder: Path, rng: np.random.Generator, truth: Truth) -> str:
    flat = plan if plan.layout != "plot" else FigurePlan(plan.numbers, plan.label, plan.caption, "plain", "none")
    image = picture(flat, rng)
    image.save(folder / f"fig{index + 1}.png")
    boxes = panel_boxes(flat)
    panels: list[dict[str, Any]] = [
        {"letter": p.letter.lower(), "caption": p.caption,
         "share": [b[0] / image.width, b[1] / image.height, b[2] / image.width, b[3] / image.height]}
        for p, b in zip(plan.panels, boxes, strict=False)
    ]  # fmt: skip
    truth.figures.append({"number": plan.numbers[0], "label": plan.label, "caption": plan.caption, "page": 0, "box": [],
                          "caption_page": 0, "layout": "article", "turned": False, "letters": plan.letters,
                          "panels": panels})  # fmt: skip
    text = re.sub(r"^[.:| ]+", "", plan.caption[len(plan.label) :])
    return (f'<fig id="f{index}"><label>{escape(plan.label)}</label><caption><p>{escape(text)}</p></caption>'
            f'<graphic xlink:href="fig{index + 1}"/></fig>')  # fmt: skip
