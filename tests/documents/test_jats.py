"""Articles in JATS: figures, captions, references, licences, retraction, and the folders that PMC hands out."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from eosin.core.formats import read_samples
from eosin.core.settings.documents import DocumentsData
from eosin.documents.jats.article import Article, read_article
from eosin.documents.jats.licences import allowed, licence_name, own_licence, permission_of
from eosin.documents.jats.reading import read_jats
from eosin.documents.jats.xml import parsed
from eosin.documents.work.run import make_documents

HEAD = """<?xml version="1.0"?><!DOCTYPE article PUBLIC "-//NLM//DTD JATS v1.2//EN" "JATS.dtd">
<article article-type="{kind}" xmlns:xlink="x" xmlns:mml="m"><front><article-meta>
<article-id pub-id-type="doi">10.1/glands</article-id><title-group><article-title>{title}</article-title></title-group>
<permissions><license xlink:href="{link}"><license-p>Licence.</license-p></license></permissions>
</article-meta></front><body><sec>{text}</sec></body></article>"""
BY = "http://creativecommons.org/licenses/by/4.0/"


def _fig(number: int, more: str = "", caption: str = "A gland.") -> str:
    return (f'<fig id="f{number}"><label>Fig {number}</label><caption><title>{caption}</title></caption>'
            f'<graphic xlink:href="g{number}"/>{more}</fig>')  # fmt: skip


def _article(text: str, kind: str = "research-article", title: str = "Glands", link: str = BY) -> Article:
    return read_article(parsed(HEAD.format(kind=kind, title=title, link=link, text=text).encode(), "test"))


def _xref(number: int, text: str) -> str:
    return f'<xref ref-type="fig" rid="f{number}">{text}</xref>'


def test_a_range_between_two_references_is_spelt_out() -> None:
    text = f"<p>Glands (Figs {_xref(1, '1')}\u2013{_xref(3, '3')}) vary. Not here. See {_xref(2, 'Fig 2A and 2B')}.</p>"
    article = _article(text + _fig(1) + _fig(2) + _fig(3))
    told = {f.number: [(r.panels, r.text) for r in f.references] for f in article.figures}
    first = "Glands (Figs 1\u20133) vary."
    assert told["1"] == [((), first)] and told["3"] == [((), first)]
    assert told["2"] == [((), first), (("a", "b"), "See Fig 2A and 2B.")]


def test_formulas_are_flattened_and_tables_left_out() -> None:
    formula = ("<inline-formula><mml:math><mml:msub><mml:mi>x</mml:mi><mml:mn>2</mml:mn></mml:msub><mml:mo>=</mml:mo>"
               "<mml:mfrac><mml:mn>1</mml:mn><mml:mn>3</mml:mn></mml:mfrac></mml:math></inline-formula>")  # fmt: skip
    (figure,) = _article(_fig(1, caption=f"Share {formula} of glands, 10<sup>3</sup> cells, &alpha; chain.")).figures
    assert figure.caption == "Fig 1. Share x_2=1/3 of glands, 103 cells, \u03b1 chain."


def test_a_figure_of_several_pictures_gives_them_all_and_no_sign_of_its_caption(tmp_path: Path) -> None:
    """Only the first picture was taken, and a sign that a caption explains was taken for the figure."""
    sign = 'Full (<inline-graphic xlink:href="sign.gif"/>) and empty.'
    text = _fig(1, '<graphic xlink:href="g1b.tif"/>', sign) + _fig(2, '<graphic xlink:href="g2.tif"/>')
    text += ('<fig id="f3"><label>Fig 3</label><alternatives><graphic xlink:href="g3.tif"/>'
             '<graphic xlink:href="g3-small.jpg"/></alternatives></fig><fig id="f4"><label>Fig 4</label>'
             '<p><inline-graphic xlink:href="g4.png"/></p></fig>')  # fmt: skip
    text += '<fig id="f5"><label>Fig 5</label><media mimetype="video" xlink:href="v.mp4"/></fig>'
    article = _article(text)
    assert [f.files for f in article.figures] == [
        (("g1",), ("g1b.tif",)), (("g2", "g2.tif"),), (("g3.tif", "g3-small.jpg"),), (("g4.png",),), (),
    ]  # fmt: skip
    for name in ("g1.jpg", "g1b.jpg", "g2.jpg", "sign.gif", "g3-small.jpg"):
        Image.effect_noise((90, 80), 50).convert("RGB").save(tmp_path / name)
    filled = HEAD.format(kind="research-article", title="Glands", link=BY, text=text)
    (tmp_path / "a.nxml").write_text(filled, "utf-8")
    items = list(read_jats(tmp_path / "a.nxml", "a").items)
    assert [(i.number, i.place.get("file"), i.why.reason if i.why else "") for i in items] == [
        ("1_1", "g1.jpg", ""), ("1_2", "g1b.jpg", ""), ("2", "g2.jpg", ""), ("3", "g3-small.jpg", ""),
        ("4", None, "image file missing"), ("5", None, "image file missing"),
    ]  # fmt: skip
    assert items[0].caption == items[1].caption == "Fig 1. Full () and empty."


def test_a_figure_by_permission_is_known_by_its_own_words() -> None:
    own = "<permissions><copyright-statement>\u00a9 2009 Some Publisher</copyright-statement></permissions>"
    article = _article(_fig(1, own) + _fig(2) + _fig(3, caption="A gland. Reproduced with permission from Smith."))
    assert [bool(f.permission) for f in article.figures] == [True, False, True]


@pytest.mark.parametrize(("kind", "title"), [("retraction", "Glands"), ("research-article", "RETRACTED: Glands")])
def test_a_retraction_is_seen(kind: str, title: str) -> None:
    assert _article(_fig(1), kind, title).retracted
    assert not _article(_fig(1)).retracted


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CC BY", "CC-BY"), ("CC BY-NC-ND 4.0", "CC-BY-NC-ND-4.0"), (BY, "CC-BY-4.0"), ("CC0", "CC0-1.0"),
        ("Creative Commons Attribution-NonCommercial 3.0 Unported", "CC-BY-NC-3.0"), ("All rights reserved", None),
    ],
)  # fmt: skip
def test_licences_have_one_name(text: str, name: str | None) -> None:
    assert licence_name(text) == name


def test_a_licence_that_is_asked_for_allows_its_versions_and_no_other() -> None:
    assert allowed("CC-BY-4.0", ["CC BY"]) and allowed("CC0-1.0", ["CC0"]) and allowed("unknown", [])
    assert not allowed("CC-BY-NC-4.0", ["CC-BY"]) and not allowed("unknown", ["CC-BY"])


def test_letters_in_brackets_are_no_copyright() -> None:
    assert permission_of("(a) Liver. (c) Nuclei of the base.") == ""


def test_the_folder_of_the_cloud_service(tmp_path: Path) -> None:
    """Its metadata say licence and retraction; figures of other licences, and retracted articles, are set aside."""
    docs = tmp_path / "docs"
    (docs / "metadata").mkdir(parents=True)
    buffer = io.BytesIO()
    Image.effect_noise((90, 80), 50).convert("RGB").save(buffer, "JPEG")
    for pmc, code, retracted in (("PMC11.1", "CC BY", False), ("PMC12.1", "CC BY-NC", False), ("PMC13.1", "CC0", True)):
        place = docs / pmc
        place.mkdir()
        text = HEAD.format(kind="research-article", title=pmc, link="", text=_fig(1)).replace(
            "10.1/glands", f"10.1/{pmc}"
        )
        (place / f"{pmc}.xml").write_text(text, "utf-8")
        (place / "g1.jpg").write_bytes(buffer.getvalue())
        (place / f"{pmc}.pdf").write_bytes(b"%PDF-1.4 not read, for the XML is here")
        told = {"pmcid": pmc, "license_code": code, "is_retracted": retracted}
        (docs / "metadata" / f"{pmc}.json").write_text(json.dumps(told))
    settings = DocumentsData(path=str(docs), licences=["CC-BY", "CC0"])
    make_documents([docs], tmp_path / "out", settings)
    read = read_samples(tmp_path / "out")
    (sample,) = read.kept
    assert sample.origin.licence == "CC-BY" and sample.origin.article == "10.1/PMC11.1"
    assert sample.images[0].data == buffer.getvalue()  # type: ignore[union-attr]  # the file's own bytes
    rows = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert sorted(r["reason"] for r in rows) == [
        "article retracted", "licence not asked for", *["the article's XML is read instead"] * 3,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "figures", "licence"),
    [
        ("elife-56337", 11, "CC0-1.0"), ("pntd.0002065", 1, "CC-BY"), ("pone.0046493", 4, "CC-BY"),
        ("pone.0234687", 4, "CC0-1.0"),
    ],
)  # fmt: skip
def test_real_articles(shared_data: Path, name: str, figures: int, licence: str) -> None:
    """All figures; every cross-reference of the running text is among the references of its figure."""
    data = (shared_data / "articles_jats" / f"{name}.nxml").read_bytes()
    article = read_article(parsed(data, name))
    assert len(article.figures) == figures and article.licence == licence and not article.retracted
    assert all(len(f.caption) > 30 and f.caption.startswith("Fig") for f in article.figures)
    body = re.sub(r"(?s)<(caption|sub-article)\b.*?</\1>", "", data.decode("utf-8"))
    pointed = set(re.findall(r'<xref ref-type="fig" rid="([^"]+)"', body))
    assert pointed == {f.id for f in article.figures if f.references}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("This work is licensed under a Creative Commons Attribution 4.0 International License.", "CC-BY-4.0"),
        ("\u00a9 2012 Smith et al. This is an open-access article distributed under the terms of the Creative Commons "
         "Attribution License.", "CC-BY"),
        ("Licensed under CC BY 4.0.", "CC-BY-4.0"),
        ("License: http://creativecommons.org/licenses/by-nc/4.0/", "CC-BY-NC-4.0"),
        ("The copyright holder for this preprint is the author. It is made available under aCC-BY-NC-ND 4.0 licence.",
         "CC-BY-NC-ND-4.0"),
        ("Dieses Buch steht unter der Lizenz CC BY-SA 4.0.", "CC-BY-SA-4.0"),
        ("The slides were released by their authors under a Creative Commons Attribution 4.0 license.", None),
        ("The dataset used in this article is available under a Creative Commons Attribution 4.0 license.", None),
        ("All images are at Zenodo (https://creativecommons.org/licenses/by/4.0/).", None),
        ("Fig. 2. Adapted from an open access article distributed under the Creative Commons CC BY license.", None),
        ("We used a viewer, licensed under CC BY 4.0.", None),
        ("All rights reserved.", None),
    ],
)  # fmt: skip
def test_the_licence_of_a_document_is_the_one_that_it_states_for_itself(text: str, name: str | None) -> None:
    """A licence of data, pictures or programs that a text speaks of was taken for that of the whole document."""
    stated = own_licence(f"Deep learning on colon. {text} We thank the readers.")
    assert (stated[0] if stated is not None else None) == name


def test_a_piece_of_text_must_name_the_document() -> None:
    assert own_licence("is licensed under a Creative Commons Attribution 4.0 licence.", named=True) is None
    assert own_licence(
        "Open Access This article is licensed under a Creative Commons Attribution 4.0 licence.", named=True
    )
