"""The article among the development data: all of its figures, their boxes and captions, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eosin.documents.figures.figure import Found, figures_of
from eosin.documents.page.boxes import Box
from eosin.documents.pdf.open import opened
from eosin.documents.pdf.read import read_page, read_raster
from eosin.documents.references.references import references_to
from eosin.documents.references.sentences import sentences_of


@pytest.fixture(scope="module")
def article(shared_data: Path) -> Path:
    return shared_data / "article_pdf" / "srep27988_article.pdf"


@pytest.fixture(scope="module")
def found(article: Path) -> Found:
    with opened(article) as document:
        return figures_of([read_page(document, i + 1) for i in range(len(document))], "article")


@pytest.fixture(scope="module")
def expected(article: Path) -> list[dict[str, Any]]:
    return json.loads((article.parent / "expected_figures.json").read_text("utf-8"))["figures"]


def test_all_seven_figures_and_no_other(found: Found, expected: list[dict[str, Any]]) -> None:
    assert [(f.numbers, f.page) for f in found.figures] == [((str(e["figure"]),), e["page"]) for e in expected]
    for figure, told in zip(found.figures, expected, strict=True):
        assert figure.box.iou(Box(*told["image_bbox_pt_topleft"])) >= 0.95
        assert figure.caption.split() == told["caption"].split()


def test_what_has_no_caption_is_set_aside_with_its_page(found: Found) -> None:
    assert [(d.id, d.reason) for _, d in found.set_aside] == [("article/page 1", "no caption")]


def test_pictures_have_the_pixels_that_are_stored(article: Path, found: Found) -> None:
    first = found.figures[0]
    with opened(article) as document:
        raster = read_raster(document, found.pages[1], first.box, first.pictures, overlaid=first.overlaid)
    assert (raster.how, raster.image.size) == ("native", (2850, 2325))


def test_references_are_sentences_that_name_the_figure(found: Found) -> None:
    captions = [b for f in found.figures for p in found.pages for b in p.blocks if b.text == f.caption]
    assert len(captions) == 7
    refs = references_to(sentences_of(found.pages, captions), {f.number: f.page for f in found.figures})
    texture = refs["1"][0]
    assert texture.panels == ("d", "f") and (texture.page, texture.distance) == (2, 0)
    assert texture.text.startswith("Thus, texture features of different scales") and texture.text.endswith("Fig. 1f).")
    assert all(refs.values())
