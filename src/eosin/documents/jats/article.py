"""What an article in JATS XML says of itself, and its figures with captions and the sentences that point to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from eosin.documents.captions.labels import Mention, caption_label, letters_of, mentions
from eosin.documents.jats.licences import licence_name, permission_of
from eosin.documents.jats.text import Flat, Pointer, flattened, plain
from eosin.documents.jats.xml import own_text, walk
from eosin.documents.references.references import Reference
from eosin.documents.references.sentences import sentence_spans

_PICTURES = {"image"}
_IMAGE_SUFFIX = re.compile(r"\.(?:jpe?g|png|tiff?|gif|webp|bmp)$", re.I)
_RANGE = re.compile(r"^\s*(?:[\-\u2010-\u2014]|to|through|bis)\s*$")


@dataclass
class ArticleFigure:
    """A figure of an article.

    Attributes:
        id: of its element. number: "3", "S1", "1-S2" (second supplement of figure 1), else the element's id.
        files: of each of its pictures the names of its forms, as written.
        licence, permission: where they differ from the article's.
        group: caption of the group that it stands in, which it shares.
    """

    id: str
    number: str
    label: str
    caption: str
    files: tuple[tuple[str, ...], ...]
    licence: str = ""
    permission: str = ""
    group: str = ""
    supplement: bool = False
    references: list[Reference] = field(default_factory=list)


@dataclass
class Article:
    """An article. ids: by kind (doi, pmc, pmid). retracted: what says so; empty where nothing does."""

    ids: dict[str, str]
    title: str
    licence: str
    licence_text: str
    retracted: str
    figures: list[ArticleFigure]
    num_tables: int = 0


def read_article(root: Element) -> Article:
    """An article from the root of its XML, or of a collection that holds one."""
    article = root if root.tag in ("article", "book", "book-part") else root.find(".//article")
    if article is None:
        from eosin.core.errors import EosinError

        raise EosinError("not a JATS article", expected="an element <article>", found=f"<{root.tag[:40]}>")
    for answer in [*article.findall("sub-article"), *article.findall("response")]:  # letters of reviewers, translations
        article.remove(answer)
    meta = article.find(".//article-meta")
    meta = meta if meta is not None else article
    permissions = meta.find("permissions")
    text = own_text(permissions)
    links = " ".join(_links(permissions)) if permissions is not None else ""
    licence = licence_name(links) or licence_name(text) or (text[:120] if text else "unknown")
    ids = {e.get("pub-id-type", ""): own_text(e) for e in meta.findall("article-id")}
    title = plain(meta.find(".//article-title"))
    figures = list(_figures(article))
    _unique(figures)
    _refer(article, figures)
    tables = sum(1 for e in article.iter("table-wrap"))
    return Article(ids, title, licence, text[:600], _retraction(article, meta, title), figures, tables)


def _links(permissions: Element) -> Iterator[str]:
    for element in permissions.iter():
        if element.tag in ("license", "ext-link", "license_ref"):
            yield element.get("href", "")
            yield element.text or ""


def _retraction(article: Element, meta: Element, title: str) -> str:
    kind = article.get("article-type", "")
    if kind in ("retraction", "expression-of-concern"):
        return f"article-type {kind}"
    for related in meta.iter("related-article"):
        if "retract" in related.get("related-article-type", ""):
            return f"related article: {related.get('related-article-type')}"
    return "title" if re.match(r"\W*(?:RETRACTED|WITHDRAWN)\b", title, re.I) else ""


def _figures(article: Element) -> Iterator[ArticleFigure]:
    groups: dict[int, str] = {}
    for group in article.iter("fig-group"):
        caption = group.find("caption")
        told = _caption(own_text(group.find("label")), caption) if caption is not None else ""
        groups |= {id(fig): told for fig in group.iter("fig")}
    for element in article.iter():
        if element.tag == "fig":
            yield _figure(element, groups.get(id(element), ""))
        elif element.tag == "supplementary-material" and _shows_picture(element):
            yield _figure(element, "", supplement=True)


def _shows_picture(element: Element) -> bool:
    """Whether a supplement is a figure: by its label, or by the kind of its file."""
    if any(e.tag == "fig" for e in element.iter()):
        return False
    label = caption_label(own_text(element.find("label")), bold=True)
    files = [e for e in element.iter() if e.tag in ("media", "graphic")]
    by_kind = any(
        e.get("mimetype") in _PICTURES or _IMAGE_SUFFIX.search(e.get("href", "")) or e.tag == "graphic" for e in files
    )
    return by_kind and (label is None or label.kind == "figure")


def _figure(element: Element, group: str, supplement: bool = False) -> ArticleFigure:
    label = own_text(element.find("label"))
    caption = element.find("caption")
    if caption is None:
        caption = element.find(".//caption")
    permissions = element.find("permissions")
    if permissions is None:
        permissions = element.find(".//caption/permissions")
    told = own_text(permissions)
    text = _caption(label, caption)
    own = licence_name(" ".join(_links(permissions))) or licence_name(told) if permissions is not None else None
    permission = (
        "" if own else permission_of(told) or permission_of(own_text(element.find("attrib"))) or permission_of(text)
    )
    name = element.get("id", "")
    number = number_of(label) or name or label
    return ArticleFigure(
        name, number, label, text, _files(element), own or "", permission, group, supplement,
    )  # fmt: skip


def _caption(label: str, caption: Element | None) -> str:
    """Label, title and paragraphs of a caption as one text."""
    parts = []
    for child in caption if caption is not None else ():
        if child.tag in ("title", "p"):
            parts.append(plain(child))
    text = " ".join(
        p if re.search(r"[.!?:;,]$", p) or i == len(parts) - 1 else f"{p}." for i, p in enumerate(parts) if p
    )
    if not text and caption is not None:
        text = plain(caption)
    head = label.rstrip(".: ")
    return f"{head}. {text}".strip() if head and text else text or label


def number_of(label: str) -> str:
    """The number of a label: "Fig 1" is 1, "Figure 1\u2014figure supplement 2" is 1-S2, "S3 Fig" is S3."""
    nested = re.match(r"(?:Figure|Fig\.?)\s*(\d+)\s*[\u2013\u2014-]+\s*(?:figure\s+)?supplement\s*(\d+)", label, re.I)
    if nested:
        return f"{nested[1]}-S{nested[2]}"
    turned = re.match(r"(S\d+)\s+Fig", label)
    if turned:
        return turned[1]
    found = caption_label(label, bold=True)
    return found.numbers[0] if found is not None and found.kind == "figure" else ""


def _files(element: Element) -> tuple[tuple[str, ...], ...]:
    """Names of a figure's pictures; the forms of one picture, as alternatives or by one stem, stand together.

    A graphic within a line, such as a sign that the caption explains, is none, but where there is nothing else.
    """
    groups: dict[str, list[str]] = {}
    for names in _graphics(element):
        stem = names[0].replace("\\", "/").rpartition("/")[2]
        stem = _IMAGE_SUFFIX.sub("", stem).lower()
        groups.setdefault(stem, []).extend(names)
    if not groups:
        within = [str(e.get("href")) for e in walk(element, frozenset({"fig"}))
                  if e.tag in ("graphic", "inline-graphic") and e.get("href")]  # fmt: skip
        return ((within[0],),) if within else ()
    return tuple(tuple(dict.fromkeys(names)) for names in groups.values())


def _graphics(element: Element) -> Iterator[list[str]]:
    """Names of the files of each picture below an element, without those of its caption and of other figures."""
    for child in element:
        if child.tag in ("fig", "caption", "label"):
            continue
        if child.tag == "alternatives":
            names = [str(e.get("href")) for e in child if _is_picture(e)]
            if names:
                yield names
        elif _is_picture(child):
            yield [str(child.get("href"))]
        else:
            yield from _graphics(child)


def _is_picture(element: Element) -> bool:
    href = element.get("href", "")
    if element.tag == "media":
        return bool(href) and (element.get("mimetype") in (*_PICTURES, None) or bool(_IMAGE_SUFFIX.search(href)))
    return element.tag == "graphic" and bool(href)


def _unique(figures: list[ArticleFigure]) -> None:
    """Two figures with one number get their elements' ids beside it."""
    seen: set[str] = set()
    for figure in figures:
        if figure.number in seen:
            figure.number = figure.id if figure.id and figure.id not in seen else f"{figure.number}-{len(seen)}"
        seen.add(figure.number)


