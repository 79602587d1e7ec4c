"""Reading documents: pages a second beside pdfplumber, quality on PHANTOM truth, memory over a long PDF.

    python benchmarks/documents.py [--quick] [--json FILE]

The peer reads the same geometry (letters, pictures, lines, rectangles, curves) of the same pages; it finds no figures.
It is skipped where it is not installed (pip install pdfplumber, in an environment of its own that also has Eosin).
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from eosin.documents.figures.figure import figures_of
from eosin.documents.page.boxes import Box
from eosin.documents.pdf.open import opened, pdfium
from eosin.documents.pdf.read import read_page
from eosin.phantom.documents.pdf import Truth
from eosin.phantom.documents.series import read_truth, write_documents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "books"
        write_documents(place, 2 if asked.quick else 8, 5)
        truths = read_truth(place)
        cases = [_speed(place, truths), *_quality(place, truths), *_memory(place, truths, 200 if asked.quick else 2000)]
    for case in cases:
        peer = "-" if case["peer"] is None else f"{case['peer']:.3f}"
        print(f"{case['name']:<34} {case['ours']:.3f}  peer {peer}  {case['unit']}  {case['note']}")
    if asked.json:
        asked.json.write_text(json.dumps({"cases": cases}, indent=1))


def _case(name: str, ours: float, unit: str, note: str = "", peer: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "unit": unit,
        "ratio": ours / peer if peer else None,
        "note": note,
    }


def _speed(place: Path, truths: list[Truth]) -> dict[str, Any]:
    """Pages a second: layout, captions and figures, without pixels."""
    pages, begun = 0, time.perf_counter()
    for truth in truths:
        with opened(place / truth.file) as document:
            read = [read_page(document, i + 1) for i in range(len(document))]
            figures_of(read, truth.file)
            pages += len(read)
    ours = pages / (time.perf_counter() - begun)
    return _case("pages a second", ours, "pages/s", "peer: pdfplumber, geometry only", _plumber(place, truths))


def _plumber(place: Path, truths: list[Truth]) -> float | None:
    try:
        import pdfplumber
    except ImportError:
        return None
    pages, begun = 0, time.perf_counter()
    for truth in truths:
        with pdfplumber.open(place / truth.file) as pdf:
            for page in pdf.pages:
                _ = page.chars, page.images, page.lines, page.rects, page.curves
                page.extract_words()
                pages += 1
    return pages / (time.perf_counter() - begun)


def _quality(place: Path, truths: list[Truth]) -> list[dict[str, Any]]:
    """Precision and recall of figures whose box has an IoU of 0.8 with the truth and whose caption is equal."""
    found = wanted = right = 0
    for truth in truths:
        with opened(place / truth.file) as document:
            figures = figures_of([read_page(document, i + 1) for i in range(len(document))], truth.file).figures
        found, wanted = found + len(figures), wanted + len(truth.figures)
        right += sum(
            any(f.number == t["number"] and f.page == t["page"] and f.box.iou(Box(*t["box"])) >= 0.8
                and f.caption.split() == t["caption"].split() for f in figures)
            for t in truth.figures
        )  # fmt: skip
    return [_case("precision of figures", right / max(1, found), "share", f"n {found}"),
            _case("recall of figures", right / max(1, wanted), "share", f"n {wanted}")]  # fmt: skip


def _memory(place: Path, truths: list[Truth], pages: int) -> list[dict[str, Any]]:
    """Memory that reading a long PDF adds to what reading a tenth of it took."""
    long = place / "long.pdf"
    library = pdfium()
    whole = library.PdfDocument.new()
    source = library.PdfDocument(place / truths[0].file)
    while len(whole) < pages:
        whole.import_pages(source)
    whole.save(long)
    whole.close()
    with opened(long) as document:
        read = [read_page(document, i + 1) for i in range(len(document) // 10)]
        tenth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        begun = time.perf_counter()
        read += [read_page(document, i + 1) for i in range(len(document) // 10, len(document))]
        speed = (len(document) - len(document) // 10) / (time.perf_counter() - begun)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - tenth
    note = f"{len(read)} pages, peak {tenth + grown:.0f} MiB, at {speed:.0f} pages/s"
    return [_case("memory added by nine tenths", grown, "MiB", note)]


if __name__ == "__main__":
    main()
