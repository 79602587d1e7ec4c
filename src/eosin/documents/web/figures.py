"""Pictures of web pages with their captions, and the sentences that point to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from eosin.documents.captions.labels import caption_label
from eosin.documents.references.references import Reference, references_to
from eosin.documents.references.sentences import Sentence, sentences_in
from eosin.documents.web.flow import Block, Flow

NEAR = 2
"""Blocks between a picture and its caption, at most, where no <figure> holds the two."""


@dataclass
class Shown:
    """A picture, or several under one caption.

    Attributes:
        page: name of the page that it stands on. sources: its files as written there. is_table: a table as a picture.
    """

    page: str
    sources: list[str]
    caption: str = ""
    label: str = ""
    number: str = ""
    is_table: bool = False
    references: list[Reference] = field(default_factory=list)


def shown_on(pages: Sequence[tuple[str, Flow]]) -> list[Shown]:
    """The pictures of a document's pages in their order, each with its caption where it has one.

    A number that stands on several pages ("Figure 1" of every chapter) is told apart by its page; a sentence points to
    the figure of its own page first.
    """
    found: list[Shown] = []
    texts: list[tuple[str, list[str]]] = []
    for name, flow in pages:
        shown, captions = _of_page(name, flow.blocks)
        found += shown
        running = [b.text for i, b in enumerate(flow.blocks) if b.text and i not in captions and not b.is_listed]
        texts.append((name, running))
    _numbered(found)
    _refer(found, texts)
    return found


def _of_page(page: str, blocks: Sequence[Block]) -> tuple[list[Shown], set[int]]:
    """Pictures of a page, and the places of the blocks that are their captions."""
    found: list[Shown] = []
    captions: set[int] = set()
    i = 0
    while i < len(blocks):
        if not blocks[i].picture:
            i += 1
            continue
        end = i + 1
        while end < len(blocks) and blocks[end].picture and blocks[end].figure == blocks[i].figure:
            end += 1
        for shown, used in _grouped(page, blocks, i, end, captions):
            found.append(shown)
            captions |= used
        i = end
    return found, captions


def _grouped(
    page: str, blocks: Sequence[Block], start: int, end: int, used: set[int]
) -> Iterator[tuple[Shown, set[int]]]:
    """Pictures that follow each other: one figure where a caption or a <figure> holds them, else each for itself."""
    sources = [b.picture for b in blocks[start:end]]
    places = _caption_in(blocks, start, end) if blocks[start].figure else _caption_near(blocks, start, end, used)
    if not places:
        for source in sources:
            yield Shown(page, [source]), set()
        return
    text = " ".join(blocks[p].text for p in places)
    label = caption_label(text, bold=True)
    shown = Shown(page, sources, text)
    if label is not None:
        shown.label, shown.number = label.text, label.numbers[0]
        shown.is_table = label.kind == "table"
        shown.number = f"T{shown.number}" if shown.is_table else shown.number
    yield shown, set(places)


def _caption_in(blocks: Sequence[Block], start: int, end: int) -> list[int]:
    """Text of a <figure>: what is marked as a caption, else what begins with a label, else all of it."""
    figure = blocks[start].figure
    inside = [i for i in _around(blocks, start, end) if blocks[i].figure == figure and blocks[i].text]
    marked = [i for i in inside if blocks[i].is_caption]
    labelled = [i for i in inside if caption_label(blocks[i].text, bold=blocks[i].is_bold) is not None]
    return marked or labelled[:1] or inside


def _around(blocks: Sequence[Block], start: int, end: int) -> list[int]:
    first, last = start, end
    while first > 0 and blocks[first - 1].figure == blocks[start].figure:
        first -= 1
    while last < len(blocks) and blocks[last].figure == blocks[start].figure:
        last += 1
    return [*range(first, start), *range(end, last)]


def _caption_near(blocks: Sequence[Block], start: int, end: int, used: set[int]) -> list[int]:
    """A labelled or marked block behind the pictures, else one in front of them; no other picture lies between."""
    for steps in (range(end, min(len(blocks), end + NEAR)), range(start - 1, max(-1, start - 1 - NEAR), -1)):
        for i in steps:
            block = blocks[i]
            if block.picture or block.figure:
                break
            bold = block.is_bold or block.is_caption
            if i not in used and (block.is_caption or caption_label(block.text, bold=bold) is not None):
                return [i]
    return []


def _numbered(found: Sequence[Shown]) -> None:
    """A number that comes again gets its page's name and, if need be, a count."""
    used: set[str] = set()
    for i, shown in enumerate(found):
        number = told = shown.number or f"x{i + 1}"
        if number in used:
            number = told = f"{told}-{shown.page.rpartition('/')[2].partition('.')[0]}"
        count = 1
        while number in used:
            count += 1
            number = f"{told}-{count}"
        used.add(number)
        shown.number = number


def _refer(found: Sequence[Shown], texts: Sequence[tuple[str, list[str]]]) -> None:
    """Join sentences to figures; a label's own number counts, whatever the figure is called here."""
    place = 0
    everywhere = _by_own_number(found)
    for page, running in texts:
        known = everywhere | _by_own_number([s for s in found if s.page == page])
        sentences = []
        for text in running:
            for sentence in sentences_in(text):
                sentences.append(Sentence(sentence, 0, place))
                place += 1
        for number, references in references_to(sentences, dict.fromkeys(known, 0)).items():
            known[number].references += references


def _by_own_number(found: Sequence[Shown]) -> dict[str, Shown]:
    """Figures by the number of their label, of several the first."""
    known: dict[str, Shown] = {}
    for shown in found:
        label = caption_label(shown.caption, bold=True) if shown.label and not shown.is_table else None
        if label is not None:
            known.setdefault(label.numbers[0], shown)
    return known