def _refer(article: Element, figures: list[ArticleFigure]) -> None:
    """Find the sentences of the running text that point to figures, by their cross-references and by their words."""
    by_id = {f.id: f for f in figures if f.id}
    by_number = {f.number: f for f in figures}
    place = 0
    for part in ("abstract", "body", "back", "floats-group"):
        for top in article.iter(part):
            for paragraph in _paragraphs(top):
                flat = flattened(paragraph)
                for start, end in sentence_spans(flat.text):
                    sentence = flat.text[start:end]
                    for figure, panels in _pointed(flat, start, end, by_id, by_number):
                        figure.references.append(Reference(figure.number, panels, sentence, 0, 0, place))
                    place += 1


def _paragraphs(top: Element) -> Iterator[Element]:
    """Paragraphs outside of figures, tables and lists of references."""
    stop = frozenset({"fig", "fig-group", "table-wrap", "ref-list", "p", "supplementary-material", "caption", "title"})
    for element in walk(top, stop):
        if element.tag == "p":
            yield element


def _pointed(
    flat: Flat, start: int, end: int, by_id: Mapping[str, ArticleFigure], by_number: Mapping[str, ArticleFigure]
) -> list[tuple[ArticleFigure, tuple[str, ...]]]:
    """Figures that a sentence points to, each with the panels that it names; none where it means the whole."""
    named: dict[str, set[str]] = {}
    order: dict[str, list[str]] = {}

    def add(number: str, letters: list[str]) -> None:
        order.setdefault(number, [])
        named.setdefault(number, set()).update(letters or [""])
        order[number] += [c for c in letters if c not in order[number]]

    pointers = [p for p in flat.pointers if start <= p.start < end]
    inside = [p for p in pointers if p.target in by_id]
    text = list(flat.text[start:end])
    for other in pointers:  # "Figure 1 - source data 1" is no figure
        text[other.start - start : other.end - start] = "\x00" * (other.end - other.start)
    for k, pointer in enumerate(inside):
        add(
            by_id[pointer.target].number, _letters(flat.text[pointer.start : pointer.end], by_id[pointer.target].number)
        )
        for number in _in_between(flat, inside[k - 1] if k else None, pointer, by_id, by_number):
            add(number, [])
    for mention in _plain_mentions("".join(text), by_number):
        add(mention.number, [mention.panel] if mention.panel else [])
    return [(by_number[n], () if "" in named[n] else tuple(order[n])) for n in order]


