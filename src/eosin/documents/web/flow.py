"""A page of HTML or XHTML as a flow of blocks: text, pictures and captions in the order in which they stand."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from eosin.core.errors import EosinError

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 1000
MAX_BLOCKS = 500_000
_BREAKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd", "details", "div", "dl", "dt",
    "figcaption", "figure", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "img", "li", "main", "nav",
    "ol", "p", "pre", "section", "summary", "svg", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
})  # fmt: skip
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_UNSEEN = frozenset({"script", "style", "noscript", "template", "head", "svg", "math"})
_HEADS = frozenset({"nav", "header", "footer", "h1", "h2", "h3", "h4", "h5", "h6"})
_LIKE_CAPTION = re.compile(r"caption|legend|fig[-_ ]?(?:text|title|desc)", re.I)
_CHARSET = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})"
    rb"|<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{1,40})",
    re.I,
)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass
class Block:
    """Text between two breaks, or a picture.

    Attributes:
        picture: where a picture's file is, as written; empty for text. alt: its words in place of it.
        figure: number of the <figure> that it stands in; 0 where it stands in none.
        is_caption: whether the page marks it as one. is_bold: whether it begins in bold.
        is_listed: whether it stands in a list of contents, a heading, a header or a foot: never in the running text.
    """

    text: str = ""
    picture: str = ""
    alt: str = ""
    figure: int = 0
    is_caption: bool = False
    is_bold: bool = False
    is_listed: bool = False


@dataclass
class Flow:
    """A page. facts: what its head says, by lower-case name; of several of one name the first."""

    blocks: list[Block] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)


def read_flow(data: bytes, where: str) -> Flow:
    """A page as its blocks.

    Raises:
        EosinError: with a short reason: empty, too large, nested too deep, no text.
    """
    if not data.strip():
        raise EosinError("file empty", where=where)
    if len(data) > MAX_BYTES:
        raise EosinError("page too large", expected=f"at most {MAX_BYTES:,} bytes", found=f"{len(data):,}", where=where)
    reader = _Reader(where)
    reader.feed(decoded(data))
    reader.close()
    reader.ended()
    return reader.flow


def decoded(data: bytes) -> str:
    """The text of a page, by its mark, by what it says of itself, else as UTF-8; what is no letter is replaced."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    told = _CHARSET.search(data[:4096])
    name = (told[1] or told[2]).decode("ascii") if told else "utf-8"
    try:
        return data.decode(name, "replace")
    except (LookupError, ValueError):  # an encoding that does not exist, or is none of text
        return data.decode("utf-8", "replace")


class _Reader(HTMLParser):
    """Tags need not be closed, and need not nest: only the open ones that matter are counted."""

    def __init__(self, where: str) -> None:
        super().__init__(convert_charrefs=True)
        self.flow = Flow()
        self._where = where
        self._open: list[tuple[str, bool]] = []
        self._figures = 0
        self._in_figure: list[int] = []
        self._unseen = self._captions = self._bold = self._listed = 0
        self._block = Block()
        self._is_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {k: v or "" for k, v in attrs}
        if tag in ("meta", "link", "a"):
            self._fact(tag, told)
        self._is_title = tag == "title"
        if tag in _BREAKS:
            self.ended()
        if tag == "body":  # the head need not be closed
            self.handle_endtag("head")
        if tag == "img" and not self._unseen:
            self._picture(told)
        if tag in _VOID:
            return
        marked = tag == "figcaption" or bool(_LIKE_CAPTION.search(f"{told.get('class', '')} {told.get('role', '')}"))
        if len(self._open) >= MAX_DEPTH:
            raise EosinError("page nested too deep", expected=f"at most {MAX_DEPTH}", where=self._where)
        self._open.append((tag, marked))
        self._count(tag, marked, 1)

    def handle_endtag(self, tag: str) -> None:
        self._is_title = False
        if tag in _BREAKS:
            self.ended()
        place = next((i for i in range(len(self._open) - 1, -1, -1) if self._open[i][0] == tag), None)
        if place is None:
            return
        for name, marked in self._open[place:]:
            self._count(name, marked, -1)
        del self._open[place:]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        if self._is_title and not self.flow.facts.get("title"):
            self.flow.facts["title"] = " ".join(data.split())
        if self._unseen:
            return
        if not self._block.text.strip() and data.strip():
            self._block.is_bold = self._bold > 0
        self._block.text += data

    def _count(self, tag: str, marked: bool, step: int) -> None:
        self._unseen += step * (tag in _UNSEEN)
        self._captions += step * marked
        self._bold += step * (tag in ("b", "strong"))
        self._listed += step * (tag in _HEADS)
        if tag == "figure":
            if step > 0:
                self._figures += 1
                self._in_figure.append(self._figures)
            elif self._in_figure:
                self._in_figure.pop()

    def _picture(self, told: dict[str, str]) -> None:
        source = told.get("src") or told.get("data-src") or ""
        if source.strip():
            self._add(Block(picture=source.strip(), alt=told.get("alt", "")))

    def _fact(self, tag: str, told: dict[str, str]) -> None:
        name, value = (told.get("name") or told.get("property") or "").casefold(), told.get("content", "")
        if tag != "meta":
            if "license" not in told.get("rel", "").casefold().split():
                return
            name, value = "license", told.get("href", "")
        if name and value.strip():
            self.flow.facts.setdefault(name, " ".join(value.split())[:600])

    def ended(self) -> None:
        """The open block ends here."""
        text = " ".join(self._block.text.split())
        if text:
            self._block.text = text
            self._add(self._block)
        self._block = Block()

    def _add(self, block: Block) -> None:
        if len(self.flow.blocks) >= MAX_BLOCKS:
            raise EosinError("page has too many blocks", expected=f"at most {MAX_BLOCKS:,}", where=self._where)
        block.figure = self._in_figure[-1] if self._in_figure else 0
        block.is_caption, block.is_listed = self._captions > 0, self._listed > 0
        self.flow.blocks.append(block)
