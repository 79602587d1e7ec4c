"""EPUB books and HTML pages: figures with captions and references, and what is set aside."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.formats import read_samples
from eosin.core.settings.documents import DocumentsData
from eosin.documents.web.epub import Epub, resolved
from eosin.documents.web.figures import shown_on
from eosin.documents.web.flow import MAX_DEPTH, read_flow
from eosin.documents.web.reading import opened_epub, read_html
from eosin.documents.work.run import make_documents


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>Glands &amp; more</title>
<link rel="license" href="https://creativecommons.org/licenses/by/4.0/"><meta name="citation_doi" content="10.1234/x.5">
<script>document.write("Fig. 1 is not here.")</script><body>
<h1>Figure 1 of this book</h1>
<p>Crypts are <b>regular</b> (Fig.&nbsp;1). Their nuclei are small, as Figs. 1 and 2b show. Nothing else is said.
<figure><img src="a.png" alt="crypts"><figcaption>Fig. 1. Regular crypts. H&amp;E.</figcaption></figure>
<p>No figure is meant here.</p>
<div><img src="data:image/png;base64,{inside}"></div><p><b>Figure 2</b> Nuclei. (A) low power. (B) high power.</p>
<p>See Figure 3.</p>
<figure><img src="b.png"><img src="c.png"><figcaption>Figure 3. Two fields. Reproduced with permission of Elsevier.
</figcaption></figure>
<img src="icon.png"><p>Words.</p><p>Words.</p><p>Words.</p>
<figure><img src="https://example.org/far.png"><figcaption>Figure 4. Elsewhere.</figcaption></figure>
<figure><img src="../../secret.png"><figcaption>Figure 5. Outside.</figcaption></figure>
<figure><img src="t.png"><figcaption>Table 1. A table as a picture.</figcaption></figure>
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "site" / "book"
    folder.mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.png", "c.png", "icon.png", "t.png")):
        (folder / name).write_bytes(png(i))
    (tmp_path / "secret.png").write_bytes(png(9))
    (folder / "page.html").write_text(PAGE.replace("{inside}", base64.b64encode(png(7)).decode()), "utf-8")
    return folder / "page.html"


def test_a_page_gives_its_figures_with_captions_and_references(page: Path) -> None:
    reading = read_html(page, "page")
    items = {i.number: i for i in reading.items}
    about = reading.about
    assert (about.kind, about.title, about.licence, about.article) == (
        "html", "Glands & more", "CC-BY-4.0", "10.1234/x.5",
    )  # fmt: skip
    assert {n: i.caption for n, i in items.items() if n in "12"} == {
        "1": "Fig. 1. Regular crypts. H&E.",
        "2": "Figure 2 Nuclei. (A) low power. (B) high power.",
    }
    assert items["1"].encoded == png(0) and items["2"].encoded == png(7)
    told = {n: [(r.text, r.panels) for r in i.references] for n, i in items.items()}
    both = "Their nuclei are small, as Figs. 1 and 2b show."
    assert told["1"] == [("Crypts are regular (Fig. 1).", ()), (both, ())] and told["2"] == [(both, ("b",))]
    assert told["3_1"] == told["3_2"] == [("See Figure 3.", ())]
    assert items["3_1"].permission.startswith("Reproduced with permission") and not items["1"].permission
    whys = {n: i.why.reason for n, i in items.items() if i.why is not None}
    assert whys == {"4": "picture is elsewhere, and links are not followed", "5": "name leads out of the folder"}
    assert sorted(d.reason for d in reading.dropped) == ["picture without a caption", "table as a picture"]
    assert reading.tables == 1


CONTAINER = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
OPF = """<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>A Book of Glands</dc:title>
<dc:identifier>urn:isbn:123</dc:identifier><dc:rights>CC BY-NC 4.0</dc:rights></metadata><manifest>
<item id="two" href="text/two.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="text/one.xhtml" media-type="application/xhtml+xml"/>
<item id="gone" href="text/gone.xhtml" media-type="application/xhtml+xml"/>
<item id="pic" href="img/a%20b.png" media-type="image/png"/></manifest>
<spine><itemref idref="one"/><itemref idref="two"/><itemref idref="gone"/></spine></package>"""
ONE = """<html><body><p>First, see Fig. 1.</p><figure><img src="../img/a%20b.png"/>
<figcaption>Fig. 1. Of chapter one.</figcaption></figure></body></html>"""
TWO = """<html><body><figure><img src="../img/c.png"/><figcaption>Fig. 1. Of chapter two.</figcaption></figure>
<p>Second, see Fig. 1.</p><img src="../../../../etc/hostname"/><p class="caption">Fig. 2. Climbs.</p></body></html>"""
PARTS: Mapping[str, str | bytes] = {
    "mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER, "OPS/book.opf": OPF,
    "OPS/text/one.xhtml": ONE, "OPS/text/two.xhtml": TWO, "OPS/img/a b.png": png(1), "OPS/img/c.png": png(2),
}  # fmt: skip


def epub(path: Path, **changed: str | bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in {**PARTS, **changed}.items():
            out.writestr(name, data)
    return path


def test_a_book_is_read_in_the_order_of_its_spine(tmp_path: Path) -> None:
    with opened_epub(epub(tmp_path / "book.epub"), "book") as reading:
        items = list(reading.items)
    about = reading.about
    assert (about.title, about.licence, about.article) == ("A Book of Glands", "CC-BY-NC-4.0", "urn:isbn:123")
    assert [(i.number, i.caption) for i in items] == [
        ("1", "Fig. 1. Of chapter one."), ("1-two", "Fig. 1. Of chapter two."), ("2", "Fig. 2. Climbs."),
    ]  # fmt: skip
    assert [i.encoded for i in items] == [png(1), png(2), None]
    assert [[r.text for r in i.references] for i in items] == [["First, see Fig. 1."], ["Second, see Fig. 1."], []]
    assert items[2].why is not None and items[2].why.reason.startswith("picture is not in the book")
    assert [(d.reason, d.id) for d in reading.dropped] == [("part missing in the EPUB", "book/OPS/text/gone.xhtml")]


def test_books_that_are_none_or_locked_are_refused(tmp_path: Path) -> None:
    fonts = "<encryption><EncryptionMethod Algorithm='http://www.idpf.org/2008/embedding'/></encryption>"
    with opened_epub(epub(tmp_path / "fonts.epub", **{"META-INF/encryption.xml": fonts}), "fonts") as reading:
        assert len(list(reading.items)) == 3
    bomb = "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><package>&a;</package>"
    cases = {
        "locked": ({"META-INF/encryption.xml": fonts.replace("idpf", "other")}, "document encrypted"),
        "bomb": ({"OPS/book.opf": bomb}, "XML declares entities"),
        "blank": ({"OPS/text/one.xhtml": "<p>no</p>", "OPS/text/two.xhtml": "<p>no</p>"}, "no picture in the document"),
        "bare": ({"META-INF/container.xml": "<container/>"}, "part missing in the EPUB"),
    }
    for name, (changed, why) in cases.items():
        with pytest.raises(EosinError, match=why), opened_epub(epub(tmp_path / f"{name}.epub", **changed), name):
            pass
    (tmp_path / "words.epub").write_bytes(b"no book at all")
    with pytest.raises(EosinError, match="not an EPUB"):
        Epub(tmp_path / "words.epub")


def test_a_part_that_unfolds_beyond_its_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eosin.documents.web.epub.MAX_PART_BYTES", 80_000)
    with Epub(epub(tmp_path / "big.epub", **{"OPS/img/c.png": b"\0" * 90_000})) as book:
        assert len(book.part("OPS/text/one.xhtml")) == len(ONE)
        with pytest.raises(EosinError, match="too large"):
            book.part("OPS/img/c.png")
    monkeypatch.setattr("eosin.documents.web.epub.MAX_UNPACKED_BYTES", 85_000)
    with pytest.raises(EosinError, match="archive too large"):
        Epub(tmp_path / "big.epub")


@pytest.mark.parametrize(
    ("source", "part"),
    [("../img/a%20b.png", "OPS/img/a b.png"), ("b.png#x", "OPS/text/b.png"), ("../../../x", None), ("/x.png", None),
     ("http://a/b.png", None), ("//a/b.png", None), ("#here", None)],
)  # fmt: skip
def test_links_of_a_book_stay_in_it(source: str, part: str | None) -> None:
    assert resolved("OPS/text/one.xhtml", source) == part


def test_tags_that_are_open_or_deep_or_in_another_encoding() -> None:
    latin = '<meta charset="latin-1"><figure><img src=a.png><figcaption>Abb. 1. Gef\u00e4\u00df'.encode("latin-1")
    [shown] = shown_on([("p", read_flow(latin, "p"))])
    assert (shown.number, shown.caption) == ("1", "Abb. 1. Gef\u00e4\u00df")
    wide = "<figure><img src='a'><p>Fig. 7. Wide</p></figure>".encode("utf-16")
    assert shown_on([("p", read_flow(wide, "p"))])[0].caption == "Fig. 7. Wide"
    with pytest.raises(EosinError, match="nested too deep"):
        read_flow(b"<div>" * (MAX_DEPTH + 1), "p")
    assert read_flow(b"</b></div><p>x", "p").blocks[0].text == "x"


def test_one_command_reads_both(page: Path, tmp_path: Path) -> None:
    """The figures of both as samples; what Eosin wrote itself is no document."""
    root = page.parents[1]
    epub(root / "book.epub")
    settings = DocumentsData(path=str(root), timeout_s=120, previews=False)
    make_documents([root], root / "out", settings)
    kept = read_samples(root / "out").kept
    assert sorted(str(s.extra["figure"]["number"]) for s in kept) == ["1", "1", "1-two", "2"]
    reasons = [json.loads(line)["reason"] for line in (root / "out" / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert sum("permission" in r for r in reasons) == 2  # both pictures of Figure 3
    made, _ = make_documents([root], tmp_path / "again", settings)
    assert made.manifest["counts"]["samples"] == 4


def test_documents_that_came_later_are_not_called_read(page: Path, tmp_path: Path) -> None:
    """The same command after a new document said that all were read already."""
    root, settings = page.parents[1], DocumentsData(path=str(page.parents[1]), timeout_s=120, previews=False)
    make_documents([root], tmp_path / "out", settings)
    assert make_documents([root], tmp_path / "out", settings)[1] is None
    epub(root / "book.epub")
    with pytest.raises(EosinError, match="some came, went or were changed"):
        make_documents([root], tmp_path / "out", settings)
