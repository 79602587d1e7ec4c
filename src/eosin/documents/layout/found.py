"""What docling saw becomes figures: its boxes set on the PDF's own objects, its captions read by the grammar of labels.

docling says where pictures and tables are and which caption is whose. The pictures and paths of the PDF say to the
point where they end, so that pixels are still those that are stored. What docling gives no caption is looked for by the
rules, among the captions that docling gave to nothing; and every caption without a picture is set aside by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eosin.core.nouns.outcome import Dropped
from eosin.documents.captions.blocks import with_blocks
from eosin.documents.captions.find import Caption, captions_of
from eosin.documents.captions.labels import Label, caption_label
from eosin.documents.figures.figure import STEP, Found, collected
from eosin.documents.figures.match import Match, is_near, matched
from eosin.documents.figures.regions import MIN_SIDE_PT, Region, with_words
from eosin.documents.layout.seen import Seen, Thing, Told, seen_in
from eosin.documents.page.boxes import Box, around
from eosin.documents.page.page import Page

HOW = "docling"
_INSIDE = 0.8
_SNAPS = 0.5
"""A box is set on the PDF's objects within it where both have an IoU of so much."""
_IS_TEXT = 0.5


def figures_of_docling(
    told: Mapping[str, Any], pages: Sequence[Page], turns: Mapping[int, int], document: str
) -> Found:
    """Figures of a document as docling sees them.

    Args:
        told: of `read_layout`. turns: quarter turns clockwise of each page beyond its own entry.
        document: its name, for what is set aside.
    """
    ready = with_blocks(pages)
    seen = seen_in(told["document"], ready, turns)
    captions = {name: _caption(text, ready) for name, text in seen.captions.items()}
    rest = _completed([c for c in captions.values() if c is not None], captions_of(ready))
    known = [c for c in (*captions.values(), *rest) if c is not None]
    matches, alone, aside, dropped = _joined(seen, captions, known, ready, document)
    later, alone = matched(ready, rest, alone)
    for match in later:
        if match.regions:
            match.caption.notes.append("caption found by the rules")
    alone = _panels(matches, alone)
    ordered = sorted([*matches, *later], key=lambda m: (m.caption.page, m.caption.box.y0, m.caption.box.x0))
    found = collected(ready, ordered, alone, document)
    found.set_aside += aside
    found.dropped += dropped
    found.dropped += [Dropped(document, "docling did not read all of it", e, STEP) for e in told.get("errors") or []]
    found.caption_blocks = [b for c in known for b in c.blocks]
    return found


def _caption(told: Told, pages: Sequence[Page]) -> Caption | None:
    """A caption of docling's with the blocks of the page that it covers; None where it stands on no page."""
    if not told.places:
        return None
    number, box = told.places[0]
    label = caption_label(told.text, bold=True) or Label("figure", ("",), "", 0)
    blocks = tuple(b for p in pages if p.number == number for b in p.blocks if b.box.covered(box) > _INSIDE)
    more = next((place for place in told.places[1:] if place[0] == number + 1), None)
    return Caption(label, told.text, number, box, blocks, goes_on=more)


def _completed(docling: Sequence[Caption], rules: Sequence[Caption]) -> list[Caption]:
    """Captions of the rules that docling does not have. One that begins as docling's does and goes on completes it."""
    rest = []
    for rule in rules:
        same = [c for c in docling if _is_same(rule, c)]
        if not same:
            rest.append(rule)
        for caption in same:
            if len(rule.text) > len(caption.text) and rule.text.startswith(caption.text):
                caption.text, caption.box, caption.blocks = rule.text, rule.box, rule.blocks
                caption.goes_on = rule.goes_on
                caption.notes.append("caption completed by the rules")
    return rest


def _is_same(rule: Caption, docling: Caption) -> bool:
    return rule.page == docling.page and max(rule.box.covered(docling.box), docling.box.covered(rule.box)) > 0.3


