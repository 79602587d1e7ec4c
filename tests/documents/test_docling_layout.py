"""docling as a backend: what its documents say becomes figures. Documents by hand, and by docling-core where it is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.pdfs import WORDS, image, placed, text, tissue, write_pdf
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.errors import EosinError, MissingExtraError
from eosin.core.settings.documents import DocumentsData, ReadingSettings, as_kept
from eosin.documents.figures.figure import Found
from eosin.documents.item import Item, Reading
from eosin.documents.layout import docling as backend
from eosin.documents.layout.found import figures_of_docling
from eosin.documents.page.boxes import Box
from eosin.documents.page.page import Line, Page, Picture
from eosin.documents.pdf.open import opened
from eosin.documents.pdf.read import read_page, turned_further
from eosin.documents.pdf.reading import read_pdf
from eosin.documents.work.run import make_documents
from eosin.phantom.documents.series import write_documents

SIZE = (600.0, 800.0)
TL = tuple[float, float, float, float]
"""x0, y0, x1, y1 in points from the top left."""


@dataclass
class Plan:
    """A docling document to be made. Pictures and tables: page, box, numbers of their captions."""

    captions: list[tuple[str, int, TL]] = field(default_factory=list)
    pictures: list[tuple[int, TL, tuple[int, ...]]] = field(default_factory=list)
    tables: list[tuple[int, TL, tuple[int, ...]]] = field(default_factory=list)
    pages: dict[int, tuple[float, float]] = field(default_factory=lambda: {1: SIZE})
    origin: str = "BOTTOMLEFT"

    def box(self, page: int, box: TL) -> dict[str, Any]:
        x0, y0, x1, y1 = box
        high = self.pages.get(page, SIZE)[1]
        if self.origin == "BOTTOMLEFT":
            y0, y1 = high - y0, high - y1
        return {"l": x0, "t": y0, "r": x1, "b": y1, "coord_origin": self.origin}


def by_hand(plan: Plan) -> dict[str, Any]:
    """The document as docling exports it, only what is read of it."""

    def item(kind: str, i: int, page: int, box: TL, captions: Sequence[int] = ()) -> dict[str, Any]:
        return {"self_ref": f"#/{kind}/{i}", "prov": [{"page_no": page, "bbox": plan.box(page, box)}],
                "captions": [{"$ref": f"#/texts/{k}"} for k in captions]}  # fmt: skip

    return {
        "pages": {str(n): {"page_no": n, "size": {"width": w, "height": h}} for n, (w, h) in plan.pages.items()},
        "texts": [item("texts", i, p, b) | {"text": t} for i, (t, p, b) in enumerate(plan.captions)],
        "pictures": [item("pictures", i, p, b, c) for i, (p, b, c) in enumerate(plan.pictures)],
        "tables": [item("tables", i, p, b, c) for i, (p, b, c) in enumerate(plan.tables)],
    }


def by_docling_core(plan: Plan) -> dict[str, Any]:
    """The same made and exported by docling-core."""
    doc = pytest.importorskip("docling_core.types.doc", reason="docling-core is not installed (eosin[docling])")
    made = doc.DoclingDocument(name="made")
    for number, (wide, high) in plan.pages.items():
        made.add_page(page_no=number, size=doc.Size(width=wide, height=high))

    def prov(page: int, box: TL) -> Any:
        return doc.ProvenanceItem(page_no=page, bbox=doc.BoundingBox(**plan.box(page, box)), charspan=(0, 0))

    captions = [
        made.add_text(label=doc.DocItemLabel.CAPTION, text=t, prov=prov(p, b)) for t, p, b in plan.captions
    ]  # fmt: skip
    for page, box, numbers in plan.pictures:
        picture = made.add_picture(prov=prov(page, box))
        picture.captions += [captions[k].get_ref() for k in numbers]
    for page, box, numbers in plan.tables:
        data = doc.TableData(table_cells=[], num_rows=0, num_cols=0)
        table = made.add_table(data=data, prov=prov(page, box))
        table.captions += [captions[k].get_ref() for k in numbers]
    exported: dict[str, Any] = made.export_to_dict()
    return exported


@pytest.fixture(params=[by_hand, by_docling_core])
def make(request: pytest.FixtureRequest) -> Callable[[Plan], dict[str, Any]]:
    maker: Callable[[Plan], dict[str, Any]] = request.param
    return maker


def page(number: int = 1, pictures: Sequence[TL] = (), lines: Sequence[tuple[str, TL]] = ()) -> Page:
    shown = tuple(Picture(i, Box(*b), (300, 200)) for i, b in enumerate(pictures))
    return Page(number, SIZE, lines=tuple(Line(t, Box(*b), 10.0) for t, b in lines), pictures=shown)


def found_in(document: dict[str, Any], *pages: Page) -> Found:
    return figures_of_docling({"document": document, "errors": []}, pages, {}, "doc")


FIRST: TL = (100, 100, 400, 300)
NEAR_FIRST: TL = (97, 104, 405, 297)
UNDER: TL = (100, 305, 400, 317)
WORDS_1 = "Figure 1. Glands of a tubular adenoma."


@pytest.mark.parametrize("origin", ["BOTTOMLEFT", "TOPLEFT"])
def test_a_figure_stands_where_the_pdf_has_its_picture_and_has_docling_s_caption(
    make: Callable[[Plan], dict[str, Any]], origin: str
) -> None:
    plan = Plan([(WORDS_1, 1, UNDER)], [(1, NEAR_FIRST, (0,))], origin=origin)
    found = found_in(make(plan), page(pictures=[FIRST]))
    assert len(found.figures) == 1 and not found.set_aside and not found.dropped
    figure = found.figures[0]
    assert (figure.number, figure.label, figure.caption, figure.how) == ("1", "Figure 1", WORDS_1, "docling")
    assert figure.box == Box(*FIRST) and figure.caption_box == Box(*UNDER) and len(figure.pictures) == 1


def test_a_box_that_holds_more_than_the_picture_stays_as_it_is(make: Callable[[Plan], dict[str, Any]]) -> None:
    wide: TL = (50, 90, 550, 700)
    figure = found_in(
        make(Plan([(WORDS_1, 1, (50, 705, 400, 717))], [(1, wide, (0,))])), page(pictures=[FIRST])
    ).figures[0]
    assert figure.box == Box(*wide) and len(figure.pictures) == 1


def test_a_picture_without_a_caption_is_set_aside(make: Callable[[Plan], dict[str, Any]]) -> None:
    found = found_in(make(Plan(pictures=[(1, NEAR_FIRST, ())])), page(pictures=[FIRST]))
    assert not found.figures
    assert [(thing.box, why.reason) for thing, why in found.set_aside] == [(Box(*FIRST), "no caption")]


def test_what_docling_leaves_without_a_caption_is_looked_for_by_the_rules() -> None:
    plan = Plan([(WORDS_1, 1, UNDER)], [(1, NEAR_FIRST, (0,)), (1, (98, 398, 402, 603), ())])
    lines = [(WORDS_1, UNDER), ("Figure 2. Nuclei at the base.", (100.0, 610.0, 400.0, 622.0)),
             ("Figure 3. A picture that docling does not see.", (100.0, 760.0, 400.0, 772.0))]  # fmt: skip
    found = found_in(by_hand(plan), page(pictures=[FIRST, (100, 400, 400, 600)], lines=lines))
    assert [(f.number, f.how, f.notes) for f in found.figures] == [
        ("1", "docling", ()), ("2", "below", ("caption found by the rules",)),
    ]  # fmt: skip
    assert [(why.id, why.reason) for _, why in found.set_aside] == [("doc/Figure 3", "caption without a picture")]


def test_a_caption_that_docling_cuts_short_is_completed() -> None:
    lines = [(WORDS_1, UNDER), ("Haematoxylin and eosin.", (100.0, 318.0, 300.0, 330.0))]
    document = by_hand(Plan([(WORDS_1, 1, UNDER)], [(1, NEAR_FIRST, (0,))]))
    figure = found_in(document, page(pictures=[FIRST], lines=lines)).figures[0]
    assert figure.caption == f"{WORDS_1} Haematoxylin and eosin." and figure.how == "docling"
    assert figure.caption_box == Box(100, 305, 400, 330) and figure.notes == ("caption completed by the rules",)


LEFT: TL = (100, 100, 240, 300)
RIGHT: TL = (260, 100, 400, 300)


@pytest.mark.parametrize("second", [(0,), ()])
def test_two_pictures_under_one_caption_are_parts_of_one_figure(
    make: Callable[[Plan], dict[str, Any]], second: tuple[int, ...]
) -> None:
    plan = Plan([(WORDS_1, 1, UNDER)], [(1, LEFT, (0,)), (1, RIGHT, second)])
    found = found_in(make(plan), page(pictures=[LEFT, RIGHT]))
    assert [(f.box, f.parts) for f in found.figures] == [(Box(100, 100, 400, 300), (Box(*LEFT), Box(*RIGHT)))]
    assert not found.set_aside


def test_a_caption_of_two_figures_is_shared(make: Callable[[Plan], dict[str, Any]]) -> None:
    plan = Plan([("Figures 2 and 3. Before and after.", 1, UNDER)], [(1, RIGHT, (0,)), (1, LEFT, (0,))])
    found = found_in(make(plan), page(pictures=[LEFT, RIGHT]))
    assert [(f.number, f.box, f.notes) for f in found.figures] == [
        ("2", Box(*LEFT), ("shared caption",)), ("3", Box(*RIGHT), ("shared caption",)),
    ]  # fmt: skip


def test_tables_are_kept_apart(make: Callable[[Plan], dict[str, Any]]) -> None:
    plan = Plan(
        [("Table 1. Counts.", 1, (100, 80, 300, 92)), ("Table 2. A picture of one.", 1, (100, 380, 300, 392)),
         ("Figure 4. Called a table.", 1, (420, 305, 590, 317))],
        pictures=[(1, (100, 400, 400, 500), (1,))],
        tables=[(1, FIRST, (0,)), (1, (100, 600, 400, 700), ()), (1, (420, 100, 590, 300), (2,))],
    )  # fmt: skip
    found = found_in(make(plan), page())
    assert [why.reason for _, why in found.set_aside].count("a table") == 3 and len(found.tables) == 2
    assert [(f.number, f.notes) for f in found.figures] == [("4", ("docling calls it a table",))]


def test_places_off_the_page_are_dropped_and_those_over_its_edge_cut(make: Callable[[Plan], dict[str, Any]]) -> None:
    plan = Plan(
        [(WORDS_1, 1, UNDER)],
        [(1, (700, 100, 900, 300), ()), (1, (-20, 100, 400, 300), (0,)), (7, FIRST, ()), (1, (10, 10, 20, 20), ())],
        pages={1: SIZE, 7: SIZE},
    )
    found = found_in(make(plan), page())
    assert [f.box for f in found.figures] == [Box(0, 100, 400, 300)]
    assert [(d.id, d.detail) for d in found.dropped] == [
        ("doc/pictures/0", "page 1: outside of the page"), ("doc/pictures/2", "page 7: a page that was not read"),
    ]  # fmt: skip
    assert [(why.id, why.reason) for _, why in found.set_aside] == [("doc/pictures/3", "picture too small")]


def test_a_page_of_another_size_than_the_pdf_s_is_not_guessed_at() -> None:
    plan = Plan([(WORDS_1, 1, UNDER)], [(1, FIRST, (0,))], pages={1: (300.0, 400.0)})
    found = found_in(by_hand(plan), page(pictures=[FIRST]))
    assert not found.figures and found.dropped[0].detail == "page 1: the page is 300 x 400 pt to docling"


def test_lines_of_text_that_docling_takes_for_a_picture_are_set_aside() -> None:
    lines = [(WORDS, (100.0, 100.0 + 12 * i, 400.0, 110.0 + 12 * i)) for i in range(6)]
    found = found_in(by_hand(Plan(pictures=[(1, (98, 98, 402, 172), ())])), page(lines=lines))
    assert [why.reason for _, why in found.set_aside] == ["text, not a picture"]


def test_captions_without_a_label_and_in_two_languages(make: Callable[[Plan], dict[str, Any]]) -> None:
    plan = Plan(
        [("Crypts seen from above", 1, UNDER), (WORDS_1, 1, (100, 605, 400, 617)),
         ("Abb. 1: Ein Adenom.", 1, (100, 620, 400, 632))],
        [(1, FIRST, (0,)), (1, (100, 400, 400, 600), (1, 2))],
    )  # fmt: skip
    found = found_in(make(plan), page(pictures=[FIRST, (100, 400, 400, 600)]))
    assert [(f.number, f.caption, f.notes) for f in found.figures] == [
        ("x1", "Crypts seen from above", ("caption without a label",)),
        ("1", f"{WORDS_1}\nAbb. 1: Ein Adenom.", ("several captions",)),
    ]  # fmt: skip


def read_by(path: Path, document: dict[str, Any]) -> tuple[Reading, list[Item]]:
    """A PDF as the backend reads it, with this document in place of what docling would say."""
    with opened(path) as pdf:

        def layout(pages: list[Page], name: str) -> Found:
            return figures_of_docling({"document": document, "errors": []}, pages, turned_further(pdf, pages), name)

        reading = read_pdf(pdf, path, path.stem, None, layout)
        return reading, list(reading.items)


PICTURE_PT: TL = (100, 202, 400, 442)
"""Of the PDF below, before anything is turned or cut: 60 x 48 pixels at 300 x 240 points."""
CAPTION_PT: TL = (100, 452, 400, 462)


def one_page(path: Path, entries: str = "") -> Path:
    body = text(100, 700, [WORDS, WORDS, "The glands are crowded, as is shown in Fig. 1, in all cases of this series."])
    caption = text(100, 382, [WORDS_1])
    pixels = image(tissue(60, 48).tobytes(), 60, 48)
    return write_pdf(path, body + caption + placed("A", 100, 400, 300, 240), {"A": pixels}, page=entries)


def turned(box: TL, quarters: int) -> TL:
    """A box of a 595 x 842 page after quarter turns clockwise, from the top left of what is shown."""
    x0, y0, x1, y1 = box
    wide, high = 595.0, 842.0
    for _ in range(quarters):
        x0, y0, x1, y1 = high - y1, x0, high - y0, x1
        wide, high = high, wide
    return x0, y0, x1, y1


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("origin", ["BOTTOMLEFT", "TOPLEFT"])
def test_a_page_that_lies_is_set_upright_with_docling_s_boxes(tmp_path: Path, quarters: int, origin: str) -> None:
    path = one_page(tmp_path / "a.pdf", f"/Rotate {90 * quarters}")
    size = (842.0, 595.0) if quarters % 2 else (595.0, 842.0)
    plan = Plan([(WORDS_1, 1, turned(CAPTION_PT, quarters))], [(1, turned(PICTURE_PT, quarters), (0,))],
                pages={1: size}, origin=origin)  # fmt: skip
    _, (item,) = read_by(path, by_hand(plan))
    assert item.place["box_pt"] == list(PICTURE_PT) and item.place["caption_box_pt"] == list(CAPTION_PT)
    assert item.image is not None and [r.text[:23] for r in item.references] == ["The glands are crowded,"]


def test_a_page_that_is_cut_has_its_corner_where_it_is_cut(tmp_path: Path) -> None:
    path = one_page(tmp_path / "a.pdf", "/CropBox [40 100 560 780]")

    def shown(box: TL) -> TL:
        return box[0] - 40, box[1] - 62, box[2] - 40, box[3] - 62

    plan = Plan([(WORDS_1, 1, shown(CAPTION_PT))], [(1, shown(PICTURE_PT), (0,))], pages={1: (520.0, 680.0)})
    _, (item,) = read_by(path, by_hand(plan))
    assert item.place["box_pt"] == list(shown(PICTURE_PT))
    assert item.place["pixels"] == "native" and item.image is not None and item.image.size == (60, 48)


def test_a_phantom_book_whose_boxes_are_off_by_points_is_read_as_by_the_rules(tmp_path: Path) -> None:
    truth = write_documents(tmp_path / "books", 1, 5)[0]
    path = tmp_path / "books" / truth.file
    with opened(path) as pdf:
        sizes = {i + 1: read_page(pdf, i + 1).size for i in range(len(pdf))}
        rules = [(i.number, i.place["pixels"], i.image.size if i.image else None, len(i.references))
                 for i in read_pdf(pdf, path, "book").items]  # fmt: skip
    plan = Plan(pages=sizes)
    for i, told in enumerate(truth.figures):
        x0, y0, x1, y1 = told["box"]
        plan.captions.append((told["caption"], told["caption_page"], (50, 780, 540, 800)))
        plan.pictures.append((told["page"], (x0 - 5, y0 + 2, x1 + 4, y1 + 5), (i,)))
    reading, items = read_by(path, by_hand(plan))
    assert [(i.number, i.place["pixels"], i.image.size if i.image else None, len(i.references)) for i in items] == rules
    assert [d.reason for d in reading.dropped if d.reason != "a table"] == []


def test_weights_that_are_not_here_are_said_with_the_command_that_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCLING_ARTIFACTS_PATH", str(tmp_path))
    with pytest.raises(EosinError) as told:
        backend.models_of("docling-project/layout")
    assert "docling-tools models download layout" in str(told.value) and str(tmp_path) in str(told.value)
    (tmp_path / "docling-project--layout").mkdir()
    (tmp_path / "docling-project--layout" / "model.safetensors").touch()
    assert backend.models_of("docling-project/layout") == tmp_path


def test_without_docling_no_document_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    one_page(docs / "a.pdf")
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "docling" else known(name))
    said: list[str] = []
    settings = DocumentsData(path=str(docs), backend="docling")
    with pytest.raises(MissingExtraError, match=r"eosin\[docling\]"):
        make_documents([docs], tmp_path / "out", settings, lambda n, total, key, what: said.append(key))
    assert said == [] and not (tmp_path / "out").exists() and not list(tmp_path.rglob("document.json"))
    shown = CliRunner().invoke(app, ["documents", str(docs), "--out", str(tmp_path / "out"), "--backend", "docling"])
    assert isinstance(shown.exception, MissingExtraError)


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="set ocr to none"):
        ReadingSettings(backend="docling", ocr="rapidocr")
    with pytest.raises(ValueError, match="set backend to docling"):
        ReadingSettings(docling_layout="mine")


def test_records_of_before_the_backend_still_say_the_same() -> None:
    fields = ReadingSettings.model_fields
    assert as_kept(ReadingSettings(), fields) == {"ocr": "none", "previews": True, "preview_px": 720}
    assert as_kept(ReadingSettings(backend="docling"), fields)["backend"] == "docling"
