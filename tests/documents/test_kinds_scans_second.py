"""Kinds of figures, pages by OCR, the second reader, and a run that is killed."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.support import forked
from tests.support.pdfs import image, one_figure, tissue

from eosin.clients.chat import ChatClient
from eosin.clients.settings import ServerSettings
from eosin.core.errors import EosinError
from eosin.core.formats import read_samples
from eosin.core.settings.documents import DocumentsData
from eosin.documents.captions.blocks import blocks_of
from eosin.documents.kinds.classify import kinds_of, measures
from eosin.documents.page.boxes import Box
from eosin.documents.pdf.open import opened
from eosin.documents.pdf.read import read_page
from eosin.documents.scans.engine import Word, rapidocr
from eosin.documents.scans.read import _lines, figures_in, read_scan
from eosin.documents.second.reader import compared, read_again
from eosin.documents.work.run import make_documents
from eosin.phantom.documents.kinds import MAKERS, picture_of


def test_kinds_of_pictures_made_by_code() -> None:
    """Two of each kind, of a seed that the classifier was not fitted on."""
    rng = np.random.default_rng([17, 3])
    right = sum(k.name == kind for kind in MAKERS for k in kinds_of([picture_of(kind, rng) for _ in range(2)]))
    assert right >= 0.9 * 2 * len(MAKERS)


def test_another_judge_of_kinds_can_take_its_place() -> None:
    told = kinds_of([tissue_picture()], tells=lambda images: [{"plot": 0.2, "gross": 0.8} for _ in images])
    assert (told[0].name, told[0].score) == ("gross", 0.8)


def tissue_picture() -> Image.Image:
    return Image.fromarray(tissue(64, 64))


def test_measures_are_finite_also_of_blank_pictures() -> None:
    for colour in ("white", "black"):
        assert np.isfinite(measures(Image.new("RGB", (40, 30), colour))).all()


def test_real_histology_is_told_as_histology(shared_data: Path) -> None:
    """Of real tumour and mucosa tiles at least three quarters; docs/documents.md has the figures by class."""
    for name in ("01_TUMOR", "06_MUCOSA"):
        files = sorted((shared_data / "colorectal_tiles" / "tiles" / name).iterdir())[::15][:40]
        told = [k.name for k in kinds_of([Image.open(f).convert("RGB") for f in files])]
        assert sum(t.startswith("histology") for t in told) >= 0.75 * len(told)


def test_figures_of_a_scan_are_found_by_their_ink() -> None:
    page = Image.new("RGB", (600, 800), "white")
    ImageDraw.Draw(page).text((60, 60), "Words of a paragraph that OCR has read", fill="black")
    page.paste(Image.fromarray(tissue(200, 150)), (100, 300))
    words = [Word("Words of a paragraph that OCR has read", Box_of(58, 58, 320, 76), 0.99)]
    (box,) = figures_in(np.asarray(page), words, 1.0)
    assert box.iou(Box_of(100, 300, 300, 450)) > 0.93


def Box_of(*values: float) -> Any:  # noqa: N802
    from eosin.documents.page.boxes import Box

    return Box(*values)


def test_a_paragraph_below_a_plot_is_of_one_size_whatever_the_heights_of_its_lines() -> None:
    """A line without long letters has a lower box; words at axes must not pull such lines to their own size."""
    text = "of the best feature set, classified with a support vector machine"
    rows = [Word(text, Box(100, 500 + 20 * i, 900, 500 + 20 * i + (23, 20, 24, 20)[i % 4]), 0.99) for i in range(8)]
    axis = [Word("0.5", Box(40 * i, 100, 40 * i + 20, 100 + (16, 17, 18)[i % 3]), 0.99) for i in range(40)]
    [size] = {line.size for line in _lines([*axis, *rows], 2.0) if line.text == text}
    assert 10 <= size <= 12
    [block] = [b for b in blocks_of(_lines([*axis, *rows], 2.0)) if b.text.startswith("of the best")]
    assert len(block.lines) == 8


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_scans_are_read_alike_however_they_lie(shared_data: Path, turn: int) -> None:
    pytest.importorskip("rapidocr")
    name = f"ocr_test_rotated_{turn}.pdf" if turn else "ocr_test.pdf"
    with opened(shared_data / "documents" / name) as document:
        page = read_scan(document, read_page(document, 1), rapidocr())
    words = " ".join(line.text for line in page.lines)
    assert words == "Docling bundles PDF document conversion to JSON and Markdown in an easy self contained package"
    assert min(line.confidence for line in page.lines) > 0.9


class Reader(BaseHTTPRequestHandler):
    """Answers as a model would; what it says is held by the server."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1  # type: ignore[attr-defined]
        content = self.server.says  # type: ignore[attr-defined]
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m",
                  "choices": [{"index": 0, "finish_reason": "stop",
                               "message": {"role": "assistant", "content": content}}],
                  "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}  # fmt: skip
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Reader)
    made.asked, made.says = 0, ""  # type: ignore[attr-defined]
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A document that was read: one figure with its record."""
    buffer = io.BytesIO()
    Image.fromarray(tissue(100, 80)).save(buffer, "PNG")
    (tmp_path / "f.png").write_bytes(buffer.getvalue())
    figure = {"image": "f.png", "caption": "Figure 1. A gland.", "label": "Figure 1", "px": [100, 80], "notes": [],
              "kind": {"name": "histology H&E", "score": 0.9}, "panels": []}  # fmt: skip
    (tmp_path / "document.json").write_text(json.dumps({"figures": [figure]}))
    return tmp_path


def test_the_second_reader_is_asked_once_and_its_disagreement_is_kept(server: Any, document: Path) -> None:
    pytest.importorskip("openai")
    panels = [
        {"letter": "A", "box": [0, 0, 0.5, 1], "caption": "a gland"},
        {"letter": "B", "box": [0.5, 0, 1, 1], "caption": "b"},
    ]
    server.says = json.dumps({"belongs": True, "kind": "plot", "panels": panels})
    client = ChatClient(ServerSettings(f"http://127.0.0.1:{server.server_address[1]}", "m", retries=0))
    assert read_again(document, client) == 1 and read_again(document, client) == 0 and server.asked == 1
    figure = json.loads((document / "document.json").read_text())["figures"][0]
    assert figure["second"]["disagrees"] == ["kind", "panels"]
    assert figure["second"]["panels"][1]["box_px"] == [50, 0, 100, 80]
    assert figure["kind"]["name"] == "histology H&E" and figure["panels"] == []  # the rules stand


@pytest.mark.parametrize("says", ["no JSON", '{"belongs": true}', '{"belongs": true, "kind": "x", "panels": []}'])
def test_an_answer_of_another_form_changes_nothing(server: Any, document: Path, says: str) -> None:
    pytest.importorskip("openai")
    server.says = says
    client = ChatClient(ServerSettings(f"http://127.0.0.1:{server.server_address[1]}", "m", retries=0))
    read_again(document, client, refine=True)
    figure = json.loads((document / "document.json").read_text())["figures"][0]
    assert "failed" in figure["second"] and figure["kind"]["name"] == "histology H&E" and figure["notes"] == []


def test_a_second_reader_that_is_away_ends_the_command_and_loses_nothing(
    server: Any, document: Path, tmp_path: Path
) -> None:
    """Each figure was waited for and written down as failed, for good."""
    pytest.importorskip("openai")
    server.shutdown()
    server.server_close()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    before = (document / "document.json").read_text()
    with pytest.raises(EosinError, match="does not answer"):
        read_again(document, ChatClient(ServerSettings(address, "m", retries=0)))
    assert (document / "document.json").read_text() == before
    (tmp_path / "book.pdf").write_bytes(b"%PDF-1.4")
    settings = DocumentsData(path=str(tmp_path / "book.pdf"), second_url=address, second_model="m")
    with pytest.raises(EosinError, match="does not answer"):
        make_documents([tmp_path / "book.pdf"], tmp_path / "out", settings)
    assert not (tmp_path / ".out.work").exists(), "nothing was begun"


def test_a_second_reader_that_sees_the_same_does_not_disagree() -> None:
    panel = {"letter": "a", "box_px": [0, 0, 50, 80], "caption": "x"}
    figure = {"px": [100, 80], "kind": {"name": "plot", "score": 1.0}, "panels": [panel]}
    told = {"belongs": True, "kind": "plot", "panels": [{"letter": "A", "box": [0.02, 0, 0.5, 1], "caption": "x"}]}
    assert compared(figure, told)["disagrees"] == []


def test_a_run_that_is_killed_goes_on(tmp_path: Path) -> None:
    """Killed after some documents are read: the next run reads the others only, and its result is whole."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for i in range(6):
        one_figure(docs / f"d{i}.pdf", image(tissue(100, 80, i).tobytes(), 100, 80))
    out, work = tmp_path / "out", tmp_path / ".out.work" / "documents"
    running = forked.start([*forked.EOSIN, "documents", docs, "--out", out])
    while len(list(work.glob("*/source.json"))) < 2 and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)  # what it started is ended with it
    running.wait()
    before = {p: p.stat().st_mtime_ns for p in work.glob("*/document.json")}
    assert not out.exists() or len(before) == 0
    said: list[str] = []
    settings = DocumentsData(path=str(docs))
    made, read = make_documents([docs], out, settings, lambda n, total, key, what: said.append(key))
    assert read is None or (read.before >= 2 and len(said) == 6 - read.before)
    assert len(read_samples(out).kept) == 6 and made.manifest["counts"]["samples"] == 6
    assert not (tmp_path / ".out.work").exists()
    again, nothing = make_documents([docs], out, settings)
    assert nothing is None and again.digest == made.digest
