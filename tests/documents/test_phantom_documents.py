"""Phantom documents with known truth: figures, captions, panels and references of PDFs and articles."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from eosin.documents.item import Item
from eosin.documents.page.boxes import Box
from eosin.documents.work.one import prepared
from eosin.phantom.documents.pdf import Truth
from eosin.phantom.documents.series import read_truth, write_documents


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Truth, list[Item], tuple[int, int]]]:
    """Six PDFs and an article: one column and two, German, turned pages, strips, plots, captions over pages."""
    pytest.importorskip("reportlab")
    from eosin.documents.jats.reading import read_jats
    from eosin.documents.pdf.open import opened
    from eosin.documents.pdf.reading import read_pdf

    out = tmp_path_factory.mktemp("phantom") / "documents"
    write_documents(out, 6, 3, articles=1)
    result = []
    for truth in read_truth(out):
        path = out / truth.file
        if path.suffix == ".pdf":
            with opened(path) as document:
                reading = read_pdf(document, path, path.stem)
                items = [prepared(i) for i in reading.items]
        else:
            reading = read_jats(path, path.stem)
            items = [prepared(i) for i in reading.items]
        result.append((truth, items, (reading.tables, len(reading.dropped))))
    return result


def test_every_figure_and_no_other(series: list[tuple[Truth, list[Item], tuple[int, int]]]) -> None:
    for truth, items, _ in series:
        assert Counter(i.number for i in items) == Counter(f["number"] for f in truth.figures), truth.file
        for figure in truth.figures:
            item = next(i for i in items if i.number == figure["number"])
            if figure["box"]:
                assert item.place["page"] == figure["page"]
                assert Box(*item.place["box_pt"]).iou(Box(*figure["box"])) > 0.9, (truth.file, figure)
                assert item.caption.split() == figure["caption"].split()


def test_tables_and_lone_pictures_are_set_aside(series: list[tuple[Truth, list[Item], tuple[int, int]]]) -> None:
    """A PDF has one table as a picture and one picture without a caption; the sign at the head of pages is neither."""
    for truth, _, (tables, dropped) in series:
        if truth.file.endswith(".pdf"):
            assert (tables, dropped) == (truth.tables, truth.tables + 1), truth.file


def test_panels_have_their_boxes_letters_and_captions(
    series: list[tuple[Truth, list[Item], tuple[int, int]]],
) -> None:
    right = total = 0
    for truth, items, _ in series:
        for figure in truth.figures:
            item = next(i for i in items if i.number == figure["number"])
            assert item.image is not None
            wide, high = item.image.size
            for panel in figure["panels"]:
                share = panel["share"]
                box = Box(share[0] * wide, share[1] * high, share[2] * wide, share[3] * high)
                total += 1
                right += any(
                    Box(*p.box).iou(box) > 0.7 and p.letter == (panel["letter"] or p.letter)
                    and panel["caption"].lower() in p.caption.lower()
                    for p in item.panels
                )  # fmt: skip
    assert total > 80 and right >= 0.95 * total


def test_references_are_the_sentences_that_point_there(
    series: list[tuple[Truth, list[Item], tuple[int, int]]],
) -> None:
    wanted: Counter[tuple[str, ...]] = Counter()
    found: Counter[tuple[str, ...]] = Counter()
    for truth, items, _ in series:
        wanted.update((truth.file, " ".join(s["text"].split()), t["number"], "".join(sorted(t["panels"])))
                      for s in truth.sentences for t in s["to"])  # fmt: skip
        found.update((truth.file, r.text, r.number, "".join(sorted(r.panels))) for i in items for r in i.references)
    both = (wanted & found).total()
    assert both >= 0.95 * wanted.total() and both >= 0.98 * found.total()


def test_the_same_series_has_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("reportlab")
    write_documents(tmp_path / "a", 1, 4)
    write_documents(tmp_path / "b", 1, 4)
    first, second = (sorted(p for p in (tmp_path / n).iterdir()) for n in "ab")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
