"""Bad files are set aside with their reason, and the rest goes on."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from tests.support.pdfs import image, one_figure, placed, text, tissue, write_pdf

from eosin.core.settings.documents import DocumentsData
from eosin.documents.work.find import find_units
from eosin.documents.work.run import make_documents

ARTICLE = """<?xml version="1.0"?><article article-type="research-article"><front><article-meta>
<article-id pub-id-type="doi">10.1/{n}</article-id><title-group><article-title>Glands {n}</article-title></title-group>
<permissions><license href="http://creativecommons.org/licenses/by/4.0/"><license-p>open</license-p></license></permissions>
</article-meta></front><body><sec><p>See <xref ref-type="fig" rid="f1">Fig 1</xref>.</p>
<fig id="f1"><label>Fig 1</label><caption><title>A gland.</title></caption><graphic href="{file}"/></fig>
</sec></body></article>"""


def _png(size: tuple[int, int] = (96, 80)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _run(folder: Path, out: Path) -> tuple[dict[str, str], int]:
    """Reason of each whole document or figure that was set aside, and how many samples there are."""
    made, _ = make_documents([folder], out, DocumentsData(path=str(folder), timeout_s=60, previews=False))
    rows = [json.loads(line) for line in (out / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == made.manifest["counts"]["dropped"]
    return {row["id"]: row["reason"] for row in rows}, made.manifest["counts"]["samples"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int]:
    """All of them in one run, with one good PDF and one good article among them."""
    folder = tmp_path_factory.mktemp("bad") / "docs"
    folder.mkdir()
    good = one_figure(folder / "good.pdf", image(tissue(160, 120).tobytes(), 160, 120)).read_bytes()
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "words.pdf").write_bytes(b"no PDF at all, but named so")
    (folder / "cut.pdf").write_bytes(good[:400])
    _encrypted(folder / "locked.pdf")
    _bomb(folder / "bomb.pdf")
    _in_itself(folder / "in-itself.pdf")
    write_pdf(folder / "scan.pdf", placed("Im0", 0, 0, 595, 842), {"Im0": image(tissue(59, 84).tobytes(), 59, 84)})
    _articles(folder)
    _packages(folder)
    return _run(folder, folder.parent / "out")


def _encrypted(path: Path) -> None:
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    pdf = canvas.Canvas(str(path), encrypt="secret")
    pdf.drawString(100, 700, "Figure 1. Locked.")
    pdf.save()


def _bomb(path: Path) -> None:
    """A picture that says it has 40,000 x 40,000 pixels."""
    one_figure(path, image(b"\0" * 1000, 40_000, 40_000))


def _in_itself(path: Path) -> None:
    form = (b"<< /Type /XObject /Subtype /Form /BBox [0 0 595 842] "
            b"/Resources << /XObject << /Im0 6 0 R >> >> /Length 7 >>"
            b"\nstream\n/Im0 Do\nendstream")  # fmt: skip
    write_pdf(path, text(72, 700, ["Figure 1. A form that holds itself, " * 3]) + "/Im0 Do\n", {"Im0": form})


def _articles(folder: Path) -> None:
    for name, file, data in (
        ("good-article", "a.png", _png()), ("gone", "gone.png", None), ("cut-image", "c.png", _png()[:900]),
        ("renamed", "d.jpg", _png()), ("moving", "e.gif", _animation()), ("climbs", "../../../etc/hostname", None),
    ):  # fmt: skip
        place = folder / name
        place.mkdir()
        (place / f"{name}.nxml").write_text(ARTICLE.format(n=name, file=file), "utf-8")
        if data is not None:
            (place / file).write_bytes(data)
    (folder / "laughs.xml").write_text(
        '<!DOCTYPE article [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><article>&b;</article>',
        "utf-8",
    )
    (folder / "outside.xml").write_text(
        '<!DOCTYPE article [<!ENTITY x SYSTEM "file:///etc/hostname">]><article><front/>&x;</article>', "utf-8"
    )
    (folder / "deep.xml").write_text("<article>" + "<sec>" * 5000 + "</sec>" * 5000 + "</article>", "utf-8")
    (folder / "other.xml").write_text("<svg><g/></svg>", "utf-8")
    (folder / "half.nxml").write_text(ARTICLE.format(n=1, file="x.png")[:500], "utf-8")


def _animation() -> bytes:
    frames = [Image.new("L", (64, 64), 80 * i) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _packages(folder: Path) -> None:
    def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))

    article = ARTICLE.format(n="tar", file="p.png").encode()
    with tarfile.open(folder / "good.tar.gz", "w:gz") as tar:
        add(tar, "PMC1/a.nxml", article)
        add(tar, "PMC1/p.png", _png())
    with tarfile.open(folder / "climbs.tar.gz", "w:gz") as tar:
        add(tar, "PMC2/a.nxml", article)
        add(tar, "PMC2/p.png", _png())
        add(tar, "../../evil.txt", b"out")
        link = tarfile.TarInfo("PMC2/passwd.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with tarfile.open(folder / "big.tar", "w") as tar:
        add(tar, "PMC3/a.nxml", article)
        add(tar, "PMC3/p.png", _png())
    whole = (folder / "big.tar").read_bytes()
    (folder / "big.tar").unlink()
    (folder / "cut.tar").write_bytes(whole[: 512 + 1024 + 600])
    (folder / "noise.tgz").write_bytes(os.urandom(3000))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("empty.pdf", "file empty"),
        ("words.pdf", "not a PDF"),
        ("locked.pdf", "PDF is encrypted"),
        ("bomb.pdf/Figure 1", "image too large"),
        ("in-itself.pdf/Figure 1", "caption without a picture"),
        ("scan.pdf", "no text layer"),
        ("gone_gone.nxml/Fig 1", "image file missing"),
        ("climbs_climbs.nxml/Fig 1", "image file missing"),
        ("cut-image_cut-image.nxml/Fig 1", "image truncated or damaged"),
        ("moving_moving.nxml/Fig 1", "image is animated"),
        ("laughs.xml", "XML declares entities"),
        ("outside.xml", "XML declares entities"),
        ("deep.xml", "XML nested too deep"),
        ("other.xml", "not a JATS article"),
        ("half.nxml", "not well-formed XML"),
        ("climbs.tar.gz/../../evil.txt", "name leads out of the package"),
        ("climbs.tar.gz/PMC2/passwd.png", "link in a package"),
        ("cut.tar", "package cut off or damaged"),
        ("noise.tgz", "not a tar package"),
    ],
)
def test_each_has_its_reason(result: tuple[dict[str, str], int], document: str, reason: str) -> None:
    found = {k: v for k, v in result[0].items() if k == document or k.startswith(f"{document}-")}
    assert list(found.values()) == [reason], result[0]


def test_a_pdf_that_is_cut_is_set_aside(result: tuple[dict[str, str], int]) -> None:
    assert [r for k, r in result[0].items() if k.startswith("cut.pdf")] == ["PDF truncated or damaged"]


def test_the_good_ones_are_read(result: tuple[dict[str, str], int]) -> None:
    """good.pdf, the good article, the one whose picture has another suffix, and two packages."""
    assert result[1] == 5


def test_nothing_was_written_outside(
    result: tuple[dict[str, str], int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.getbasetemp()
    assert not list(base.rglob("evil.txt")) and not list(base.rglob("passwd*"))


def test_a_pdf_is_read_where_the_xml_of_its_name_is_no_article(tmp_path: Path) -> None:
    """XML of other kinds lies beside PDFs too: both were set aside, and the document was lost."""
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "other.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "paper.xml").write_text('<?xml version="1.0"?><TEI xmlns="http://www.tei-c.org/ns/1.0"/>', "utf-8")
    (tmp_path / "other.xml").write_text('<?xml version="1.0"?><article><front/></article>', "utf-8")
    units, dropped = find_units([tmp_path])
    assert [(u.key, u.kind) for u in units] == [("other.xml", "jats"), ("paper.pdf", "pdf"), ("paper.xml", "jats")]
    assert [(d.id, d.reason) for d in dropped] == [("other.pdf", "the article's XML is read instead")]