def _plain_mentions(text: str, by_number: Mapping[str, Any]) -> list[Mention]:
    found = [m for m in mentions(text, by_number) if m.number in by_number]
    return [m for m in found if not re.match(r"\s*[\u2013\u2014-]+\s*figure supplement", text[m.end :], re.I)]


def _in_between(
    flat: Flat, before: Pointer | None, pointer: Pointer, by_id: Mapping[str, ArticleFigure],
    by_number: Mapping[str, ArticleFigure],
) -> list[str]:  # fmt: skip
    """Figures between two cross-references that a dash joins: "Figs 2-4" is 2, 3 and 4."""
    if before is None or not _RANGE.match(flat.text[before.end : pointer.start]):
        return []
    low, high = by_id[before.target].number, by_id[pointer.target].number
    if not (low.isdigit() and high.isdigit()):
        return []
    return [str(n) for n in range(int(low) + 1, int(high)) if str(n) in by_number]


def _letters(text: str, number: str) -> list[str]:
    """Panels that the words of a cross-reference name: "Fig 2A and 2B" are a and b, "1A-C" a, b and c."""
    tail = re.sub(r"(?i)fig(?:ure)?s?\.?|supplement\w*|abb\.?|panels?", " ", text)
    tail = re.sub(r"\b[Ss](?=\d)|\d+", " ", tail)
    tail = re.sub(r"\b(?:and|und|or|to)\b", ",", tail)
    letters = re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", tail)
    return letters_of(tail) if letters and len(letters) == len(re.findall(r"[A-Za-z]+", tail)) else []
