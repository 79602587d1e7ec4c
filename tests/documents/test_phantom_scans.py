"""Scanned phantom documents, and words by tesseract."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from eosin.core.errors import EosinError
from eosin.core.settings.documents import DocumentsData
from eosin.documents.page.boxes import Box
from eosin.documents.scans.engine import U8, Word
from eosin.documents.scans.tesseract import LANGUAGES, lines_of, tesseract
from eosin.documents.work.run import make_documents
from eosin.phantom.documents.pdf import Truth
from eosin.phantom.documents.plan import plan_document
from eosin.phantom.documents.series import read_truth, write_documents

ROWS = [
    "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext",
    "1\t1\t0\t0\t0\t0\t0\t0\t600\t800\t-1\t",
    "5\t1\t1\t1\t1\t1\t10\t20\t40\t12\t90\tFig.",
    "5\t1\t1\t1\t1\t2\t55\t18\t10\t14\t50\t3",
    "5\t1\t1\t1\t2\t1\t10\t40\t30\t12\t80\tBelow",
    "5\t1\t1\t1\t2\t2\t45\t40\t30\t12\t95\t ",
]


def test_words_of_a_line_become_one_text() -> None:
    first, second = lines_of("\n".join(ROWS))
    assert (first.text, first.box) == ("Fig. 3", Box(10, 18, 65, 32))
    assert first.confidence == pytest.approx((0.9 * 4 + 0.5 * 1) / 5)
    assert (second.text, second.box) == ("Below", Box(10, 40, 40, 52)) and lines_of("") == []


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "tesseract").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "tesseract").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    tesseract.cache_clear()


def test_the_program_gets_the_picture_and_its_faults_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: U8
) -> None:
    program(tmp_path, monkeypatch, f"cat > '{tmp_path}/got'; echo $@ > '{tmp_path}/asked'; printf '{ROWS[4]}'")
    monkeypatch.setenv(LANGUAGES, "eng+deu")
    assert [w.text for w in tesseract()(blank)] == ["Below"]
    assert (tmp_path / "got").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "asked").read_text().split() == ["stdin", "stdout", "-l", "eng+deu", "--psm", "3", "tsv"]
    program(tmp_path, monkeypatch, "cat > /dev/null; echo 'no such language' >&2; exit 1")
    with pytest.raises(EosinError, match="did not read") as told:
        tesseract()(blank)
    assert told.value.found == "no such language"
    (tmp_path / "tesseract").unlink()
    tesseract.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EosinError, match="not on this machine"):
        tesseract()


@pytest.fixture
def blank() -> U8:
    import numpy as np

    return np.full((40, 60, 3), 250, np.uint8)


def test_a_scan_has_no_text_and_its_figures_where_they_were(tmp_path: Path) -> None:
    """Read with the words of the same document before it was scanned, as a perfect engine would give them."""
    pytest.importorskip("reportlab")
    from eosin.documents.pdf.open import opened
    from eosin.documents.pdf.read import read_page
    from eosin.documents.scans.read import read_scan
    from eosin.phantom.documents.pdf import write_pdf

    write_documents(tmp_path / "books", 0, 3, scans=1)
    [truth] = read_truth(tmp_path / "books")
    plain = tmp_path / "plain.pdf"
    write_pdf(plan_document(3, 0), plain, 3)
    found = wanted = 0
    with opened(tmp_path / "books" / truth.file) as scan, opened(plain) as document:
        assert len(scan) == len(document) == truth.pages
        for number in range(1, min(4, truth.pages) + 1):
            page, told = read_page(scan, number), read_page(document, number)
            assert not page.has_text and told.has_text
            read = read_scan(scan, page, lambda rgb, told=told: as_read(told, rgb.shape[1]))
            boxes = _boxes(truth, number)
            wanted += len(boxes)
            found += sum(any(box.iou(seen) >= 0.8 for seen in read.seen) for box in boxes)
    assert wanted >= 3 and found >= wanted - 1


def as_read(page: object, width_px: int) -> list[Word]:
    """Lines of a page as an engine gives them, in pixels."""
    scale = width_px / page.size[0]  # type: ignore[attr-defined]
    return [
        Word(x.text, Box(*(v * scale for v in (x.box.x0, x.box.y0, x.box.x1, x.box.y1))), 0.99)
        for x in page.lines  # type: ignore[attr-defined]
    ]


def _boxes(truth: Truth, number: int) -> list[Box]:
    return [Box(*f["box"]) for f in truth.figures if f["page"] == number]


@pytest.mark.parametrize(
    ("ocr", "command"), [("rapidocr", "eosin[ocr]"), ("tesseract", "apt-get install tesseract-ocr")]
)
def test_without_the_engine_no_document_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ocr: Literal["rapidocr", "tesseract"], command: str
) -> None:
    """The scans were set aside for good: after an installation the same command called them read."""
    tesseract.cache_clear()
    monkeypatch.setattr("shutil.which", lambda *_: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    (tmp_path / "scan.pdf").write_bytes(b"%PDF-1.4")
    with pytest.raises(EosinError) as caught:
        make_documents([tmp_path / "scan.pdf"], tmp_path / "out", DocumentsData(path="scan.pdf", ocr=ocr))
    assert command in str(caught.value.next_step) and not (tmp_path / "out").exists()
    tesseract.cache_clear()