def _joined(
    seen: Seen, captions: Mapping[str, Caption | None], known: Sequence[Caption], pages: Sequence[Page], document: str
) -> tuple[list[Match], list[Region], list[tuple[Region | Caption, Dropped]], list[Dropped]]:
    """Captions with docling's pictures and tables, what has no caption, and what was set aside."""
    matches: dict[str, Match] = {}
    alone: list[Region] = []
    aside: list[tuple[Region | Caption, Dropped]] = []
    dropped: list[Dropped] = []
    for thing in seen.things:
        name = f"{document}/{thing.name.removeprefix('#/')}"
        dropped += [Dropped(name, "place of docling's not on a page", why, STEP) for why in thing.lost]
        kept, why = _regions(thing, known, pages)
        aside += [(region, Dropped(name, reason, _where(region.box), STEP)) for region, reason in why]
        mine = [n for n in thing.captions if captions[n] is not None]
        if mine and kept:
            match = _match(mine, captions, thing, matches)
            match.regions += kept
        elif thing.kind == "table":
            aside += [(region, Dropped(name, "a table", _where(region.box), STEP)) for region in kept]
        else:
            alone += kept
    return list(matches.values()), alone, aside, dropped


def _match(
    names: Sequence[str], captions: Mapping[str, Caption | None], thing: Thing, matches: dict[str, Match]
) -> Match:
    """The match of a thing's captions: of several, that of the first with a label, which takes the words of all."""
    listed = [(n, c) for n in names if (c := captions[n]) is not None]
    key, caption = next(((n, c) for n, c in listed if c.label.text), listed[0])
    if key not in matches:
        others = [c.text for n, c in listed if n != key]
        if others:
            caption.text = "\n".join([caption.text, *others])
            caption.notes.append("several captions")
        if thing.kind == "table" and not caption.label.text:
            caption.label = Label("table", ("",), "", 0)
        elif thing.kind == "table" and caption.label.kind == "figure":
            caption.notes.append("docling calls it a table")
        elif not caption.label.text:
            caption.label = Label("figure", (f"x{len(matches) + 1}",), "", 0)
            caption.notes.append("caption without a label")
        matches[key] = Match(caption, how=HOW)
    return matches[key]


def _regions(
    thing: Thing, captions: Sequence[Caption], pages: Sequence[Page]
) -> tuple[list[Region], list[tuple[Region, str]]]:
    """Regions of a thing, and those that are none, with the reason."""
    kept: list[Region] = []
    aside: list[tuple[Region, str]] = []
    by_number = {p.number: p for p in pages}
    for number, box in thing.places:
        page = by_number[number]
        region = _region(page, box)
        texts = [c.box for c in captions if c.page == number]
        if min(region.box.width, region.box.height) < MIN_SIDE_PT:
            aside.append((region, "picture too small"))
        elif thing.kind == "picture" and _is_text(region, page):
            aside.append((region, "text, not a picture"))
        else:
            kept.append(with_words(region, page, texts))
    return kept, aside


def _region(page: Page, box: Box) -> Region:
    """A box with the pictures and paths inside it; set on them where they fill it."""
    pictures = tuple(p for p in page.pictures if p.box.covered(box) > _INSIDE)
    paths = [d for d in page.drawings if d.covered(box) > _INSIDE]
    parts = [*(p.box for p in pictures), *paths]
    tight = around(parts).meet(page.box) if parts else None
    if tight is not None and tight.iou(box) >= _SNAPS:
        box = tight
    return Region(page.number, box, pictures, len(paths))


def _is_text(region: Region, page: Page) -> bool:
    """Whether lines of text fill a region in which nothing is painted."""
    if region.pictures or region.drawings:
        return False
    inked = sum(common.area for line in page.lines if (common := line.box.meet(region.box)) is not None)
    return inked > _IS_TEXT * region.box.area


def _panels(matches: Sequence[Match], alone: Sequence[Region]) -> list[Region]:
    """Regions without a caption join the figure of docling's that they stand beside, as its panels do; others stay."""
    left = []
    for region in alone:
        for match in matches:
            there = [r for r in match.regions if r.page == region.page]
            if match.caption.label.kind == "figure" and there and is_near(region, there[0], [*there, region]):
                match.regions.append(region)
                break
        else:
            left.append(region)
    return left


def _where(box: Box) -> str:
    return "box " + ", ".join(f"{v:g}" for v in box.rounded()) + " pt"
